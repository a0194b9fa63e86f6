package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestTail(t *testing.T) {
	t.Parallel()
	w := bank(t)
	for flags, want := range map[string]string{
		"":                       "0 1 2 3 4 5 6 7 8 9",
		"-n 3":                   "7 8 9",
		"-n 0":                   "",
		"-n 2 -type intent":      "6 7",
		"-n 5 -outcome denied":   "4",
		"-n 1 -caller " + anna:   "9",
		"-n 1 -method Feed -f=0": "8",
	} {
		if got := indexes(t, w.must("tail", append(strings.Fields(flags), "-format", "json")...)); got != want {
			t.Errorf("tail %s: records %q, want %q", flags, got, want)
		}
	}
}

// What lies further back than a first look is found.
func TestTailOfFewAmongMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, business()...)
	var last journal.Pending
	call := audit.AppendRecord(nil, &audit.Record{ID: id(50, 0), Type: audit.TypeCall})
	for range 20000 {
		var err error
		if last, err = j.Begin(context.Background(), call); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := last.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.close(j)
	if got := indexes(t, w.must("tail", "-n", "3", "-type", "intent", "-format", "json")); got != "5 6 7" {
		t.Error(got)
	}
	if got := indexes(t, w.must("tail", "-n", "2", "-format", "json")); got != "20008 20009" {
		t.Error(got)
	}
}

// following runs tail -f until the returned function is called, which returns the exit status and what was told.
func (w *world) following(t *testing.T, args ...string) (lines *bufio.Reader, stop func(interrupt bool) (int, string)) {
	t.Helper()
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	status := make(chan int, 1)
	p := &program{stdout: in, stderr: &stderr, now: time.Now, poll: time.Millisecond}
	go func() {
		s := p.run(ctx, append([]string{"audit", "tail", w.dir, "-key", w.key, "-f", "-format", "json"}, args...))
		_ = in.Close()
		status <- s
	}()
	t.Cleanup(func() {
		cancel()
		_ = out.Close()
	})
	return bufio.NewReader(out), func(interrupt bool) (int, string) {
		if interrupt {
			cancel()
		}
		return <-status, stderr.String()
	}
}

func next(t *testing.T, lines *bufio.Reader, want string) {
	t.Helper()
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%v, want record %s", err, want)
	}
	if got := indexes(t, line); got != want {
		t.Fatalf("record %s, want %s", got, want)
	}
}

// tail -f goes on over the ends of segments and deletions, and ends well when it is interrupted.
func TestTailFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(func(o *journal.Options) { o.SegmentBytes, o.Retention = 700, time.Nanosecond })
	add(t, j, business()...)
	covered(t, j)
	lines, stop := w.following(t, "-n", "1")
	next(t, lines, "9")
	for i := range 10 {
		add(t, j, audit.Record{ID: id(uint64(100+i), 0), Type: audit.TypeCall, Detail: strings.Repeat("x", 300)})
		next(t, lines, fmt.Sprint(10+i))
	}
	if first, err := j.Prune(context.Background()); err != nil || first == 0 {
		t.Fatal(first, err)
	}
	next(t, lines, "20") // the record of the deletion
	add(t, j, settled())
	next(t, lines, "21")
	if status, stderr := stop(true); status != statusGood || stderr != "" {
		t.Errorf("exit status %d, %s", status, stderr)
	}
}

// A journal that is rolled back or replaced under tail -f ends it.
func TestTailNoticesARollback(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		with func(w *world) // what the journal is replaced by
		want string
	}{
		{"rolled back", func(w *world) {
			w.fill(business()[0])
		}, "NOT GOOD: the checkpoint went back from 10 records to 1: the journal was rolled back"},
		{"rewritten", func(w *world) {
			records := business()
			records[2].Transaction.Amount = "1.50"
			w.fill(append(records, settled())...)
		}, "NOT GOOD: the checkpoint of 11 records does not continue that of 10 which was here before: the journal was replaced or rewritten: "},
		{"rewritten at the same length", func(w *world) {
			records := business()
			records[2].Transaction.Amount = "1.50"
			w.fill(records...)
		}, "NOT GOOD: the checkpoint of 10 records does not continue that of 10 which was here before: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := bank(t)
			w.t = t
			other := &world{t: t, dir: t.TempDir(), signer: w.signer, verifier: w.verifier, key: w.key}
			tt.with(other)
			lines, stop := w.following(t, "-n", "1")
			next(t, lines, "9")
			replaceTree(t, other.dir, w.dir)
			status, stderr := stop(false)
			if status != statusBad || !strings.HasPrefix(stderr, "grpcguard audit tail: "+tt.want) {
				t.Errorf("exit status %d, %s\nwant %s", status, stderr, tt.want)
			}
		})
	}
}

// fill makes a closed journal of records.
func (w *world) fill(records ...audit.Record) {
	w.t.Helper()
	j := w.open(nil)
	add(w.t, j, records...)
	w.close(j)
}

// replaceTree puts the tiles of one journal in the place of another's, and then its checkpoint.
func replaceTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(to, "tile"), filepath.Join(to, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(to, "tile"), os.DirFS(filepath.Join(from, "tile"))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(from, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "new"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(to, "new"), filepath.Join(to, "checkpoint")); err != nil {
		t.Fatal(err)
	}
}
