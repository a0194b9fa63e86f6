package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

const balance = "/bank.v1.AccountService/GetBalance"

// failure is what the bank is like while account-service fails the ledger: five callers see it, then the ledger leaves it alone and
// answers with what it knows, and in the end all is as it was.
func (d *day) failure(ctx context.Context) error {
	a := attempt{who: "teller", to: "ledger"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	client := bankv1.NewLedgerServiceClient(cc)
	summary := func() string {
		answer, err := client.GetSummary(ctx, &bankv1.GetSummaryRequest{Account: "acc-bob"})
		switch {
		case err != nil:
			return status.Code(err).String()
		case answer.GetStale():
			return "stale answer"
		}
		return "fresh answer"
	}
	add := func(what, want, got, why string) {
		d.table.add(row{who: a.id, what: what, want: want, got: got, why: why})
	}
	add("asks ledger for a summary", "fresh answer", summary(), "ledger asks account for the balance")

	if err := d.inject(balance + " " + domain + "ledger"); err != nil {
		return err
	}
	// The fault holds from when account has read the line.
	failures, got := 0, summary()
	for deadline := time.Now().Add(5 * time.Second); got == "fresh answer" && time.Now().Before(deadline); got = summary() {
	}
	for ; got == "Unavailable" && failures < 20; got = summary() {
		failures++
	}
	add("while account fails every balance", "5 failed", fmt.Sprintf("%d failed", failures), "five in a row open ledger's breaker")
	add("and then", "stale answer", got, "ledger's fallback: the last balance that it knows")
	for range 50 {
		if got = summary(); got != "stale answer" {
			break
		}
	}
	add("fifty more", "stale answer", got, "account is left alone")
	opened, err := d.bank.processes["ledger"].book.find(ctx, func(r *record) bool { return strings.HasPrefix(string(r.Event), "breaker-") })
	if err != nil {
		return err
	}
	add("the opening is an event", "breaker-open", string(opened.Event), opened.Subject)

	if err := d.inject(""); err != nil {
		return err
	}
	start := time.Now()
	for got = summary(); got == "stale answer" && time.Since(start) < 10*time.Second; got = summary() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	add("account is well again: a probe finds out", "fresh answer", got, "after two seconds")
	return nil
}

// inject tells account-service, which was started for it, which calls to fail.
func (d *day) inject(line string) error {
	_, err := fmt.Fprintln(d.bank.processes["account"].stdin, line)
	return err
}
