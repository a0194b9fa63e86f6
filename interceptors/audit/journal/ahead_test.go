package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// While a journal is open, zeros follow its last record, and what reads it passes over them. A journal that was closed has none.
func TestZeros(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.SegmentBytes = 3 << 20
	j := mustOpen(t, dir, opts)
	fill(t, j, 100)
	path := lastSegment(t, dir)
	check(t, j.WaitCheckpoint(t.Context(), 100))
	end := j.segment.end
	if n := size(t, path); n < end+growth/2 || n > end+growth {
		t.Errorf("%d bytes, of which %d are records", n, end)
	}
	if report := mustVerify(t, dir, VerifyOptions{}); report.Torn || report.Behind != 0 || report.Bytes != end {
		t.Errorf("open: %+v", report)
	}
	checkRecords(t, dir, 0, 100)
	crashed := copyDir(t, dir)
	mustClose(t, j)
	if n := size(t, path); n != end {
		t.Errorf("%d bytes when it was closed, want %d", n, end)
	}
	mustVerify(t, dir, VerifyOptions{})

	j = mustOpen(t, crashed, opts)
	if n := size(t, lastSegment(t, crashed)); n != end || j.Size() != 100 {
		t.Errorf("after a crash, %d bytes and %d records, want %d and 100", n, j.Size(), end)
	}
	fill(t, j, 3)
	mustClose(t, j)
	mustVerify(t, crashed, VerifyOptions{})
}

// What is among the zeros was not written by the journal, or not acknowledged.
func TestNotZeros(t *testing.T) {
	t.Parallel()
	zeros := func(n int) []byte { return make([]byte, n) }
	closed, _ := closedSegments(t)
	id := func(t *testing.T, path string) journalID {
		t.Helper()
		b, err := os.ReadFile(path)
		check(t, err)
		h, err := decodeHeader(b)
		check(t, err)
		return h.id
	}
	for _, tt := range []struct {
		name         string
		change       func(t *testing.T, dir string)
		open, verify string
	}{
		{"zeros", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte { return append(b, zeros(5000)...) })
		}, "", ""},
		{"fewer zeros than a header", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte { return append(b, zeros(7)...) })
		}, "", ""},
		{"zeros in a torn block", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte { return append(append(append(b, zeros(4000)...), "torn"...), zeros(4000)...) })
		}, "", ""},
		{"zeros behind a last seal", func(t *testing.T, dir string) {
			t.Helper()
			path := lastSegment(t, dir)
			seal := make([]byte, blockSize)
			block{seal: true, first: 200}.encode(seal, id(t, path))
			edit(t, path, func(b []byte) []byte { return append(append(b, seal...), zeros(500)...) })
		}, "", ""},
		{"a record behind a last seal", func(t *testing.T, dir string) {
			t.Helper()
			path := lastSegment(t, dir)
			seal := make([]byte, blockSize)
			block{seal: true, first: 200}.encode(seal, id(t, path))
			edit(t, path, func(b []byte) []byte { return append(append(append(b, seal...), zeros(500)...), 1) })
		}, "something follows the segment's seal", "something follows the segment's seal"},
		{"zeros behind another seal", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, segmentPath(dir, 0), func(b []byte) []byte { return append(b, zeros(500)...) })
		}, "has no seal at its end", "something follows the segment's seal"},
		{"zeros in place of records", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte {
				clear(b[len(b)-200:])
				return b
			})
		}, "the checkpoint counts 200 records", "fails its checksum"},
		{"zeros in place of a block's header", func(t *testing.T, dir string) {
			t.Helper()
			edit(t, lastSegment(t, dir), func(b []byte) []byte {
				clear(b[headerSize : headerSize+blockSize])
				return b
			})
		}, "the block's header is damaged", "the block's header is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, closed)
			tt.change(t, dir)
			_, verifier := keys(origin)
			_, err := Verify(t.Context(), dir, verifier, VerifyOptions{})
			if !isRefusal(err, tt.verify) {
				t.Errorf("Verify: %v, want %q", err, tt.verify)
			}
			j, err := Open(dir, options())
			if !isRefusal(err, tt.open) {
				t.Errorf("Open: %v, want %q", err, tt.open)
			}
			if err != nil {
				return
			}
			fill(t, j, 100)
			mustClose(t, j)
			checkRecords(t, dir, 0, 300)
			mustVerify(t, dir, VerifyOptions{})
		})
	}
}

// isRefusal reports whether an error is of tampering and says what it should, or is none where it should be none.
func isRefusal(err error, want string) bool {
	if want == "" {
		return err == nil
	}
	return errors.Is(err, ErrTampered) && strings.Contains(err.Error(), want)
}

// What somebody writes where the next record will be is noticed, though the file stays as long as it was.
func TestWrittenAhead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	j := mustOpen(t, dir, opts)
	fill(t, j, 5)
	f, err := os.OpenFile(lastSegment(t, dir), os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt([]byte("forged"), j.segment.end)
	check(t, errors.Join(err, f.Close()))
	if err := j.Close(); !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), "has something behind its last record") {
		t.Errorf("%v, want ErrTampered", err)
	}
}

// Zeros for which there is no room are done without: a record has the room that it needs itself.
func TestNoRoomForZeros(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var taken atomic.Int64
	opts := options()
	opts.SegmentBytes = 1 << 20
	opts.write = func(f *os.File, b []byte, at int64) (int, error) {
		if filepath.Ext(f.Name()) == segmentSuffix && isZero(b) {
			taken.Add(1)
			n, err := f.WriteAt(b[:len(b)/2], at)
			return n, errors.Join(err, syscall.ENOSPC)
		}
		return f.WriteAt(b, at)
	}
	mustClose(t, mustOpen(t, dir, opts))
	j := mustOpen(t, dir, opts)
	fill(t, j, 50)
	if is, end := size(t, lastSegment(t, dir)), j.segment.end; is != end || taken.Load() == 0 {
		t.Errorf("%d bytes, want %d; %d times there was no room", is, end, taken.Load())
	}
	mustClose(t, j)
	checkRecords(t, dir, 0, 50)
	mustVerify(t, dir, VerifyOptions{})
}

// Who verifies a journal that is open may be slower than those who write to it: what was read ahead as zeros has records by then.
func TestVerifyingAnOpenJournalSlowly(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []int{400 << 10, 5 << 20} {
		opts := options()
		opts.SegmentBytes, opts.CheckpointEvery = 256<<20, 20*time.Millisecond
		dir := t.TempDir()
		j := mustOpen(t, dir, opts)
		fill(t, j, 10)
		check(t, j.WaitCheckpoint(t.Context(), 10))
		_, verifier := keys(origin)
		once := sync.OnceFunc(func() {
			record := strings.Repeat("y", 60_000)
			for n := 0; n < meanwhile; n += len(record) {
				mustAppend(t, j, record)
			}
		})
		r, err := Verify(t.Context(), dir, verifier, VerifyOptions{Each: func(Record) error { once(); return nil }})
		if err != nil || r.Torn {
			t.Errorf("%d bytes meanwhile: torn %v, %v", meanwhile, r.Torn, err)
		}
		mustClose(t, j)
	}
}

// A write that ends just where the zeros did would give a segment that was cut its size back.
func TestACutSegmentIsNoticedBeforeAWriteHidesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	fill(t, j, 50)
	for j.segment.size-j.segment.end > 100_000 {
		mustAppend(t, j, strings.Repeat("z", 60_000))
	}
	if j.segment.size-j.segment.end-blockSize-frameSize > MaxRecord {
		mustAppend(t, j, strings.Repeat("z", 40_000))
	}
	gap := j.segment.size - j.segment.end - blockSize - frameSize
	check(t, j.WaitCheckpoint(t.Context(), j.Size()))
	check(t, os.Truncate(lastSegment(t, dir), 5000))
	if _, err := j.Append(t.Context(), make([]byte, gap)); !errors.Is(err, ErrTampered) {
		t.Errorf("a record of %d bytes: %v, want ErrTampered", gap, err)
	}
	if err := j.Close(); !errors.Is(err, ErrTampered) {
		t.Errorf("closing: %v, want ErrTampered", err)
	}
}
