package redislimit

import (
	"container/list"
	"slices"
	"sync"
)

// turns bounds how many trips a key has under way or in line for a place, so that one key, however often it is asked for, leaves
// places to the others. Those beyond wait in a line of the key: most often the answer to those before is the answer to them.
type turns struct {
	perKey int

	mu   sync.Mutex
	keys map[digest]*turn // of the keys with trips, or in a waiter's list
}

type turn struct {
	taken int
	line  list.List // of *waiter
}

// waiter is a Take that waits for its turn: in the lines of all its keys, so that it goes when it can and hears what becomes known.
type waiter struct {
	keys   []digest
	called chan struct{} // closed when it is in no line any more
	// has says that it was called because it has its turns, not to look at what is known.
	has bool
	at  []*list.Element
}

// enter takes a turn of each key, or of none: nobody who waits has a turn meanwhile, so none wait for each other. If it takes none, and
// wait is set, it returns who waits.
func (t *turns) enter(keys []digest, wait bool) (w *waiter, entered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.take(keys) {
		return nil, true
	}
	if !wait {
		return nil, false
	}
	w = &waiter{keys: keys, called: make(chan struct{})}
	for _, id := range keys {
		w.at = append(w.at, t.of(id).line.PushBack(w))
	}
	return w, false
}

func (t *turns) of(id digest) *turn {
	k := t.keys[id]
	if k == nil {
		k = &turn{}
		t.keys[id] = k
	}
	return k
}

func (t *turns) take(keys []digest) bool {
	if slices.ContainsFunc(keys, func(id digest) bool { k := t.keys[id]; return k != nil && k.taken >= t.perKey }) {
		return false
	}
	for _, id := range keys {
		t.of(id).taken++
	}
	return true
}

// stop ends w's waiting. A turn that it got meanwhile it gives back.
func (t *turns) stop(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.at != nil {
		t.call(w)
	}
	if w.has {
		t.giveBack(w.keys)
	}
}

// leave gives a turn of each key back.
func (t *turns) leave(keys []digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack(keys)
}

func (t *turns) giveBack(keys []digest) {
	for _, id := range keys {
		t.keys[id].taken--
	}
	for _, id := range keys {
		if k := t.keys[id]; k != nil {
			t.next(k)
			t.drop(id)
		}
	}
}

// next calls the first in line that need not wait for another key, while there are turns.
func (t *turns) next(k *turn) {
	for e := k.line.Front(); e != nil && k.taken < t.perKey; {
		w := e.Value.(*waiter) //nolint:forcetypeassert // there is nothing else in it
		e = e.Next()
		if t.take(w.keys) {
			w.has = true
			t.call(w)
		}
	}
}

// call takes w out of its lines and lets it go on.
func (t *turns) call(w *waiter) {
	for i, id := range w.keys {
		t.keys[id].line.Remove(w.at[i])
		t.drop(id)
	}
	w.at = nil
	close(w.called)
}

// drop forgets a key that nobody is concerned with.
func (t *turns) drop(id digest) {
	if k := t.keys[id]; k != nil && k.taken == 0 && k.line.Len() == 0 {
		delete(t.keys, id)
	}
}

// callAll makes all in the line of a key look at what is known about it now.
func (t *turns) callAll(id digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.keys[id]
	for k != nil && k.line.Len() > 0 {
		t.call(k.line.Front().Value.(*waiter)) //nolint:forcetypeassert // there is nothing else in it
	}
}
