package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// What was added is read again, across segments and openings, and the log over it is tlog's own.
func TestAppend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	total := uint64(0)
	for _, n := range []int{0, 1, 1, 5, 248, 1, 1, 300, 511} {
		j := mustOpen(t, dir, options())
		if j.Size() != total {
			t.Fatalf("%d records, want %d", j.Size(), total)
		}
		fillFast(t, j, n)
		for range n {
			more, err := tlog.StoredHashes(int64(total), []byte(text(total)), reader)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, more...)
			total++
		}
		mustClose(t, j)
		want, err := tlog.TreeHash(int64(total), reader)
		if err != nil {
			t.Fatal(err)
		}
		if c := j.Checkpoint(); c.Size != total || total > 0 && c.Root != want {
			t.Fatalf("checkpoint %d %v, want %d %v", c.Size, c.Root, total, want)
		}
		checkRecords(t, dir, total/2, total)
		report := mustVerify(t, dir, VerifyOptions{})
		if report.Checkpoint.Size != total || report.Behind != 0 || report.Torn {
			t.Fatalf("%+v", report)
		}
	}
}

// A large log has tiles on three levels, and tiles that are full are all that is left of them.
func TestTiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.SegmentBytes = 1 << 20
	j := mustOpen(t, dir, opts)
	fillFast(t, j, 256*256+300)
	mustClose(t, j)
	if _, err := os.Stat(filepath.Join(dir, "tile/2/000.p/1")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tile/1/000.p")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a narrower version of a full tile is left: %v", err)
	}
	mustVerify(t, dir, VerifyOptions{})
	before := tileCount(t, dir)

	// Tiles that are lost are computed again, and so is the hint of how many there are.
	for _, lost := range []string{"tile", "synced"} {
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, dir, opts))
	mustVerify(t, dir, VerifyOptions{})
	if after := tileCount(t, dir); after < before {
		t.Errorf("%d tiles, had %d", after, before)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var witnessed []Checkpoint
	opts := options()
	opts.BatchBytes = 2000 // so that appenders wait for room
	opts.Witness = func(_ context.Context, c Checkpoint) error {
		witnessed = append(witnessed, c)
		return nil
	}
	j := mustOpen(t, dir, opts)
	var group sync.WaitGroup
	var got sync.Map
	for w := range 32 {
		group.Go(func() {
			for n := range 50 {
				r := fmt.Sprintf("%d/%d", w, n)
				index, err := j.Append(t.Context(), []byte(r))
				if err != nil {
					t.Error(err)
				}
				if _, twice := got.LoadOrStore(index, r); twice {
					t.Errorf("index %d twice", index)
				}
				if index >= j.Size() {
					t.Errorf("index %d and %d durable", index, j.Size())
				}
			}
		})
	}
	group.Wait()
	mustClose(t, j)
	for r, err := range Records(dir, 0, 1600) {
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := got.Load(r.Index); want != string(r.Data) {
			t.Fatalf("record %d is %q, want %q", r.Index, r.Data, want)
		}
	}
	var known [][]byte
	for _, c := range witnessed {
		known = append(known, c.Note)
	}
	if len(known) == 0 || witnessed[len(witnessed)-1].Size != 1600 {
		t.Fatalf("the witness got %d checkpoints", len(known))
	}
	mustVerify(t, dir, VerifyOptions{Known: known})
	opts.Known = known
	mustClose(t, mustOpen(t, dir, opts))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	j := mustOpen(t, dir, opts)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx    context.Context
		record []byte
		want   error
	}{
		{t.Context(), make([]byte, MaxRecord+1), ErrTooLarge},
		{t.Context(), ownPrefix, ErrReserved},
		{ended, nil, context.Canceled},
	} {
		if _, err := j.Append(tt.ctx, tt.record); !errors.Is(err, tt.want) || errors.Is(err, ErrUndecided) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
	if _, err := (Pending{}).Wait(t.Context()); err == nil {
		t.Error("a record that was not taken became durable")
	}
	mustAppend(t, j, "", string(make([]byte, MaxRecord)))
	if _, err := Open(dir, opts); !errors.Is(err, ErrLocked) {
		t.Errorf("%v, want ErrLocked", err)
	}
	mustClose(t, j)
	if _, err := j.Append(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	opts.Create = false
	if _, err := Open(t.TempDir(), opts); !errors.Is(err, ErrNoJournal) {
		t.Errorf("%v, want ErrNoJournal", err)
	}
	_, opts.Verifier = keys("other.example")
	if _, err := Open(dir, opts); err == nil {
		t.Error("a verifier of another name was taken")
	}
}

// After a failed write or fsync nothing is taken any more; the journal says so; what was acknowledged is there.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name        string
		write, sync error
	}{
		{"write EIO", syscall.EIO, nil},
		{"fsync EIO", nil, syscall.EIO},
		{"fsync ENOSPC", nil, syscall.ENOSPC},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var broken atomic.Bool
			told := make(chan error, 1)
			opts := options()
			opts.Failed = func(err error) { told <- err }
			opts.write = func(f *os.File, b []byte, at int64) (int, error) {
				if broken.Load() && fault.write != nil {
					return 0, fault.write
				}
				return f.WriteAt(b, at)
			}
			opts.sync = func(f *os.File) error {
				if broken.Load() && fault.sync != nil {
					return fault.sync
				}
				return f.Sync()
			}
			j := mustOpen(t, dir, opts)
			fill(t, j, 10)
			broken.Store(true)
			_, err := j.Append(t.Context(), []byte("lost?"))
			if !errors.Is(err, ErrFailed) || !errors.Is(err, ErrUndecided) {
				t.Errorf("%v, want ErrFailed and ErrUndecided", err)
			}
			broken.Store(false)
			if _, err = j.Append(t.Context(), nil); !errors.Is(err, ErrFailed) || errors.Is(err, ErrUndecided) {
				t.Errorf("%v, want ErrFailed alone", err)
			}
			if err := <-told; err == nil || j.Err() == nil || j.Close() == nil {
				t.Error("the failure was not told")
			}
			j = mustOpen(t, dir, options())
			checkRecords(t, dir, 0, 10)
			mustClose(t, j)
		})
	}
}

// A disk that is slow makes appenders wait, no longer than they want to, and takes no more memory.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.BatchBytes = 1000
	opts.sync = func(f *os.File) error {
		time.Sleep(200 * time.Millisecond)
		return f.Sync()
	}
	j := mustOpen(t, t.TempDir(), opts)
	var group sync.WaitGroup
	var undecided, refused, kept atomic.Int64
	for range 100 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := j.Append(ctx, make([]byte, 100))
			switch {
			case err == nil:
				kept.Add(1)
			case errors.Is(err, ErrUndecided):
				undecided.Add(1)
			default:
				refused.Add(1)
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("an appender with 300 ms waited %v", took)
			}
		})
	}
	group.Wait()
	// In 300 ms the disk takes two batches at the most, and the journal holds so many more.
	if held, most := kept.Load()+undecided.Load(), int64((2+batches)*1000/(100+frameSize)); held > most {
		t.Errorf("%d records were taken, and %d fit in what the journal may hold", held, most)
	}
	if refused.Load() == 0 || kept.Load() == 0 {
		t.Errorf("%d kept, %d undecided, %d refused", kept.Load(), undecided.Load(), refused.Load())
	}
	mustClose(t, j)
	held := cap(j.fill.buf)
	for j.spare != nil || len(j.free) > 0 {
		b := j.spare
		if j.spare = nil; b == nil {
			b = <-j.free
		}
		held += cap(b.buf)
	}
	if held > 2*batches*opts.BatchBytes {
		t.Errorf("%d bytes in memory for %d batches of %d", held, batches, opts.BatchBytes)
	}
	if n := int64(j.Size()); n != kept.Load()+undecided.Load() {
		t.Errorf("%d records; %d kept, %d undecided", n, kept.Load(), undecided.Load())
	}
}

// Files that change under an open journal are noticed at the next commit, or within a second or so.
func TestTamperedWhileOpen(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(lastSegment(t, dir))) },
		"replaced": func(t *testing.T, dir string) {
			t.Helper()
			path := lastSegment(t, dir)
			b, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path+"x", b, filePerm))
			check(t, os.Rename(path+"x", path))
		},
		"truncated": func(t *testing.T, dir string) {
			t.Helper()
			path := lastSegment(t, dir)
			check(t, os.Truncate(path, size(t, path)-1))
		},
		"appended": func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte { return append(b, 0) })
		},
		"folder renamed": func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.Rename(filepath.Join(dir, segmentDir), filepath.Join(dir, "gone")))
		},
		"first segment removed":   func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(segmentPath(dir, 0))) },
		"first segment truncated": func(t *testing.T, dir string) { t.Helper(); check(t, os.Truncate(segmentPath(dir, 0), 100)) },
		"lock removed":            func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(filepath.Join(dir, lockFile))) },
		"checkpoint removed":      func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(filepath.Join(dir, checkpointFile))) },
	} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/busy=%t", name, busy), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				told := make(chan error, 1)
				opts := options()
				opts.Failed = func(err error) { told <- err }
				j := mustOpen(t, dir, opts)
				fill(t, j, 100)
				check(t, j.WaitCheckpoint(t.Context(), 100))
				change(t, dir)
				if busy {
					for j.Err() == nil {
						_, _ = j.Append(t.Context(), nil)
					}
				}
				select {
				case err := <-told:
					if !errors.Is(err, ErrTampered) {
						t.Error(err)
					}
				case <-time.After(20 * time.Second):
					t.Error("not noticed")
				}
			})
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What was changed while the journal was closed is refused when it is opened, with the place.
func TestTamperedWhileClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	fill(t, j, 50)
	mustClose(t, j)
	early := copyDir(t, dir)
	j = mustOpen(t, dir, options())
	fill(t, j, 150)
	mustClose(t, j)
	firsts, err := listSegments(dir)
	check(t, err)
	middle := firsts[1]
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		known  bool
		want   string
	}{
		{"all removed", func(t *testing.T, dir string) { t.Helper(); check(t, os.RemoveAll(filepath.Join(dir, segmentDir))) }, false, "a checkpoint and no segments"},
		{"checkpoint removed", func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(filepath.Join(dir, checkpointFile))) }, false, "checkpoint is not there"},
		{"checkpoint of another key", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, filepath.Join(dir, checkpointFile), func(b []byte) []byte { return bytes.Replace(b, []byte("\n200\n"), []byte("\n100\n"), 1) })
		}, false, "does not verify"},
		{"segment removed", func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(segmentPath(dir, middle))) }, false, "one is missing"},
		{"first segment removed", func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(segmentPath(dir, 0))) }, false, "no record says"},
		{"last segment removed", func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(lastSegment(t, dir))) }, false, "the checkpoint counts 200"},
		{"segment truncated", func(t *testing.T, dir string) { t.Helper(); check(t, os.Truncate(segmentPath(dir, middle), 200)) }, false, "has no seal"},
		{"last segment truncated", func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.Truncate(lastSegment(t, dir), size(t, lastSegment(t, dir))-1))
		}, false, "the checkpoint counts 200 records"},
		{"foreign file", func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.WriteFile(filepath.Join(dir, segmentDir, "notes.txt"), nil, filePerm))
		}, false, "notes.txt is not the journal's"},
		{"rolled back", func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.RemoveAll(dir))
			check(t, os.CopyFS(dir, os.DirFS(early)))
		}, true, "a checkpoint of 200 is known"},
		{"begun anew", func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.RemoveAll(dir))
			other := mustOpen(t, dir, options())
			for range 300 {
				mustAppend(t, other, "another")
			}
			mustClose(t, other)
		}, true, "the first 200 records do not hash to the checkpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, dir)
			tt.change(t, dir)
			opts := options()
			if tt.known {
				opts.Known = [][]byte{j.Checkpoint().Note}
			}
			opened, err := Open(dir, opts)
			if err == nil {
				_ = opened.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			_, verifier := keys(origin)
			if _, err := Verify(t.Context(), dir, verifier, VerifyOptions{Known: opts.Known}); err == nil {
				t.Error("Verify found nothing")
			}
		})
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, verifier := keys(origin)
	j := mustOpen(t, dir, options())
	olds := []Checkpoint{j.Checkpoint()}
	for _, n := range []int{1, 255, 1, 700} {
		fillFast(t, j, n)
		check(t, j.WaitCheckpoint(t.Context(), j.Size()))
		olds = append(olds, j.Checkpoint())
	}
	for index := range j.Size() {
		if index%41 != 0 && index+1 != j.Size() {
			continue
		}
		proof, err := ProveRecord(dir, verifier, index)
		check(t, err)
		got, c, err := CheckRecord(proof, []byte(text(index)), verifier)
		if err != nil || got != index || c.Size != j.Size() {
			t.Fatalf("%d %d %v", got, c.Size, err)
		}
		if _, _, err := CheckRecord(proof, []byte(text(index)+" "), verifier); err == nil {
			t.Fatal("a proof of another record was taken")
		}
		for i := range proof {
			changed := bytes.Clone(proof)
			changed[i] ^= 1
			if _, _, err := CheckRecord(changed, []byte(text(index)), verifier); err == nil && i < bytes.Index(proof, []byte("\n\n")) {
				t.Fatalf("a proof with byte %d changed was taken:\n%s", i, changed)
			}
		}
	}
	for _, old := range olds {
		proof, err := ProveConsistency(dir, verifier, old.Note)
		check(t, err)
		if c, err := CheckConsistency(proof, old.Note, verifier); err != nil || c.Size != j.Size() {
			t.Fatalf("%d: %v", old.Size, err)
		}
		if _, err := CheckConsistency(proof, olds[(old.Size+1)%uint64(len(olds))].Note, verifier); err == nil && old.Size != olds[(old.Size+1)%uint64(len(olds))].Size {
			t.Fatal("a proof from another checkpoint was taken")
		}
	}
	if _, err := ProveRecord(dir, verifier, j.Size()); err == nil {
		t.Error("a record that is not there was proved")
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	opts := options()
	opts.Now = func() time.Time { return now }
	j := mustOpen(t, dir, opts)
	fill(t, j, 100)
	now = now.AddDate(6, 0, 0)
	if first, err := j.Prune(t.Context()); err != nil || first != 0 {
		t.Fatalf("%d %v", first, err)
	}
	fill(t, j, 100)
	old := j.Checkpoint()
	now = now.AddDate(1, 1, 0)
	first, err := j.Prune(t.Context())
	if err != nil || first == 0 || first >= 100 {
		t.Fatalf("%d %v", first, err)
	}
	size := j.Size()
	if again, err := j.Prune(t.Context()); err != nil || again != first || j.Size() != size {
		t.Fatalf("%d %v, and %d records more", again, err, j.Size()-size)
	}
	mustClose(t, j)
	report := mustVerify(t, dir, VerifyOptions{Known: [][]byte{old.Note}})
	if report.First != first || report.Pruned == nil || report.Pruned.Before != first {
		t.Fatalf("%+v", report)
	}
	_, verifier := keys(origin)
	proof, err := ProveRecord(dir, verifier, 150)
	check(t, err)
	if _, _, err := CheckRecord(proof, []byte(text(150)), verifier); err != nil {
		t.Error(err)
	}
	opts.Known = [][]byte{old.Note}
	check(t, os.Remove(filepath.Join(dir, prunedFile)))
	j = mustOpen(t, dir, opts)
	checkRecords(t, dir, first, size-1)
	mustClose(t, j)

	// A segment more than the record says is missing.
	firsts, err := listSegments(dir)
	check(t, err)
	check(t, os.Remove(segmentPath(dir, firsts[0])))
	if _, err := Open(dir, opts); !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want ErrTampered", err)
	}
	if _, err := Verify(t.Context(), dir, verifier, VerifyOptions{}); !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want ErrTampered", err)
	}
}

// An entry bundle is what a reader of tlog-tiles hashes to the tile of the same number.
func TestEntryBundle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	fillFast(t, j, 300)
	mustClose(t, j)
	for n, width := range []int{256, 44} {
		bundle, err := EntryBundle(dir, uint64(n), width)
		check(t, err)
		tile, err := os.ReadFile(tilePath(dir, 0, uint64(n), width))
		check(t, err)
		for len(bundle) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			if leaf := tlog.RecordHash(bundle[2:end]); !bytes.Equal(leaf[:], tile[:tlog.HashSize]) {
				t.Fatalf("bundle %d: an entry is not that of the tile", n)
			}
			bundle, tile = bundle[end:], tile[tlog.HashSize:]
		}
		if len(tile) != 0 {
			t.Errorf("bundle %d is short", n)
		}
	}
	for _, n := range []uint64{1, 1 << 56, 1<<56 + 1, 1<<64 - 1} {
		if _, err := EntryBundle(dir, n, 45); err == nil {
			t.Errorf("bundle %d is of records that are not there", n)
		}
	}
}

// A witness that fails, or hangs, delays nobody.
func TestWitness(t *testing.T) {
	t.Parallel()
	opts := options()
	hang := make(chan struct{})
	var troubles atomic.Int64
	opts.Trouble = func(error) { troubles.Add(1) }
	var sizes []uint64
	opts.Witness = func(ctx context.Context, c Checkpoint) error {
		select {
		case <-hang:
		case <-ctx.Done():
		}
		sizes = append(sizes, c.Size)
		if len(sizes) == 1 {
			return errors.New("not reached")
		}
		return nil
	}
	j := mustOpen(t, t.TempDir(), opts)
	fill(t, j, 20)
	check(t, j.WaitCheckpoint(t.Context(), 20))
	close(hang)
	mustClose(t, j)
	if troubles.Load() != 1 || sizes[len(sizes)-1] != 20 {
		t.Errorf("%d troubles, sizes %v", troubles.Load(), sizes)
	}
}
