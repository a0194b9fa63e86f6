package redislimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// Redis is asked for its policy of eviction when a connection was made, since the Redis at its end may be another one, and now and
	// then.
	checkAtMostEvery  = time.Second
	checkAtLeastEvery = time.Minute
	// checkPatience is how long it may take to say.
	checkPatience = time.Second
)

// ErrEvicts says that Redis throws keys away when its memory is full. The limits of those keys are then full again.
var ErrEvicts = errors.New("redislimit: redis evicts keys when its memory is full, which gives their permits out anew; set maxmemory-policy to noeviction")

// eviction is what is known of Redis's policy.
type eviction struct {
	mu      sync.Mutex
	checked bool
	last    time.Duration // when it was asked for
	dials   uint32        // how many connections had been asked for by then
	policy  string        // the one that evicts, if it does
}

func (e *eviction) due(now time.Duration, dials uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait := checkAtLeastEvery
	if dials != e.dials {
		wait = checkAtMostEvery
	}
	if e.checked && now-e.last < wait {
		return false
	}
	e.checked, e.last, e.dials = true, now, dials
	return true
}

// found notes a policy that evicts, or none, and reports whether that is new and to be told.
func (e *eviction) found(policy string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := policy != e.policy
	e.policy = policy
	return changed && policy != ""
}

func (e *eviction) evicts() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.policy != ""
}

// checkEviction asks for the policy if it is time to. It is called when nobody waits any more. A Redis that does not say is not suspected.
func (s *Store) checkEviction() {
	if !s.eviction.due(s.now(), s.client.PoolStats().Misses) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
	defer cancel()
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	policy, known := evictionPolicy(info)
	if known && s.eviction.found(policy) {
		s.changes.add(Change{Up: true, Err: fmt.Errorf("%w (it is %s)", ErrEvicts, policy)})
	}
}

// evictionPolicy finds the policy in an INFO, "" if nothing is evicted.
func evictionPolicy(info string) (policy string, known bool) {
	limit := ""
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "maxmemory":
			limit = value
		case "maxmemory_policy":
			policy = value
		default:
		}
	}
	switch {
	case limit == "" || policy == "":
		return "", false
	case limit == "0" || policy == "noeviction":
		return "", true
	}
	return policy, true
}
