package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// crash is a journal as a crash left it, with the number of its records and of those that a checkpoint covers.
type crash struct {
	dir             string
	signed, records uint64
}

// small makes a journal of a few segments, closed, and the same as a crash would leave it: with the last records beyond the last
// checkpoint.
func small(t testing.TB) (closed string, crashed crash) {
	t.Helper()
	closed = t.TempDir()
	opts := options()
	opts.SegmentBytes = 600
	opts.CheckpointEvery = time.Second
	j := mustOpen(t, closed, opts)
	fill(t, j, 9)
	check(t, j.WaitCheckpoint(t.Context(), 9))
	fill(t, j, 4)
	crashed.dir = copyDir(t, closed)
	mustClose(t, j)
	_, verifier := keys(origin)
	c, err := ReadCheckpoint(crashed.dir, verifier)
	check(t, err)
	crashed.signed, crashed.records = c.Size, j.Size()
	return closed, crashed
}

// A journal that was closed has every byte of its segments and tiles covered: any that is flipped is found.
func TestFlipped(t *testing.T) {
	t.Parallel()
	closed, _ := small(t)
	_, verifier := keys(origin)
	n := 0
	for _, pattern := range []string{"segments/*", "tile/0/000.p/13", "checkpoint"} {
		paths, err := filepath.Glob(filepath.Join(closed, pattern))
		check(t, err)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			check(t, err)
			for i := range b {
				if filepath.Base(path) == checkpointFile && i > 100 {
					continue // spaces and name of the signature line have other spellings
				}
				n++
				was := b[i]
				b[i] ^= 1 << (i % 8)
				check(t, os.WriteFile(path, b, filePerm))
				if _, err := Verify(t.Context(), closed, verifier, VerifyOptions{}); err == nil {
					t.Fatalf("byte %d of %s was flipped, and not found", i, path)
				}
				b[i] = was
			}
			check(t, os.WriteFile(path, b, filePerm))
		}
	}
	mustVerify(t, closed, VerifyOptions{})
	t.Logf("%d bytes", n)
}

// The last segment cut at every byte is brought to a prefix with all that a checkpoint covers, or refused.
func TestCut(t *testing.T) {
	t.Parallel()
	_, c := small(t)
	crashed, signed, records := c.dir, c.signed, c.records
	last := filepath.Base(lastSegment(t, crashed))
	whole, err := os.ReadFile(lastSegment(t, crashed))
	check(t, err)
	recovered, refused := 0, 0
	for cut := range len(whole) + 1 {
		dir := copyDir(t, crashed)
		path := filepath.Join(dir, segmentDir, last)
		check(t, os.WriteFile(path, whole[:cut], filePerm))
		j, err := Open(dir, options())
		if err != nil {
			if !errors.Is(err, ErrTampered) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			refused++
			continue
		}
		n := j.Size()
		if n < signed || n > records || cut == len(whole) && n != records {
			t.Fatalf("cut at %d: %d records", cut, n)
		}
		checkRecords(t, dir, 0, n)
		fill(t, j, 3)
		mustClose(t, j)
		mustVerify(t, dir, VerifyOptions{})
		checkRecords(t, dir, 0, n+3)
		recovered++
	}
	if recovered == 0 || refused == 0 {
		t.Errorf("%d recovered, %d refused", recovered, refused)
	}
	t.Logf("%d recovered, %d refused", recovered, refused)
}

// A byte that is flipped behind the last checkpoint, after a crash, is refused unless it is in the last block, which then counts as
// torn: nobody can tell the two apart. What is behind the last block is nobody's, and goes.
func TestFlippedAfterCrash(t *testing.T) {
	t.Parallel()
	_, c := small(t)
	crashed, signed, records := c.dir, c.signed, c.records
	last := filepath.Base(lastSegment(t, crashed))
	whole, err := os.ReadFile(lastSegment(t, crashed))
	check(t, err)
	end := len(bytes.TrimRight(whole, "\x00"))
	if end == len(whole) {
		t.Fatal("there are no zeros behind the last record")
	}
	for at := range whole {
		dir := copyDir(t, crashed)
		edit(t, filepath.Join(dir, segmentDir, last), func(b []byte) []byte {
			b[at] ^= 0x10
			return b
		})
		j, err := Open(dir, options())
		if err != nil {
			if !errors.Is(err, ErrTampered) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		want := records - 1
		if at >= end {
			want = records
		}
		if n := j.Size(); n < signed || n != want {
			t.Fatalf("byte %d: %d records, want %d of %d", at, n, want, records)
		}
		checkRecords(t, dir, 0, j.Size())
		mustClose(t, j)
	}
}

// Whatever the last segment holds, opening it ends in a journal that verifies or in an error.
func FuzzOpen(f *testing.F) {
	_, c := small(f)
	crashed, signed := c.dir, c.signed
	last := filepath.Base(lastSegment(f, crashed))
	whole, err := os.ReadFile(lastSegment(f, crashed))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add(append(append([]byte{}, whole...), whole[headerSize:]...))
	f.Fuzz(func(t *testing.T, segment []byte) {
		dir := copyDir(t, crashed)
		check(t, os.WriteFile(filepath.Join(dir, segmentDir, last), segment, filePerm))
		j, err := Open(dir, options())
		if err != nil {
			return
		}
		if j.Size() < signed {
			t.Fatalf("%d records, and %d are signed", j.Size(), signed)
		}
		checkRecords(t, dir, 0, signed)
		mustClose(t, j)
		mustVerify(t, dir, VerifyOptions{})
	})
}

// Whatever a proof holds, checking it does not panic, and nothing but the record that is in the journal is proved.
func FuzzProof(f *testing.F) {
	closed, _ := small(f)
	_, verifier := keys(origin)
	proof, err := ProveRecord(closed, verifier, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof)
	f.Fuzz(func(t *testing.T, proof []byte) {
		if _, _, err := CheckRecord(proof, []byte("not in the journal"), verifier); err == nil {
			t.Fatal("proved")
		}
		if index, _, err := CheckRecord(proof, []byte(text(3)), verifier); err == nil && index != 3 {
			t.Fatalf("proved at %d", index)
		}
	})
}
