package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A small file system fills up, and is given room again.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=400k"); err != nil {
		t.Skipf("a small file system cannot be mounted, so there is no full disk to test on: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	opts := options()
	opts.SegmentBytes = 64 << 10
	j, err := Open(filepath.Join(dir, "journal"), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, j)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 100<<10), filePerm); err != nil {
		t.Fatal(err)
	}
	fillUp := func() {
		t.Helper()
		for {
			_, err := j.Append(t.Context(), []byte(text(j.Size())))
			if errors.Is(err, ErrFull) {
				if errors.Is(err, ErrUndecided) {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	fillUp()
	first := j.Size()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err = j.Append(t.Context(), []byte(text(first))); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || j.Err() != nil {
		t.Fatal(err, j.Err())
	}
	fillUp()
	if j.Size() < first+100 {
		t.Fatalf("%d records before there was room again, %d after", first, j.Size())
	}
	checkRecords(t, j.dir, 0, j.Size())
	after := copyDir(t, j.dir)
	again := mustOpen(t, after, options())
	if again.Size() != j.Size() {
		t.Fatalf("%d records, want %d", again.Size(), j.Size())
	}
	mustClose(t, again)
	mustVerify(t, after, VerifyOptions{})
	// Room for the last checkpoint.
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
}
