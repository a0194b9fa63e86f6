package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// A journal with a witness: what was cosigned is kept, holds the journal to it, and finds a rollback.
func TestWitness(t *testing.T) {
	t.Parallel()
	signer, log := keys(t)
	s, web, key := newServer(t, log)
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	config := Config{Dir: dir, Log: log, URL: web.URL + "/some/where/", Key: key, Kept: kept}
	for round, n := range []int{0, 1, 300, 1, 700} {
		opts := journal.Options{Signer: signer, Verifier: log}
		var err error
		opts.Witness, err = New(config)
		check(t, err)
		opts.Trouble = func(err error) { t.Error(err) }
		if round > 0 {
			known, err := Kept(kept, log, key)
			check(t, err)
			opts.Known = [][]byte{known.Note}
		}
		c := grow(t, dir, opts, "record", n)
		known, err := Kept(kept, log, key)
		check(t, err)
		if known.Size != c.Size || known.Root != c.Root || s.size != int64(c.Size) {
			t.Errorf("round %d: %d records were cosigned and %d kept, of %d", round, s.size, known.Size, c.Size)
		}
	}
	c, err := Kept(kept, log, key)
	check(t, err)
	if _, err := journal.Verify(t.Context(), dir, log, journal.VerifyOptions{Known: [][]byte{c.Note}, Since: c.Note}); err != nil {
		t.Error(err)
	}

	// Without the file, the witness says where it is; and it does not lose what it has.
	check(t, os.Remove(kept))
	witness, err := New(config)
	check(t, err)
	grown := grow(t, dir, journal.Options{Signer: signer, Verifier: log}, "more", 5)
	asked := s.asked
	check(t, witness(t.Context(), grown))
	check(t, witness(t.Context(), grown))
	if s.asked != asked+2 {
		t.Errorf("the witness was asked %d times", s.asked-asked)
	}

	// Another journal under the same key, smaller and larger, with the file and without it.
	for name, n := range map[string]int{"smaller": 10, "larger": 2000, "as large": int(grown.Size)} {
		config := config
		config.Dir = t.TempDir()
		fork := grow(t, config.Dir, journal.Options{Signer: signer, Verifier: log}, "another", n)
		for _, file := range []string{kept, filepath.Join(t.TempDir(), "kept")} {
			config.Kept = file
			witness, err := New(config)
			check(t, err)
			if err := witness(t.Context(), fork); !errors.Is(err, journal.ErrTampered) {
				t.Errorf("%s, kept %t: %v, want ErrTampered", name, file == kept, err)
			}
		}
	}
	known, err := Kept(kept, log, key)
	check(t, err)
	if known.Size != grown.Size || known.Root != grown.Root {
		t.Errorf("%d records are kept, want %d", known.Size, grown.Size)
	}
}

// What a witness answers that it should not is no cosignature, and nothing is kept.
func TestBadWitness(t *testing.T) {
	t.Parallel()
	signer, log := keys(t)
	good, _, key := newServer(t, log)
	stranger, _, _ := newServer(t, log) // of the same name
	dir := t.TempDir()
	c := grow(t, dir, journal.Options{Signer: signer, Verifier: log}, "record", 3)
	text, _, _ := strings.Cut(string(c.Note), "\n\n")
	size := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x.tlog.size")
			w.WriteHeader(http.StatusConflict)
			_, _ = fmt.Fprint(w, answer)
		}
	}
	say := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, answer) }
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"nothing", say(""), `answers "200 OK"`},
		{"no signature", say("yes\n"), "no cosignature of its own: malformed note"},
		{"of a stranger", say(stranger.cosign(text + "\n")), "no cosignature of its own"},
		{"of another text", say(good.cosign("other" + text + "\n")), "no cosignature of its own: invalid signature"},
		{"a text before", say("x\n\n" + good.cosign(text+"\n")), "no cosignature of its own"},
		{"too much", say(strings.Repeat("x", maxAnswer+1)), "answers with more than 16384 bytes"},
		{"ahead", size("4\n"), "has cosigned 4 records, and there are 3"},
		{"the same size", size("0\n"), "has cosigned other 0 records"},
		{"never the same", size("2\n"), "has cosigned other 2 records"},
		{"no number", size("02\n"), `has cosigned "02" records`},
		{"not found", http.NotFound, `answers "404 Not Found"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := httptest.NewServer(tt.answer)
			defer web.Close()
			config := Config{Dir: dir, Log: log, URL: web.URL, Key: key, Kept: filepath.Join(t.TempDir(), "kept")}
			witness, err := New(config)
			check(t, err)
			if err := witness(t.Context(), c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if _, err := os.Stat(config.Kept); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was kept: %v", err)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	witness, err := New(Config{Dir: dir, Log: log, URL: "http://127.0.0.1:1", Key: key, Kept: filepath.Join(t.TempDir(), "kept")})
	check(t, err)
	if err := witness(ended, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	signer, log := keys(t)
	_, _, key := newServer(t, log)
	file := filepath.Join(t.TempDir(), "kept")
	c := grow(t, t.TempDir(), journal.Options{Signer: signer, Verifier: log}, "record", 1)
	check(t, os.WriteFile(file, c.Note, 0o600))
	if _, err := New(Config{}); err == nil || err.Error() != "witness: Config.Dir, Log, URL, Key and Kept must be given" {
		t.Error(err)
	}
	// Without the witness's signature, it could be of who has the key of the journal and its disk.
	if _, err := New(Config{Dir: "x", Log: log, URL: "x", Key: key, Kept: file}); err == nil || !strings.Contains(err.Error(), file+": note has no verifiable signatures") {
		t.Error(err)
	}
	for _, vkey := range []string{
		"",
		"witness.example",
		"witness.example+00000000+BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"witness.example+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"witness.example+00000000+BAAA",
	} {
		if _, err := NewVerifier(vkey); err == nil {
			t.Errorf("the key %q was taken", vkey)
		}
	}
}

// A folder keeps each checkpoint, and neither an older one after a newer one nor one of other records.
func TestFolder(t *testing.T) {
	t.Parallel()
	signer, log := keys(t)
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "far/away")
	opts := journal.Options{Signer: signer, Verifier: log}
	var all []journal.Checkpoint
	for _, n := range []int{0, 5, 300} {
		opts.Witness = Folder(path, dir, log)
		opts.Trouble = func(err error) { t.Error(err) }
		all = append(all, grow(t, dir, opts, "record", n))
		latest, err := Latest(path, log)
		check(t, err)
		if last := all[len(all)-1]; latest.Size != last.Size || !bytes.Equal(latest.Note, last.Note) {
			t.Errorf("%d records are kept, want %d", latest.Size, last.Size)
		}
	}
	entries, err := os.ReadDir(path)
	check(t, err)
	keep := Folder(path, dir, log)
	check(t, keep(t.Context(), all[2]))
	if err := keep(t.Context(), all[1]); !errors.Is(err, journal.ErrTampered) {
		t.Errorf("an older one: %v", err)
	}
	for _, n := range []int{5, 305, 400} {
		fork := t.TempDir()
		c := grow(t, fork, journal.Options{Signer: signer, Verifier: log}, "another", n)
		if err := Folder(path, fork, log)(t.Context(), c); !errors.Is(err, journal.ErrTampered) {
			t.Errorf("one of other %d records: %v", n, err)
		}
	}
	after, err := os.ReadDir(path)
	check(t, err)
	if len(after) != len(entries) || len(after) < 3 {
		t.Errorf("%d files, had %d", len(after), len(entries))
	}
	check(t, os.WriteFile(filepath.Join(path, "99999999999999999999.checkpoint"), nil, 0o600)) // no number of 63 bits
	check(t, os.WriteFile(filepath.Join(path, "00000000000000009999.checkpoint"), all[2].Note, 0o600))
	if err := keep(t.Context(), all[2]); err == nil || !strings.HasSuffix(err.Error(), "9999.checkpoint: it is of 305 records") {
		t.Error(err)
	}
}
