package chain

import (
	"context"
	"sync/atomic"
	"time"
)

// unread finds the calls that end before an interceptor takes them. gRPC reads the request of a unary call first, may find that it
// cannot, and tells nobody; but it cancels the call's context. To have every call watch its context would cost more than all stages
// together, and nearly all calls are taken within microseconds. So a call is looked at some milliseconds after it came, and only
// if nobody has taken it by then its context is watched. What is recorded of a call that ended sooner says when it came, and
// that it ended some milliseconds later than it did.
type unread struct {
	watch func(*Call)
	timer *time.Timer
	// latest is the newest call that was not looked at, and leads to those before it. Adding one is a single compare-and-swap, and
	// nobody takes a single one out: the goroutine that reads a connection must not wait.
	latest atomic.Pointer[Call]
}

// looksAfter is how long after the first of them calls are looked at.
const looksAfter = 10 * time.Millisecond

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
				u.timer.Reset(looksAfter)
			}
			return
		}
	}
}

func (u *unread) look() {
	for c := u.latest.Swap(nil); c != nil; {
		before := c.before
		c.before = nil // What was taken long ago must not be kept by what was not.
		if c.state.Load() == stateOpen {
			u.watch(c)
		}
		c = before
	}
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
