package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// orders are those of several tellers, and how they were answered. It is safe for concurrent use.
type orders struct {
	client bankv1.PaymentServiceClient

	mu      sync.Mutex
	ok      []string // transaction IDs that were answered with OK at once
	retried []string // and those that were only when they were asked for again
	enough  chan struct{}
}

const (
	killTellers = 8
	killAfter   = 200
)

// teller pays, one order after another, until an order gets no answer or stop is closed. It repeats an order that got no answer, with the
// same transaction ID, until it has one, and goes home.
func (o *orders) teller(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		order := order(1)
		if _, err := o.client.Pay(ctx, order); err != nil {
			return o.again(ctx, order)
		}
		o.mu.Lock()
		if o.ok = append(o.ok, order.GetTransfer().GetTransactionId()); len(o.ok) == killAfter {
			close(o.enough)
		}
		o.mu.Unlock()
	}
}

func (o *orders) again(ctx context.Context, order *bankv1.PayRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := o.client.Pay(ctx, order)
		if err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.retried = append(o.retried, order.GetTransfer().GetTransactionId())
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the ledger did not come back: %w", err)
		}
	}
}

// killed kills the ledger while it works, and starts it again.
func (d *day) killed(ctx context.Context) error {
	a := attempt{who: "teller", to: "payment"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	before, err := d.balance(ctx, "acc-bob")
	if err != nil {
		return err
	}
	o := &orders{client: bankv1.NewPaymentServiceClient(cc), enough: make(chan struct{})}
	stop, errs := make(chan struct{}), make(chan error, killTellers)
	for range killTellers {
		go func() { errs <- o.teller(ctx, stop) }()
	}
	select {
	case <-o.enough:
		err = d.bank.kill(ctx, "ledger", []string{"account"})
	case err = <-errs:
		errs <- nil
	case <-ctx.Done():
		err = ctx.Err()
	}
	close(stop)
	for range killTellers {
		if failed := <-errs; err == nil {
			err = failed
		}
	}
	if err != nil {
		return err
	}
	after, err := d.balance(ctx, "acc-bob")
	if err != nil {
		return err
	}
	return d.afterKill(ctx, o, after-before)
}

// afterKill says what the ledger's journal has of the orders.
func (d *day) afterKill(ctx context.Context, o *orders, received int64) error {
	ledger := d.bank.books["ledger"]
	all := slices.Concat(o.ok, o.retried)
	d.ordered += int64(len(all))
	var t tally
	missing := 0
	if _, err := ledger.await(ctx, func() bool {
		t, missing = tallyOf(ledger.records), 0
		for _, id := range all {
			if t.done[id] == nil {
				missing++
			}
		}
		return missing == 0
	}); err != nil {
		return err
	}
	teller := domain + "teller"
	d.table.add(row{
		who: teller, what: fmt.Sprintf("pays %d times while the ledger is killed (SIGKILL)", len(o.ok)),
		want: "0 missing", got: fmt.Sprintf("%d missing", missing), why: "each has an intent and then an outcome in the ledger's journal",
	})
	retried := "asks again"
	if len(o.retried) == 0 {
		retried = "nobody noticed"
	}
	d.table.add(row{
		who: teller, what: fmt.Sprintf("has no answer to %d: asks again, with the same IDs", len(o.retried)),
		want: "asks again", got: retried, why: fmt.Sprintf("all %d are done, by a ledger that was started on the same journal", len(o.retried)),
	})
	told := 0
	var ids []string
	for _, r := range t.open {
		ids = append(ids, r.Transaction.ID)
		if slices.Contains(o.ok, r.Transaction.ID) {
			told++
		}
	}
	d.table.add(row{
		what: fmt.Sprintf("%d intents without an outcome, as the kill left them", len(t.open)),
		want: "0 told OK", got: fmt.Sprintf("%d told OK", told), why: strings.Join(ids, " "),
	})
	d.table.add(row{
		what: "what acc-bob received for all of it", want: amount("EUR", int64(len(all))), got: amount("EUR", received),
		why: "no order was carried out twice, and none is lost",
	})
	return nil
}

// kill ends a service as a crash would, and starts it again.
func (b *bank) kill(ctx context.Context, name string, needs []string) error {
	p := b.processes[name]
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // It says that it was killed.
	_ = p.stdin.Close()
	return b.start(ctx, name, needs)
}
