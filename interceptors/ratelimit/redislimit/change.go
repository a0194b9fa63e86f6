package redislimit

import (
	"sync"

	"github.com/sony/gobreaker/v2"
)

// Change says that Redis is down, or up again, or that it may forget what it counts.
type Change struct {
	// Up says that Redis is asked.
	Up bool
	// Err is a failure that led to a change for the worse. If Up is set, it is [ErrEvicts]: Redis is asked, but cannot be relied upon.
	Err error
}

// stateChanged is called under the breaker's lock, so it only notes what there is to report.
func (s *Store) stateChanged(_ string, from, to gobreaker.State) {
	switch {
	case from == gobreaker.StateClosed:
		c := Change{}
		if err := s.lastFailure.Load(); err != nil {
			c.Err = *err
		}
		s.changes.add(c)
	case to == gobreaker.StateClosed:
		s.changes.add(Change{Up: true})
	default: // one more probe, or one that failed
	}
}

// changes are reported one after the other by whoever comes first; the others go on.
type changes struct {
	report func(Change)

	mu    sync.Mutex
	queue []Change
	busy  bool
}

func (c *changes) add(change Change) {
	if c.report == nil {
		return
	}
	c.mu.Lock()
	c.queue = append(c.queue, change)
	c.mu.Unlock()
}

// deliver reports what is noted. Whatever is noted while another goroutine reports is left to that one.
func (c *changes) deliver() {
	if c.report == nil {
		return
	}
	for first := true; ; first = false {
		next, ok := c.next(first)
		if !ok {
			return
		}
		c.tell(next)
	}
}

// next returns the next change to report. At first, that is none if another goroutine reports.
func (c *changes) next(first bool) (change Change, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first && c.busy {
		return Change{}, false
	}
	if c.busy = len(c.queue) > 0; !c.busy {
		return Change{}, false
	}
	change = c.queue[0]
	c.queue = c.queue[1:]
	return change, true
}

// tell reports one change. A panic in it must end neither the process nor the reports.
func (c *changes) tell(change Change) {
	defer func() { _ = recover() }()
	c.report(change)
}
