package chain

import "sync"

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
	whole := false
	defer func() {
		if !whole {
			// An End hook left the goroutine. The calls behind it must not wait for ever.
			go e.run()
		}
	}()
	for {
		e.mu.Lock()
		if len(e.waiting) == 0 {
			e.running, e.waiting = false, nil
			e.mu.Unlock()
			whole = true
			return
		}
		c := e.waiting[0]
		e.waiting[0] = nil
		e.waiting = e.waiting[1:]
		e.mu.Unlock()
		e.end(c)
	}
}
