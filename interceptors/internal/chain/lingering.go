package chain

import (
	"context"
	"sync"
	"time"
)

// lingering bounds what stays behind of calls that the tap refuses. gRPC does not cancel the context of such a call, so the timer
// of its deadline stays in memory until it fires; the caller chooses the deadline, and somebody who is refused could fill the
// memory with timers of a thousand years. Deadlines that are near are not counted. Of the others there may be so many at a
// time; beyond that, a call that is refused is refused in the interceptor, after whose answer gRPC does cancel.
type lingering struct {
	mu sync.Mutex
	// ends counts the timers that fire in a minute of the next hour; beyond it they are counted for good.
	ends   [61]int
	minute int64
	total  int
}

const (
	// lingersAtMost is how far away a deadline may be without being counted.
	lingersAtMost = 30 * time.Second
	// refusedWaits is how long a call that was refused may take to reach the interceptor, which says so.
	refusedWaits = time.Second
	// maxLingering timers take some 20 MiB.
	maxLingering = 1 << 16
)

func (l *lingering) admits(ctx context.Context, now time.Time) bool {
	deadline, ok := ctx.Deadline()
	if !ok {
		return true
	}
	left := deadline.Sub(now)
	if left <= lingersAtMost {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now.Unix() / 60)
	if l.total >= maxLingering {
		return false
	}
	l.total++
	if minutes := int64(left/time.Minute) + 1; minutes < 60 {
		l.ends[(l.minute+minutes)%60]++
	} else {
		l.ends[60]++
	}
	return true
}

// forget takes away what fired before minute.
func (l *lingering) forget(minute int64) {
	for passed := 0; l.minute < minute && passed < 60; passed++ {
		l.minute++
		slot := (l.minute - 1) % 60
		l.total -= l.ends[slot]
		l.ends[slot] = 0
	}
	l.minute = max(l.minute, minute)
}
