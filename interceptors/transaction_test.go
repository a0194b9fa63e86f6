package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	money "github.com/grpcguard/grpcguard/interceptors/internal/testproto/google/type"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

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
