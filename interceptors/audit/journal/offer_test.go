package journal

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// What is offered is taken or refused at once, whatever the disk does, and what was taken becomes durable.
func TestOffer(t *testing.T) {
	t.Parallel()
	disk := make(chan struct{})
	held := make(chan struct{}, 1)
	opts := options()
	opts.BatchBytes = 1000
	var opened atomic.Bool
	opts.sync = func(f *os.File) error {
		if opened.Load() {
			notify(held)
			<-disk
		}
		return f.Sync()
	}
	j := mustOpen(t, t.TempDir(), opts)
	check(t, j.WaitCheckpoint(t.Context(), 0))
	opened.Store(true)
	taken := []Pending{offer(t, j)}
	<-held
	for len(taken) < 100 {
		p, err := j.Offer(make([]byte, 100))
		if errors.Is(err, ErrBehind) {
			break
		}
		check(t, err)
		taken = append(taken, p)
	}
	// One is being written, and the next batch holds as many as fit.
	if want := 1 + (1000-blockSize)/(100+frameSize); len(taken) != want {
		t.Errorf("%d records were taken, want %d", len(taken), want)
	}
	if err := j.Ready(); err != nil {
		t.Errorf("a disk that is behind: %v", err)
	}
	close(disk)
	for i, p := range taken {
		if index, err := p.Wait(t.Context()); err != nil || index != uint64(i) {
			t.Errorf("record %d: %d, %v", i, index, err)
		}
	}
	for _, tt := range []struct {
		record []byte
		want   error
	}{
		{make([]byte, MaxRecord+1), ErrTooLarge},
		{ownPrefix, ErrReserved},
	} {
		if _, err := j.Offer(tt.record); !errors.Is(err, tt.want) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
	mustClose(t, j)
	if _, err := j.Offer(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

// What nobody waits for shares one commit: it waits for others, but not for long, and not at all where somebody waits for a record.
func TestOfferedRecordsAreGathered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		add  func(j *Journal)
		most int32 // commits
	}{
		{"alone", func(*Journal) {}, 1},
		{"many", func(j *Journal) {
			for range 99 {
				offer(t, j)
			}
		}, 20}, // one, unless the machine stands still in between
		{"with one that somebody waits for", func(j *Journal) {
			_, err := j.Begin(t.Context(), make([]byte, 100))
			check(t, err)
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var commits atomic.Int32
			o := options()
			o.sync = func(f *os.File) error { commits.Add(1); return f.Sync() }
			j := mustOpen(t, t.TempDir(), o)
			before := commits.Load()
			p := offer(t, j)
			tt.add(j)
			_, err := p.Wait(t.Context())
			check(t, err)
			if n := commits.Load() - before; n < 1 || n > tt.most {
				t.Errorf("%d commits, want %d at most", n, tt.most)
			}
			mustClose(t, j)
		})
	}
}

func offer(t *testing.T, j *Journal) Pending {
	t.Helper()
	p, err := j.Offer(make([]byte, 100))
	check(t, err)
	return p
}

// Ready says what the next record would be told.
func TestReady(t *testing.T) {
	t.Parallel()
	full := &Journal{}
	full.refusing.Or(tilesLag | noteLag)
	half := &Journal{}
	half.refusing.Or(tilesLag | noteLag)
	half.refusing.And(^tilesLag)
	well := &Journal{}
	well.refusing.Or(noteLag)
	well.refusing.And(^noteLag)
	closed := mustOpen(t, t.TempDir(), options())
	check(t, closed.Ready())
	mustClose(t, closed)
	failed := mustOpen(t, t.TempDir(), options())
	failed.fail(syscall.EIO)
	for name, tt := range map[string]struct {
		j    *Journal
		want error
	}{
		"well":                     {well, nil},
		"no room for tiles":        {full, ErrFull},
		"no room for a checkpoint": {half, ErrFull},
		"closed":                   {closed, ErrClosed},
		"failed":                   {failed, ErrFailed},
	} {
		if err := tt.j.Ready(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
