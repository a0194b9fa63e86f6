package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// since makes a journal of many segments with checkpoints at several sizes.
func since(t *testing.T) (dir string, checkpoints []Checkpoint) {
	t.Helper()
	dir = t.TempDir()
	j := mustOpen(t, dir, options())
	checkpoints = append(checkpoints, j.Checkpoint())
	for _, n := range []int{1, 254, 1, 1, 255, 300, 77} {
		fillFast(t, j, n/2)
		fill(t, j, n-n/2)
		check(t, j.WaitCheckpoint(t.Context(), j.Size()))
		checkpoints = append(checkpoints, j.Checkpoint())
	}
	mustClose(t, j)
	return dir, checkpoints
}

// From every checkpoint on, exactly the records since are read.
func TestSince(t *testing.T) {
	t.Parallel()
	dir, checkpoints := since(t)
	for _, c := range checkpoints {
		next := c.Size
		report := mustVerify(t, dir, VerifyOptions{Since: c.Note, Known: [][]byte{checkpoints[2].Note, c.Note, checkpoints[4].Note}, Each: func(r Record) error {
			if r.Index != next || string(r.Data) != text(next) {
				t.Errorf("since %d: record %d is %d %q", c.Size, next, r.Index, r.Data)
			}
			next++
			return nil
		}})
		if next != 889 || report.First != 0 || report.From != c.Size || report.Checkpoint.Size != 889 || report.Behind != 0 {
			t.Errorf("since %d: came to %d, %+v", c.Size, next, report)
		}
	}
	whole, last := mustVerify(t, dir, VerifyOptions{}), mustVerify(t, dir, VerifyOptions{Since: checkpoints[6].Note})
	if last.Segments >= whole.Segments || last.Bytes >= whole.Bytes {
		t.Errorf("%d segments of %d bytes were read, %d of %d in all", last.Segments, last.Bytes, whole.Segments, whole.Bytes)
	}
}

// flipRecord changes a record on disk, and its checksum as somebody would who knows how.
func flipRecord(t *testing.T, dir string, index uint64) {
	t.Helper()
	rewriteRecord(t, dir, index, func(record []byte) { record[0] ^= 1 })
}

func rewriteRecord(t *testing.T, dir string, index uint64, how func(record []byte)) {
	t.Helper()
	firsts, err := listSegments(dir)
	check(t, err)
	at := firsts[0]
	for _, first := range firsts {
		if first <= index {
			at = first
		}
	}
	s, err := openSegment(dir, at, nil)
	check(t, err)
	defer s.close()
	for {
		offset := s.offset
		h, body, err := s.block(0)
		check(t, err)
		if h.next() <= index {
			continue
		}
		edit(t, s.path, func(b []byte) []byte {
			for rest, i := b[offset+blockSize:], h.first; ; i++ {
				leaf, next := nextLeaf(rest)
				if i == index {
					how(leaf[1:])
					break
				}
				rest = next
			}
			sumFrames(b[offset+blockSize:][:len(body)], h.first)
			return b
		})
		return
	}
}

func TestSinceRefuses(t *testing.T) {
	t.Parallel()
	dir, checkpoints := since(t)
	forkDir := t.TempDir()
	fork := mustOpen(t, forkDir, options())
	for range 256 {
		mustAppend(t, fork, "another")
	}
	mustClose(t, fork)
	ahead := copyDir(t, dir)
	j := mustOpen(t, ahead, options())
	fill(t, j, 1)
	mustClose(t, j)
	signer, _ := keys(origin)
	zero, err := signCheckpoint(0, fork.Checkpoint().Root, signer)
	check(t, err)
	otherSigner, _ := keys("other.example")
	foreign, err := signCheckpoint(256, checkpoints[3].Root, otherSigner)
	check(t, err)
	c := checkpoints[3] // of 256 records
	for _, tt := range []struct {
		name   string
		since  []byte
		change func(t *testing.T, dir string)
		want   string
	}{
		{"of a fork", fork.Checkpoint().Note, nil, "VerifyOptions.Since: journal: the files are not those that the journal wrote: the first 256 records are not those of a known checkpoint"},
		{"of nothing, with a root of something", zero.Note, nil, "the first 0 records are not those of a known checkpoint"},
		{"ahead", j.Checkpoint().Note, nil, "a checkpoint of 890 records is known, and there are 889"},
		{"unsigned", []byte("bank.example/ledger/audit\n256\n"), nil, "VerifyOptions.Since: journal: the checkpoint does not verify"},
		{"empty", []byte{}, nil, "VerifyOptions.Since: journal: the checkpoint does not verify"},
		{"first record after it changed", c.Note, func(t *testing.T, dir string) { t.Helper(); flipRecord(t, dir, 256) }, "is not the hashes of the records"},
		{"last record changed", c.Note, func(t *testing.T, dir string) { t.Helper(); flipRecord(t, dir, 888) }, "do not hash to the signed checkpoint"},
		{"a tile before it changed", c.Note, func(t *testing.T, dir string) {
			t.Helper()
			edit(t, filepath.Join(dir, "tile/1/000.p/3"), func(b []byte) []byte { b[0] ^= 1; return b })
		}, "downloaded inconsistent tile"},
		{"segment after it removed", c.Note, func(t *testing.T, dir string) {
			t.Helper()
			firsts, err := listSegments(dir)
			check(t, err)
			check(t, os.Remove(segmentPath(dir, firsts[len(firsts)-2])))
		}, "a segment is missing"},
		{"the end removed, of all that was verified before", checkpoints[len(checkpoints)-1].Note, func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.Remove(lastSegment(t, dir)))
		}, "records, and a signed checkpoint counts 889"},
		{"the end cut, of all that was verified before", checkpoints[len(checkpoints)-1].Note, func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.Truncate(lastSegment(t, dir), size(t, lastSegment(t, dir))-1))
		}, "the file ends "},
		{"of another journal", foreign.Note, nil, "VerifyOptions.Since: journal: the checkpoint does not verify: note has no verifiable signatures"},
		// What is documented not to be looked for.
		{"a record before it changed", c.Note, func(t *testing.T, dir string) { t.Helper(); flipRecord(t, dir, 10) }, ""},
		{"the record before it changed", c.Note, func(t *testing.T, dir string) { t.Helper(); flipRecord(t, dir, 255) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, dir)
			if tt.change != nil {
				tt.change(t, dir)
			}
			_, verifier := keys(origin)
			_, err := Verify(t.Context(), dir, verifier, VerifyOptions{Since: tt.since})
			if tt.want == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// Since may be before what was deleted, or after the record that says so.
func TestSinceDeletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	opts := options()
	opts.Now = func() time.Time { return now }
	j := mustOpen(t, dir, opts)
	fill(t, j, 10)
	check(t, j.WaitCheckpoint(t.Context(), 10))
	before := j.Checkpoint()
	fill(t, j, 190)
	now = now.AddDate(8, 0, 0)
	fill(t, j, 100)
	first, err := j.Prune(t.Context())
	check(t, err)
	pruned := j.Checkpoint()
	fill(t, j, 100)
	mustClose(t, j)
	for name, hint := range map[string]string{"right": "", "wrong": "299\n", "no number": "x", "lost": "lost"} {
		dir := copyDir(t, dir)
		switch hint {
		case "":
		case "lost":
			check(t, os.Remove(filepath.Join(dir, prunedFile)))
		default:
			check(t, os.WriteFile(filepath.Join(dir, prunedFile), []byte(hint), filePerm))
		}
		for _, c := range []Checkpoint{before, pruned} {
			report := mustVerify(t, dir, VerifyOptions{Since: c.Note})
			if report.First != first || report.From != max(c.Size, first) || report.Pruned == nil || report.Pruned.Before != first {
				t.Errorf("the hint is %s, since %d: %+v", name, c.Size, report)
			}
		}
		mustClose(t, mustOpen(t, dir, opts))
	}
	_, verifier := keys(origin)
	for name, change := range map[string]func(t *testing.T, dir string){
		"the record of the deletion forged": func(t *testing.T, dir string) {
			t.Helper()
			rewriteRecord(t, dir, 300, func(record []byte) { copy(record[bytes.Index(record, []byte("seconds\":"))+9:], "9") })
		},
		"more gone than it says": func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.Remove(segmentPath(dir, first)))
		},
	} {
		dir := copyDir(t, dir)
		change(t, dir)
		if _, err := Verify(t.Context(), dir, verifier, VerifyOptions{Since: pruned.Note}); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v, want ErrTampered", name, err)
		}
	}
	flipRecord(t, dir, 300) // the record of the deletion, which parses no more
	if _, err := Verify(t.Context(), dir, verifier, VerifyOptions{Since: pruned.Note}); !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want ErrTampered", err)
	}
}
