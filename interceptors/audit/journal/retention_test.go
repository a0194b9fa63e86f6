package journal

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

func TestPruneNothingThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	fill(t, j, 10)
	mustClose(t, j)
	check(t, os.Remove(segmentPath(dir, 0)))
	if _, err := j.Prune(t.Context()); !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want ErrTampered", err)
	}
}

// A segment that could not be removed is removed next time, before those after it.
func TestPruneRemoveFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.Retention = time.Nanosecond
	var broken atomic.Bool
	broken.Store(true)
	opts.remove = func(path string) error {
		if broken.Load() {
			return errors.New("not now")
		}
		return os.Remove(path)
	}
	j := mustOpen(t, dir, opts)
	fill(t, j, 200)
	check(t, j.WaitCheckpoint(t.Context(), 200))
	if _, err := j.Prune(t.Context()); err == nil || err.Error() != "journal: not now" {
		t.Fatal(err)
	}
	broken.Store(false)
	first, err := j.Prune(t.Context())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	mustClose(t, j)
	mustVerify(t, dir, VerifyOptions{})
	mustClose(t, mustOpen(t, dir, opts))
}

// The tiles are all that is left of what was deleted, so they are durable before.
func TestPruneSyncsTiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.Retention = time.Nanosecond
	j := mustOpen(t, dir, opts)
	fill(t, j, 200)
	check(t, j.WaitCheckpoint(t.Context(), 200))
	first, err := j.Prune(t.Context())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	if n, ok := readNumber(filepath.Join(dir, syncedFile)); !ok || n < first {
		t.Errorf("%d records are deleted, and the tiles of %d are durable", first, n)
	}
}

// A clock that was wrong when a segment was begun does not make the records before it old.
func TestRetentionClockBackwards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	right := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var now atomic.Int64
	now.Store(right.Unix())
	opts := options()
	opts.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	j := mustOpen(t, dir, opts)
	fill(t, j, 5)
	now.Store(0) // 1970
	fill(t, j, 50)
	mustClose(t, j)
	j = mustOpen(t, dir, opts)
	fill(t, j, 50)
	check(t, j.WaitCheckpoint(t.Context(), 105))
	now.Store(right.AddDate(0, 0, 1).Unix())
	if first, err := j.Prune(t.Context()); err != nil || first != 0 {
		t.Errorf("records of yesterday up to %d were deleted: %v", first, err)
	}
	now.Store(right.AddDate(8, 0, 0).Unix())
	if first, err := j.Prune(t.Context()); err != nil || first == 0 {
		t.Errorf("records of eight years ago were not deleted: %v", err)
	}
}
