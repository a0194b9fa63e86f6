package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// breakers is a world with a client guard whose breakers are under test.
type breakers struct {
	*world

	guard *interceptors.Client
	sink  *eventSink // the client's
	fails atomic.Uint32
}

// newBreakers starts a server whose methods fail with the code in fails, and a guard to call it with.
func newBreakers(t *testing.T, yaml string, opts ...interceptors.ClientOption) *breakers {
	t.Helper()
	w, _ := limitedWorld(t, yaml)
	b := &breakers{world: w, sink: &eventSink{recorder: newRecorder()}}
	fail := func() error { return status.Error(codes.Code(b.fails.Load()), "the callee's own words") }
	w.limited.spend = func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error) {
		return &pb.SpendResponse{Text: "fresh"}, fail()
	}
	w.limited.trade = func(s grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
		for {
			if _, err := s.Recv(); errors.Is(err, io.EOF) {
				return fail()
			} else if err != nil {
				return err
			}
			if err := s.Send(&pb.TradeResponse{Text: "done"}); err != nil {
				return err
			}
		}
	}
	w.limited.watch = func(*pb.WatchRequest, grpc.ServerStreamingServer[pb.WatchResponse]) error { return fail() }
	var err error
	b.guard, err = interceptors.NewClient(w.policy, w.workload(friendID), b.sink, append([]interceptors.ClientOption{interceptors.Telemetry{Off: true}}, opts...)...)
	must(t, err)
	t.Cleanup(b.guard.Close)
	return b
}

// to connects to the server, which is known under several names.
func (b *breakers) to(callee string) pb.LimitServiceClient {
	b.t.Helper()
	dial, err := b.guard.DialOptions(callee)
	must(b.t, err)
	cc, err := grpc.NewClient("passthrough:///"+b.addr, dial...)
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, cc.Close()) })
	return pb.NewLimitServiceClient(cc)
}

func (b *breakers) fail(code codes.Code) { b.fails.Store(uint32(code)) }

// spend makes a unary call.
func (b *breakers) spend(c pb.LimitServiceClient) error {
	_, err := c.Spend(b.t.Context(), &pb.SpendRequest{})
	return err
}

// wantOpen checks the whole status of a call that the breaker did not let through.
func wantOpen(t *testing.T, err error, from, to time.Duration) {
	t.Helper()
	wantStatus(t, err, codes.Unavailable, "the callee is unavailable")
	details := status.Convert(err).Details()
	if len(details) != 2 || !proto.Equal(details[0].(proto.Message), &errdetails.ErrorInfo{Reason: "CIRCUIT_OPEN", Domain: interceptors.ErrorDomain}) {
		t.Fatalf("details %v", details)
	}
	retry, ok := details[1].(*errdetails.RetryInfo)
	if d := retry.GetRetryDelay().AsDuration(); !ok || d < from || d > to || d%time.Millisecond != 0 {
		t.Errorf("retry in %v, want %v to %v", retry, from, to)
	}
}

// Five failures in a row open the circuit: calls fail at once, and do not reach the callee.
func TestABreakerOpens(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, "")
	c := b.to("server")
	b.fail(codes.Internal)
	for range 4 {
		wantStatus(t, b.spend(c), codes.Internal, "the callee's own words")
	}
	b.fail(codes.OK) // One good answer ends the row.
	must(t, b.spend(c))
	b.fail(codes.Unavailable)
	for range 5 {
		wantStatus(t, b.spend(c), codes.Unavailable, "the callee's own words")
	}
	handled := b.limited.handled.Load()
	for range 3 {
		wantOpen(t, b.spend(c), 20*time.Second, 30*time.Second)
	}
	if n := b.limited.handled.Load(); n != handled {
		t.Errorf("%d calls reached the callee through an open circuit", n-handled)
	}
	b.fail(codes.OK)
	must(t, ordered["bidi_stream"](t.Context(), c, nil)) // Another method is another circuit.
	records := b.sink.all(t, 14)
	for i, r := range records[10:13] {
		if r.Outcome != audit.OutcomeDenied || r.Stage != "breaker" || r.Reason != "circuit-open" || r.Code != codes.Unavailable || r.Side != audit.SideClient || r.Sent != 0 {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	if records[9].Outcome != audit.OutcomeFailed || records[9].Stage != "" {
		t.Errorf("record %+v", records[9])
	}
}

// After open_for one call is let through to see. If it fails the circuit stays open; if it succeeds all is well.
func TestABreakerHeals(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 2, open_for: 0.1s}", spend))
	c := b.to("server")
	b.fail(codes.DataLoss)
	for range 2 {
		wantStatus(t, b.spend(c), codes.DataLoss, "the callee's own words")
	}
	probe := func() (err error) {
		until(t, func() bool {
			err = b.spend(c)
			return reasonOf(err) != "CIRCUIT_OPEN"
		})
		return err
	}
	wantStatus(t, probe(), codes.DataLoss, "the callee's own words")
	b.fail(codes.OK)
	must(t, probe())
	for range 3 {
		must(t, b.spend(c))
	}
	want := "[breaker-open breaker-half-open breaker-open breaker-half-open breaker-closed]"
	if got := fmt.Sprint(b.sink.names()); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	for i, detail := range []string{"from closed to open for 100ms", "from open to half-open", "from half-open to open for 100ms", "from open to half-open", "from half-open to closed"} {
		if e := b.sink.events[i]; e.Detail != detail || e.Subject != "server "+spend || e.Side != audit.SideClient || e.Service != friendID || e.Time.IsZero() {
			t.Errorf("event %+v, want %s", e, detail)
		}
	}
}

// While a probe is under way others wait for what becomes of it.
func TestAHalfOpenBreakerLetsAFewThrough(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 1, open_for: 2s, half_open_probes: 2}", spend))
	c := b.to("server")
	b.fail(codes.Internal)
	wantStatus(t, b.spend(c), codes.Internal, "the callee's own words")
	in, free := make(chan struct{}, 8), make(chan struct{})
	b.limited.spend = func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error) {
		in <- struct{}{}
		<-free
		return &pb.SpendResponse{}, nil
	}
	done := make(chan error, 2)
	for range 2 {
		go func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			err := b.spend(c)
			for reasonOf(err) == "CIRCUIT_OPEN" {
				<-tick.C
				err = b.spend(c)
			}
			done <- err
		}()
	}
	<-in
	<-in
	wantOpen(t, b.spend(c), time.Second, time.Second)
	close(free)
	must(t, <-done)
	must(t, <-done)
	must(t, b.spend(c))
	half := 0
	for _, r := range b.sink.all(t, 4) {
		if r.Reason == "circuit-half-open" {
			half++
		}
	}
	if half == 0 {
		t.Error("no call was refused while half-open")
	}
}

// What says something of the callee, and what only says something of the caller.
func TestWhichCodesOpenABreaker(t *testing.T) {
	t.Parallel()
	defaults := map[codes.Code]bool{codes.Unknown: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.Unavailable: true, codes.DataLoss: true}
	for name, tt := range map[string]struct {
		breaker string
		opens   map[codes.Code]bool
	}{
		"by default":  {"consecutive_failures: 1, min_deadline: 0s", defaults},
		"as declared": {"consecutive_failures: 1, failure_codes: [UNIMPLEMENTED, INTERNAL]", map[codes.Code]bool{codes.Unimplemented: true, codes.Internal: true}},
	} {
		for _, kind := range []string{"unary", "server_stream", "bidi_stream"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				b := newBreakers(t, rules("breaker: {"+tt.breaker+"}", orderedMethods[kind]))
				for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
					var err error
					b.guard, err = interceptors.NewClient(b.policy, b.workload(friendID), b.sink, interceptors.Telemetry{Off: true})
					must(t, err)
					c := b.to("server")
					b.fail(code)
					wantStatus(t, ordered[kind](t.Context(), c, nil), code, "the callee's own words")
					err = ordered[kind](t.Context(), c, nil)
					if open := reasonOf(err) == "CIRCUIT_OPEN"; open != tt.opens[code] {
						t.Errorf("%v: open %v", code, open)
					}
				}
			})
		}
	}
}

// A caller cannot open the circuit for others, whatever it does.
func TestWhatCallersCannotOpen(t *testing.T) {
	t.Parallel()
	hang := func(b *breakers) {
		b.limited.spend = func(ctx context.Context, _ *pb.SpendRequest) (*pb.SpendResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	tests := []struct {
		name  string
		rule  string
		setup func(*breakers)
		call  func(context.Context, pb.LimitServiceClient) error
		code  codes.Code
	}{
		{"deadlines of a moment", "", hang, func(ctx context.Context, c pb.LimitServiceClient) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			return ordered["unary"](ctx, c, nil)
		}, codes.DeadlineExceeded},
		{"a deadline that is over", "", hang, func(ctx context.Context, c pb.LimitServiceClient) error {
			ctx, cancel := context.WithTimeout(ctx, -time.Second)
			defer cancel()
			return ordered["unary"](ctx, c, nil)
		}, codes.DeadlineExceeded},
		{"leaving", "", hang, func(ctx context.Context, c pb.LimitServiceClient) error {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(5*time.Millisecond, cancel)
			return ordered["unary"](ctx, c, nil)
		}, codes.Canceled},
		{"an invalid message", "", nil, func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](ctx, c, &pb.Order{Text: strings.Repeat("x", 21)})
		}, codes.InvalidArgument},
		{"a message that is too large", ", max_request_bytes: 100", nil, func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](ctx, c, &pb.Order{Token: make([]byte, 200)})
		}, codes.ResourceExhausted},
		{"being throttled by the callee", ", rate_limits: [{requests: 1, per: 3600s, permits: 1, key_fields: [order.from.account], cost_field: order.weight}]", nil, func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](ctx, c, &pb.Order{Weight: 2})
		}, codes.ResourceExhausted},
		{"a refusal of the callee's", ", callers: [server]", nil, func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](ctx, c, nil)
		}, codes.PermissionDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rule := strings.Replace(tt.rule, "permits: 1, ", "", 1)
			b := newBreakers(t, rules("breaker: {consecutive_failures: 1}"+rule, spend), interceptors.WithRequestValidation())
			if tt.setup != nil {
				tt.setup(b)
			}
			c := b.to("server")
			for range 6 {
				err := tt.call(t.Context(), c)
				if status.Code(err) != tt.code || reasonOf(err) == "CIRCUIT_OPEN" {
					t.Fatalf("got %v, want %v", err, tt.code)
				}
			}
			if names := b.sink.names(); len(names) > 0 {
				t.Errorf("events %v", names)
			}
		})
	}
}

// A callee that gives up at once, of itself, on calls that had all the time they need is failing.
func TestACalleeThatRunsOutOfTimeByItself(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 2}", spend))
	c := b.to("server")
	b.fail(codes.DeadlineExceeded)
	for range 2 {
		wantStatus(t, b.spend(c), codes.DeadlineExceeded, "the callee's own words")
	}
	wantOpen(t, b.spend(c), 20*time.Second, 30*time.Second)
}

// A stream counts when it ends, however it does.
func TestStreamsCountWhenTheyEnd(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 2}", trade))
	c := b.to("server")
	b.fail(codes.Unavailable)
	streams := make([]pb.LimitService_TradeClient, 3)
	for i := range streams {
		s, err := c.Trade(t.Context())
		must(t, err)
		must(t, s.Send(&pb.TradeRequest{}))
		_, err = s.Recv()
		must(t, err)
		streams[i] = s
	}
	end := func(s pb.LimitService_TradeClient) {
		t.Helper()
		must(t, s.CloseSend())
		_, err := s.Recv()
		wantStatus(t, err, codes.Unavailable, "the callee's own words")
	}
	end(streams[0])
	// One that its caller gives up says nothing.
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Trade(ctx)
	must(t, err)
	cancel()
	if _, err = s.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	end(streams[1])
	_, err = c.Trade(t.Context())
	wantOpen(t, err, 20*time.Second, 30*time.Second)
	// One that began before goes on.
	must(t, streams[2].Send(&pb.TradeRequest{}))
	_, err = streams[2].Recv()
	must(t, err)
	end(streams[2])
}

// A call that takes too long fails, if its rule says so; streams do not. Here all calls take too long.
func TestSlowCalls(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 3, slow_call: 0.000000001s}", spend, trade))
	c := b.to("server")
	for range 3 {
		must(t, b.spend(c))
	}
	wantOpen(t, b.spend(c), 20*time.Second, 30*time.Second)
	for range 5 {
		must(t, ordered["bidi_stream"](t.Context(), c, nil))
	}
}

func TestTheShareOfFailures(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 100, failure_ratio: 0.5, min_calls: 6, window: 60s}", spend))
	c := b.to("server")
	for i := range 6 {
		b.fail(codes.OK)
		if i%2 == 1 {
			b.fail(codes.Internal)
		}
		if err := b.spend(c); reasonOf(err) != "" {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	wantOpen(t, b.spend(c), 20*time.Second, 30*time.Second)
}

func TestABreakerThatIsDisabled(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {disabled: true, consecutive_failures: 1}", spend))
	c := b.to("server")
	b.fail(codes.Unavailable)
	for range 10 {
		wantStatus(t, b.spend(c), codes.Unavailable, "the callee's own words")
	}
}

// All connections of one guard to one callee share its breakers; another name, and another guard, have their own.
func TestABreakerIsOfItsCallee(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 2}", spend, trade))
	first, second, otherName := b.to("server"), b.to("server"), b.to(serverID)
	b.fail(codes.Unavailable)
	for _, c := range []pb.LimitServiceClient{first, second} {
		wantStatus(t, b.spend(c), codes.Unavailable, "the callee's own words")
	}
	wantOpen(t, b.spend(first), 20*time.Second, 30*time.Second)
	wantOpen(t, b.spend(second), 20*time.Second, 30*time.Second)
	wantOpen(t, b.spend(b.to("server")), 20*time.Second, 30*time.Second)
	wantStatus(t, b.spend(otherName), codes.Unavailable, "the callee's own words")
	wantStatus(t, ordered["bidi_stream"](t.Context(), first, nil), codes.Unavailable, "the callee's own words")
}

func TestABreakerUnderParallelCalls(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 3, open_for: 0.01s, half_open_probes: 2}", spend))
	c := b.to("server")
	b.fail(codes.Internal)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 60 {
				if i == 40 {
					b.fail(codes.OK)
				}
				if err := b.spend(c); err != nil && status.Code(err) != codes.Internal && reasonOf(err) != "CIRCUIT_OPEN" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	until(t, func() bool { return b.spend(c) == nil })
	// Each event begins where the one before ended.
	state := "closed"
	for _, e := range b.sink.events {
		if !strings.HasPrefix(e.Detail, "from "+state+" to ") {
			t.Fatalf("after %s comes %q", state, e.Detail)
		}
		state = strings.TrimPrefix(string(e.Event), "breaker-")
	}
}

// open has the breaker of Spend, or of Trade, open.
func (b *breakers) open(c pb.LimitServiceClient, kind string) {
	b.t.Helper()
	b.fail(codes.Unavailable)
	wantStatus(b.t, ordered[kind](b.t.Context(), c, nil), codes.Unavailable, "the callee's own words")
	b.fail(codes.OK)
}

const opensAtOnce = "breaker: {consecutive_failures: 1}"

// A fallback answers in place of the callee: with the request and the reason, validated, and recorded as what it is.
func TestFallbacksForUnaryCalls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		fallback func(*pb.SpendRequest) (*pb.SpendResponse, error)
		text     string // of the answer
		code     codes.Code
		message  string
		outcome  audit.Outcome
		reason   string
	}{
		{"an answer", func(req *pb.SpendRequest) (*pb.SpendResponse, error) {
			return &pb.SpendResponse{Text: "stale " + req.GetOrder().GetFrom().GetAccount()}, nil
		}, "stale 42", codes.OK, "", audit.OutcomeDegraded, "circuit-open"},
		{"an error with a status", func(*pb.SpendRequest) (*pb.SpendResponse, error) {
			return nil, status.Error(codes.FailedPrecondition, "come back tomorrow")
		}, "", codes.FailedPrecondition, "come back tomorrow", audit.OutcomeFailed, "circuit-open"},
		{"a panic", func(*pb.SpendRequest) (*pb.SpendResponse, error) { panic("no cache") }, "", codes.Unavailable, "the callee is unavailable", audit.OutcomeFailed, "circuit-open"},
		{"an invalid answer", func(*pb.SpendRequest) (*pb.SpendResponse, error) {
			return &pb.SpendResponse{Text: strings.Repeat("x", 41)}, nil
		}, "", codes.Internal, "the response is invalid", audit.OutcomeDenied, "invalid-response"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var reason atomic.Value
			b := newBreakers(t, rules(opensAtOnce, spend), interceptors.WithFallback(spend,
				interceptors.UnaryFallback(func(ctx context.Context, req *pb.SpendRequest, err error) (*pb.SpendResponse, error) {
					if ctx.Err() != nil {
						t.Error("the context is over")
					}
					if _, ok := ctx.Deadline(); !ok {
						t.Error("the fallback has no deadline")
					}
					reason.Store(err)
					return tt.fallback(req)
				})))
			c := b.to("server")
			must(t, b.spend(c))
			b.open(c, "unary")
			handled := b.limited.handled.Load()
			resp, err := c.Spend(t.Context(), &pb.SpendRequest{Order: from("42")})
			wantStatus(t, err, tt.code, tt.message)
			if resp.GetText() != tt.text {
				t.Errorf("answer %v", resp)
			}
			if b.limited.handled.Load() != handled {
				t.Error("the callee was called")
			}
			why, _ := reason.Load().(error)
			wantOpen(t, why, 20*time.Second, 30*time.Second)
			r := b.sink.all(t, 3)[2]
			if r.Outcome != tt.outcome || r.Code != tt.code || r.Reason != tt.reason || r.Sent != 1 {
				t.Errorf("record %+v", r)
			}
			if r.Outcome == audit.OutcomeDegraded && (r.Stage != "breaker" || r.Received != 1) {
				t.Errorf("record %+v", r)
			}
			if tt.name == "a panic" {
				contains(t, r.Detail, "the fallback panicked: panic: no cache")
			}
		})
	}
}

// A fallback that has no answer gives none: an empty one would be taken for the callee's.
func TestAFallbackThatReturnsNil(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules(opensAtOnce, spend, trade),
		interceptors.WithFallback(spend, interceptors.UnaryFallback(func(context.Context, *pb.SpendRequest, error) (*pb.SpendResponse, error) { return nil, nil })),
		interceptors.WithFallback(trade, interceptors.StreamFallback(func(context.Context, *grpc.StreamDesc, error) (grpc.ClientStream, error) { return nil, nil })))
	c := b.to("server")
	b.open(c, "unary")
	if resp, err := c.Spend(t.Context(), &pb.SpendRequest{}); err == nil {
		t.Errorf("nil became %v, with no error", resp)
	}
	b.open(c, "bidi_stream")
	if _, err := c.Trade(t.Context()); err == nil {
		t.Error("there is a stream")
	} else {
		contains(t, err.Error(), "the fallback returned neither a stream nor an error")
	}
}

// cannedStream answers a stream without a callee.
type cannedStream struct {
	grpc.ClientStream

	answers []string
	sent    int
}

func (*cannedStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (*cannedStream) Trailer() metadata.MD         { return nil }
func (*cannedStream) CloseSend() error             { return nil }
func (s *cannedStream) SendMsg(any) error          { s.sent++; return nil }

func (s *cannedStream) RecvMsg(m any) error {
	if len(s.answers) == 0 {
		return io.EOF
	}
	m.(*pb.TradeResponse).Text = s.answers[0]
	s.answers = s.answers[1:]
	return nil
}

func TestFallbacksForStreams(t *testing.T) {
	t.Parallel()
	canned := &cannedStream{answers: []string{"one", "two"}}
	broken := errors.New("no cache")
	var fail atomic.Value
	fail.Store("")
	b := newBreakers(t, rules(opensAtOnce, trade), interceptors.WithFallback(trade,
		interceptors.StreamFallback(func(_ context.Context, desc *grpc.StreamDesc, reason error) (grpc.ClientStream, error) {
			if reasonOf(reason) != "CIRCUIT_OPEN" || !desc.ClientStreams || !desc.ServerStreams {
				t.Errorf("reason %v, desc %+v", reason, desc)
			}
			switch fail.Load() {
			case "error":
				return nil, broken
			case "panic":
				panic("no cache")
			}
			return canned, nil
		})))
	c := b.to("server")
	b.open(c, "bidi_stream")
	stream, err := c.Trade(t.Context())
	must(t, err)
	must(t, stream.Send(&pb.TradeRequest{}))
	for _, want := range []string{"one", "two"} {
		resp, err := stream.Recv()
		must(t, err)
		if resp.GetText() != want || canned.sent != 1 {
			t.Errorf("%v, %d sent", resp, canned.sent)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if r := b.sink.all(t, 2)[1]; r.Outcome != audit.OutcomeDegraded || r.Stage != "breaker" || r.Reason != "circuit-open" || r.Code != codes.OK || r.Sent != 1 || r.Received != 2 {
		t.Errorf("record %+v", r)
	}
	fail.Store("error")
	if _, err := c.Trade(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	fail.Store("panic")
	_, err = c.Trade(t.Context())
	wantStatus(t, err, codes.Unavailable, "the callee is unavailable")
	for _, r := range b.sink.all(t, 4)[2:] {
		if r.Outcome != audit.OutcomeFailed {
			t.Errorf("record %+v", r)
		}
	}
}

func TestFallbacksThatDoNotFit(t *testing.T) {
	t.Parallel()
	unary := interceptors.UnaryFallback(func(context.Context, *pb.SpendRequest, error) (*pb.SpendResponse, error) {
		return &pb.SpendResponse{}, nil
	})
	stream := interceptors.StreamFallback(func(context.Context, *grpc.StreamDesc, error) (grpc.ClientStream, error) { return &cannedStream{}, nil })
	tests := []struct {
		name, yaml string
		opts       []interceptors.ClientOption
		want       string
	}{
		{"an unknown method", "", []interceptors.ClientOption{interceptors.WithFallback("/guardtest.v1.LimitService/Send", unary)},
			"interceptors: WithFallback: /guardtest.v1.LimitService/Send has no rule, and the descriptor of its service was not given: pass it to policy.Load or policy.Compile, or give the service callers (or nobody) under services in policy.yaml"},
		{"a method without a rule", "", []interceptors.ClientOption{interceptors.WithFallback("/guardtest.v1.BareService/Bare", unary)},
			"interceptors: WithFallback: /guardtest.v1.BareService/Bare has no rule: give it callers (or nobody) in guardtest/v1/guardtest.proto, or under methods in policy.yaml"},
		{"unary for a stream", "", []interceptors.ClientOption{interceptors.WithFallback(watch, unary)}, "interceptors: WithFallback: " + watch + " is another kind of call than its fallback"},
		{"a stream for unary", "", []interceptors.ClientOption{interceptors.WithFallback(spend, stream)}, "interceptors: WithFallback: " + spend + " is another kind of call than its fallback"},
		{"no breaker", rules("breaker: {disabled: true}", spend), []interceptors.ClientOption{interceptors.WithFallback(spend, unary)}, "interceptors: WithFallback: " + spend + " has no breaker"},
		{"two", "", []interceptors.ClientOption{interceptors.WithFallback(spend, unary), interceptors.WithFallback(spend, unary)}, "interceptors: WithFallback: " + spend + " has two"},
		{"none", "", []interceptors.ClientOption{interceptors.WithFallback(spend, interceptors.Fallback{})}, "interceptors: WithFallback: " + spend + ": the fallback is empty"},
		{"no sharer", "", []interceptors.ClientOption{interceptors.WithBreakerSharing(nil)}, "interceptors: WithBreakerSharing: the sharer is nil"},
	}
	w := newWorld(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := interceptors.NewClient(compile(t, policyID+tt.yaml), w.workload(friendID), newRecorder(), tt.opts...); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A fallback for other messages than its method's is an error of the call, and no panic.
func TestAFallbackForOtherMessages(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules(opensAtOnce, spend), interceptors.WithFallback(spend,
		interceptors.UnaryFallback(func(context.Context, *pb.WatchRequest, error) (*pb.SpendResponse, error) {
			return &pb.SpendResponse{}, nil
		})))
	c := b.to("server")
	b.open(c, "unary")
	if err := b.spend(c); err == nil || err.Error() != "interceptors: a fallback for *guardtestv1.WatchRequest was given a *guardtestv1.SpendRequest" {
		t.Errorf("got %v", err)
	}
}

// Changes of state are metrics, and events of the span in which they came to light.
func TestBreakersInTelemetry(t *testing.T) {
	t.Parallel()
	exporter, telemetry := spans()
	reader := sdkmetric.NewManualReader()
	telemetry.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	b := newBreakers(t, rules("breaker: {consecutive_failures: 1, open_for: 0.05s}", spend), telemetry)
	c := b.to("server")
	tracer := telemetry.TracerProvider.(*sdktrace.TracerProvider).Tracer("test")
	ctx, span := tracer.Start(t.Context(), "work")
	b.fail(codes.Internal)
	wantStatus(t, ordered["unary"](ctx, c, nil), codes.Internal, "the callee's own words")
	b.fail(codes.OK)
	until(t, func() bool { return ordered["unary"](ctx, c, nil) == nil })
	span.End()
	var events []string
	in := make(map[string]bool)
	for _, s := range finished(t, exporter, 3) {
		for _, e := range s.Events {
			set := attribute.NewSet(e.Attributes...)
			subject, _ := set.Value("grpcguard.subject")
			if subject.AsString() != "server "+spend {
				t.Errorf("event %+v", e)
			}
			events = append(events, e.Name)
			in[s.SpanContext.SpanID().String()] = true
		}
	}
	if got := strings.Join(events, " "); got != "grpcguard.breaker-open grpcguard.breaker-half-open grpcguard.breaker-closed" {
		t.Errorf("span events %s", got)
	}
	for _, e := range b.sink.events {
		if e.TraceID != span.SpanContext().TraceID().String() || !in[e.SpanID] {
			t.Errorf("event %+v", e)
		}
	}
	got := metrics(t, reader)
	for name, want := range map[string]int64{
		"grpcguard.breaker.changes grpcguard.callee=server,grpcguard.state=open,rpc.method=" + spend:      1,
		"grpcguard.breaker.changes grpcguard.callee=server,grpcguard.state=half-open,rpc.method=" + spend: 1,
		"grpcguard.breaker.changes grpcguard.callee=server,grpcguard.state=closed,rpc.method=" + spend:    1,
		"grpcguard.breaker.state grpcguard.callee=server,rpc.method=" + spend:                             0,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s is %d (%v), want %d", name, n, ok, want)
		}
	}
}

// What limits refuse, how full they are, and that their store failed are metrics.
func TestLimitsInTelemetry(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	_, telemetry := spans()
	telemetry.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	s := &store{}
	s.take = s.fails
	w, _ := limitedWorld(t, rules("rate_limits: [{requests: 1, per: 3600s, scope: SCOPE_PROCESS}]", spend)+
		"  "+watch+": {rate_limits: [{requests: 1, per: 3600s}, {requests: 2, per: 3600s}]}\n", telemetry, interceptors.WithRateLimitStore(s))
	c := w.spender(friendID)
	must(t, ordered["unary"](t.Context(), c, nil))
	wantLimited(t, ordered["unary"](t.Context(), c, nil), "caller", 59*time.Minute, time.Hour)
	wantLimited(t, ordered["server_stream"](t.Context(), c, nil), "caller", time.Second, time.Second)
	got := metrics(t, reader)
	for name, want := range map[string]int64{
		"grpcguard.rate_limit.refused grpcguard.limit=" + spend + "#0": 1,
		"grpcguard.rate_limit.crowded grpcguard.limit=" + spend + "#0": 0,
		"grpcguard.rate_limit.store_failures ":                         2,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s is %d (%v), want %d", name, n, ok, want)
		}
	}
	if got["grpcguard.rate_limit.slots grpcguard.limit="+spend+"#0"] < 1 {
		t.Errorf("slots: %v", got)
	}
}

// metrics are the guard's own, by name and attributes.
func metrics(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	found := make(map[string]int64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				found[m.Name+" "+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
			}
		}
	}
	return found
}

// A stream that is cut for its silence says nothing of the callee: a few silent callers would be an outage for all.
func TestIdleStreamsDoNotOpenABreaker(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("budget: {max_stream_idle: 0.2s}, breaker: {consecutive_failures: 2}", trade))
	c := b.to("server")
	for range 2 {
		s, err := c.Trade(t.Context())
		must(t, err)
		must(t, s.Send(&pb.TradeRequest{}))
		_, err = s.Recv()
		must(t, err)
		_, err = s.Recv()
		wantStatus(t, err, codes.ResourceExhausted, "the stream was idle for too long")
	}
	must(t, ordered["bidi_stream"](t.Context(), c, nil))
}

// A stream that ran for as long as it may has no other end, and says nothing bad of the callee.
func TestStreamsThatRunTheirTimeDoNotOpenABreaker(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("max_deadline: 0.3s, breaker: {consecutive_failures: 2}", trade))
	c := b.to("server")
	for range 3 {
		s, err := c.Trade(t.Context())
		must(t, err)
		must(t, s.Send(&pb.TradeRequest{}))
		_, err = s.Recv()
		must(t, err)
		if _, err = s.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Fatal(err)
		}
	}
	must(t, ordered["bidi_stream"](t.Context(), c, nil))
}

// What a caller passes on and gRPC cannot send never reaches the callee, and says nothing of it: one caller could open the circuit for
// all.
func TestRequestsThatCannotBeSentDoNotOpenABreaker(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(context.Context, pb.LimitServiceClient) error{
		"text that is not UTF-8": func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](ctx, c, &pb.Order{Text: "\xff"})
		},
		"metadata with a line break": func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](metadata.AppendToOutgoingContext(ctx, "x-note", "a\nb"), c, nil)
		},
		"more metadata than the server takes": func(ctx context.Context, c pb.LimitServiceClient) error {
			return ordered["unary"](metadata.AppendToOutgoingContext(ctx, "x-note", strings.Repeat("x", 70<<10)), c, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBreakers(t, rules("breaker: {consecutive_failures: 2}", spend))
			c := b.to("server")
			must(t, ordered["unary"](t.Context(), c, nil))
			for range 4 {
				if code := status.Code(send(t.Context(), c)); code != codes.Internal {
					t.Fatalf("got %v", code)
				}
			}
			must(t, ordered["unary"](t.Context(), c, nil))
		})
	}
}

// eventsPanic is a sink whose events panic.
type eventsPanic struct{ *recorder }

func (s eventsPanic) Write(ctx context.Context, r *audit.Record) error {
	if r.Type == audit.TypeEvent && r.Event != audit.EventStarted {
		panic("events")
	}
	return s.recorder.Write(ctx, r)
}

// A sink that panics on an event does not reach the program, nor lose the place of a probe.
func TestASinkThatPanicsOnEvents(t *testing.T) {
	t.Parallel()
	b := newBreakers(t, rules("breaker: {consecutive_failures: 1, open_for: 0.05s}", spend))
	reported := make(chan error, 8)
	var err error
	b.guard, err = interceptors.NewClient(b.policy, b.workload(friendID), eventsPanic{newRecorder()}, interceptors.Telemetry{Off: true},
		interceptors.WithSinkErrorHandler(func(err error) { reported <- err }))
	must(t, err)
	c := b.to("server")
	b.fail(codes.Unavailable)
	wantStatus(t, ordered["unary"](t.Context(), c, nil), codes.Unavailable, "the callee's own words")
	contains(t, (<-reported).Error(), "the sink panicked: events")
	b.fail(codes.OK)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = ordered["unary"](t.Context(), c, nil); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the breaker never healed: %v", err)
		}
	}
}
