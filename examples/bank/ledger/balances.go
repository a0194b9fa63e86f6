package main

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// balances keeps the last balance that account-service told of each account. It is safe for concurrent use.
type balances struct {
	mu   sync.Mutex
	last map[string]*bankv1.Money
}

func newBalances() *balances { return &balances{last: make(map[string]*bankv1.Money)} }

func (b *balances) learn(account string, balance *bankv1.Money) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last[account] = proto.CloneOf(balance)
}

// asked is what came of one question for a balance.
type asked struct{ stale bool }

type askedKey struct{}

// watch returns a context under which the fallback tells that it was it who answered.
func (*balances) watch(ctx context.Context) (context.Context, *asked) {
	a := &asked{}
	return context.WithValue(ctx, askedKey{}, a), a
}

// lastKnown is the fallback. An account that nothing is known of gets the error that the call would have had.
func (b *balances) lastKnown(ctx context.Context, req *bankv1.GetBalanceRequest, reason error) (*bankv1.GetBalanceResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	balance := b.last[req.GetAccount()]
	if balance == nil {
		return nil, reason
	}
	if a, ok := ctx.Value(askedKey{}).(*asked); ok {
		a.stale = true
	}
	return &bankv1.GetBalanceResponse{Balance: proto.CloneOf(balance)}, nil
}
