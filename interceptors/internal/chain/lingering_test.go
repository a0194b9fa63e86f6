package chain

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/policy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// due is a context with a deadline that no clock knows of.
type due struct {
	context.Context

	at time.Time
}

func (d due) Deadline() (time.Time, bool) { return d.at, !d.at.IsZero() }

// fill lets n timers of left in, and says how many it let in.
func (l *lingering) fill(now time.Time, left time.Duration, n int) (admitted int) {
	for range n {
		if l.admits(due{context.Background(), now.Add(left)}, now) {
			admitted++
		}
	}
	return admitted
}

func TestDeadlinesThatAreNearAreNotCounted(t *testing.T) {
	t.Parallel()
	l := &lingering{}
	now := time.Unix(1_000_000_020, 0)
	if !l.admits(due{Context: context.Background()}, now) {
		t.Error("a call without a deadline is not let in")
	}
	for _, left := range []time.Duration{-time.Hour, 0, 1, lingersAtMost} {
		if got := l.fill(now, left, 2*maxLingering); got != 2*maxLingering {
			t.Errorf("%v: %d of %d", left, got, 2*maxLingering)
		}
	}
	if l.total != 0 {
		t.Errorf("%d are counted", l.total)
	}
}

func TestTimersAreCountedUntilTheyFire(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		left       time.Duration
		full, free time.Duration // how long after the start there is no room yet, and is again; free 0: never
	}{
		{"just beyond what is not counted", lingersAtMost + 1, time.Second, 2 * time.Minute},
		{"a minute", time.Minute, time.Minute, 3 * time.Minute},
		{"ten minutes", 10 * time.Minute, 10 * time.Minute, 12 * time.Minute},
		{"the last that have a minute of their own", 59*time.Minute - 1, 59*time.Minute - 1, 60*time.Minute + 59*time.Second},
		{"an hour", time.Hour, 1000 * time.Hour, 0},
		{"a thousand years", 1 << 62, 1000 * time.Hour, 0},
	}
	// The slots are those of a clock's minutes: any second of a minute, and any minute of the hour, may be the first.
	for _, start := range []int64{0, 59, 60 * 59, 60*60 - 1, 1_000_000_019, 1_000_000_020, 1_800_000_000 + 47*60 + 59} {
		for _, tt := range tests {
			// All but ten are somebody's who is here for good.
			const room = 10
			l, now := &lingering{total: maxLingering - room}, time.Unix(start, 0)
			l.ends[60] = l.total
			if got := l.fill(now, tt.left, 2*room); got != room {
				t.Errorf("%s from %d: %d let in, want %d", tt.name, start, got, room)
			}
			if got := l.fill(now.Add(tt.full), tt.left, 1); got != 0 {
				t.Errorf("%s from %d: room again after %v", tt.name, start, tt.full)
			}
			if tt.free == 0 {
				continue
			}
			if got := l.fill(now.Add(tt.free), tt.left, 2*room); got != room {
				t.Errorf("%s from %d: room for %d after %v, want %d", tt.name, start, got, tt.free, room)
			}
		}
	}
}

// Against a plain model: never is a timer forgotten that has not fired, and each is a minute and a bit after it has.
func TestTimersAroundTheClock(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{7 * time.Second, 61 * time.Second, 13 * time.Minute, 59 * time.Minute, 60 * time.Minute, 61 * time.Minute, 25 * time.Hour} {
		l, now := &lingering{}, time.Unix(1_000_000_000, 0)
		var ends []time.Time
		for i := range 500 {
			left := time.Duration(31+(i*977)%3500) * time.Second // at most 58 minutes and 51 seconds
			if !l.admits(due{context.Background(), now.Add(left)}, now) {
				t.Fatalf("step %v: no room after %d", step, i)
			}
			ends = append(ends, now.Add(left))
			least, most := 0, 0
			for _, end := range ends {
				if end.After(now) {
					least++
				}
				if end.Add(2 * time.Minute).After(now) {
					most++
				}
			}
			if l.total < least || l.total > most {
				t.Fatalf("step %v, call %d: %d counted, want %d to %d", step, i, l.total, least, most)
			}
			now = now.Add(step)
		}
	}
}

func TestAClockThatGoesBackForgetsNothing(t *testing.T) {
	t.Parallel()
	l, now := &lingering{}, time.Unix(1_000_000_020, 0)
	l.fill(now, 10*time.Minute, maxLingering)
	for _, back := range []time.Duration{time.Minute, time.Hour, 1000 * time.Hour} {
		if l.fill(now.Add(-back), 10*time.Minute, 1) != 0 {
			t.Errorf("room after the clock went back by %v", back)
		}
	}
	if got := l.fill(now.Add(12*time.Minute), time.Minute, 10); got != 10 {
		t.Errorf("%d of 10 let in when the timers have fired", got)
	}
}

// refuser is a stage that lets nobody in, and keeps how calls ended.
type refuser struct {
	mu    sync.Mutex
	ended []Result
	next  chan Result
}

var errNobody = Refuse(codes.PermissionDenied, "permission denied", "nobody")

func (*refuser) Name() string         { return "refuser" }
func (*refuser) Admit(*Call) *Refusal { return errNobody }
func (r *refuser) End(_ context.Context, c *Call) error {
	r.mu.Lock()
	r.ended = append(r.ended, c.Result)
	r.mu.Unlock()
	r.next <- c.Result
	return nil
}

// served is a server behind a chain of stages, without identities.
func served(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	srv := grpc.NewServer(grpc.InTapHandle(s.Tap), grpc.UnaryInterceptor(s.Unary), grpc.StreamInterceptor(s.Stream))
	healthv1.RegisterHealthServer(srv, healthv1.UnimplementedHealthServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	cc, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
		srv.Stop()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return cc
}

// When the timers' budget is used up, a refused call goes to the interceptor, and ends there or after a second.
func TestRefusedCallsEndWhenTheBudgetIsUsedUp(t *testing.T) {
	t.Parallel()
	const check, watch = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
	tests := []struct {
		name, method string
		message      bool
		full         bool
		atOnce       bool
	}{
		{"room, no message", check, false, false, true},
		{"room, a stream", watch, false, false, true},
		{"no room, a message", check, true, true, true},
		{"no room, no message", check, false, true, false},
		{"no room, a stream with a message", watch, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stage := &refuser{next: make(chan Result, 10)}
			s := NewServer(&policy.Policy{}, func(err error) { t.Error(err) }, stage)
			if tt.full {
				s.lingering.minute, s.lingering.total, s.lingering.ends[60] = time.Now().Unix()/60, maxLingering, maxLingering
			}
			cc := served(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			begin := time.Now()
			stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, tt.method)
			if err != nil {
				t.Fatal(err)
			}
			if tt.message {
				_ = stream.SendMsg(&healthv1.HealthCheckRequest{})
				_ = stream.CloseSend()
			}
			got := make(chan error, 1)
			go func() { got <- stream.RecvMsg(&healthv1.HealthCheckResponse{}) }()
			select {
			case err = <-got:
			case <-time.After(10 * time.Second):
				cancel()
				t.Fatalf("the call is open after 10 s: %v", <-got)
			}
			took := time.Since(begin)
			if tt.atOnce {
				if s := status.Convert(err); s.Code() != codes.PermissionDenied || s.Message() != "permission denied" {
					t.Errorf("got %v", err)
				}
			} else if took < refusedWaits || took > refusedWaits+5*time.Second || err == nil {
				t.Errorf("ended after %v with %v", took, err)
			}
			r := <-stage.next
			if r.Outcome != audit.OutcomeDenied || r.Stage != "refuser" || r.Reason != "nobody" {
				t.Errorf("%+v", r)
			}
		})
	}
}
