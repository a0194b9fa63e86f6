// Payment is the bank's payment-service: it takes orders from the tellers.
package main

import (
	"context"
	"errors"
	"flag"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

type server struct {
	bankv1.UnimplementedPaymentServiceServer

	accounts bankv1.AccountServiceClient
	ledger   bankv1.LedgerServiceClient
}

func (s *server) Pay(ctx context.Context, req *bankv1.PayRequest) (*bankv1.PayResponse, error) {
	entry, err := s.pay(ctx, req.GetTransfer())
	if err != nil {
		return nil, err
	}
	return &bankv1.PayResponse{LedgerEntry: entry}, nil
}

func (s *server) UploadBatch(stream grpc.ClientStreamingServer[bankv1.UploadBatchRequest, bankv1.UploadBatchResponse]) error {
	var accepted uint32
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&bankv1.UploadBatchResponse{Accepted: accepted})
		}
		if err != nil {
			return err
		}
		if _, err := s.pay(stream.Context(), req.GetTransfer()); err != nil {
			return err
		}
		accepted++
	}
}

// pay asks for the balance first, so that most transfers that cannot work do not bother the ledger. The ledger has the last
// word.
func (s *server) pay(ctx context.Context, t *bankv1.Transfer) (entry string, err error) {
	balance, err := s.accounts.GetBalance(ctx, &bankv1.GetBalanceRequest{Account: t.GetFromAccount()})
	if err != nil {
		return "", err
	}
	if balance.GetBalance().GetMinorUnits() < t.GetAmount().GetMinorUnits() {
		return "", status.Error(codes.FailedPrecondition, "insufficient funds")
	}
	posted, err := s.ledger.PostTransfer(ctx, &bankv1.PostTransferRequest{Transfer: t})
	if err != nil {
		return "", err
	}
	return posted.GetEntry(), nil
}

func main() {
	var flags service.Flags
	flags.Register()
	account := flag.String("account", "", "the `address` of the account service")
	ledger := flag.String("ledger", "", "the `address` of the ledger service")
	flag.Parse()
	service.Main(flags, func(_ context.Context, p *service.Process) error {
		accounts, err := p.Dial("account-service", *account)
		if err != nil {
			return err
		}
		entries, err := p.Dial("ledger-service", *ledger)
		if err != nil {
			return err
		}
		return p.Serve(func(s *grpc.Server) {
			bankv1.RegisterPaymentServiceServer(s, &server{
				accounts: bankv1.NewAccountServiceClient(accounts), ledger: bankv1.NewLedgerServiceClient(entries),
			})
			service.Health(s)
		})
	})
}
