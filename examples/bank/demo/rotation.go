package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// rotation pays without a pause while every SVID is replaced again and again, and the authority's root with them.
func (d *day) rotation(ctx context.Context, load time.Duration) error {
	before, err := d.total(ctx)
	if err != nil {
		return err
	}
	source, err := d.bank.source(ctx, "teller")
	if err != nil {
		return err
	}
	guard, err := interceptors.NewClient(d.bank.policy, source, audit.Discard, interceptors.Telemetry{Off: true})
	if err != nil {
		return err
	}
	opts, err := guard.DialOptions("payment-service")
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient("passthrough:///"+d.bank.processes["payment"].addr, opts...)
	if err != nil {
		return err
	}
	defer cc.Close()

	var paid, failed atomic.Int64
	var firstErr atomic.Pointer[string]
	var tellers sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		tellers.Go(func() {
			client := bankv1.NewPaymentServiceClient(cc)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := client.Pay(ctx, order(1)); err != nil {
					failed.Add(1)
					text := status.Convert(err).String()
					firstErr.CompareAndSwap(nil, &text)
				} else {
					paid.Add(1)
				}
			}
		})
	}
	rotations, err := d.rotate(ctx, load)
	close(stop)
	tellers.Wait()
	if err != nil {
		return err
	}
	after, err := d.total(ctx)
	if err != nil {
		return err
	}
	r := row{
		who: domain + "teller", what: fmt.Sprintf("%d transfers while all SVIDs rotate %d times", paid.Load(), rotations),
		want: "0 failed", got: fmt.Sprintf("%d failed", failed.Load()),
	}
	if text := firstErr.Load(); text != nil {
		r.detail = *text
	}
	if paid.Load() == 0 {
		r.got = "nothing paid"
	}
	d.table.add(r)
	d.table.add(row{who: "", what: "the sum of all accounts", want: fmt.Sprint(before), got: fmt.Sprint(after), why: "no cent came or went"})
	return nil
}

// rotate replaces SVIDs for as long as the load lasts, and in the middle of it the root. A new root signs only after everybody
// had time to hear of it.
func (d *day) rotate(ctx context.Context, load time.Duration) (rotations int, err error) {
	tick := time.NewTicker(load / 8)
	defer tick.Stop()
	for i := range 8 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return rotations, ctx.Err()
		}
		switch i {
		case 2:
			err = d.bank.authority.PrepareCA()
		case 5:
			err = d.bank.authority.ActivateCA()
			rotations++
		default:
			err = d.bank.authority.RotateSVIDs()
			rotations++
		}
		if err != nil {
			return rotations, err
		}
	}
	return rotations, nil
}

// total is the sum of all balances.
func (d *day) total(ctx context.Context) (int64, error) {
	var sum int64
	for _, account := range []string{"acc-alice", "acc-bob", "acc-carol"} {
		units, err := d.balance(ctx, account)
		if err != nil {
			return 0, err
		}
		sum += units
	}
	return sum, nil
}

// balance asks for a balance as payment-service, which may.
func (d *day) balance(ctx context.Context, account string) (int64, error) {
	a := attempt{who: "payment", to: "account"}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	resp, err := bankv1.NewAccountServiceClient(cc).GetBalance(ctx, &bankv1.GetBalanceRequest{Account: account})
	return resp.GetBalance().GetMinorUnits(), err
}
