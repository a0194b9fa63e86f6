// Ledger is the bank's ledger-service: it writes transfers down and has the accounts apply them.
package main

import (
	"context"
	"flag"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/interceptors"
)

type server struct {
	bankv1.UnimplementedLedgerServiceServer

	ledger   *ledger
	known    *balances
	accounts bankv1.AccountServiceClient
}

// PostTransfer has the accounts move the money, and writes down what they did. Both do it once for a transaction ID, so a caller
// that got no answer can ask again.
func (s *server) PostTransfer(ctx context.Context, req *bankv1.PostTransferRequest) (*bankv1.PostTransferResponse, error) {
	if entry, ok := s.ledger.entry(req.GetTransfer().GetTransactionId()); ok {
		return &bankv1.PostTransferResponse{Entry: entry}, nil
	}
	if _, err := s.accounts.Apply(ctx, &bankv1.ApplyRequest{Transfer: req.GetTransfer()}); err != nil {
		return nil, err
	}
	return &bankv1.PostTransferResponse{Entry: s.ledger.write(req.GetTransfer())}, nil
}

func (s *server) GetStatement(req *bankv1.GetStatementRequest, stream grpc.ServerStreamingServer[bankv1.GetStatementResponse]) error {
	for _, line := range s.ledger.statement(req.GetAccount()) {
		if err := stream.Send(line); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) GetSummary(ctx context.Context, req *bankv1.GetSummaryRequest) (*bankv1.GetSummaryResponse, error) {
	ctx, asked := s.known.watch(ctx)
	answer, err := s.accounts.GetBalance(ctx, &bankv1.GetBalanceRequest{Account: req.GetAccount()})
	if err != nil {
		return nil, err
	}
	if !asked.stale {
		s.known.learn(req.GetAccount(), answer.GetBalance())
	}
	return &bankv1.GetSummaryResponse{Balance: answer.GetBalance(), Stale: asked.stale, NewestEntry: s.ledger.newest(req.GetAccount())}, nil
}

func main() {
	var flags service.Flags
	flags.Register()
	account := flag.String("account", "", "the `address` of the account service")
	flag.Parse()
	known := newBalances()
	// While the breaker of GetBalance is open, the last balance that is known answers in place of account-service.
	flags.Client = append(flags.Client,
		interceptors.WithFallback("/bank.v1.AccountService/GetBalance", interceptors.UnaryFallback(known.lastKnown)))
	service.Main(flags, func(_ context.Context, p *service.Process) error {
		cc, err := p.Dial("account-service", *account)
		if err != nil {
			return err
		}
		return p.Serve(func(s *grpc.Server) {
			bankv1.RegisterLedgerServiceServer(s, &server{ledger: newLedger(), known: known, accounts: bankv1.NewAccountServiceClient(cc)})
			service.Health(s)
		})
	})
}
