package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

// call is how the service is called. What is called with is the same for every side.
type call func(context.Context, benchv1.TransferServiceClient) (proto.Message, error)

func plain(ctx context.Context, c benchv1.TransferServiceClient) (proto.Message, error) {
	return c.TransferPlain(ctx, &benchv1.TransferPlainRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
}

// valid is a call whose message has rules, which it keeps.
func valid(ctx context.Context, c benchv1.TransferServiceClient) (proto.Message, error) {
	return c.Transfer(ctx, &benchv1.TransferRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
}

// pay is a call that is a transaction, with the same rules.
func pay(ctx context.Context, c benchv1.TransferServiceClient) (proto.Message, error) {
	return c.Pay(ctx, &benchv1.PayRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
}

// bigRequest is nearly as large as a server takes that nobody told otherwise.
var bigRequest = &benchv1.TransferPlainRequest{TransactionId: "tx-1", Purpose: strings.Repeat("x", 39<<20/10)}

func big(ctx context.Context, c benchv1.TransferServiceClient) (proto.Message, error) {
	return c.TransferPlain(ctx, bigRequest)
}

// messages returns a call that is a stream of n messages each way, each of which waits for its answer.
func messages(n int) call {
	return func(ctx context.Context, c benchv1.TransferServiceClient) (proto.Message, error) {
		s, err := c.TransferMany(ctx)
		if err != nil {
			return nil, err
		}
		var last *benchv1.TransferManyResponse
		for range n {
			if err := s.Send(&benchv1.TransferManyRequest{TransactionId: "tx-1", Amount: 1}); err != nil {
				return nil, err
			}
			if last, err = s.Recv(); err != nil {
				return nil, err
			}
		}
		if err := s.CloseSend(); err != nil {
			return nil, err
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("at the end of the stream: %w", err)
		}
		return last, nil
	}
}

// inTime makes the call as most callers do: with a deadline of its own, so that the guard has none to give it.
func (do call) inTime(c benchv1.TransferServiceClient) func() (proto.Message, error) {
	return func() (proto.Message, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return do(ctx, c)
	}
}

// timeless makes it without.
func (do call) timeless(c benchv1.TransferServiceClient) func() (proto.Message, error) {
	return func() (proto.Message, error) { return do(context.Background(), c) }
}
