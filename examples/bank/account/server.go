package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

type server struct {
	bankv1.UnimplementedAccountServiceServer

	accounts *accounts
}

func money(units int64) *bankv1.Money { return &bankv1.Money{Currency: currency, MinorUnits: units} }

func (s *server) GetBalance(_ context.Context, req *bankv1.GetBalanceRequest) (*bankv1.GetBalanceResponse, error) {
	units, err := s.accounts.balance(req.GetAccount())
	if err != nil {
		return nil, err
	}
	return &bankv1.GetBalanceResponse{Balance: money(units)}, nil
}

func (s *server) Apply(_ context.Context, req *bankv1.ApplyRequest) (*bankv1.ApplyResponse, error) {
	if err := s.accounts.apply(req.GetTransfer()); err != nil {
		return nil, err
	}
	return &bankv1.ApplyResponse{}, nil
}

func (s *server) WatchBalances(stream grpc.BidiStreamingServer[bankv1.WatchBalancesRequest, bankv1.WatchBalancesResponse]) error {
	changes, stop := s.accounts.watch()
	defer stop()
	asked, failed := receive(stream)
	watched := make(map[string]bool)
	for {
		var account string
		select {
		case account = <-asked:
			watched[account] = true
		case account = <-changes:
			if !watched[account] {
				continue
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		units, err := s.accounts.balance(account)
		if err != nil {
			return err
		}
		if err := stream.Send(&bankv1.WatchBalancesResponse{Account: account, Balance: money(units)}); err != nil {
			return err
		}
	}
}

// receive reads the stream on a goroutine that ends with the stream.
func receive(stream grpc.BidiStreamingServer[bankv1.WatchBalancesRequest, bankv1.WatchBalancesResponse]) (<-chan string, <-chan error) {
	asked, failed := make(chan string), make(chan error, 1)
	go func() {
		for {
			req, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case asked <- req.GetAccount():
			case <-stream.Context().Done():
				return
			}
		}
	}()
	return asked, failed
}
