// Package service is the service that all sides are measured with.
package service

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

// Server answers all that is asked, and does nothing.
type Server struct {
	benchv1.UnimplementedTransferServiceServer
}

// Transfer answers at once.
func (Server) Transfer(context.Context, *benchv1.TransferRequest) (*benchv1.TransferResponse, error) {
	return &benchv1.TransferResponse{Entry: "4711"}, nil
}

// TransferPlain answers at once.
func (Server) TransferPlain(context.Context, *benchv1.TransferPlainRequest) (*benchv1.TransferPlainResponse, error) {
	return &benchv1.TransferPlainResponse{Entry: "4711"}, nil
}

// Pay answers at once.
func (Server) Pay(context.Context, *benchv1.PayRequest) (*benchv1.PayResponse, error) {
	return &benchv1.PayResponse{Entry: "4711"}, nil
}

// TransferMany answers each message with one.
func (Server) TransferMany(stream grpc.BidiStreamingServer[benchv1.TransferManyRequest, benchv1.TransferManyResponse]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&benchv1.TransferManyResponse{Entry: "4711"}); err != nil {
			return err
		}
	}
}
