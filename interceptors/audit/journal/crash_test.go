package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// child is a process that appends from many goroutines until it is killed, and prints each index that was acknowledged.
func child() {
	opts := options()
	opts.SegmentBytes = 1 << 16
	j, err := Open(".", opts)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(3)
	}
	fmt.Println("opened", j.Size())
	var mu sync.Mutex
	var group sync.WaitGroup
	failed := false
	limit, _ := strconv.Atoi(os.Getenv("JOURNAL_CHILD_RECORDS"))
	for w := range 16 {
		group.Go(func() {
			for n := 0; limit == 0 || n < limit; n++ {
				record := fmt.Sprintf("%d/%d/%d %s", os.Getpid(), w, n, strings.Repeat("y", n%300))
				index, err := j.Append(context.Background(), []byte(record))
				mu.Lock()
				switch {
				case err == nil:
					fmt.Println(index, record)
				case errors.Is(err, ErrFull):
					fmt.Println("full")
				default:
					failed = true
					fmt.Println("failed", errors.Is(err, ErrUndecided), err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	if err := j.Close(); err != nil || failed {
		os.Exit(4)
	}
}

func childCommand(t *testing.T, dir string, wrap ...string) *exec.Cmd {
	t.Helper()
	args := append(wrap, os.Args[0])
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "JOURNAL_CHILD=1")
	return cmd
}

// acknowledged reads what a child printed. A line that its end cut short is none.
func acknowledged(t *testing.T, out string, into map[uint64]string) {
	t.Helper()
	for line := range strings.Lines(out) {
		number, record, found := strings.Cut(line, " ")
		index, err := strconv.ParseUint(number, 10, 64)
		if !found || err != nil || !strings.HasSuffix(line, "\n") {
			continue
		}
		if was, twice := into[index]; twice {
			t.Fatalf("record %d was acknowledged twice: %q and %q", index, was, record)
		}
		into[index] = strings.TrimSuffix(record, "\n")
	}
}

// checkAcknowledged opens the journal after a crash and checks that every record that was acknowledged is where it was said to be.
func checkAcknowledged(t *testing.T, dir string, acked map[uint64]string) {
	t.Helper()
	j, err := Open(dir, options())
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, j)
	found := 0
	for r, err := range j.Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		if want, ok := acked[r.Index]; ok {
			found++
			if string(r.Data) != want {
				t.Fatalf("record %d is %q, and %q was acknowledged", r.Index, r.Data, want)
			}
		}
	}
	if found != len(acked) {
		t.Fatalf("%d of %d acknowledged records are there", found, len(acked))
	}
	if covered := j.Checkpoint().Size; covered != j.Size() {
		t.Fatalf("the checkpoint covers %d of %d records", covered, j.Size())
	}
}

// A process is killed again and again under load. JOURNAL_KILLS says how often, 50 times if it is not set.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 50
	if n, err := strconv.Atoi(os.Getenv("JOURNAL_KILLS")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	acked := make(map[uint64]string)
	for round := range rounds {
		cmd := childCommand(t, dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(pipe)
		first, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(first, "opened") {
			t.Fatalf("round %d: %v %s", round, err, first)
		}
		time.AfterFunc(time.Duration(1+round*13%60)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		var out strings.Builder
		_, _ = in.WriteTo(&out)
		_ = cmd.Wait()
		acknowledged(t, out.String(), acked)
		if round%10 == 9 || round == rounds-1 {
			checkAcknowledged(t, dir, acked)
		}
	}
	if report := mustVerify(t, dir, VerifyOptions{}); report.Behind != 0 || report.Torn {
		t.Errorf("%+v", report)
	}
	t.Logf("%d kills, %d records acknowledged and found", rounds, len(acked))
}

// The disk fails at each of the calls by which the journal changes it. strace makes the calls of a real process fail. It counts the
// calls of each thread, so some faults are never met.
func TestInjected(t *testing.T) {
	t.Parallel()
	if os.Getenv("JOURNAL_FAULTS") == "" {
		t.Skip("a minute of failing disks: make faults")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is not installed, so calls of a real process cannot be made to fail: apt-get install strace")
	}
	var hits atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d faults were met", hits.Load())
		if hits.Load() < 20 {
			t.Errorf("only %d faults were met: does strace inject?", hits.Load())
		}
	})
	for _, call := range []string{"fdatasync", "pwrite64", "fsync", "renameat", "ftruncate", "syncfs", "mkdirat", "openat"} {
		for _, fault := range []string{"error=EIO", "error=ENOSPC", "signal=KILL"} {
			for _, when := range []int{1, 2, 3, 7, 20} {
				t.Run(fmt.Sprintf("%s/%s/%d", call, fault, when), func(t *testing.T) {
					t.Parallel()
					if testing.Short() && when > 2 {
						t.Skip("short")
					}
					if injected(t, call, fault, when) {
						hits.Add(1)
					}
				})
			}
		}
	}
}

func injected(t *testing.T, call, fault string, when int) (hit bool) {
	t.Helper()
	dir := t.TempDir()
	j := mustOpen(t, dir, options())
	acked := make(map[uint64]string)
	for i := range uint64(20) {
		mustAppend(t, j, text(i))
		acked[i] = text(i)
	}
	mustClose(t, j)
	cmd := childCommand(t, dir, "strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, when))
	cmd.Env = append(cmd.Env, "JOURNAL_CHILD_RECORDS=60")
	out, err := cmd.Output()
	if strings.Contains(string(out), "opened") {
		acknowledged(t, string(out), acked)
	}
	t.Logf("%d acknowledged, %v, %s", len(acked), err, lastLine(out))
	checkAcknowledged(t, dir, acked)
	mustVerify(t, dir, VerifyOptions{})
	return err != nil || strings.Contains(string(out), "full")
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
