package journal

import (
	"errors"
	"os"
	"testing"
	"time"
)

// What is deleted while it is verified is told from what was removed: the first is to be verified again.
func TestVerifyDuringPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := options()
	opts.Retention = time.Nanosecond
	j := mustOpen(t, dir, opts)
	fill(t, j, 200)
	check(t, j.WaitCheckpoint(t.Context(), 200))
	firsts, err := listSegments(dir)
	check(t, err)
	_, verifier := keys(origin)
	first := uint64(0)
	_, err = Verify(t.Context(), dir, verifier, VerifyOptions{Each: func(Record) error {
		if first == 0 {
			first, err = j.Prune(t.Context())
		}
		return err
	}})
	var deleted *DeletedError
	if !errors.As(err, &deleted) || deleted.From != firsts[1] || deleted.Before != first {
		t.Errorf("%v, want records %d to %d deleted", err, firsts[1], first-1)
	}
	mustVerify(t, dir, VerifyOptions{})

	again, _ := closedSegments(t)
	done := false
	_, err = Verify(t.Context(), again, verifier, VerifyOptions{Each: func(Record) error {
		if done {
			return nil
		}
		done = true
		return os.Remove(lastSegment(t, again))
	}})
	if !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want ErrTampered", err)
	}
}
