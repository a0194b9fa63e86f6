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
	length atomic.Int64
	armed  atomic.Bool // the timer is running

	mu   sync.Mutex
	once *Call // those that were looked at once
}

// maxUnread is how many calls may be on the list. What is released at a look must not be more than can wait for a slow sink, however many calls
// a flood has; so beyond it a call is watched from the beginning. It takes more than 200,000 calls a second to get there.
const maxUnread = 2048

// looksEvery is the time between two looks, while there are calls to look at.
const looksEvery = 10 * time.Millisecond

func newUnread(watch func(*Call)) *unread {
	u := &unread{watch: watch}
	u.timer = time.AfterFunc(time.Hour, u.look)
	u.timer.Stop()
	return u
}

// add reports whether there is room for the call.
func (u *unread) add(c *Call) bool {
	if u.length.Load() >= maxUnread {
		return false
	}
	u.length.Add(1)
	for {
		before := u.latest.Load()
		c.before = before
		if u.latest.CompareAndSwap(before, c) {
			if before == nil {
				u.arm()
			}
			return true
		}
	}
}

// arm has a look come, unless one comes anyway: a call must not put off the second look at those before it.
func (u *unread) arm() {
	if u.armed.CompareAndSwap(false, true) {
		u.timer.Reset(looksEvery)
	}
}

// look runs on the timer. Two of them can meet where the machine is slow.
func (u *unread) look() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.armed.Store(false)
	for c := u.once; c != nil; {
		c = c.leave(func() { u.watch(c) })
	}
	u.once = nil
	looked := int64(0)
	for c := u.latest.Swap(nil); c != nil; looked++ {
		c = c.leave(func() { c.before, u.once = u.once, c })
	}
	u.length.Add(-looked)
	if u.once != nil {
		u.arm()
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
