package calls_test

import (
	"testing"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/calls"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// journalOf adds records to a tracker in the order in which a journal would have them.
type journalOf struct {
	calls.Tracker

	next uint64
}

func (j *journalOf) add(call, number uint64, t audit.Type, messages uint64) {
	id := audit.ID{Guard: 1, Call: call, Number: number}
	record := audit.Record{ID: id, Type: t, Messages: messages, Subject: "of " + string(t)}
	j.Add(id, t, journal.Record{Index: j.next, Data: audit.AppendRecord(nil, &record)})
	j.next++
}

// Streams that overlap are told apart by their calls, and an outcome closes all intents of its call and no other's.
func TestOpen(t *testing.T) {
	t.Parallel()
	var j journalOf
	j.add(1, 0, audit.TypeIntent, 1)   // 0
	j.add(2, 0, audit.TypeIntent, 1)   // 1
	j.add(3, 0, audit.TypeIntent, 1)   // 2
	j.add(2, 1, audit.TypeIntent, 2)   // 3
	j.add(1, 1, audit.TypeAnswered, 1) // 4
	j.add(3, 1, audit.TypeAnswered, 1) // 5
	j.add(1, 2, audit.TypeIntent, 2)   // 6
	j.add(1, 3, audit.TypeOutcome, 2)  // 7
	j.add(4, 0, audit.TypeIntent, 1)   // 8
	j.add(3, 2, audit.TypeIntent, 2)   // 9
	j.add(5, 0, audit.TypeCall, 0)
	type open struct {
		first, last, intents uint64
		answered             bool
	}
	want := []open{{1, 3, 2, false}, {2, 9, 2, true}, {8, 8, 1, false}}
	got := j.Open()
	if len(got) != len(want) {
		t.Fatalf("%d calls are open, want %d", len(got), len(want))
	}
	for i, c := range got {
		if o := (open{c.First, c.Last, c.Intents, c.Answered}); o != want[i] {
			t.Errorf("call %s is %+v, want %+v", c.ID(), o, want[i])
		}
		if r, err := c.Intent(); err != nil || r.ID.Number != 0 || r.ID.CallID() != c.ID() || r.Subject != "of intent" {
			t.Errorf("call %s: its first intent is %+v, %v", c.ID(), r, err)
		}
	}
	if j.Orphans != 0 {
		t.Errorf("%d orphans", j.Orphans)
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	var j journalOf
	j.add(1, 0, audit.TypeOutcome, 0) // It says that it had no intent.
	j.add(2, 0, audit.TypeOutcome, 1)
	j.add(3, 0, audit.TypeIntent, 1)
	j.add(3, 1, audit.TypeOutcome, 1)
	j.add(3, 2, audit.TypeOutcome, 1) // A call ends once.
	if j.Orphans != 2 || j.FirstOrphan != 1 {
		t.Errorf("%d orphans, the first is %d", j.Orphans, j.FirstOrphan)
	}
}

// What a call costs in memory does not grow with its intents, and calls that ended cost nothing.
func TestMemory(t *testing.T) { //nolint:paralleltest // it counts allocations
	var j journalOf
	intent := audit.AppendRecord(nil, &audit.Record{Type: audit.TypeIntent})
	round := func() {
		for call := range uint64(10) {
			for range 100 {
				j.Add(audit.ID{Call: call}, audit.TypeIntent, journal.Record{Data: intent})
			}
			j.Add(audit.ID{Call: call}, audit.TypeOutcome, journal.Record{})
		}
	}
	round()
	if n := testing.AllocsPerRun(10, round); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
