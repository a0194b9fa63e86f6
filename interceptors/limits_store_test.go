package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// store is a shared store that a test decides for.
type store struct {
	check error
	take  func(context.Context, []ratelimit.Demand) (ratelimit.Result, int, error)

	mu    sync.Mutex
	asked [][]ratelimit.Demand
}

func (s *store) Check(l *ratelimit.Shared) error {
	if strings.HasPrefix(l.Name, spend) {
		return s.check
	}
	return nil
}

func (s *store) Take(ctx context.Context, demands []ratelimit.Demand) (ratelimit.Result, int, error) {
	s.mu.Lock()
	s.asked = append(s.asked, slices.Clone(demands))
	s.mu.Unlock()
	if s.take != nil {
		return s.take(ctx, demands)
	}
	return ratelimit.Result{Allowed: true}, 0, nil
}

func (s *store) fails(context.Context, []ratelimit.Demand) (ratelimit.Result, int, error) {
	return ratelimit.Result{}, 0, errors.New("dial tcp 10.0.0.7: refused")
}

// A decision is one question, however many limits there are.
func TestTheStoreIsAskedOnceADecision(t *testing.T) {
	t.Parallel()
	s := &store{}
	w, _ := limitedWorld(t, rules(`rate_limits: [{requests: 10, per: 1s}, {requests: 100, per: 60s, key: [KEY_METHOD], permits: 2, lease: 7},
    {requests: 5, per: 1s, scope: SCOPE_PROCESS}, {requests: 20, per: 1s, key_fields: [order.from.account], scope: SCOPE_SHARED},
    {requests: 30, per: 1s, cost_field: order.weight, burst: 40}]`, spend), interceptors.WithRateLimitStore(s))
	o := from("1")
	o.Weight = 9
	must(t, ordered["unary"](t.Context(), w.spender(friendID), o))
	if len(s.asked) != 2 || len(s.asked[0]) != 2 || len(s.asked[1]) != 2 {
		t.Fatalf("asked %+v", s.asked)
	}
	caller := ratelimit.Key{}.Text(friendID)
	for i, want := range []ratelimit.Demand{
		{Limit: &ratelimit.Shared{Limit: ratelimit.Limit{Permits: 10, Per: time.Second, Burst: 10}, Name: spend + "#0"}, Key: ratelimit.TextKey(friendID), Cost: 1},
		{Limit: &ratelimit.Shared{Limit: ratelimit.Limit{Permits: 100, Per: time.Minute, Burst: 100}, Name: spend + "#1", Lease: 7}, Key: ratelimit.Key{}.Text(spend), Cost: 2},
		{Limit: &ratelimit.Shared{Limit: ratelimit.Limit{Permits: 20, Per: time.Second, Burst: 20}, Name: spend + "#3"}, Key: ratelimit.Key{}.Text("1"), Cost: 1},
		{Limit: &ratelimit.Shared{Limit: ratelimit.Limit{Permits: 30, Per: time.Second, Burst: 40}, Name: spend + "#4"}, Key: caller, Cost: 9},
	} {
		got := s.asked[i/2][i%2]
		if *got.Limit != *want.Limit || string(got.Key) != string(want.Key) || got.Cost != want.Cost {
			t.Errorf("demand %d: got %+v %q %d, want %+v %q %d", i, *got.Limit, got.Key, got.Cost, *want.Limit, want.Key, want.Cost)
		}
	}
}

// What the store says is what the caller is told, and limits of this process get back what they gave.
func TestTheStoreRefuses(t *testing.T) {
	t.Parallel()
	s := &store{}
	s.take = func(_ context.Context, demands []ratelimit.Demand) (ratelimit.Result, int, error) {
		switch {
		case len(demands) != 2:
			return ratelimit.Result{Allowed: true}, 0, nil
		case string(demands[1].Key) == string(ratelimit.Key{}.Text("never")):
			return ratelimit.Result{RetryAfter: ratelimit.Never}, 1, nil
		case string(demands[1].Key) == string(ratelimit.Key{}.Text("later")):
			return ratelimit.Result{RetryAfter: 1500*time.Millisecond + 1}, 1, nil
		}
		return ratelimit.Result{Allowed: true}, 0, nil
	}
	w, sink := limitedWorld(t, rules(`rate_limits: [{requests: 10, per: 1s, key_fields: [order.currency]}, {requests: 10, per: 1s, key_fields: [order.from.account]},
    {requests: 1, per: 3600s, key_fields: [order.text], scope: SCOPE_PROCESS}]`, spend), interceptors.WithRateLimitStore(s))
	c := w.spender(friendID)
	wantLimited(t, ordered["unary"](t.Context(), c, from("later")), "request", 2*time.Second, 2*time.Second)
	wantLimited(t, ordered["unary"](t.Context(), c, from("never")), "request", 0, 0)
	must(t, ordered["unary"](t.Context(), c, from("now")))
	asked := len(s.asked)
	wantLimited(t, ordered["unary"](t.Context(), c, from("now")), "request", 59*time.Minute, time.Hour)
	if len(s.asked) != asked {
		t.Error("the store was asked of a call that this process refuses")
	}
	records := w.records.all(t, 4)
	for i, want := range []string{"rate-limited 1", "over-limit 1", "", "rate-limited 2"} {
		r := records[i]
		if want == "" {
			continue
		}
		reason, index, _ := strings.Cut(want, " ")
		if r.Reason != reason || r.Stage != "limits" || r.Kind != "unary" || r.Received != 1 || !strings.HasSuffix(r.Detail, "rate_limits["+index+"]") {
			t.Errorf("record %+v, want %s", r, want)
		}
	}
	if names := sink.names(); len(names) > 0 {
		t.Errorf("events %v", names)
	}
}

// When the store fails each limit does what it says, and that it failed is an event, once.
func TestTheStoreFails(t *testing.T) {
	t.Parallel()
	const local = "on_store_failure: STORE_FAILURE_LOCAL"
	tests := []struct {
		name, limits string
		want         []string // reasons of three calls; "" is let in
	}{
		{"deny, which is the default", "{requests: 2, per: 3600s}", []string{"limit-store-failed", "limit-store-failed", "limit-store-failed"}},
		{"deny, as declared", "{requests: 2, per: 3600s, on_store_failure: STORE_FAILURE_DENY}", []string{"limit-store-failed", "limit-store-failed", "limit-store-failed"}},
		{"the same limit in this process", "{requests: 2, per: 3600s, " + local + "}", []string{"", "", "rate-limited"}},
		{"the same limit, on a message", "{requests: 2, per: 3600s, key_fields: [order.from.account], " + local + "}", []string{"", "", "rate-limited"}},
		{"one denies, which is enough", "{requests: 2, per: 3600s, " + local + "}, {requests: 2, per: 3600s}", []string{"limit-store-failed", "limit-store-failed", "limit-store-failed"}},
		{"two, in this process", "{requests: 9, per: 3600s, " + local + "}, {requests: 1, per: 3600s, key: [KEY_METHOD], " + local + "}", []string{"", "rate-limited", "rate-limited"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &store{}
			s.take = s.fails
			w, sink := limitedWorld(t, rules("rate_limits: ["+tt.limits+"]", spend), interceptors.WithRateLimitStore(s))
			c := w.spender(friendID)
			for i, want := range tt.want {
				err := ordered["unary"](t.Context(), c, nil)
				switch {
				case want == "" && err != nil, want != "" && err == nil:
					t.Errorf("call %d: %v", i, err)
				case want == "limit-store-failed":
					wantLimited(t, err, map[bool]string{true: "request", false: "caller"}[strings.Contains(tt.limits, "key_fields")], time.Second, time.Second)
					if text := prototext.Format(status.Convert(err).Proto()); strings.Contains(text, "10.0.0.7") {
						t.Errorf("the store is on the wire: %s", text)
					}
				}
			}
			for i, r := range w.records.all(t, 3) {
				if want := tt.want[i]; want != "" && (r.Reason != want || r.Stage != "limits" || r.Outcome != audit.OutcomeDenied) {
					t.Errorf("record %+v", r)
				}
				if r.Reason == "limit-store-failed" && !strings.HasSuffix(r.Detail, ": dial tcp 10.0.0.7: refused") {
					t.Errorf("record %+v", r)
				}
			}
			if len(sink.events) != 1 {
				t.Fatalf("events %v", sink.names())
			}
			if e := sink.events[0]; e.Event != audit.EventStoreDown || e.Side != audit.SideServer || e.Service != serverID || e.Subject != "rate limits" ||
				e.Detail != "dial tcp 10.0.0.7: refused" || e.Time.IsZero() {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// A store that does not answer is waited for no longer than declared.
func TestTheStoreIsSlow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, limits string
		most         time.Duration
	}{
		{"by default", "{requests: 2, per: 3600s}", 50 * time.Millisecond},
		{"as declared", "{requests: 2, per: 3600s, store_timeout: 0.02s}", 20 * time.Millisecond},
		{"the shortest of several", "{requests: 2, per: 3600s, store_timeout: 9s}, {requests: 2, per: 3600s, store_timeout: 0.03s}", 30 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var left, waited atomic.Int64
			s := &store{take: func(ctx context.Context, _ []ratelimit.Demand) (ratelimit.Result, int, error) {
				deadline, _ := ctx.Deadline()
				start := time.Now()
				left.Store(int64(time.Until(deadline)))
				<-ctx.Done()
				waited.Store(int64(time.Since(start)))
				return ratelimit.Result{}, 0, ctx.Err()
			}}
			w, sink := limitedWorld(t, rules("rate_limits: ["+tt.limits+"]", spend), interceptors.WithRateLimitStore(s))
			wantLimited(t, ordered["unary"](t.Context(), w.spender(friendID), nil), "caller", time.Second, time.Second)
			if d := time.Duration(left.Load()); d <= 0 || d > tt.most {
				t.Errorf("the store has %v, want at most %v", d, tt.most)
			}
			if d := time.Duration(waited.Load()); d < time.Duration(left.Load())-time.Millisecond {
				t.Errorf("it was given up on after %v", d)
			}
			if names := sink.names(); fmt.Sprint(names) != "[limit-store-down]" {
				t.Errorf("events %v", names)
			}
		})
	}
}

// A caller who leaves while the store is asked says nothing of the store: anybody could raise the alarm else.
func TestACallerWhoLeavesDoesNotMakeTheStoreFail(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	s := &store{take: func(ctx context.Context, _ []ratelimit.Demand) (ratelimit.Result, int, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return ratelimit.Result{}, 0, ctx.Err()
	}}
	w, sink := limitedWorld(t, rules("rate_limits: [{requests: 2, per: 3600s, store_timeout: 10s}]", spend), interceptors.WithRateLimitStore(s))
	c := w.spender(friendID)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ordered["unary"](ctx, c, nil) }()
	<-asked
	cancel()
	if code := status.Code(<-done); code != codes.Canceled {
		t.Errorf("got %v", code)
	}
	if r := w.records.one(t); r.Reason != "call-over" || r.Outcome != audit.OutcomeDenied || r.Code != codes.Canceled {
		t.Errorf("record %+v", r)
	}
	if names := sink.names(); len(names) > 0 {
		t.Errorf("events %v", names)
	}
}
