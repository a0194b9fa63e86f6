package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	money "github.com/grpcguard/grpcguard/interceptors/internal/testproto/google/type"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

// transfers moves money nowhere, and asks the test what to make of each message.
type transfers struct {
	pb.UnimplementedTransferServiceServer

	mu    sync.Mutex
	moved []string
	ask   func(ctx context.Context, t *pb.Transfer) error
}

func (s *transfers) move(ctx context.Context, t *pb.Transfer) error {
	s.mu.Lock()
	s.moved = append(s.moved, t.GetId())
	ask := s.ask
	s.mu.Unlock()
	if ask != nil {
		return ask(ctx, t)
	}
	return nil
}

func (s *transfers) ran() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.moved)
}

func (s *transfers) asking(ask func(ctx context.Context, t *pb.Transfer) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask = ask
}

func (s *transfers) Pay(ctx context.Context, r *pb.PayRequest) (*pb.PayResponse, error) {
	return &pb.PayResponse{}, s.move(ctx, r.GetTransfer())
}

func (s *transfers) PayStream(stream grpc.ClientStreamingServer[pb.PayStreamRequest, pb.PayStreamResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.PayStreamResponse{})
		}
		if err == nil {
			err = s.move(stream.Context(), r.GetTransfer())
		}
		if err != nil {
			return err
		}
	}
}

func (s *transfers) PayBidi(stream grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.move(stream.Context(), r.GetTransfer())
		}
		if err == nil {
			err = stream.Send(&pb.PayBidiResponse{})
		}
		if err != nil {
			return err
		}
	}
}

func (s *transfers) PayServer(r *pb.PayServerRequest, stream grpc.ServerStreamingServer[pb.PayServerResponse]) error {
	err := s.move(stream.Context(), r.GetTransfer())
	for range 3 {
		if err == nil {
			err = stream.Send(&pb.PayServerResponse{})
		}
	}
	return err
}

func (s *transfers) PayWhole(stream grpc.ClientStreamingServer[pb.PayWholeRequest, pb.PayWholeResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.PayWholeResponse{})
		}
		if err == nil {
			err = s.move(stream.Context(), r.GetTransfer())
		}
		if err != nil {
			return err
		}
	}
}

func (s *transfers) Balance(context.Context, *pb.BalanceRequest) (*pb.BalanceResponse, error) {
	return &pb.BalanceResponse{}, nil
}

func transfer(id string) *pb.Transfer {
	return &pb.Transfer{Id: id, Amount: &money.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000}, FromAccount: "acc-payer", ToAccount: "acc-paid"}
}

// pay makes a call of each kind that is a transaction, with two messages where there can be two.
var pay = map[string]func(context.Context, pb.TransferServiceClient, ...*pb.Transfer) error{
	"unary": func(ctx context.Context, c pb.TransferServiceClient, t ...*pb.Transfer) error {
		_, err := c.Pay(ctx, &pb.PayRequest{Transfer: t[0]})
		return err
	},
	"client stream": func(ctx context.Context, c pb.TransferServiceClient, t ...*pb.Transfer) error {
		s, err := c.PayStream(ctx)
		for i := 0; err == nil && i < len(t); i++ {
			err = s.Send(&pb.PayStreamRequest{Transfer: t[i]})
		}
		if err == nil || errors.Is(err, io.EOF) {
			_, err = s.CloseAndRecv()
		}
		return err
	},
	"bidi stream": func(ctx context.Context, c pb.TransferServiceClient, t ...*pb.Transfer) error {
		s, err := c.PayBidi(ctx)
		for i := 0; err == nil && i < len(t); i++ {
			if err = s.Send(&pb.PayBidiRequest{Transfer: t[i]}); err == nil || errors.Is(err, io.EOF) {
				_, err = s.Recv()
			}
		}
		if err == nil {
			if err = s.CloseSend(); err == nil {
				_, err = s.Recv()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	},
	"server stream": func(ctx context.Context, c pb.TransferServiceClient, t ...*pb.Transfer) error {
		s, err := c.PayServer(ctx, &pb.PayServerRequest{Transfer: t[0]})
		for err == nil {
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	},
	"whole stream": func(ctx context.Context, c pb.TransferServiceClient, t ...*pb.Transfer) error {
		s, err := c.PayWhole(ctx)
		for i := 0; err == nil && i < len(t); i++ {
			err = s.Send(&pb.PayWholeRequest{Transfer: t[i]})
		}
		if err == nil || errors.Is(err, io.EOF) {
			_, err = s.CloseAndRecv()
		}
		return err
	},
}

// bank is a world with transactions and a sink of the test's.
type bank struct {
	*world

	transfers *transfers
	client    pb.TransferServiceClient
}

var sensitiveKey = bytes.Repeat([]byte{7}, 32)

func transferPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	file, err := policy.ParseFile("policy.yaml", []byte(policyID))
	must(t, err)
	p, err := policy.Compile(file, pb.File_guardtest_v1_transfer_proto)
	must(t, err)
	return p
}

func newBank(t *testing.T, sink audit.Sink, opts ...interceptors.ServerOption) *bank {
	t.Helper()
	b := &bank{world: &world{t: t, records: newRecorder(), policy: transferPolicy(t)}, transfers: &transfers{}}
	var err error
	b.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	t.Cleanup(func() { must(t, b.authority.Close()) })
	opts = append([]interceptors.ServerOption{interceptors.Telemetry{Off: true}, interceptors.WithSensitiveKey(sensitiveKey), interceptors.WithSinkErrorHandler(func(error) {})}, opts...)
	b.guard, err = interceptors.NewServer(b.policy, b.workload(serverID), sink, opts...)
	must(t, err)
	srv := grpc.NewServer(b.guard.ServerOptions()...)
	pb.RegisterTransferServiceServer(srv, b.transfers)
	must(t, b.guard.Covers(srv))
	t.Cleanup(func() { _ = b.guard.Close(context.Background()) })
	b.addr = serveUntilEnd(t, srv)
	b.client = pb.NewTransferServiceClient(b.dial(b.workload(friendID)))
	return b
}

// openSink opens a journal in a folder of the test's.
func openSink(t *testing.T, dir string) *durable.Sink {
	t.Helper()
	signer, verifier := journalKeys(t)
	s, err := durable.Open(dir, journal.Options{Signer: signer, Verifier: verifier, Create: true}, durable.Options{MeterProvider: noop.NewMeterProvider()})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// journalKeys returns the same keys each time, so that a journal can be opened again, also by another process.
func journalKeys(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(zeros{}, "bank.example/audit")
	must(t, err)
	signer, err := note.NewSigner(private)
	must(t, err)
	verifier, err := note.NewVerifier(public)
	must(t, err)
	return signer, verifier
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// onDisk reads the durable records, but those of starts and stops.
func onDisk(t *testing.T, s *durable.Sink) (all []audit.Record) {
	t.Helper()
	for r, err := range s.Journal().Records(0) {
		must(t, err)
		record, err := audit.ParseRecord(r.Data)
		must(t, err)
		if record.Type != audit.TypeEvent {
			all = append(all, record)
		}
	}
	return all
}

// tell writes records in a line each.
func tell(records []audit.Record) (lines []string) {
	for _, r := range records {
		line := fmt.Sprintf("%d %s", r.ID.Number, r.Type)
		if r.Messages > 0 {
			line += fmt.Sprintf(" %d", r.Messages)
		}
		if t := r.Transaction; t.ID != "" {
			line += fmt.Sprintf(" %s %s %s", t.ID, t.Amount, t.Currency)
		}
		if r.Outcome != "" {
			line += fmt.Sprintf(" %s %s", r.Outcome, r.Code)
		}
		if r.Stage != "" {
			line += " " + r.Stage + " " + r.Reason
		}
		lines = append(lines, line)
	}
	return lines
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
