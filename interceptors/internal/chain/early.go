package chain

import (
	"context"
	"sync"
	"time"
)

// early ends the calls that the tap refuses. The tap runs on the goroutine that reads a connection, with the connection
// locked, so a sink that takes its time cannot be called from there; and a goroutine for each refusal would let whoever is
// refused make as many as they like. So refused calls wait in a short queue for one goroutine, which lives while there are
// any. When the queue is full the tap lets the call pass, refused as it is, to the interceptor, which refuses it on a goroutine
// that can wait, and that the connection's limit on concurrent streams bounds.
type early struct {
	end func(*Call)

	mu      sync.Mutex
	waiting []*Call
	running bool
	idle    chan struct{} // closed when running ends; made by those who wait for it
}

// maxEarly is how many refused calls may wait for their records.
const maxEarly = 1024

// takes reports whether c is going to be ended here.
func (e *early) takes(c *Call) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) >= maxEarly {
		return false
	}
	e.waiting = append(e.waiting, c)
	if !e.running {
		e.running = true
		go e.run()
	}
	return true
}

func (e *early) run() {
	for {
		e.mu.Lock()
		batch := e.waiting
		e.waiting = nil
		if len(batch) == 0 {
			e.running = false
			if e.idle != nil {
				close(e.idle)
				e.idle = nil
			}
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		for _, c := range batch {
			e.end(c)
		}
	}
}

func (e *early) wait() {
	e.mu.Lock()
	if !e.running {
		e.mu.Unlock()
		return
	}
	if e.idle == nil {
		e.idle = make(chan struct{})
	}
	idle := e.idle
	e.mu.Unlock()
	<-idle
}

// lingering is how long the remains of a call that the tap refuses may stay in memory. gRPC does not cancel the context of
// such a call, so the timer of its deadline lives until it fires; the caller chooses the deadline, and somebody who is refused
// could fill the memory with timers of a thousand years. Calls with a later deadline are refused in the interceptor.
const lingering = 30 * time.Second

func lingersShortly(ctx context.Context, now time.Time) bool {
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(now) <= lingering
}
