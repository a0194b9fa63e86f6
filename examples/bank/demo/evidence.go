package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// evidence checks that what happened can be shown: one record for each call, and one trace for a payment, whose spans say who was
// allowed by which rule.
func (d *day) evidence(context.Context) error {
	exact := 0
	for _, t := range d.traces {
		book := d.bank.books[t.process.name]
		if err := book.read(); err != nil {
			return err
		}
		n := 0
		for i := range book.records {
			if r := &book.records[i]; r.served() && r.TraceID == t.traceID && r.Method == t.method {
				n++
			}
		}
		if n == 1 {
			exact++
		}
	}
	d.table.add(row{what: fmt.Sprintf("%d calls above with a trace", len(d.traces)), want: "one record each", got: gotRecords(exact, len(d.traces)), why: "looked up by trace ID"})

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
	got := "complete"
	if !slices.Equal(seen, want) {
		got = "incomplete"
	}
	d.table.add(row{
		what: "the first payment is one trace through three services", want: "complete", got: got,
		why: "trace " + first, detail: fmt.Sprint(seen),
	})
	return nil
}

func gotRecords(exact, all int) string {
	if exact == all {
		return "one record each"
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
