package main

import (
	"maps"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

const currency = "EUR"

// accounts keeps balances in minor units. It is safe for concurrent use.
type accounts struct {
	mu       sync.Mutex
	balances map[string]int64
	applied  map[string]bool
	watchers map[chan string]bool
}

func newAccounts(balances map[string]int64) *accounts {
	return &accounts{balances: maps.Clone(balances), applied: make(map[string]bool), watchers: make(map[chan string]bool)}
}

var (
	errNoAccount = status.Error(codes.NotFound, "no such account")
	errNoFunds   = status.Error(codes.FailedPrecondition, "insufficient funds")
	errCurrency  = status.Error(codes.FailedPrecondition, "the account is kept in another currency")
)

func (a *accounts) balance(account string) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok := a.balances[account]
	if !ok {
		return 0, errNoAccount
	}
	return b, nil
}

// apply moves the money of a transfer, once for each transaction ID.
func (a *accounts) apply(t *bankv1.Transfer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	from, to, units := t.GetFromAccount(), t.GetToAccount(), t.GetAmount().GetMinorUnits()
	_, fromKnown := a.balances[from]
	_, toKnown := a.balances[to]
	switch {
	case a.applied[t.GetTransactionId()]:
		return nil
	case !fromKnown || !toKnown:
		return errNoAccount
	case t.GetAmount().GetCurrency() != currency:
		return errCurrency
	case a.balances[from] < units:
		return errNoFunds
	}
	a.balances[from] -= units
	a.balances[to] += units
	a.applied[t.GetTransactionId()] = true
	for w := range a.watchers {
		for _, account := range []string{from, to} {
			select {
			case w <- account:
			default: // A watcher that is behind will read the newest balance when it gets there.
			}
		}
	}
	return nil
}

// watch returns a channel of the names of accounts that changed.
func (a *accounts) watch() (changes <-chan string, stop func()) {
	w := make(chan string, 64)
	a.mu.Lock()
	a.watchers[w] = true
	a.mu.Unlock()
	return w, func() {
		a.mu.Lock()
		delete(a.watchers, w)
		a.mu.Unlock()
	}
}
