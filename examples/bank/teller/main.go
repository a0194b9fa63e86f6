// Teller is the client at the counter. It does one thing and prints what came of it as one line of JSON.
//
//	teller -payment ADDR pay TRANSACTION FROM TO MINOR_UNITS
//	teller -payment ADDR batch FROM TO MINOR_UNITS COUNT
//	teller -ledger ADDR statement ACCOUNT
//	teller -account ADDR -payment ADDR watch ACCOUNT FROM MINOR_UNITS
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// result is what the teller prints.
type result struct {
	TraceID string `json:"trace_id"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type teller struct {
	process                  *service.Process
	payment, ledger, account string
}

func main() {
	var flags service.Flags
	flags.Register()
	t := &teller{}
	flag.StringVar(&t.payment, "payment", "", "the `address` of the payment service")
	flag.StringVar(&t.ledger, "ledger", "", "the `address` of the ledger service")
	flag.StringVar(&t.account, "account", "", "the `address` of the account service")
	flag.Parse()
	service.Main(flags, func(ctx context.Context, p *service.Process) error {
		t.process = p
		ctx, span := p.Span(ctx, "teller "+flag.Arg(0))
		defer span.End()
		message, err := t.do(ctx, flag.Args())
		r := result{TraceID: span.SpanContext().TraceID().String(), Code: status.Code(err).String(), Message: message}
		if err != nil {
			r.Message = status.Convert(err).Message()
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	})
}

func (t *teller) do(ctx context.Context, args []string) (string, error) {
	switch {
	case len(args) == 5 && args[0] == "pay":
		return t.pay(ctx, args[1], args[2], args[3], args[4])
	case len(args) == 5 && args[0] == "batch":
		return t.batch(ctx, args[1], args[2], args[3], args[4])
	case len(args) == 2 && args[0] == "statement":
		return t.statement(ctx, args[1])
	case len(args) == 4 && args[0] == "watch":
		return t.watch(ctx, args[1], args[2], args[3])
	}
	return "", fmt.Errorf("unknown command %q", args)
}

func transfer(id, from, to, units string) (*bankv1.Transfer, error) {
	n, err := strconv.ParseInt(units, 10, 64)
	if err != nil {
		return nil, err
	}
	return &bankv1.Transfer{
		TransactionId: id, FromAccount: from, ToAccount: to, Amount: &bankv1.Money{Currency: "EUR", MinorUnits: n},
	}, nil
}

func (t *teller) pay(ctx context.Context, id, from, to, units string) (string, error) {
	order, err := transfer(id, from, to, units)
	if err != nil {
		return "", err
	}
	cc, err := t.process.Dial("payment-service", t.payment)
	if err != nil {
		return "", err
	}
	resp, err := bankv1.NewPaymentServiceClient(cc).Pay(ctx, &bankv1.PayRequest{Transfer: order})
	return "ledger entry " + resp.GetLedgerEntry(), err
}

func (t *teller) batch(ctx context.Context, from, to, units, count string) (string, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return "", err
	}
	cc, err := t.process.Dial("payment-service", t.payment)
	if err != nil {
		return "", err
	}
	stream, err := bankv1.NewPaymentServiceClient(cc).UploadBatch(ctx)
	if err != nil {
		return "", err
	}
	for i := range n {
		order, err := transfer(fmt.Sprintf("tx-batch-%d", i), from, to, units)
		if err != nil {
			return "", err
		}
		if err := stream.Send(&bankv1.UploadBatchRequest{Transfer: order}); err != nil {
			break // CloseAndRecv says why.
		}
	}
	resp, err := stream.CloseAndRecv()
	return fmt.Sprintf("%d accepted", resp.GetAccepted()), err
}

func (t *teller) statement(ctx context.Context, account string) (string, error) {
	cc, err := t.process.Dial("ledger-service", t.ledger)
	if err != nil {
		return "", err
	}
	stream, err := bankv1.NewLedgerServiceClient(cc).GetStatement(ctx, &bankv1.GetStatementRequest{Account: account})
	if err != nil {
		return "", err
	}
	for lines := 0; ; lines++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return fmt.Sprintf("%d lines", lines), nil
		} else if err != nil {
			return "", err
		}
	}
}

// watch sees the balance of an account change: it watches, pays into it, and waits for the new balance.
func (t *teller) watch(ctx context.Context, account, from, units string) (string, error) {
	cc, err := t.process.Dial("account-service", t.account)
	if err != nil {
		return "", err
	}
	stream, err := bankv1.NewAccountServiceClient(cc).WatchBalances(ctx)
	if err != nil {
		return "", err
	}
	before, err := ask(stream, account)
	if err != nil {
		return "", err
	}
	if _, err := t.pay(ctx, "tx-watch-1", from, account, units); err != nil {
		return "", err
	}
	after, err := stream.Recv()
	if err != nil {
		return "", err
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return "", err
	}
	return fmt.Sprintf("%d, then %d", before.GetBalance().GetMinorUnits(), after.GetBalance().GetMinorUnits()), nil
}

func ask(stream grpc.BidiStreamingClient[bankv1.WatchBalancesRequest, bankv1.WatchBalancesResponse], account string) (*bankv1.WatchBalancesResponse, error) {
	if err := stream.Send(&bankv1.WatchBalancesRequest{Account: account}); err != nil {
		return nil, err
	}
	return stream.Recv()
}
