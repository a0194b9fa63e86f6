package interceptors_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/fault"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

func injector(t *testing.T, faults ...fault.Fault) *fault.Injector {
	t.Helper()
	i, err := fault.New(faults...)
	must(t, err)
	return i
}

// A server's calls fail behind its controls: who is refused anyway meets no fault.
func TestServersFail(t *testing.T) {
	t.Parallel()
	for kind, call := range ordered {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			i := injector(t, fault.Fault{Code: codes.Unavailable, Share: 1})
			w, _ := limitedWorld(t, "", interceptors.WithFaults(i))
			c := w.spender(friendID)
			wantStatus(t, call(t.Context(), c, nil), codes.Unavailable, "injected fault")
			wantStatus(t, call(t.Context(), w.spender("spiffe://example.org/stranger"), nil), codes.PermissionDenied, "permission denied")
			must(t, i.Set())
			must(t, call(t.Context(), c, nil))
			if n := w.limited.handled.Load(); n != 1 {
				t.Errorf("%d calls came to the handler", n)
			}
			// The record of a call that the tap refused may come late.
			stages := make(map[string]int)
			for _, r := range w.records.all(t, 3) {
				stages[r.Stage]++
				if r.Stage == "fault" && (r.Reason != "injected-fault" || r.Code != codes.Unavailable || r.Outcome != audit.OutcomeFailed) {
					t.Errorf("record %+v", r)
				}
			}
			if stages["fault"] != 1 || stages["callers"] != 1 || stages[""] != 1 {
				t.Errorf("records %v", stages)
			}
		})
	}
}

// A client's calls fail below its controls, as if the callee had: breakers open, and the callee is not bothered.
func TestClientsFail(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unary", "server_stream", "bidi_stream"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			i := injector(t, fault.Fault{Caller: "server", Code: codes.Unavailable, Share: 1})
			b := newBreakers(t, "", interceptors.WithFaults(i))
			c := b.to("server")
			for range 5 {
				wantStatus(t, ordered[kind](t.Context(), c, nil), codes.Unavailable, "injected fault")
			}
			wantOpen(t, ordered[kind](t.Context(), c, nil), 20*time.Second, 30*time.Second)
			if n := b.limited.handled.Load(); n != 0 {
				t.Errorf("%d calls reached the callee", n)
			}
			for _, r := range b.sink.all(t, 6)[:5] {
				if r.Stage != "fault" || r.Reason != "injected-fault" || r.Side != audit.SideClient {
					t.Errorf("record %+v", r)
				}
			}
			must(t, ordered[kind](t.Context(), b.to(serverID), nil)) // The fault names another callee.
		})
	}
}

func TestFaultsByMethodAndCaller(t *testing.T) {
	t.Parallel()
	i := injector(t,
		fault.Fault{Method: spend, Caller: alice, Code: codes.DataLoss, Share: 1},
		fault.Fault{Method: spend, Code: codes.Aborted, Share: 1},
		fault.Fault{Caller: bob, Code: codes.Internal, Share: 1})
	w, _ := limitedWorld(t, "", interceptors.WithFaults(i))
	tests := []struct {
		who, kind string
		want      codes.Code
	}{
		{alice, "unary", codes.DataLoss}, {bob, "unary", codes.Aborted}, {friendID, "unary", codes.Aborted},
		{bob, "bidi_stream", codes.Internal}, {alice, "bidi_stream", codes.OK}, {friendID, "server_stream", codes.OK},
	}
	for _, tt := range tests {
		if err := ordered[tt.kind](t.Context(), w.spender(tt.who), nil); status.Code(err) != tt.want {
			t.Errorf("%s %s: %v, want %v", tt.who, tt.kind, err, tt.want)
		}
	}
}

// With dice that are known, exactly that share of the calls fails.
func TestAShareOfTheCallsFails(t *testing.T) {
	t.Parallel()
	var rolls atomic.Int64
	i, err := fault.NewWithRand(func() float64 { return float64(rolls.Add(1)-1) / 10 }, fault.Fault{Code: codes.Unavailable, Share: 0.3})
	must(t, err)
	w, _ := limitedWorld(t, "", interceptors.WithFaults(i))
	c := w.spender(friendID)
	var got strings.Builder
	for range 10 {
		if err := ordered["unary"](t.Context(), c, nil); err == nil {
			got.WriteByte('.')
		} else {
			got.WriteByte('x')
		}
	}
	if got.String() != "xxx......." || rolls.Load() != 10 {
		t.Errorf("got %s with %d rolls", got.String(), rolls.Load())
	}
}

// A delay holds the call up, and no longer than the call lasts.
func TestDelays(t *testing.T) {
	t.Parallel()
	t.Run("held up, and then answered", func(t *testing.T) {
		t.Parallel()
		const delay = 50 * time.Millisecond
		w, _ := limitedWorld(t, "", interceptors.WithFaults(injector(t, fault.Fault{Delay: delay, Share: 1})))
		must(t, ordered["unary"](t.Context(), w.spender(friendID), nil))
		if r := w.records.one(t); r.Duration < delay || r.Outcome != audit.OutcomeOK {
			t.Errorf("record %+v", r)
		}
	})
	t.Run("the caller does not wait so long", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, "", interceptors.WithFaults(injector(t, fault.Fault{Delay: time.Hour, Code: codes.DataLoss, Share: 1})))
		c := pb.NewLimitServiceClient(w.connected(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if code := status.Code(ordered["unary"](ctx, c, nil)); code == codes.DataLoss {
			t.Errorf("got %v", code)
		}
		if r := w.records.one(t); r.Code == codes.DataLoss || r.Outcome == audit.OutcomeOK {
			t.Errorf("record %+v", r)
		}
	})
	t.Run("the rule's time is up", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, rules("max_deadline: 0.2s", spend), interceptors.WithFaults(injector(t, fault.Fault{Delay: time.Hour, Share: 1})))
		wantStatus(t, ordered["unary"](t.Context(), w.spender(friendID), nil), codes.DeadlineExceeded, "the deadline has passed")
	})
}

// A stream is dropped in its middle, on either side.
func TestStreamsAreDroppedInTheMiddle(t *testing.T) {
	t.Parallel()
	f := fault.Fault{Code: codes.Unavailable, AfterMessages: 3, Share: 1}
	onServer, _ := limitedWorld(t, "", interceptors.WithFaults(injector(t, f)))
	onClient := newBreakers(t, "", interceptors.WithFaults(injector(t, f)))
	for side, c := range map[string]pb.LimitServiceClient{"server": onServer.spender(friendID), "client": onClient.to("server")} {
		stream, err := c.Trade(t.Context())
		must(t, err)
		must(t, stream.Send(&pb.TradeRequest{}))
		_, err = stream.Recv()
		must(t, err)
		must(t, stream.Send(&pb.TradeRequest{}))
		if _, err = stream.Recv(); status.Code(err) != codes.Unavailable { // The fourth message.
			t.Errorf("%s: %v", side, err)
		}
	}
	for _, r := range []audit.Record{onServer.records.one(t), onClient.sink.one(t)} {
		if r.Stage != "fault" || r.Reason != "injected-fault" {
			t.Errorf("record %+v", r)
		}
	}
	// A call with fewer messages goes through; one with more does not.
	c := onServer.spender(friendID)
	must(t, ordered["unary"](t.Context(), c, nil))
	stream, err := c.Watch(t.Context(), &pb.WatchRequest{Count: 5})
	must(t, err)
	n := 0
	for _, err = stream.Recv(); err == nil; _, err = stream.Recv() {
		n++
	}
	wantStatus(t, err, codes.Unavailable, "injected fault")
	if n != 2 {
		t.Errorf("%d messages", n)
	}
}

// The answer of a call that has done its work can get lost.
func TestAnAnswerGetsLost(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, "", interceptors.WithFaults(injector(t, fault.Fault{Method: spend, Code: codes.Unavailable, AfterMessages: 1, Share: 1})))
	wantStatus(t, ordered["unary"](t.Context(), w.spender(friendID), nil), codes.Unavailable, "injected fault")
	if n := w.limited.handled.Load(); n != 1 {
		t.Errorf("%d calls came to the handler", n)
	}
	if r := w.records.one(t); r.Received != 1 || r.Sent != 0 {
		t.Errorf("record %+v", r)
	}
}

// Nothing that a caller sends switches a fault on, with the option or without.
func TestCallersCannotAskForFaults(t *testing.T) {
	t.Parallel()
	asking := metadata.AppendToOutgoingContext(t.Context(),
		"x-fault", "abort", "x-envoy-fault-abort-request", "503", "x-envoy-fault-abort-grpc-request", "14", "x-envoy-fault-delay-request", "60000",
		"x-grpcguard-fault", "UNAVAILABLE", "grpcguard-fault", "1", "fault", "1", "x-chaos", "on")
	for name, opts := range map[string][]interceptors.ServerOption{
		"without the option": nil,
		"without faults":     {interceptors.WithFaults(injector(t))},
		"for another caller": {interceptors.WithFaults(injector(t, fault.Fault{Caller: alice, Code: codes.Unavailable, Share: 1}))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, "", opts...)
			c := w.spender(friendID)
			for kind, call := range ordered {
				if err := call(asking, c, nil); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", kind, err)
				}
			}
		})
	}
	w := newWorld(t)
	if _, err := interceptors.NewServer(w.policy, w.workload(serverID), w.records, interceptors.WithFaults(nil)); err == nil || err.Error() != "interceptors: WithFaults: the injector is nil" {
		t.Errorf("got %v", err)
	}
}
