package chain

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/policy"
	"google.golang.org/grpc/tap"
)

// slow is a sink that stands still until it is told to go on.
type slow struct {
	on    chan struct{}
	ended atomic.Int64
}

func (*slow) Name() string { return "slow" }
func (s *slow) End(context.Context, *Call) error {
	<-s.on
	s.ended.Add(1)
	return nil
}

// A flood of calls whose time is over when they come, over a sink that stands still: there are only so many goroutines, and
// each call is recorded or counted. In no way parallel: it counts goroutines.
func TestAFloodOfExpiredCallsIsBoundedAndCounted(t *testing.T) {
	for _, sent := range []int{100, maxEarly + maxBehind/2, 20_000} {
		t.Run(fmt.Sprint(sent), func(t *testing.T) {
			reports := make(chan error, 100)
			sink := &slow{on: make(chan struct{})}
			s := NewServer(&policy.Policy{}, func(err error) { reports <- err }, sink)
			before, met, turned, most := runtime.NumGoroutine(), 0, 0, 0
			for range sent {
				ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
				switch _, err := s.Tap(ctx, &tap.Info{FullMethodName: "/a.B/C"}); err {
				case nil:
					met++
				case errBehind: //nolint:errorlint // The very one.
					turned++
				default:
					t.Fatal(err)
				}
				cancel()
				most = max(most, runtime.NumGoroutine()-before)
			}
			// A goroutine counts once it runs, so how many more there are is up to the scheduler; without a bound it is nearly all.
			if met+turned != sent || most > max(2*maxBehind, sent/2) {
				t.Errorf("%d met and %d turned away of %d; %d goroutines", met, turned, sent, most)
			}
			if over := sent > 2*(maxEarly+maxBehind); over != (turned > 0) {
				t.Errorf("%d turned away of %d", turned, sent)
			}
			if len(reports) > 0 {
				t.Errorf("reported too early: %v", <-reports)
			}
			close(sink.on)
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := int(sink.ended.Load()); n != met {
				t.Errorf("%d records, %d calls were met", n, met)
			}
			if turned > 0 {
				want := fmt.Sprintf("%d calls were turned away without records of their own, since the sink was behind", turned)
				if err := <-reports; err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			}
		})
	}
}

// The same for calls that their callers reset once they have been met, which nothing tells from others at first.
func TestAFloodOfResetCallsIsBounded(t *testing.T) {
	sink := &slow{on: make(chan struct{})}
	s := NewServer(&policy.Policy{}, func(error) {}, sink)
	const sent = 200_000
	met := 0
	for range sent {
		ctx, cancel := context.WithCancel(context.Background())
		if _, err := s.Tap(ctx, &tap.Info{FullMethodName: "/a.B/C"}); err == nil {
			met++
		}
		cancel()
	}
	if waiting := s.behind.waiting.Load(); met > sent/2 || waiting > sent/4 {
		t.Errorf("%d of %d calls were met, and %d wait", met, sent, waiting)
	}
	close(sink.on)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := sink.ended.Load(); int(n) != met {
		t.Errorf("%d records of %d calls", n, met)
	}
}
