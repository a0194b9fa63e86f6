package cli

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// BenchmarkVerify verifies a journal of calls and transactions in equal parts, with the journal's own verification beside it.
func BenchmarkVerify(b *testing.B) {
	const n = 300_000
	w := newWorld(b)
	j := w.open(nil)
	var last journal.Pending
	for i := range uint64(n / 3) {
		for number, typ := range []audit.Type{audit.TypeCall, audit.TypeIntent, audit.TypeOutcome} {
			r := audit.Record{
				ID: id(2*i+uint64(min(number, 1)), uint64(max(number-1, 0))), Type: typ, Time: at(int(i)), Side: audit.SideServer, Service: "spiffe://bank.example/payments",
				Method: pay, Kind: "unary", Caller: anna, TrustDomain: "bank.example", Decision: "allowed", Rule: "bank.v1.Payments: callers", PolicyRevision: "v1",
				Transaction: audit.Transaction{ID: fmt.Sprintf("tx-%d", i), Amount: "100.50", Currency: "EUR", FromAccount: "DE1", ToAccount: "DE2"}, Messages: 1,
			}
			if typ != audit.TypeIntent {
				r.Outcome, r.Duration = audit.OutcomeOK, time.Millisecond
			}
			var err error
			if last, err = j.Begin(context.Background(), audit.AppendRecord(nil, &r)); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := last.Wait(context.Background()); err != nil {
		b.Fatal(err)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	report := func(b *testing.B) { b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s") }
	b.Run("command", func(b *testing.B) {
		for b.Loop() {
			p := &program{stdout: io.Discard, stderr: io.Discard, now: time.Now}
			if status := p.run(context.Background(), []string{"audit", "verify", w.dir, "-key", w.key}); status != statusGood {
				b.Fatal(status)
			}
		}
		report(b)
	})
	b.Run("journal", func(b *testing.B) {
		for b.Loop() {
			if _, err := journal.Verify(context.Background(), w.dir, w.verifier, journal.VerifyOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
}
