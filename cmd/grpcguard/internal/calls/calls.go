// Package calls finds the transactions of which a journal has the beginning and not the end.
package calls

import (
	"cmp"
	"slices"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// Call is a call that has intents and no outcome.
type Call struct {
	// First and Last are the indexes of its first and its last intent, and Intents how many there are.
	First, Last, Intents uint64
	// Answered says that a message left that may tell of them.
	Answered bool

	id   key
	data []byte // of the first intent
}

// ID returns the part of the records' IDs that they share.
func (c *Call) ID() string { return audit.ID{Guard: c.id.guard, Call: c.id.call}.CallID() }

// Intent returns the first intent.
func (c *Call) Intent() (audit.Record, error) { return audit.ParseRecord(c.data) }

type key struct{ guard, call uint64 }

// Tracker follows the calls of a journal. It holds one record for each call that is open, however many intents it has, and nothing of
// those that ended. The zero Tracker is ready.
type Tracker struct {
	open map[key]*Call
	free []*Call
	// Orphans counts outcomes of calls that have no intent among what was read, though they say that they had, and FirstOrphan is the
	// index of the first.
	Orphans, FirstOrphan uint64
}

// Add takes the next record. Only its head needs to have been read.
func (t *Tracker) Add(id audit.ID, typ audit.Type, r journal.Record) {
	k := key{id.Guard, id.Call}
	switch typ {
	case audit.TypeIntent:
		t.intent(k, r)
	case audit.TypeAnswered:
		if c := t.open[k]; c != nil {
			c.Answered = true
		}
	case audit.TypeOutcome:
		if c := t.open[k]; c != nil {
			delete(t.open, k)
			t.free = append(t.free, c)
			return
		}
		// A call that was refused before its first message has an outcome and never had an intent. It says so.
		if outcome, err := audit.ParseRecord(r.Data); err == nil && outcome.Messages > 0 {
			if t.Orphans == 0 {
				t.FirstOrphan = r.Index
			}
			t.Orphans++
		}
	default:
	}
}

func (t *Tracker) intent(k key, r journal.Record) {
	if c := t.open[k]; c != nil {
		c.Last = r.Index
		c.Intents++
		return
	}
	var c *Call
	if n := len(t.free); n > 0 {
		c, t.free = t.free[n-1], t.free[:n-1]
	} else {
		c = &Call{}
	}
	*c = Call{First: r.Index, Last: r.Index, Intents: 1, id: k, data: append(c.data[:0], r.Data...)}
	if t.open == nil {
		t.open = make(map[key]*Call)
	}
	t.open[k] = c
}

// Open returns the calls that are open, in the order in which they began.
func (t *Tracker) Open() []*Call {
	out := make([]*Call, 0, len(t.open))
	for _, c := range t.open {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *Call) int { return cmp.Compare(a.First, b.First) })
	return out
}
