package journal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A witness that does not come back, whatever its context says, keeps neither Close nor the lock.
func TestWitnessHangsAtClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		opts := options()
		var trouble error
		opts.Trouble = func(err error) { trouble = err }
		opts.Witness = func(context.Context, Checkpoint) error {
			<-hang
			return nil
		}
		j, err := Open(dir, opts)
		check(t, err)
		began := time.Now()
		check(t, j.Close())
		if took := time.Since(began); took > lastWitness+2*time.Second {
			t.Errorf("Close took %v", took)
		}
		if trouble == nil || trouble.Error() != "journal: the witness did not return when its context ended, and is left behind" {
			t.Error(trouble)
		}
		opts.Witness = nil
		again, err := Open(dir, opts)
		check(t, err)
		check(t, again.Close())
		close(hang)
	})
}
