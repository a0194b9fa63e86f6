package chain

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Calls that are taken soon are never watched; those that are not are, once, after the second look.
func TestOnlyCallsThatNobodyTakesAreWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		all := make(map[*Call]int)
		u := newUnread(func(c *Call) {
			mu.Lock()
			defer mu.Unlock()
			all[c]++
		})
		soFar := func() map[*Call]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(all)
		}
		add := func() *Call {
			c := &Call{Context: t.Context()}
			u.add(c)
			return c
		}
		waits, soon, late := add(), add(), add()
		soon.take()
		time.Sleep(looksEvery + looksEvery/2)
		synctest.Wait()
		late.take()
		second := add()
		if watched := soFar(); len(watched) > 0 {
			t.Errorf("%d calls are watched after one look", len(watched))
		}
		time.Sleep(looksEvery)
		synctest.Wait()
		if watched := soFar(); len(watched) != 1 || watched[waits] != 1 {
			t.Errorf("watched are %v, want %p alone", watched, waits)
		}
		time.Sleep(5 * looksEvery)
		synctest.Wait()
		if watched := soFar(); len(watched) != 2 || watched[waits] != 1 || watched[second] != 1 {
			t.Errorf("watched are %v, want %p and %p once each", watched, waits, second)
		}
		for _, c := range []*Call{waits, soon, late, second} {
			if c.before != nil {
				t.Errorf("%p keeps %p", c, c.before)
			}
		}
		if u.latest.Load() != nil || u.once != nil {
			t.Error("calls are kept that were looked at")
		}
	})
}
