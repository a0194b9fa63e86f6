package interceptors_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// countedWorld is a world that counts denials beyond so many a second.
func countedWorld(t *testing.T, alone int) *world {
	t.Helper()
	return newWorld(t, interceptors.Telemetry{Off: true}, interceptors.WithDenialRecords(alone))
}

// closed returns all records once the guard is closed, which writes the last counts.
func (w *world) closed(t *testing.T) []audit.Record {
	t.Helper()
	must(t, w.guard.Close(t.Context()))
	return w.records.all(t, 0)
}

// A flood of refused calls leaves a few records and an exact count, however the calls and their callers look.
func TestDenialsAreCounted(t *testing.T) {
	t.Parallel()
	const calls = 500
	for name, flood := range map[string]func(ctx context.Context, cc *grpc.ClientConn, n int) error{
		"unary": func(ctx context.Context, cc *grpc.ClientConn, _ int) error {
			_, err := pb.NewEchoServiceClient(cc).Unary(ctx, &pb.UnaryRequest{Text: "hello"})
			return err
		},
		"a stream": func(ctx context.Context, cc *grpc.ClientConn, _ int) error {
			s, err := pb.NewEchoServiceClient(cc).Chat(ctx)
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		"another unknown method each time": func(ctx context.Context, cc *grpc.ClientConn, n int) error {
			return cc.Invoke(ctx, fmt.Sprintf("/no.such%d.Service/Method", n), &pb.UnaryRequest{}, &pb.UnaryResponse{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := countedWorld(t, 10)
			cc := w.dial(w.workload("spiffe://example.org/stranger"))
			var wg sync.WaitGroup
			for worker := range 4 {
				wg.Go(func() {
					for n := range calls / 4 {
						if err := flood(t.Context(), cc, worker*calls+n); status.Code(err) != codes.PermissionDenied {
							t.Errorf("got %v", err)
						}
					}
				})
			}
			wg.Wait()
			var alone, counted, sums uint64
			for _, r := range w.closed(t) {
				switch r.Type {
				case audit.TypeCall:
					alone++
				case audit.TypeDenials:
					sums++
					counted += r.Count
					if r.Caller != "spiffe://example.org/stranger" || r.Outcome != audit.OutcomeDenied || r.Code != codes.PermissionDenied || r.Stage == "" || r.Reason == "" ||
						r.Time.IsZero() || r.ID == (audit.ID{}) || r.PolicyHash != w.policy.Hash() || (r.Method == "") != (name == "another unknown method each time") {
						t.Errorf("%+v", r)
					}
				default:
					t.Errorf("%+v", r)
				}
			}
			// A second, and so another ten, can begin at any time.
			if alone+counted != calls || alone < 10 || alone > 10*(sums+1) {
				t.Errorf("%d of their own and %d counted in %d, of %d", alone, counted, sums, calls)
			}
		})
	}
}

// What one caller does says nothing of another, and what is refused for another reason is counted apart.
func TestDenialsOfOthersAreApart(t *testing.T) {
	t.Parallel()
	w := countedWorld(t, 1)
	for range 3 {
		for _, who := range []string{"one", "another"} {
			cc := w.dial(w.workload("spiffe://example.org/" + who))
			_, err := pb.NewEchoServiceClient(cc).Unary(t.Context(), &pb.UnaryRequest{Text: "hello"})
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("got %v", err)
			}
		}
		if _, err := w.as(friendID).Unary(t.Context(), &pb.UnaryRequest{Number: -1}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v", err)
		}
	}
	total := make(map[string]uint64)
	for _, r := range w.closed(t) {
		total[r.Caller+" "+r.Reason] += max(r.Count, 1)
	}
	want := map[string]uint64{
		"spiffe://example.org/one caller-not-listed": 3, "spiffe://example.org/another caller-not-listed": 3, friendID + " invalid-message": 3,
	}
	if fmt.Sprint(total) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", total, want)
	}
}

// A stream that is refused in its middle has a record of its own, however many there are: it says how much was done until then.
func TestWhatReachedAHandlerIsNotCounted(t *testing.T) {
	t.Parallel()
	tooLong := strings.Repeat("x", 21)
	for name, tt := range map[string]struct {
		texts      []string
		alone, sum uint64
	}{
		"at its first message":  {[]string{tooLong}, 1, 4},
		"at its second message": {[]string{"hello", tooLong}, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := countedWorld(t, 1)
			w.echo.chat = func(s grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
				for {
					if _, err := s.Recv(); err != nil {
						return err
					}
				}
			}
			for range 5 {
				s, err := w.as(friendID).Chat(t.Context())
				must(t, err)
				for _, text := range tt.texts {
					must(t, s.Send(&pb.ChatRequest{Text: text}))
				}
				if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument {
					t.Errorf("got %v", err)
				}
			}
			var alone, sum uint64
			for _, r := range w.closed(t) {
				if sum += r.Count; r.Type == audit.TypeCall {
					alone++
				}
			}
			if alone != tt.alone || sum != tt.sum {
				t.Errorf("%d of their own and %d counted, want %d and %d", alone, sum, tt.alone, tt.sum)
			}
		})
	}
}

// Connections that are refused are counted by address: who they say they are is whatever they like.
func TestRefusedHandshakesAreCounted(t *testing.T) {
	t.Parallel()
	const knocks = 60
	w := countedWorld(t, 5)
	for range knocks {
		c, err := tls.DialWithDialer(&net.Dialer{}, "tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		if err == nil {
			t.Error("it was let in")
		}
	}
	must(t, w.guard.Close(t.Context()))
	for n, total := 1, uint64(0); total < knocks; n++ {
		total = 0
		for _, r := range w.records.all(t, n) {
			if r.Event != audit.EventHandshakeRefused || r.Address == "" || r.Outcome != audit.OutcomeDenied {
				t.Fatalf("%+v", r)
			}
			total += max(r.Count, 1)
		}
		if total > knocks {
			t.Fatalf("%d of %d", total, knocks)
		}
		must(t, w.guard.Close(t.Context()))
	}
}

func TestDenialRecordsOfNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n, ok := range map[int]bool{0: false, -1: false, 1: true, math.MaxInt: true} {
		_, err := interceptors.NewServer(w.policy, w.workload(serverID), audit.Discard, interceptors.WithDenialRecords(n))
		if (err == nil) != ok || err != nil && err.Error() != fmt.Sprintf("interceptors: WithDenialRecords: %d is less than 1", n) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// startsAndStops is a sink that keeps the events of guards.
type startsAndStops struct {
	err    error
	events []audit.Record
}

func (s *startsAndStops) Write(_ context.Context, r *audit.Record) error {
	if s.err != nil {
		return s.err
	}
	s.events = append(s.events, *r)
	return nil
}

// A guard says when it is made and when it is closed, once, with its policy; one that cannot say so is not made.
func TestStartAndStopAreRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sink := &startsAndStops{}
	server, err := interceptors.NewServer(w.policy, w.workload(serverID), sink, interceptors.Telemetry{Off: true})
	must(t, err)
	client, err := interceptors.NewClient(w.policy, w.workload(friendID), sink, interceptors.Telemetry{Off: true})
	must(t, err)
	for range 2 {
		client.Close()
		must(t, server.Close(t.Context()))
	}
	var got []string
	for _, r := range sink.events {
		got = append(got, fmt.Sprintf("%s %s %s %s %v", r.Type, r.Event, r.Side, r.Service, r.Subject == w.policy.Hash() && r.Class == audit.Durable && r.PolicyHash == r.Subject))
	}
	wantLines(t, got, []string{
		"event started server " + serverID + " true", "event started client " + friendID + " true",
		"event stopped client " + friendID + " true", "event stopped server " + serverID + " true",
	})
	sink.err = context.DeadlineExceeded
	const want = "interceptors: recording the start: context deadline exceeded"
	if _, err := interceptors.NewServer(w.policy, w.workload(serverID), sink); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := interceptors.NewClient(w.policy, w.workload(friendID), sink); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// The class of a record is its rule's, or else the guard's; of a method that does not exist it is always best effort.
func TestRecordClasses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		class audit.Class
		want  map[string]audit.Class
	}{
		{audit.Durable, map[string]audit.Class{"Pay": audit.Durable, "Balance": audit.BestEffort, "unknown": audit.BestEffort}},
		{audit.BestEffort, map[string]audit.Class{"Pay": audit.Durable, "Balance": audit.BestEffort, "unknown": audit.BestEffort}},
	} {
		r := newRecorder()
		b := newBank(t, r, interceptors.WithRecordClass(tt.class))
		cc := b.dial(b.workload(friendID))
		_, _ = pb.NewTransferServiceClient(cc).Pay(t.Context(), &pb.PayRequest{Transfer: transfer("t1")})
		_, _ = pb.NewTransferServiceClient(cc).Balance(t.Context(), &pb.BalanceRequest{})
		_ = cc.Invoke(t.Context(), "/no.such.Service/unknown", &pb.BalanceRequest{}, &pb.BalanceResponse{})
		must(t, b.guard.Close(t.Context()))
		for _, record := range r.all(t, 4) {
			for method, want := range tt.want {
				if len(record.Method) > len(method) && record.Method[len(record.Method)-len(method):] == method && record.Class != want {
					t.Errorf("guard's class %d: %s has %d", tt.class, record.Method, record.Class)
				}
			}
		}
	}
	w := newWorld(t)
	for class, want := range map[audit.Class]audit.Class{audit.Durable: audit.Durable, audit.BestEffort: audit.BestEffort} {
		r := newRecorder()
		guard, err := interceptors.NewServer(w.policy, w.workload(serverID), r, interceptors.Telemetry{Off: true}, interceptors.WithRecordClass(class))
		must(t, err)
		t.Cleanup(func() { must(t, guard.Close(context.Background())) })
		w.addr = w.serve(guard.ServerOptions()...)
		must(t, calls["unary"](t.Context(), w.as(friendID)))
		if got := r.all(t, 1)[0].Class; got != want {
			t.Errorf("the guard's class is %d, the record's %d", want, got)
		}
	}
	if _, err := interceptors.NewServer(w.policy, w.workload(serverID), audit.Discard, interceptors.WithRecordClass(7)); err == nil || err.Error() != "interceptors: WithRecordClass: there is no class 7" {
		t.Errorf("got %v", err)
	}
}
