package journal

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// follow reads up to so many records, checks that they are those of fill, and returns how many there were.
func follow(t *testing.T, f *Follower, to uint64, most int) (n int) {
	t.Helper()
	for r, err := range f.Records(to) {
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Data) != text(r.Index) || f.Next() != r.Index+1 {
			t.Fatalf("record %d is %q, and the next one is %d", r.Index, r.Data, f.Next())
		}
		if n++; n == most {
			break
		}
	}
	return n
}

// A follower comes to every record once, whichever way it is stopped and however the journal grows meanwhile.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	f := Follow(dir, 0)
	defer f.Close()
	if n := follow(t, f, 0, 10); n != 0 {
		t.Errorf("%d records in an empty journal", n)
	}
	read := 0
	for range 40 { // 1,640 records, in many segments
		fill(t, j, 1)
		fillFast(t, j, 40)
		read += follow(t, f, j.Size(), 7)
		read += follow(t, f, j.Size(), 0)
	}
	if uint64(read) != j.Size() || f.Next() != j.Size() {
		t.Errorf("%d records of %d, and the next is %d", read, j.Size(), f.Next())
	}
	for _, from := range []uint64{0, 1, 39, 40, 41, 1000, j.Size() - 1, j.Size()} {
		f := Follow(dir, from)
		if n := follow(t, f, j.Size(), 0); uint64(n) != j.Size()-from {
			t.Errorf("from %d: %d records of %d", from, n, j.Size()-from)
		}
		f.Close()
	}
	for _, err := range Follow(dir, 0).Records(j.Size() + 1) {
		if err != nil && !errors.Is(err, ErrTampered) {
			t.Errorf("beyond the end: %v", err)
		}
	}
}

// A commit for which there is no room is cut away, and other bytes come in its place. Who had buffered them must not believe them.
func TestFollowOverBytesWrittenAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	fill(t, j, 3)
	f := Follow(dir, 0)
	defer f.Close()
	if n := follow(t, f, 3, 1); n != 1 {
		t.Fatal(n)
	}
	edit(t, lastSegment(t, dir), func(b []byte) []byte { return append(b, "GJb1 half a commit"...) })
	f.Close() // and so reads the segment, with those bytes, anew
	if n := follow(t, f, 3, 1); n != 1 {
		t.Fatal(n)
	}
	edit(t, lastSegment(t, dir), func(b []byte) []byte { return b[:len(b)-len("GJb1 half a commit")] })
	fill(t, j, 3)
	if n := follow(t, f, 6, 0); n != 4 {
		t.Errorf("%d records, want 4", n)
	}
}

func TestFollowBehindDeletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.Retention = time.Nanosecond
	j := mustOpen(t, dir, opts)
	fill(t, j, 300)
	if err := j.WaitCheckpoint(context.Background(), j.Size()); err != nil {
		t.Fatal(err)
	}
	open := Follow(dir, 0)
	defer open.Close()
	if n := follow(t, open, 300, 1); n != 1 {
		t.Fatal(n)
	}
	first, err := j.Prune(context.Background())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	// The segment that is open can still be read; those behind it are gone.
	for name, f := range map[string]*Follower{"open": open, "new": Follow(dir, 0)} {
		var deleted *DeletedError
		for r, err := range f.Records(300) {
			if err != nil && !errors.As(err, &deleted) {
				t.Fatalf("%s: record %d: %v", name, r.Index, err)
			}
		}
		if deleted == nil || deleted.Before != first || deleted.From != f.Next() {
			t.Fatalf("%s: %v, want from %d and before %d", name, deleted, f.Next(), first)
		}
		f.Skip(deleted.Before)
		if n := follow(t, f, 300, 0); uint64(n) != 300-first {
			t.Errorf("%s: %d records after the deletion, want %d", name, n, 300-first)
		}
		f.Close()
	}
	for _, err := range Follow(t.TempDir(), 0).Records(1) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no journal: %v", err)
		}
	}
}

// A segment that is gone ends the reading; it is not looked for for ever.
func TestFollowMissingSegment(t *testing.T) {
	t.Parallel()
	dir, firsts := closedSegments(t)
	check(t, os.Remove(segmentPath(dir, firsts[1])))
	ended := make(chan error, 1)
	go func() {
		f := Follow(dir, 0)
		defer f.Close()
		for _, err := range f.Records(200) {
			if err != nil {
				ended <- err
			}
		}
		close(ended)
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrTampered) {
			t.Errorf("%v, want ErrTampered", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still looking")
	}
}
