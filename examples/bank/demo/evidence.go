package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// evidence checks that what happened can be shown: one record for each call, and one trace for a payment, whose spans say who was
// allowed by which rule.
func (d *day) evidence(ctx context.Context) error {
	exact, transactions, announced := 0, 0, 0
	for _, t := range d.traces {
		book := d.bank.books[t.process.name]
		if err := book.read(); err != nil {
			return err
		}
		n := 0
		for i := range book.records {
			r := &book.records[i]
			if !r.served() || r.TraceID != t.traceID || r.Method != t.method {
				continue
			}
			n++
			if r.Type == audit.TypeOutcome {
				transactions++
				if intentsOf(book.records[:i], r) == r.Messages {
					announced++
				}
			}
		}
		if n == 1 {
			exact++
		}
	}
	d.table.add(row{what: fmt.Sprintf("%d calls above with a trace", len(d.traces)), want: "one record each", got: got("one record each", exact, len(d.traces)), why: "looked up by trace ID"})
	d.table.add(row{
		what: fmt.Sprintf("%d of them may have moved money", transactions), want: "intents first",
		got: got("intents first", announced, transactions), why: "of each message that is a transfer, before its handler saw it",
	})
	if err := d.again(ctx); err != nil {
		return err
	}
	if err := d.secrets(); err != nil {
		return err
	}

	first := d.traces[0].traceID
	seen, err := d.spans(first)
	if err != nil {
		return err
	}
	want := []string{
		"account bank.v1.AccountService/Apply allowed " + domain + "ledger",
		"account bank.v1.AccountService/GetBalance allowed " + domain + "payment",
		"ledger bank.v1.LedgerService/PostTransfer allowed " + domain + "payment",
		"payment bank.v1.PaymentService/Pay allowed " + domain + "teller",
	}
	outcome := "complete"
	if !slices.Equal(seen, want) {
		outcome = "incomplete"
	}
	d.table.add(row{
		what: "the first payment is one trace through three services", want: "complete", got: outcome,
		why: "trace " + first, detail: fmt.Sprint(seen),
	})
	return nil
}

// intentsOf counts the intents of a call that are older than its outcome.
func intentsOf(older []record, outcome *record) (n uint64) {
	for i := range older {
		if r := &older[i]; r.Type == audit.TypeIntent && r.ID.CallID() == outcome.ID.CallID() {
			n++
		}
	}
	return n
}

// again verifies all journals at the end of the day, and that they hold the checkpoints that were kept.
func (d *day) again(ctx context.Context) error {
	var records uint64
	var errs []error
	for _, name := range d.bank.journals() {
		b := d.bank.books[name]
		report, err := journal.Verify(ctx, b.dir, b.verifier, journal.VerifyOptions{Known: [][]byte{d.kept[name]}})
		errs = append(errs, err)
		records += report.Checkpoint.Size
	}
	r := row{what: "all journals, with the checkpoints kept before", want: "verified", got: "verified", why: fmt.Sprintf("%d records by now", records)}
	if err := errors.Join(errs...); err != nil {
		r.got, r.detail = "not verified", err.Error()
	}
	d.table.add(r)
	return nil
}

func got(expected string, exact, all int) string {
	if exact == all {
		return expected
	}
	return fmt.Sprintf("%d of %d", exact, all)
}

// span is what the demo reads of an exported span.
type span struct {
	Name        string `json:"Name"`
	SpanContext struct {
		TraceID string `json:"TraceID"`
	} `json:"SpanContext"`
	SpanKind   int `json:"SpanKind"`
	Attributes []struct {
		Key   string `json:"Key"`
		Value struct {
			Value any `json:"Value"`
		} `json:"Value"`
	} `json:"Attributes"`
}

const serverSpan = 2

// spans returns the server spans of a trace: service, method, decision and caller. A span without a rule is left out.
func (d *day) spans(traceID string) ([]string, error) {
	var found []string
	for _, p := range d.bank.processes {
		file, err := os.Open(p.spans)
		if err != nil {
			return nil, err
		}
		for decoder := json.NewDecoder(file); ; {
			var s span
			if err := decoder.Decode(&s); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			} else if err != nil {
				return nil, errors.Join(err, file.Close())
			}
			if s.SpanContext.TraceID != traceID || s.SpanKind != serverSpan {
				continue
			}
			attributes := make(map[string]any)
			for _, a := range s.Attributes {
				attributes[a.Key] = a.Value.Value
			}
			if attributes["grpcguard.rule"] != nil {
				found = append(found, fmt.Sprintf("%s %s %v %v", p.name, s.Name, attributes["grpcguard.decision"], attributes["grpcguard.caller"]))
			}
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return found, nil
}
