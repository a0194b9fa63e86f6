package journal

import (
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
	"testing/synctest"
	"time"
)

// A witness that hangs until it is told to stop is told so, and so is Trouble; the next try is a new one.
func TestWitnessHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		opts := options()
		var troubles, tries atomic.Int64
		opts.Trouble = func(err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			troubles.Add(1)
		}
		opts.Witness = func(ctx context.Context, _ Checkpoint) error {
			if tries.Add(1) > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		j := mustOpen(t, dir, opts)
		time.Sleep(time.Minute)
		if troubles.Load() != 1 || tries.Load() != 2 {
			t.Errorf("%d troubles, %d tries", troubles.Load(), tries.Load())
		}
		mustClose(t, j)
	})
}

// Once the lock or the checkpoint is not the journal's own any more, it writes no checkpoint: another process may have the journal,
// and be ahead.
func TestCheckpointOfAnother(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, dir string){
		"lock removed": func(t *testing.T, dir string) { t.Helper(); check(t, os.Remove(filepath.Join(dir, lockFile))) },
		"checkpoint replaced": func(t *testing.T, dir string) {
			t.Helper()
			check(t, os.WriteFile(filepath.Join(dir, checkpointFile), []byte("another's"), filePerm))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			opts := options()
			opts.CheckpointEvery = time.Second
			j := mustOpen(t, dir, opts)
			fill(t, j, 5)
			change(t, dir)
			was, err := os.ReadFile(filepath.Join(dir, checkpointFile))
			check(t, err)
			if err := j.Close(); !errors.Is(err, ErrTampered) {
				t.Errorf("%v, want ErrTampered", err)
			}
			is, err := os.ReadFile(filepath.Join(dir, checkpointFile))
			check(t, err)
			if string(is) != string(was) {
				t.Errorf("the checkpoint was written over: %q", is)
			}
		})
	}
}

// A length that is negative as an int of 32 bits is as impossible as any. Run it with GOARCH=386.
func TestHugeLengths(t *testing.T) {
	t.Parallel()
	for _, length := range []uint32{1 << 31, 1<<32 - 1, 1<<32 - frameSize} {
		frame := appendFrame(nil, []byte("record"))
		binary.LittleEndian.PutUint32(frame, length)
		if _, _, reason := checkFrames(frame, block{count: 1}); reason != "the record's length is impossible" {
			t.Errorf("%d: %q", length, reason)
		}
	}
}

// Files that lie where the journal writes new ones are not written through: neither links to what is somebody else's, nor to the
// journal's own segments.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"checkpoint.tmp", "synced.tmp", "segments/unfinished.tmp"} {
		for how, link := range map[string]func(from, to string) error{"symlink": os.Symlink, "hard link": os.Link} {
			t.Run(how+" "+name, func(t *testing.T) {
				t.Parallel()
				dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
				j := mustOpen(t, dir, options())
				fill(t, j, 5)
				mustClose(t, j)
				check(t, os.WriteFile(other, []byte("somebody else's"), filePerm))
				_ = os.Remove(filepath.Join(dir, name))
				check(t, link(other, filepath.Join(dir, name)))
				j = mustOpen(t, dir, options())
				fill(t, j, 100)
				mustClose(t, j)
				b, err := os.ReadFile(other)
				check(t, err)
				if string(b) != "somebody else's" {
					t.Errorf("it was written over, with %d bytes", len(b))
				}
				mustVerify(t, dir, VerifyOptions{})
			})
		}
	}
}

// A link in the place of a file that the journal goes on writing to is not followed.
func TestLinksInPlace(t *testing.T) {
	t.Parallel()
	closed, _ := closedSegments(t)
	for _, path := range []string{filepath.Join(closed, lockFile), filepath.Join(closed, "tile/0/000.p/201"), lastSegment(t, closed)} {
		name, err := filepath.Rel(closed, path)
		check(t, err)
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			dir, other := copyDir(t, closed), filepath.Join(t.TempDir(), "other")
			was := []byte("precious")
			if strings.HasSuffix(name, segmentSuffix) {
				var err error
				was, err = os.ReadFile(path)
				check(t, err)
			}
			check(t, os.WriteFile(other, was, filePerm))
			check(t, os.RemoveAll(filepath.Join(dir, name)))
			check(t, os.Symlink(other, filepath.Join(dir, name)))
			if j, err := Open(dir, options()); err == nil {
				_, _ = j.Append(t.Context(), []byte("another"))
				_ = j.Close()
			}
			if b, err := os.ReadFile(other); err != nil || string(b) != string(was) {
				t.Errorf("%d bytes are where a link led, and %d were: %v", len(b), len(was), err)
			}
		})
	}
}

// What lies in the place of a small file is neither waited for nor read without end.
func TestStrangeFiles(t *testing.T) {
	t.Parallel()
	_, verifier := keys(origin)
	for name, put := range map[string]func(path string) error{
		"pipe":    func(path string) error { return syscall.Mkfifo(path, filePerm) },
		"endless": func(path string) error { return os.Symlink("/dev/zero", path) },
		"huge": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, filePerm), os.Truncate(path, 1<<40))
		},
		"empty": func(path string) error { return os.WriteFile(path, nil, filePerm) },
		"folder": func(path string) error {
			return os.Mkdir(path, dirPerm)
		},
	} {
		for _, file := range []string{"checkpoint", "tile/0/000.p/13", "synced", "segments/unfinished.tmp"} {
			t.Run(name+" "+file, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				j := mustOpen(t, dir, options())
				fill(t, j, 13)
				mustClose(t, j)
				_ = os.Remove(filepath.Join(dir, file))
				check(t, put(filepath.Join(dir, file)))
				_, err := Verify(t.Context(), dir, verifier, VerifyOptions{})
				if hint := file == "synced" || strings.HasSuffix(file, ".tmp"); (err == nil) != hint {
					t.Errorf("Verify: %v", err)
				}
				j, err = Open(dir, options())
				if err == nil {
					fill(t, j, 100)
					if err := j.Close(); err != nil && file != "synced" {
						t.Errorf("Close: %v", err)
					}
				}
				t.Logf("Open: %v", err)
			})
		}
	}
}

// A last checkpoint for which there is no room is not passed over in silence.
func TestCloseWithoutRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.CheckpointEvery = time.Second
	j := mustOpen(t, dir, opts)
	fill(t, j, 5)
	// No room, from now on, for anything but records.
	check(t, j.WaitCheckpoint(t.Context(), 5))
	fill(t, j, 5)
	j.replace = func(string, string, []byte) error { return syscall.ENOSPC }
	err := j.Close()
	if want := "journal: no room on the disk: the last checkpoint is of 5 records of 10"; !errors.Is(err, ErrFull) || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	mustClose(t, mustOpen(t, dir, options()))
	if report := mustVerify(t, dir, VerifyOptions{}); report.Checkpoint.Size != 10 || report.Behind != 0 {
		t.Errorf("%+v", report)
	}
}

// Close waits for a deletion that has begun: who opens the journal next finds its files at rest.
func TestCloseWhilePruning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.Retention = time.Nanosecond
	opts.SegmentBytes = headerSize
	j := mustOpen(t, dir, opts)
	for range 300 {
		fill(t, j, 1)
	}
	check(t, j.WaitCheckpoint(t.Context(), 300))
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := j.Prune(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	for {
		if _, err := os.Lstat(segmentPath(dir, 0)); err != nil {
			break
		}
	}
	mustClose(t, j)
	atClose, err := listSegments(dir)
	check(t, err)
	group.Wait()
	after, err := listSegments(dir)
	check(t, err)
	if len(atClose) != len(after) {
		t.Errorf("%d segments when it was closed, %d later", len(atClose), len(after))
	}
}

// Appenders that wait for room when the journal closes are told; nothing waits forever.
func TestCloseWhileAppending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.BatchBytes = 500
	hold := make(chan struct{})
	var opened atomic.Bool
	opts.sync = func(f *os.File) error {
		if opened.Load() {
			<-hold
		}
		return f.Sync()
	}
	j := mustOpen(t, dir, opts)
	opened.Store(true)
	var group sync.WaitGroup
	var kept, refused atomic.Int64
	for range 50 {
		group.Go(func() {
			switch _, err := j.Append(context.Background(), make([]byte, 100)); {
			case err == nil:
				kept.Add(1)
			case errors.Is(err, ErrClosed) && !errors.Is(err, ErrUndecided):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	for {
		j.mu.Lock()
		waiting := j.room != nil
		j.mu.Unlock()
		if waiting {
			break
		}
	}
	group.Go(func() { _ = j.Close() })
	for !errors.Is(j.Ready(), ErrClosed) {
	}
	close(hold)
	group.Wait()
	if refused.Load() == 0 || uint64(kept.Load()) != j.Size() {
		t.Errorf("%d kept, %d refused, %d there", kept.Load(), refused.Load(), j.Size())
	}
}

// An Open that fails leaves no file open and no lock held.
func TestFailedOpen(t *testing.T) {
	t.Parallel()
	closed, _ := small(t)
	for _, spoil := range []string{"segments/*", "checkpoint", "lock"} {
		paths, err := filepath.Glob(filepath.Join(closed, spoil))
		check(t, err)
		for _, path := range paths {
			dir := copyDir(t, closed)
			name, err := filepath.Rel(closed, path)
			check(t, err)
			check(t, os.Remove(filepath.Join(dir, name)))
			check(t, os.MkdirAll(filepath.Join(dir, name), dirPerm))
			if j, err := Open(dir, options()); err == nil {
				t.Errorf("%s: opened", name)
				mustClose(t, j)
			}
			if open := openBelow(t, dir); len(open) > 0 {
				t.Errorf("%s: left open: %v", name, open)
			}
		}
	}
}

func openBelow(t *testing.T, dir string) (open []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("there is no /proc that says which files are open")
	}
	for _, fd := range fds {
		if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%s", fd.Name())); err == nil && strings.HasPrefix(path, dir+"/") {
			open = append(open, path)
		}
	}
	return open
}
