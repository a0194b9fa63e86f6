package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// day is what happens at the bank.
type day struct {
	bank   *bank
	table  *table
	traces []traced
	// ordered is how much money the bank was told to move and said that it did, in minor units.
	ordered int64
	// kept are checkpoints of each journal that somebody else kept.
	kept map[string][]byte
}

// traced is a call that the evidence is looked up for at the end.
type traced struct {
	process *process
	traceID string
	method  string
}

// business is what everybody is allowed to do.
func (d *day) business(ctx context.Context) error {
	for _, r := range []struct {
		args    []string
		process string
		method  string
		what    string
		message string
		units   int64
	}{
		{[]string{"pay", "tx-1", "acc-alice", "acc-bob", "12500"}, "payment", pay, "pays 125.00 (payment, account, ledger, account)", "ledger entry 1", 12500},
		{[]string{"pay", "tx-1", "acc-alice", "acc-bob", "12500"}, "payment", pay, "pays the same again: it is the same transfer", "ledger entry 1", 0},
		{[]string{"batch", "acc-bob", "acc-carol", "1000", "5"}, "payment", batch, "uploads a batch of five (client stream)", "5 accepted", 5000},
		{[]string{"statement", "acc-carol"}, "ledger", "/bank.v1.LedgerService/GetStatement", "reads a statement (server stream)", "5 lines", 0},
		{[]string{"watch", "acc-carol", "acc-bob", "700"}, "account", watch, "watches a balance change (bidirectional)", "5000, then 5700", 700},
		{[]string{"pay", "tx-2", "acc-carol", "acc-bob", "99999999"}, "payment", pay, "overdraws: the handler's own answer passes", "insufficient funds", 0},
	} {
		t, err := d.bank.teller(ctx, r.args...)
		if err != nil {
			return err
		}
		p := d.bank.processes[r.process]
		rec, err := p.book.find(ctx, func(rec *record) bool { return rec.served() && rec.TraceID == t.TraceID && rec.Method == r.method })
		if err != nil {
			return err
		}
		d.traces = append(d.traces, traced{p, t.TraceID, r.method})
		want := "OK"
		if r.message == "insufficient funds" {
			want = "FailedPrecondition"
		}
		d.ordered += r.units
		d.table.add(row{who: domain + "teller", what: r.what, want: want, got: t.Code, wantWhy: r.message, why: rec.why() + "; " + t.Message})
	}
	d.ordered++ // the last row's
	return errors.Join(
		d.call(ctx, attempt{who: "auditor", to: "admin", method: "/bank.v1.AdminService/GetPolicy", what: "asks which policy is in force", want: "OK", why: "caller-allowed"}),
		d.call(ctx, attempt{who: "operator", to: "payment", method: "/grpc.health.v1.Health/Check", what: "checks health", want: "OK", why: "caller-allowed"}),
		d.call(ctx, attempt{who: "branch/3/teller", to: "payment", method: pay, message: order(1), what: "pays 0.01, allowed by a pattern", want: "OK", why: "caller-allowed"}),
	)
}

const (
	pay   = "/bank.v1.PaymentService/Pay"
	batch = "/bank.v1.PaymentService/UploadBatch"
	watch = "/bank.v1.AccountService/WatchBalances"
	apply = "/bank.v1.AccountService/Apply"
)

// attempt is a call that the demo makes itself, with an identity that the authority gives it.
type attempt struct {
	who     string // path of the SPIFFE ID, read from the Workload API of that workload
	source  identity.Source
	creds   credentials.TransportCredentials // in place of ours
	id      string                           // shown, where it is not who
	to      string
	method  string
	message any
	md      []string
	what    string
	want    string
	why     string
	opts    []grpc.CallOption
	check   func(error) string // returns what is wrong with the error
}

// order is a payment of so many minor units.
func order(units int64) *bankv1.PayRequest {
	return &bankv1.PayRequest{Transfer: transfer("tx-demo-"+strings.ToLower(rand.Text()[:12]), "acc-alice", "acc-bob", units)}
}

func transfer(id, from, to string, units int64) *bankv1.Transfer {
	return &bankv1.Transfer{TransactionId: id, FromAccount: from, ToAccount: to, Amount: &bankv1.Money{Currency: "EUR", MinorUnits: units}}
}

// newTrace returns a trace ID and the header that makes the call part of it.
func newTrace() (traceID, traceparent string) {
	var id [24]byte
	_, _ = rand.Read(id[:])
	traceID = hex.EncodeToString(id[:16])
	return traceID, "00-" + traceID + "-" + hex.EncodeToString(id[16:]) + "-01"
}

// connect dials a service of the bank as a plain SPIFFE client would.
func (d *day) connect(ctx context.Context, a *attempt) (*grpc.ClientConn, error) {
	if a.id == "" {
		a.id = domain + a.who
	}
	creds := a.creds
	if creds == nil {
		if a.source == nil {
			s, err := d.bank.source(ctx, a.who)
			if err != nil {
				return nil, err
			}
			a.source = s
		}
		creds = identity.NewClientCredentials(a.source, spiffeid.MatchID(spiffeid.RequireFromString(domain+a.to)))
	}
	return grpc.NewClient("passthrough:///"+d.bank.processes[a.to].addr, grpc.WithTransportCredentials(creds))
}

// call makes one unary call on a connection of its own and adds its row.
func (d *day) call(ctx context.Context, a attempt) error {
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	return d.callOn(ctx, cc, a)
}

func (d *day) callOn(ctx context.Context, cc grpc.ClientConnInterface, a attempt) error {
	p := d.bank.processes[a.to]
	if err := p.book.read(); err != nil {
		return err
	}
	before := len(p.book.records)
	traceID, traceparent := newTrace()
	callCtx := metadata.AppendToOutgoingContext(ctx, append([]string{"traceparent", traceparent}, a.md...)...)
	if a.message == nil {
		a.message = &emptypb.Empty{}
	}
	callErr := cc.Invoke(callCtx, a.method, a.message, &emptypb.Empty{}, a.opts...)
	return d.settle(ctx, p, a, traceID, before, callErr)
}

// settle finds the record of a call and adds its row. A connection that was refused has no trace; its record is an event, after those
// that were there before.
func (d *day) settle(ctx context.Context, p *process, a attempt, traceID string, before int, callErr error) error {
	got := status.Code(callErr).String()
	handshake := got == "Unavailable"
	rec, err := p.book.find(ctx, func(rec *record) bool {
		if handshake {
			return rec.Event == audit.EventHandshakeRefused && rec.index >= uint64(before) && strings.Contains(rec.Detail, a.why)
		}
		return rec.served() && rec.TraceID == traceID
	})
	if err != nil {
		return err
	}
	if handshake {
		got = "handshake refused"
	} else {
		d.traces = append(d.traces, traced{p, traceID, rec.Method})
	}
	r := row{who: a.id, what: a.what, want: a.want, got: got, wantWhy: a.why, why: rec.why()}
	if callErr != nil {
		r.detail = status.Convert(callErr).Message()
	}
	if a.check != nil {
		if wrong := a.check(callErr); wrong != "" {
			r.got, r.detail = r.got+"!", wrong
		}
	}
	d.table.add(r)
	return nil
}

// stream sends messages on a client stream or a bidirectional one, and adds its row.
func (d *day) stream(ctx context.Context, a attempt, messages ...any) error {
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	traceID, traceparent := newTrace()
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	s, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent), desc, a.method)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := s.SendMsg(m); err != nil {
			break // RecvMsg says why.
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for err == nil {
		err = s.RecvMsg(&emptypb.Empty{})
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return d.settle(ctx, d.bank.processes[a.to], a, traceID, 0, err)
}
