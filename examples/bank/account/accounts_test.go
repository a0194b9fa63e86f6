package main

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

func transfer(id, from, to string, units int64) *bankv1.Transfer {
	return &bankv1.Transfer{TransactionId: id, FromAccount: from, ToAccount: to, Amount: money(units)}
}

func TestApply(t *testing.T) {
	t.Parallel()
	a := newAccounts(map[string]int64{"a": 100, "b": 0})
	dollars := transfer("t5", "a", "b", 1)
	dollars.Amount.Currency = "USD"
	for _, tt := range []struct {
		name     string
		transfer *bankv1.Transfer
		code     codes.Code
		a, b     int64
	}{
		{"moves money", transfer("t1", "a", "b", 60), codes.OK, 40, 60},
		{"once", transfer("t1", "a", "b", 60), codes.OK, 40, 60},
		{"not more than there is", transfer("t2", "a", "b", 41), codes.FailedPrecondition, 40, 60},
		{"from nobody", transfer("t3", "x", "b", 1), codes.NotFound, 40, 60},
		{"to nobody", transfer("t4", "a", "x", 1), codes.NotFound, 40, 60},
		{"in another currency", dollars, codes.FailedPrecondition, 40, 60},
		{"all there is", transfer("t6", "a", "b", 40), codes.OK, 0, 100},
	} {
		if err := a.apply(tt.transfer); status.Code(err) != tt.code {
			t.Errorf("%s: %v", tt.name, err)
		}
		if a.balances["a"] != tt.a || a.balances["b"] != tt.b {
			t.Errorf("%s: %v", tt.name, a.balances)
		}
	}
}

func TestConcurrentTransfersKeepTheSum(t *testing.T) {
	t.Parallel()
	a := newAccounts(map[string]int64{"a": 500, "b": 500, "c": 500})
	names := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				_ = a.apply(transfer(fmt.Sprintf("t%d-%d", i, n), names[n%3], names[(n+1+i)%3], int64(n%70)))
			}
		})
	}
	wg.Wait()
	var sum int64
	for account, units := range a.balances {
		if units < 0 {
			t.Errorf("%s has %d", account, units)
		}
		sum += units
	}
	if sum != 1500 {
		t.Errorf("the sum is %d", sum)
	}
}
