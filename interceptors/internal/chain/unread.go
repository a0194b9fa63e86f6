package chain

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// unread finds the calls that end before an interceptor takes them. gRPC reads the request of a unary call first, may find that it
// cannot, and tells nobody; but it cancels the call's context. To have every call watch its context would cost more than all stages
// together, and nearly all calls are taken within microseconds. So calls are looked at every few milliseconds, and only those that nobody
// has taken at the second look are watched. What is recorded of a call that ended sooner says when it came, and that it ended some
// milliseconds later than it did.
type unread struct {
	watch func(*Call)
	timer *time.Timer
	// latest is the newest call that was not looked at, and leads to those before it. Adding one is a single compare-and-swap, and
	// nobody takes a single one out: the goroutine that reads a connection must not wait.
	latest atomic.Pointer[Call]

	mu   sync.Mutex
	once *Call // those that were looked at once
}

// looksEvery is the time between two looks, while there are calls to look at.
const looksEvery = 10 * time.Millisecond

func newUnread(watch func(*Call)) *unread {
	u := &unread{watch: watch}
	u.timer = time.AfterFunc(time.Hour, u.look)
	u.timer.Stop()
	return u
}

func (u *unread) add(c *Call) {
	for {
		before := u.latest.Load()
		c.before = before
		if u.latest.CompareAndSwap(before, c) {
			if before == nil {
				u.timer.Reset(looksEvery)
			}
			return
		}
	}
}

// look runs on the timer. Two of them can meet where the machine is slow.
func (u *unread) look() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := u.once; c != nil; {
		c = c.leave(func() { u.watch(c) })
	}
	u.once = nil
	for c := u.latest.Swap(nil); c != nil; {
		c = c.leave(func() { c.before, u.once = u.once, c })
	}
	if u.once != nil {
		u.timer.Reset(looksEvery)
	}
}

// leave takes a call out of a list, calls open if nobody has taken it, and returns the next one.
func (c *Call) leave(open func()) (next *Call) {
	next = c.before
	c.before = nil // What was taken long ago must not be kept by what was not.
	if c.state.Load() == stateOpen {
		open()
	}
	return next
}

// watch has the end of the call's context end the call, if it has not ended otherwise. The context is cancelled whenever and however a call
// ends, and when its time is over, which gRPC may notice at once.
func (s *Server) watch(c *Call) (unwatch func() bool) {
	return context.AfterFunc(c.Context, func() {
		switch {
		case c.state.Load() == stateTaken:
			c.answerOver()
		case c.concludeUnread(c.Err()):
			if !s.early.takes(c) {
				s.behind.wait(s.onError, func() { s.endUnheard(c, c) })
			}
		default:
			c.answerOver() // It was taken meanwhile.
		}
	})
}
