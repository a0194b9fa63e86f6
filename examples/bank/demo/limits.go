package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// limits are callers who may, and want too much.
func (d *day) limits(ctx context.Context) error {
	const exhausted = "ResourceExhausted"
	from := func(account string, units int64) *bankv1.PayRequest {
		o := order(units)
		o.Transfer.FromAccount = account
		return o
	}
	orders := make([]any, 25)
	for i := range orders {
		orders[i] = &bankv1.UploadBatchRequest{Transfer: order(1).GetTransfer()}
	}
	dollars := order(1)
	dollars.Transfer.Amount.Currency = "USD"
	return errors.Join(
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: from("acc-carol", 200_000_000), what: "more than an account may pay in a day", want: exhausted, why: "over-limit", check: retry(false)}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: from("acc-dora", 99_999_999), what: "999,999.99 of a day's million; no such account", want: "NotFound", why: "no such account"}),
		d.call(ctx, attempt{who: "branch/3/teller", to: "payment", method: pay, message: from("acc-dora", 1_000_000), what: "10,000.00 more, by another teller", want: exhausted, why: "rate-limited", check: retry(true)}),
		d.call(ctx, attempt{who: "teller", to: "payment", method: pay, message: dollars, what: "a currency without a limit", want: "InvalidArgument", why: "currency-not-limited"}),
		d.statements(ctx),
		d.stream(ctx, attempt{who: "teller", to: "payment", method: batch, what: "25 orders in a batch, where 20 are allowed", want: exhausted, why: "stream-messages"}, orders...),
		d.silence(ctx),
		d.silentStreams(ctx),
		d.flood(ctx),
	)
}

// retry checks that the error says when to come again, or, if waiting does not help, that it does not.
func retry(want bool) func(error) string {
	return func(err error) string {
		found := false
		for _, detail := range status.Convert(err).Details() {
			_, is := detail.(*errdetails.RetryInfo)
			found = found || is
		}
		if found != want {
			return fmt.Sprintf("google.rpc.RetryInfo: %v, want %v", found, want)
		}
		return ""
	}
}

// statements asks for the statement of one account until it is refused.
func (d *day) statements(ctx context.Context) error {
	a := attempt{who: "auditor", to: "ledger"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	got := 0
	for ; got < 40; got++ {
		stream, err := bankv1.NewLedgerServiceClient(cc).GetStatement(ctx, &bankv1.GetStatementRequest{Account: "acc-erin"})
		if err != nil {
			return err
		}
		if _, err = stream.Recv(); status.Code(err) == codes.ResourceExhausted {
			break
		}
	}
	d.table.add(row{who: a.id, what: "statements of one account until refused (server stream)", want: "20 answered", got: fmt.Sprintf("%d answered", got), why: "20 an hour of one account"})
	return nil
}

// silence opens a batch and says nothing.
func (d *day) silence(ctx context.Context) error {
	a := attempt{who: "teller", to: "payment", method: batch, what: "opens a batch and says nothing", want: "ResourceExhausted", why: "stream-idle"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	traceID, traceparent := newTrace()
	stream, err := bankv1.NewPaymentServiceClient(cc).UploadBatch(metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent))
	if err != nil {
		return err
	}
	return d.settle(ctx, d.bank.processes[a.to], a, traceID, 0, stream.RecvMsg(&bankv1.UploadBatchResponse{}))
}

// silentStreams opens stream after stream and keeps them open.
func (d *day) silentStreams(ctx context.Context) error {
	a := attempt{who: "teller", to: "account", method: watch, what: "a 21st open stream of one caller", want: "ResourceExhausted", why: "caller-busy"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := bankv1.NewAccountServiceClient(cc)
	for range 20 {
		stream, err := client.WatchBalances(ctx)
		if err != nil {
			return err
		}
		if err := askOnce(stream); err != nil {
			return err
		}
	}
	return d.stream(ctx, a)
}

// flood is a caller that may not, and does not give up: it cannot flood the journal.
func (d *day) flood(ctx context.Context) error {
	const calls = 500
	a := attempt{who: "stranger", to: "payment"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	book := d.bank.books["payment"]
	if err := book.read(); err != nil {
		return err
	}
	before := len(book.records)
	for range calls {
		if err := cc.Invoke(ctx, pay, order(1), &bankv1.PayResponse{}); status.Code(err) != codes.PermissionDenied {
			return err
		}
	}
	var alone, counted, counts uint64
	if _, err := book.await(ctx, func() bool {
		alone, counted, counts = 0, 0, 0
		for _, r := range book.records[before:] {
			switch {
			case r.Caller != a.id:
			case r.Type == audit.TypeDenials:
				counted += r.Count
				counts++
			case r.served():
				alone++
			}
		}
		return alone+counted == calls
	}); err != nil {
		return err
	}
	d.table.add(row{
		who: a.id, what: fmt.Sprintf("calls %d times what it may not", calls), want: fmt.Sprintf("%d recorded", calls),
		got: fmt.Sprintf("%d recorded", alone+counted), why: fmt.Sprintf("%d have records of their own, %d are counted in %d", alone, counted, counts),
	})
	return nil
}

func askOnce(stream grpc.BidiStreamingClient[bankv1.WatchBalancesRequest, bankv1.WatchBalancesResponse]) error {
	if err := stream.Send(&bankv1.WatchBalancesRequest{Account: "acc-bob"}); err != nil {
		return err
	}
	_, err := stream.Recv()
	return err
}
