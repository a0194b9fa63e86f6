package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	money "github.com/grpcguard/grpcguard/interceptors/internal/testproto/google/type"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

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

// The intent of a transaction is on the disk when its handler runs, and its outcome when its caller is answered; of a stream it is on
// the disk before any answer leaves that one is about to.
func TestTransactionsAreOnDiskFirst(t *testing.T) {
	t.Parallel()
	one := []string{"0 intent 1 t1 12.5 EUR"}
	two := []string{"0 intent 1 t1 12.5 EUR", "1 intent 2 t2 12.5 EUR"}
	for kind, tt := range map[string]struct{ first, second, last []string }{
		"unary":         {one, nil, []string{"1 outcome 1 t1 12.5 EUR ok OK"}},
		"client stream": {one, two, []string{"2 answered 2", "3 outcome 2 ok OK"}},
		"bidi stream":   {one, []string{one[0], "1 answered 1", "2 intent 2 t2 12.5 EUR"}, []string{"3 answered 2", "4 outcome 2 ok OK"}},
		"server stream": {one, nil, []string{"1 answered 1", "2 outcome 1 t1 12.5 EUR ok OK"}},
		"whole stream":  {one, one, []string{"1 answered 1", "2 outcome 1 t1 12.5 EUR ok OK"}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			sink := openSink(t, t.TempDir())
			b := newBank(t, sink)
			seen := tt.first
			b.transfers.asking(func(context.Context, *pb.Transfer) error {
				wantLines(t, tell(onDisk(t, sink)), seen)
				seen = tt.second
				return nil
			})
			must(t, pay[kind](t.Context(), b.client, transfer("t1"), transfer("t2")))
			begun := tt.second
			if begun == nil {
				begun = tt.first
			}
			all := onDisk(t, sink)
			wantLines(t, tell(all), append(append([]string{}, begun...), tt.last...))
			for _, r := range all {
				if r.ID.Guard != all[0].ID.Guard || r.ID.Call != all[0].ID.Call || r.Caller != friendID || r.TrustDomain != "example.org" || r.Service != serverID ||
					r.PolicyHash != b.policy.Hash() || r.CallerSerial == "" || r.Address == "" || r.Time.IsZero() {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// A transaction whose intent is not on the disk does not begin.
func TestNoHandlerWithoutAnIntent(t *testing.T) {
	t.Parallel()
	full := errors.New("no room")
	for kind := range pay {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newRecorder()
			b := newBank(t, w)
			w.fail(full)
			wantStatus(t, pay[kind](t.Context(), b.client, transfer("t1")), codes.Unavailable, "the call cannot be recorded")
			if b.transfers.ran() > 0 {
				t.Error("the handler saw the message")
			}
			w.fail(nil)
			must(t, pay[kind](t.Context(), b.client, transfer("t2")))
		})
	}
}

// An outcome that is not on the disk is told to nobody.
func TestNoAnswerWithoutAnOutcome(t *testing.T) {
	t.Parallel()
	for kind := range pay {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newRecorder()
			b := newBank(t, w)
			b.transfers.asking(func(context.Context, *pb.Transfer) error {
				w.fail(errors.New("no room"))
				return nil
			})
			err := pay[kind](t.Context(), b.client, transfer("t1"))
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			if lines := tell(w.all(t, 1)); len(lines) != 1 || lines[0] != "0 intent 1 "+"t1 12.5 EUR" {
				t.Errorf("got %q", lines)
			}
		})
	}
}

// A journal that has closed itself refuses transactions before anything of them is read, and lets pass what is best effort.
func TestAClosedJournalRefusesTransactions(t *testing.T) {
	t.Parallel()
	sink := openSink(t, t.TempDir())
	b := newBank(t, sink)
	must(t, sink.Journal().Close())
	for kind := range pay {
		wantStatus(t, pay[kind](t.Context(), b.client, transfer("t1")), codes.Unavailable, "the call cannot be recorded")
	}
	if b.transfers.ran() > 0 {
		t.Error("a handler ran")
	}
	_, err := b.client.Balance(t.Context(), &pb.BalanceRequest{})
	must(t, err)
	if sink.Dropped() == 0 {
		t.Error("nobody counted what was dropped")
	}
}

// However a transaction ends, its outcome says so.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ask  func(ctx context.Context, t *pb.Transfer) error
		want string
	}{
		"the handler refuses": {func(context.Context, *pb.Transfer) error { return status.Error(codes.FailedPrecondition, "no cover") }, "outcome 1 t1 12.5 EUR failed FailedPrecondition"},
		"the handler panics":  {func(context.Context, *pb.Transfer) error { panic("ledger") }, "outcome 1 t1 12.5 EUR panicked Internal"},
		"its time is over": {func(ctx context.Context, _ *pb.Transfer) error {
			<-ctx.Done()
			return ctx.Err()
		}, "outcome 1 t1 12.5 EUR failed "}, // DeadlineExceeded, or Canceled where the caller's clock was first
	} {
		for kind := range pay {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				sink := openSink(t, t.TempDir())
				b := newBank(t, sink)
				b.transfers.asking(tt.ask)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if name == "its time is over" {
					ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
					defer cancel()
				}
				if pay[kind](ctx, b.client, transfer("t1")) == nil {
					t.Error("it went well")
				}
				must(t, b.guard.Close(t.Context()))
				lines := tell(onDisk(t, sink))
				if len(lines) != 2 || lines[0] != "0 intent 1 t1 12.5 EUR" || !strings.HasPrefix(lines[1], "1 "+tt.want) {
					t.Errorf("got %q", lines)
				}
			})
		}
	}
}

// What cannot be recorded as it is does not begin, and nothing says that it did.
func TestTransactionsThatAreNone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		transfer *pb.Transfer
		field    string
	}{
		"no transfer":    {nil, "transfer.id: must not be empty"},
		"no ID":          {&pb.Transfer{Amount: transfer("").GetAmount()}, "transfer.id: must not be empty"},
		"no amount":      {&pb.Transfer{Id: "t1"}, "transfer.amount: must be a valid amount"},
		"no currency":    {&pb.Transfer{Id: "t1", Amount: &money.Money{Units: 1}}, "transfer.amount: must be a valid amount"},
		"two signs":      {&pb.Transfer{Id: "t1", Amount: &money.Money{CurrencyCode: "EUR", Units: 1, Nanos: -1}}, "transfer.amount: must be a valid amount"},
		"a unit of nano": {&pb.Transfer{Id: "t1", Amount: &money.Money{CurrencyCode: "EUR", Nanos: 1e9}}, "transfer.amount: must be a valid amount"},
		"an endless ID":  {&pb.Transfer{Id: strings.Repeat("1", 1025), Amount: transfer("").GetAmount()}, "transfer.id: is too long to be recorded"},
	} {
		for kind := range pay {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				w := newRecorder()
				b := newBank(t, w)
				wantStatus(t, pay[kind](t.Context(), b.client, tt.transfer), codes.InvalidArgument, "the message is invalid")
				must(t, b.guard.Close(t.Context()))
				r := w.all(t, 1)
				if len(r) != 1 || r[0].Type != audit.TypeCall || r[0].Reason != "invalid-transaction" || r[0].Detail != tt.field || b.transfers.ran() > 0 {
					t.Errorf("got %+v", r)
				}
			})
		}
	}
}

// No byte of a sensitive value is on the disk, and equal values can be matched.
func TestSensitiveValuesAreNotOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sink := openSink(t, dir)
	b := newBank(t, sink)
	back := transfer("t2")
	back.FromAccount, back.ToAccount = back.GetToAccount(), back.GetFromAccount()
	must(t, pay["unary"](t.Context(), b.client, transfer("t1")))
	must(t, pay["unary"](t.Context(), b.client, back))
	all := onDisk(t, sink)
	there, andBack := all[0].Transaction, all[2].Transaction
	if there.FromAccount != andBack.ToAccount || there.ToAccount != andBack.FromAccount || there.FromAccount == there.ToAccount || !strings.HasPrefix(there.FromAccount, "hmac:") {
		t.Errorf("%+v %+v", there, andBack)
	}
	must(t, b.guard.Close(t.Context()))
	must(t, sink.Close())
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("acc-")) {
			t.Errorf("%s holds an account", path)
		}
		return err
	}))
}

func TestASensitiveFieldNeedsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := transferPolicy(t)
	for _, tt := range []struct {
		opts []interceptors.ServerOption
		want string
	}{
		{nil, "records a sensitive field: say WithSensitiveKey"},
		{[]interceptors.ServerOption{interceptors.WithSensitiveKey([]byte("short"))}, "interceptors: WithSensitiveKey: a key for sensitive values has at least 32 bytes, and this one has 5"},
	} {
		if _, err := interceptors.NewServer(p, w.workload(serverID), audit.Discard, tt.opts...); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

// undecided is a sink that keeps intents without saying so: its caller gave up waiting, or it panicked.
type undecided struct {
	*recorder

	panics bool
}

func (s undecided) Write(ctx context.Context, r *audit.Record) error {
	err := s.recorder.Write(ctx, r)
	if err == nil && r.Type == audit.TypeIntent {
		if s.panics {
			panic("behind the write")
		}
		return fmt.Errorf("%w: slow", audit.ErrUndecided)
	}
	return err
}

// An intent that may have become durable has an outcome, which says that the handler did not run.
func TestAnUndecidedIntentHasAnOutcome(t *testing.T) {
	t.Parallel()
	for kind := range pay {
		for name, panics := range map[string]bool{"slow": false, "panics": true} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newRecorder()
				b := newBank(t, undecided{w, panics})
				wantStatus(t, pay[kind](t.Context(), b.client, transfer("t1")), codes.Unavailable, "the call cannot be recorded")
				must(t, b.guard.Close(t.Context()))
				wantLines(t, tell(w.all(t, 2)), []string{"0 intent 1 t1 12.5 EUR", "1 outcome 1 t1 12.5 EUR denied Unavailable audit not-recordable"})
				if b.transfers.ran() > 0 {
					t.Error("a handler ran")
				}
			})
		}
	}
}

// Whoever calls a transaction and may not leaves a record of a call, not of a transaction.
func TestARefusedCallIsNoTransaction(t *testing.T) {
	t.Parallel()
	w := newRecorder()
	b := newBank(t, w)
	stranger := pb.NewTransferServiceClient(b.dial(b.workload("spiffe://example.org/stranger")))
	for kind := range pay {
		wantStatus(t, pay[kind](t.Context(), stranger, transfer("t1")), codes.PermissionDenied, "permission denied")
	}
	must(t, b.guard.Close(t.Context()))
	for _, r := range w.all(t, len(pay)) {
		if r.Type != audit.TypeCall || r.Transaction != (audit.Transaction{}) || r.Outcome != audit.OutcomeDenied {
			t.Errorf("%+v", r)
		}
	}
}

// The record has what the caller calls the request, and how much was said.
func TestRecordsHaveRequestIDsAndSizes(t *testing.T) {
	t.Parallel()
	w := newRecorder()
	b := newBank(t, w)
	must(t, pay["bidi stream"](metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "req-1"), b.client, transfer("t1"), transfer("t2")))
	must(t, b.guard.Close(t.Context()))
	all := w.all(t, 5)
	for _, r := range all {
		if r.RequestID != "req-1" {
			t.Errorf("%+v", r)
		}
	}
	if last := all[4]; last.Received != 2 || last.Sent != 2 || last.ReceivedBytes == 0 || last.SentBytes != 0 {
		t.Errorf("%+v", last)
	}
}

// stuck is a sink over a disk that stands still from when the test says so.
type stuck struct {
	*recorder

	still chan struct{} // closed when the disk stands still
	moves chan struct{} // closed when it moves again
	gave  chan struct{} // told of each call that gave up
}

func (s stuck) Write(ctx context.Context, r *audit.Record) error {
	select {
	case <-s.still:
		select {
		case <-s.moves:
		case <-ctx.Done():
			s.gave <- struct{}{}
			return fmt.Errorf("%w: %w", audit.ErrUndecided, ctx.Err())
		}
	default:
	}
	return s.recorder.Write(ctx, r)
}

// While the disk stands still no transaction begins, and nobody waits for longer than the deadline that they set; when it moves again all
// goes on, and every call that could not begin has its record.
func TestADiskThatStandsStill(t *testing.T) {
	t.Parallel()
	sink := stuck{newRecorder(), make(chan struct{}), make(chan struct{}), make(chan struct{}, len(pay))}
	b := newBank(t, sink)
	must(t, pay["unary"](t.Context(), b.client, transfer("before")))
	close(sink.still)
	for kind := range pay {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		err := pay[kind](ctx, b.client, transfer("during"))
		if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
			t.Errorf("%s: got %v", kind, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: it took %v", kind, took)
		}
		cancel()
		<-sink.gave
	}
	if b.transfers.ran() != 1 {
		t.Error("a handler ran while the disk stood still")
	}
	close(sink.moves)
	must(t, pay["unary"](t.Context(), b.client, transfer("after")))
	must(t, b.guard.Close(t.Context()))
	counts := make(map[string]int)
	for _, r := range sink.all(t, 4+len(pay)) {
		counts[fmt.Sprintf("%s %s %s", r.Type, r.Transaction.ID, r.Outcome)]++
		if r.Transaction.ID == "during" && (r.Type != audit.TypeOutcome || r.Outcome == audit.OutcomeOK) {
			t.Errorf("%+v", r)
		}
	}
	for _, want := range []string{"intent before ", "outcome before ok", "intent after ", "outcome after ok"} {
		if counts[want] != 1 {
			t.Errorf("%q: %v", want, counts)
		}
	}
}
