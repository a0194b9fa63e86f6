package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// tally is what a journal says of the transactions that its process served.
type tally struct {
	// done are the transactions that were answered with OK, by their IDs, each once.
	done map[string]*record
	// open are the intents of calls without an outcome.
	open []*record
	// orphan is an outcome that has not as many intents before it as it says. There never is one.
	orphan *record
}

// tallyOf goes through records in the order in which they were written.
func tallyOf(records []record) tally {
	t := tally{done: make(map[string]*record)}
	intents := make(map[string][]*record) // by call
	for i := range records {
		r := &records[i]
		switch {
		case r.Side != audit.SideServer:
		case r.Type == audit.TypeIntent:
			intents[r.ID.CallID()] = append(intents[r.ID.CallID()], r)
		case r.Type == audit.TypeOutcome:
			of := intents[r.ID.CallID()]
			delete(intents, r.ID.CallID())
			if uint64(len(of)) != r.Messages {
				t.orphan = r
			}
			for _, intent := range of {
				if r.Outcome == audit.OutcomeOK && t.done[intent.Transaction.ID] == nil {
					t.done[intent.Transaction.ID] = intent
				}
			}
		}
	}
	for _, of := range intents {
		t.open = append(t.open, of...)
	}
	slices.SortFunc(t.open, func(a, b *record) int { return int(int64(a.index) - int64(b.index)) })
	return t
}

// sums adds up what was done, by currency, in minor units.
func (t *tally) sums() (string, error) {
	sums := make(map[string]int64)
	for _, r := range t.done {
		units, err := strconv.ParseInt(r.Transaction.Amount, 10, 64)
		if err != nil || !r.Transaction.MinorUnits {
			return "", fmt.Errorf("record %d: the amount is %q: %w", r.index, r.Transaction.Amount, err)
		}
		sums[r.Transaction.Currency] += units
	}
	var texts []string
	for _, currency := range slices.Sorted(maps.Keys(sums)) {
		texts = append(texts, amount(currency, sums[currency]))
	}
	return strings.Join(texts, ", "), nil
}

func amount(currency string, units int64) string {
	return fmt.Sprintf("%s %d.%02d", currency, units/100, units%100)
}
