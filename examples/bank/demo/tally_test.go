package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

func TestTally(t *testing.T) {
	t.Parallel()
	var records []record
	add := func(kind audit.Type, call uint64, id string, more func(*record)) {
		r := record{audit.Record{
			ID: audit.ID{Call: call}, Type: kind, Side: audit.SideServer,
			Transaction: audit.Transaction{ID: id, Amount: "1050", Currency: "EUR", MinorUnits: true},
		}, uint64(len(records))}
		if kind == audit.TypeOutcome {
			r.Messages = 1
		}
		if more != nil {
			more(&r)
		}
		records = append(records, r)
	}
	ended := func(outcome audit.Outcome, messages uint64) func(*record) {
		return func(r *record) { r.Outcome, r.Messages = outcome, messages }
	}
	add(audit.TypeIntent, 1, "tx-twice", nil)
	add(audit.TypeIntent, 2, "tx-killed", nil)
	add(audit.TypeOutcome, 1, "tx-twice", ended(audit.OutcomeOK, 1))
	add(audit.TypeIntent, 3, "tx-twice", nil)
	add(audit.TypeOutcome, 3, "tx-twice", ended(audit.OutcomeOK, 1))
	add(audit.TypeIntent, 4, "tx-refused", nil)
	add(audit.TypeOutcome, 4, "tx-refused", ended(audit.OutcomeFailed, 1))
	add(audit.TypeIntent, 5, "tx-batch-1", nil)
	add(audit.TypeIntent, 5, "tx-batch-2", func(r *record) { r.ID.Number, r.Transaction.Currency = 1, "USD" })
	add(audit.TypeOutcome, 5, "", ended(audit.OutcomeOK, 2))
	add(audit.TypeCall, 6, "tx-asked", func(r *record) { r.Side = audit.SideClient })

	got := tallyOf(records)
	if len(got.done) != 3 || got.done["tx-twice"].index != 0 || got.orphan != nil {
		t.Errorf("got %+v", got)
	}
	var open []string
	for _, r := range got.open {
		open = append(open, fmt.Sprint(r.index, " ", r.Transaction.ID))
	}
	if !slices.Equal(open, []string{"1 tx-killed"}) {
		t.Errorf("open: %q", open)
	}
	if sums, err := got.sums(); err != nil || sums != "EUR 21.00, USD 10.50" {
		t.Errorf("sums: %s, %v", sums, err)
	}

	add(audit.TypeOutcome, 7, "tx-unannounced", ended(audit.OutcomeOK, 1))
	if got := tallyOf(records); got.orphan == nil || got.orphan.index != 11 {
		t.Errorf("orphan: %+v", got.orphan)
	}
}
