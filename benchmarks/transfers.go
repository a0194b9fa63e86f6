package main

import (
	"context"
	"time"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

func (service) Pay(context.Context, *benchv1.PayRequest) (*benchv1.PayResponse, error) {
	return &benchv1.PayResponse{Entry: "4711"}, nil
}

func pay(c benchv1.TransferServiceClient) error {
	_, err := c.Pay(context.Background(), &benchv1.PayRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
	return err
}

// transfers is what it costs a guarded transfer that its intent and its outcome are durable, and another call that it is recorded.
func (b bench) transfers(d *disk) ([]kept, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	defer w.close()
	off := interceptors.Telemetry{Off: true}
	guarded := func(sink audit.Sink) (benchv1.TransferServiceClient, error) {
		return w.guarded(w.caller, sink, off, interceptors.WithRecordClass(audit.BestEffort))
	}
	discarded, err := guarded(audit.Discard)
	if err != nil {
		return nil, err
	}
	sink, err := openSink(d)
	if err != nil {
		return nil, err
	}
	recorded, err := guarded(sink)
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, func() { _ = sink.Close() })
	const without, with, noteless, noted = "pay", "pay, recorded", "transfer", "transfer, recorded"
	results, err := b.measure([]side{
		{without, without, func() error { return pay(discarded) }, false},
		{with, without, func() error { return pay(recorded) }, false},
		{noteless, noteless, func() error { return valid(discarded) }, false},
		{noted, noteless, func() error { return valid(recorded) }, false},
	})
	if err != nil {
		return nil, err
	}
	row := func(what, ours, theirs string, goal float64) kept {
		x, y := perSecond(results[ours].perCall), perSecond(results[theirs].perCall)
		return kept{what: what, unit: "calls/s", ours: x, theirs: y, ratios: quotients(x, y), goal: goal}
	}
	return []kept{
		row("guarded transfers, 64 callers, intent and outcome durable, beside no audit", with, without, 0.7),
		row("guarded calls, 64 callers, best-effort records, beside no audit", noted, noteless, 0),
	}, nil
}

func perSecond(perCall []time.Duration) []float64 {
	s := make([]float64, len(perCall))
	for i := range s {
		s[i] = 1 / perCall[i].Seconds()
	}
	return s
}
