package interceptors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/breaker"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"
)

const (
	limitedMethod = "/guardtest.v1.LimitService/Spend"
	limitedStream = "/guardtest.v1.LimitService/Trade"
)

// limitedPolicy says rule of Spend and of Trade.
func limitedPolicy(tb testing.TB, rule string) *policy.Policy {
	tb.Helper()
	file, err := policy.ParseFile("policy.yaml", fmt.Appendf(nil, "names: {friend: {spiffe_ids: [\"spiffe://example.org/friend\"]}}\nmethods:\n  %s: {%s}\n  %s: {%[2]s}\n",
		limitedMethod, rule, limitedStream))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := policy.Compile(file, pb.File_guardtest_v1_guardtest_proto)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// noted is a sink that keeps the names of events. Tests use it from one goroutine.
type noted struct{ events []string }

func (n *noted) Write(_ context.Context, r *audit.Record) error {
	if r.Type == audit.TypeEvent {
		n.events = append(n.events, string(r.Event))
	}
	return nil
}

// limitsOf makes the limits of p, without telemetry.
func limitsOf(tb testing.TB, p *policy.Policy, store ratelimit.Store) (*limits, *noted) {
	tb.Helper()
	sink := &noted{}
	cfg := serverConfig{config: config{telemetry: Telemetry{Off: true}.settled()}, store: store}
	l, err := newLimits(p, cfg, &recorder{sink: sink, policy: p, onError: func(err error) { tb.Error(err) }})
	if err != nil {
		tb.Fatal(err)
	}
	return l, sink
}

// To let a call in costs a limit of this process no allocation, whatever it counts by.
func TestLocalLimitsAllocateNothing(t *testing.T) {
	_, _, ctx := benchGuards(t)
	from, _ := peer.FromContext(ctx)
	for _, key := range []string{"KEY_CALLER", "KEY_METHOD", "KEY_TRUST_DOMAIN", "KEY_ADDRESS", "KEY_ADDRESS, KEY_TRUST_DOMAIN, KEY_CALLER, KEY_METHOD"} {
		p := limitedPolicy(t, "rate_limits: [{requests: 100000, per: 1s, key: ["+key+"]}, {requests: 1000000, per: 3600s}]")
		l, _ := limitsOf(t, p, nil)
		c := &chain.Call{Context: ctx, Method: limitedMethod, Rule: p.Rule(limitedMethod), Caller: identity.FromPeer(from), Start: time.Now()}
		stage := limitStage{l}
		if n := testing.AllocsPerRun(100, func() {
			if stage.Admit(c) != nil {
				t.Fatal("refused")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", key, n)
		}
	}
}

// fixedStore answers with an error, nil or not, at once, or when it is no longer waited for.
type fixedStore struct {
	err   error
	hangs bool
}

func (*fixedStore) Check(*ratelimit.Shared) error { return nil }

func (s *fixedStore) Take(ctx context.Context, _ []ratelimit.Demand) (ratelimit.Result, int, error) {
	if s.hangs {
		<-ctx.Done()
		return ratelimit.Result{}, 0, ctx.Err()
	}
	return ratelimit.Result{Allowed: s.err == nil}, 0, s.err
}

// A store counts as back when it has answered for a second without a failure; one that comes and goes is no flood of events.
func TestAStoreThatComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := limitedPolicy(t, "rate_limits: [{requests: 1, per: 1s, key: [KEY_METHOD]}]")
		store := &fixedStore{}
		l, sink := limitsOf(t, p, store)
		ask := func(want string) {
			t.Helper()
			c := &chain.Call{Context: t.Context(), Method: limitedMethod, Rule: p.Rule(limitedMethod), Start: time.Now()}
			got := ""
			if r := (limitStage{l}).Begin(t.Context(), c); r != nil {
				got = r.Reason()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		told := func(want string) {
			t.Helper()
			if got := strings.Join(sink.events, " "); got != want {
				t.Errorf("events %q, want %q", got, want)
			}
		}
		ask("")
		told("")
		for range 5 { // It comes and goes.
			store.err = errors.New("gone")
			ask("limit-store-failed")
			store.err = nil
			time.Sleep(calm / 2)
			ask("")
		}
		told("limit-store-down")
		time.Sleep(calm/2 - 1)
		ask("")
		told("limit-store-down")
		time.Sleep(time.Nanosecond)
		ask("")
		ask("")
		told("limit-store-down limit-store-up")
		store.err = errors.New("gone")
		ask("limit-store-failed")
		ask("limit-store-failed")
		told("limit-store-down limit-store-up limit-store-down")
	})
}

// How long the store is waited for, and that a call which had less time says nothing of it.
func TestHowLongAStoreIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, more  string
		given       time.Duration // of the call; 0: all
		waited      time.Duration
		reason, say string
	}{
		{"by default", "", 0, 50 * time.Millisecond, "limit-store-failed", "limit-store-down"},
		{"as declared", ", store_timeout: 2s", 0, 2 * time.Second, "limit-store-failed", "limit-store-down"},
		{"a call with less time", "", 10 * time.Millisecond, 10 * time.Millisecond, "call-over", ""},
		{"a call with a moment more", "", 51 * time.Millisecond, 50 * time.Millisecond, "limit-store-failed", "limit-store-down"},
		{"this process takes over", ", on_store_failure: STORE_FAILURE_LOCAL", 0, 50 * time.Millisecond, "", "limit-store-down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := limitedPolicy(t, "rate_limits: [{requests: 1, per: 1s, key: [KEY_METHOD]"+tt.more+"}]")
				l, sink := limitsOf(t, p, &fixedStore{hangs: true})
				ctx := t.Context()
				if tt.given > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.given)
					defer cancel()
				}
				start := time.Now()
				r := (limitStage{l}).Begin(ctx, &chain.Call{Context: ctx, Method: limitedMethod, Rule: p.Rule(limitedMethod), Start: start})
				if waited := time.Since(start); waited != tt.waited {
					t.Errorf("waited for %v, want %v", waited, tt.waited)
				}
				if r == nil && tt.reason != "" || r != nil && r.Reason() != tt.reason {
					t.Errorf("got %+v, want %s", r, tt.reason)
				}
				if got := strings.Join(sink.events, " "); got != tt.say {
					t.Errorf("events %q, want %q", got, tt.say)
				}
			})
		})
	}
}

// The idle time of a stream begins anew with each message, either way, and ends with the stream.
func TestMessagesEitherWayKeepAStreamAlive(t *testing.T) {
	t.Parallel()
	const idle = time.Second
	for _, tt := range []struct {
		name string
		use  func(*budgetStage, context.Context, *chain.Call) *chain.Refusal
	}{
		{"received", func(s *budgetStage, ctx context.Context, c *chain.Call) *chain.Refusal {
			return s.Receive(ctx, c, chain.MessageOf(&pb.TradeRequest{}))
		}},
		{"sent", func(s *budgetStage, ctx context.Context, c *chain.Call) *chain.Refusal {
			return s.Send(ctx, c, chain.MessageOf(&pb.TradeResponse{}))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := limitedPolicyOfStream(t, "budget: {max_stream_idle: 1s}")
				s := newBudgetStage(p)
				begin := func() *chain.Call {
					c := &chain.Call{Context: t.Context(), Method: limitedStream, Rule: p.Rule(limitedStream), Start: time.Now()}
					if r := s.Admit(c); r != nil {
						t.Fatal(r)
					}
					return c
				}
				c := begin()
				for range 10 {
					time.Sleep(idle - 1)
					if r := tt.use(s, c, c); r != nil {
						t.Fatal(r.Reason())
					}
				}
				time.Sleep(idle - 1)
				synctest.Wait()
				if err := c.Err(); err != nil {
					t.Errorf("cut a moment early: %v", err)
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				cause, ok := errors.AsType[*chain.RefusalCause](context.Cause(c.Context))
				if !ok || cause.Stage != "budget" || cause.Error() != "stream-idle" || !errors.Is(c.Err(), context.DeadlineExceeded) {
					t.Errorf("not cut: %v %v", c.Err(), context.Cause(c.Context))
				}
				if err := s.End(c, c); err != nil {
					t.Error(err)
				}
				// One that has ended is not cut.
				c = begin()
				if err := s.End(c, c); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * idle)
				synctest.Wait()
				if err := c.Err(); err != nil {
					t.Errorf("cut after its end: %v", err)
				}
			})
		})
	}
}

// limitedPolicyOfStream says rule of Trade alone.
func limitedPolicyOfStream(tb testing.TB, rule string) *policy.Policy {
	tb.Helper()
	return limitedPolicyOf(tb, limitedStream, rule)
}

func limitedPolicyOf(tb testing.TB, method, rule string) *policy.Policy {
	tb.Helper()
	file, err := policy.ParseFile("policy.yaml", []byte("names: {friend: {spiffe_ids: [\"spiffe://example.org/friend\"]}}\nmethods:\n  "+method+": {"+rule+"}\n"))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := policy.Compile(file, pb.File_guardtest_v1_guardtest_proto)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// What each end of a call says of the callee.
func TestWhatCallsSayOfTheirCallee(t *testing.T) {
	t.Parallel()
	const second = time.Second
	tests := []struct {
		name     string
		kind     chain.Kind
		code     codes.Code
		outcome  audit.Outcome
		given    time.Duration // 0: no deadline
		duration time.Duration
		want     breaker.Outcome
	}{
		{"well", chain.KindUnary, codes.OK, audit.OutcomeOK, second, 0, breaker.Success},
		{"well, as slow as allowed", chain.KindUnary, codes.OK, audit.OutcomeOK, 0, 500 * time.Millisecond, breaker.Success},
		{"well, but slow", chain.KindUnary, codes.OK, audit.OutcomeOK, 0, 500*time.Millisecond + 1, breaker.Failure},
		{"an answer that is an error, slow", chain.KindUnary, codes.NotFound, audit.OutcomeFailed, 0, second, breaker.Failure},
		{"a stream that lasts", chain.KindBidiStream, codes.OK, audit.OutcomeOK, 0, time.Hour, breaker.Success},
		{"a server stream that lasts", chain.KindServerStream, codes.OK, audit.OutcomeOK, 0, time.Hour, breaker.Success},
		{"an answer that is an error", chain.KindUnary, codes.NotFound, audit.OutcomeFailed, second, 0, breaker.Success},
		{"not there", chain.KindUnary, codes.Unavailable, audit.OutcomeFailed, second, 0, breaker.Failure},
		{"not there, says a fault", chain.KindUnary, codes.Unavailable, audit.OutcomeDenied, second, 0, breaker.Failure},
		{"an invalid response", chain.KindUnary, codes.Internal, audit.OutcomeDenied, second, 0, breaker.Failure},
		{"an invalid request of this side's", chain.KindUnary, codes.InvalidArgument, audit.OutcomeDenied, second, 0, breaker.Ignored},
		{"an invalid request of this side's, slow", chain.KindUnary, codes.InvalidArgument, audit.OutcomeDenied, 0, second, breaker.Ignored},
		{"an invalid request, says the callee", chain.KindUnary, codes.InvalidArgument, audit.OutcomeFailed, second, 0, breaker.Success},
		{"throttled", chain.KindUnary, codes.ResourceExhausted, audit.OutcomeFailed, second, 0, breaker.Ignored},
		{"throttled, slow", chain.KindUnary, codes.ResourceExhausted, audit.OutcomeFailed, 0, second, breaker.Ignored},
		{"given up by the caller", chain.KindUnary, codes.Canceled, audit.OutcomeFailed, second, 0, breaker.Ignored},
		{"given up by the caller, slow", chain.KindUnary, codes.Canceled, audit.OutcomeFailed, 0, second, breaker.Ignored},
		{"time is up", chain.KindUnary, codes.DeadlineExceeded, audit.OutcomeFailed, second, second, breaker.Failure},
		{"time is up at once, of much", chain.KindUnary, codes.DeadlineExceeded, audit.OutcomeFailed, second, 0, breaker.Failure},
		{"the shortest time that counts", chain.KindUnary, codes.DeadlineExceeded, audit.OutcomeFailed, 100 * time.Millisecond, 100 * time.Millisecond, breaker.Failure},
		{"less than that", chain.KindUnary, codes.DeadlineExceeded, audit.OutcomeFailed, 100*time.Millisecond - 1, second, breaker.Ignored},
		{"no time at all", chain.KindUnary, codes.DeadlineExceeded, audit.OutcomeFailed, -second, 0, breaker.Ignored},
		{"the program panicked", chain.KindUnary, codes.Internal, audit.OutcomePanicked, second, 0, breaker.Ignored},
	}
	p := limitedPolicy(t, "breaker: {slow_call: 0.5s}")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &chain.Call{Context: t.Context(), Rule: p.Rule(limitedMethod), Kind: tt.kind, Start: time.Now()}
			if tt.given != 0 {
				ctx, cancel := context.WithDeadline(t.Context(), c.Start.Add(tt.given))
				defer cancel()
				c.Context = ctx
			}
			c.Result = chain.Result{Outcome: tt.outcome, Code: tt.code, Duration: tt.duration, Why: &chain.Why{}}
			if got := outcomeOf(c); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Sums are exact, and what is finer than a permit counts up: never is less taken than moves.
func TestMoneyInPermits(t *testing.T) {
	t.Parallel()
	parsed := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(`name: "m.proto" package: "google.type" syntax: "proto3" message_type { name: "Money"
		field { name: "currency_code" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
		field { name: "units" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 }
		field { name: "nanos" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 } }`), parsed); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	const never = math.MaxUint64
	for _, tt := range []struct {
		money string
		scale uint64
		want  uint64
		ok    bool
	}{
		{"", 1, 0, true},
		{"units: 1", 1, 1, true},
		{"units: 1", 1e9, 1e9, true},
		{"nanos: 1", 1, 1, true},
		{"nanos: 1", 100, 1, true},
		{"nanos: 1", 1e9, 1, true},
		{"nanos: 10000000", 100, 1, true},
		{"nanos: 10000001", 100, 2, true},
		{"nanos: 999999999", 1, 1, true},
		{"nanos: 999999999", 100, 100, true},
		{"units: 5 nanos: 500000000", 10, 55, true},
		{"units: 9223372036854775807 nanos: 999999999", 1, 1 << 63, true},
		{"units: 18446744073 nanos: 709551615", 1e9, never, true}, // exactly
		{"units: 18446744073 nanos: 709551616", 1e9, never, true}, // one more
		{"units: 18446744074", 1e9, never, true},
		{"units: 9223372036854775807 nanos: 999999999", 1e9, never, true},
		{"units: -1", 1, 0, false},
		{"units: -9223372036854775808", 1e9, 0, false},
		{"nanos: -1", 1, 0, false},
		{"units: 1 nanos: -1", 1, 0, false},
		{"units: -1 nanos: 1", 1, 0, false},
		{"nanos: 1000000000", 1, 0, false},
		{"nanos: 2147483647", 1, 0, false},
	} {
		money := dynamicpb.NewMessage(file.Messages().ByName("Money"))
		if err := prototext.Unmarshal([]byte(tt.money), money); err != nil {
			t.Fatal(err)
		}
		if got, ok := permitsOf(money, tt.scale); got != tt.want || ok != tt.ok {
			t.Errorf("%s in 1/%d: got %d %v, want %d %v", tt.money, tt.scale, got, ok, tt.want, tt.ok)
		}
	}
}

// A message of another type than the policy was compiled for is refused, and not counted as if it were empty.
func TestMessagesOfAnotherTypeAreNotCounted(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"key_fields: [order.from.account]", "cost_field: order.amount", "cost_field: order.amount, currency: EUR, currency_field: order.currency"} {
		p := limitedPolicyOf(t, limitedMethod, "rate_limits: [{requests: 5, per: 1s, "+limit+", key: [KEY_METHOD]}]")
		l, _ := limitsOf(t, p, nil)
		c := &chain.Call{Context: t.Context(), Method: limitedMethod, Rule: p.Rule(limitedMethod), Start: time.Now()}
		for _, m := range []any{&pb.ClosedRequest{}, &pb.TradeRequest{Order: &pb.Order{}}, "text", proto.Message(nil)} {
			if r := (messageLimitStage{l}).Receive(t.Context(), c, chain.MessageOf(m)); r == nil {
				t.Errorf("%s: a %T is let in", limit, m)
			}
		}
	}
}
