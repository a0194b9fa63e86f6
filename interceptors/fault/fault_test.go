package fault_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/fault"
)

const (
	transfer = "/bank.v1.Ledger/Transfer"
	balance  = "/bank.v1.Ledger/Balance"
	teller   = "spiffe://bank.test/teller"
)

func TestWrongFaults(t *testing.T) {
	t.Parallel()
	good := fault.Fault{Share: 1, Code: codes.Unavailable}
	tests := []struct {
		name string
		f    fault.Fault
		want string
	}{
		{"no share", fault.Fault{Code: codes.Internal}, "fault: faults[1].Share: 0 happens to no call; say 1 for all calls"},
		{"a negative share", fault.Fault{Share: -0.5, Code: codes.Internal}, "fault: faults[1].Share: -0.5 is not between 0 and 1"},
		{"more than all", fault.Fault{Share: 1.1, Code: codes.Internal}, "fault: faults[1].Share: 1.1 is not between 0 and 1"},
		{"no number", fault.Fault{Share: math.NaN(), Code: codes.Internal}, "fault: faults[1].Share: NaN is not between 0 and 1"},
		{"a negative delay", fault.Fault{Share: 1, Delay: -time.Second}, "fault: faults[1].Delay: -1s is negative"},
		{"an unknown code", fault.Fault{Share: 1, Code: 17}, "fault: faults[1].Code: there is no code 17"},
		{"ended with OK", fault.Fault{Share: 1, Delay: 1, AfterMessages: 3}, "fault: faults[1].Code: a call that is ended after some messages needs a code other than OK"},
		{"nothing", fault.Fault{Share: 1}, "fault: faults[1].Code: OK without a delay is no fault"},
		{"no slash", fault.Fault{Share: 1, Delay: 1, Method: "bank.v1.Ledger/Transfer"}, `fault: faults[1].Method: "bank.v1.Ledger/Transfer" is not a full method, such as /bank.v1.Ledger/Transfer`},
		{"a service", fault.Fault{Share: 1, Delay: 1, Method: "/bank.v1.Ledger"}, `fault: faults[1].Method: "/bank.v1.Ledger" is not a full method, such as /bank.v1.Ledger/Transfer`},
		{"no method", fault.Fault{Share: 1, Delay: 1, Method: "/bank.v1.Ledger/"}, `fault: faults[1].Method: "/bank.v1.Ledger/" is not a full method, such as /bank.v1.Ledger/Transfer`},
		{"too many slashes", fault.Fault{Share: 1, Delay: 1, Method: "/a/b/c"}, `fault: faults[1].Method: "/a/b/c" is not a full method, such as /bank.v1.Ledger/Transfer`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err, want := tt.f.Validate(), strings.Replace(tt.want, "faults[1].", "", 1); err == nil || err.Error() != want {
				t.Errorf("Validate: %v, want %s", err, want)
			}
			if i, err := fault.New(good, tt.f); i != nil || err == nil || err.Error() != tt.want {
				t.Errorf("New: %v, %v, want %s", i, err, tt.want)
			}
			i, err := fault.New(good)
			if err != nil {
				t.Fatal(err)
			}
			if err := i.Set(good, tt.f); err == nil || err.Error() != tt.want {
				t.Errorf("Set: %v, want %s", err, tt.want)
			}
			if f, ok := i.Pick(transfer, teller); !ok || f != good {
				t.Errorf("what was set before is gone: %v, %v", f, ok)
			}
		})
	}
	if _, err := fault.NewWithRand(nil); err == nil || err.Error() != "fault: there are no dice" {
		t.Errorf("no dice: %v", err)
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	var (
		mine   = fault.Fault{Method: transfer, Caller: teller, Share: 0.5, Code: codes.Internal}
		method = fault.Fault{Method: transfer, Share: 0.3, Code: codes.Unavailable}
		any1   = fault.Fault{Share: 1, Delay: time.Second}
	)
	tests := []struct {
		name           string
		method, caller string
		dice           []float64
		want           fault.Fault
	}{
		{"the first", transfer, teller, []float64{0.49}, mine},
		{"its dice miss by nothing", transfer, teller, []float64{0.5, 0.2}, method},
		{"both miss", transfer, teller, []float64{0.9, 0.3, 0.99}, any1},
		{"another caller", transfer, "spiffe://bank.test/audit", []float64{0.1}, method},
		{"another caller whose name begins alike", transfer, teller + "2", []float64{0.1}, method},
		{"another method", balance, teller, []float64{0.999}, any1},
		{"nobody", balance, "", []float64{0}, any1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rolled := 0
			i, err := fault.NewWithRand(func() float64 { rolled++; return tt.dice[rolled-1] }, mine, method, any1)
			if err != nil {
				t.Fatal(err)
			}
			if f, ok := i.Pick(tt.method, tt.caller); !ok || f != tt.want {
				t.Errorf("got %+v, %v, want %+v", f, ok, tt.want)
			}
			if rolled != len(tt.dice) {
				t.Errorf("the dice were rolled %d times, want %d", rolled, len(tt.dice))
			}
		})
	}
}

func TestNoFaults(t *testing.T) {
	t.Parallel()
	i, err := fault.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []*fault.Injector{nil, i} {
		if f, ok := i.Pick(transfer, teller); ok {
			t.Errorf("picked %+v", f)
		}
	}
}

func TestAllocations(t *testing.T) {
	none, err := fault.New()
	if err != nil {
		t.Fatal(err)
	}
	some, err := fault.New(fault.Fault{Method: balance, Share: 1, Code: codes.Internal}, fault.Fault{Share: 0.5, Code: codes.Internal})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []*fault.Injector{nil, none, some} {
		if n := testing.AllocsPerRun(100, func() { i.Pick(transfer, teller) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

func BenchmarkPickOfNone(b *testing.B) {
	i, err := fault.New()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		i.Pick(transfer, teller)
	}
}

// What is given is copied: who reuses the slice changes nothing.
func TestSetCopies(t *testing.T) {
	t.Parallel()
	faults := []fault.Fault{{Share: 1, Code: codes.Internal}}
	i, err := fault.New(faults...)
	if err != nil {
		t.Fatal(err)
	}
	faults[0].Code = codes.OK
	if f, _ := i.Pick(transfer, teller); f.Code != codes.Internal {
		t.Errorf("picked %+v", f)
	}
}

// A share is met, within five standard deviations.
func TestShare(t *testing.T) {
	t.Parallel()
	const share, calls = 0.3, 100_000
	i, err := fault.New(fault.Fault{Share: share, Code: codes.Internal})
	if err != nil {
		t.Fatal(err)
	}
	hit := 0
	for range calls {
		if _, ok := i.Pick(transfer, teller); ok {
			hit++
		}
	}
	if off := math.Abs(float64(hit) - share*calls); off > 5*math.Sqrt(calls*share*(1-share)) {
		t.Errorf("%d of %d calls", hit, calls)
	}
}

// A call meets the faults from before a Set or those from after it, never some of each.
func TestSetWhileCallsRun(t *testing.T) {
	t.Parallel()
	i, err := fault.New()
	if err != nil {
		t.Fatal(err)
	}
	a := []fault.Fault{{Method: transfer, Share: 1, Code: codes.Internal}, {Share: 1, Code: codes.Internal}}
	b := []fault.Fault{{Method: balance, Share: 1, Code: codes.Unavailable}, {Share: 1, Code: codes.Unavailable}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f, ok := i.Pick(transfer, teller)
				switch {
				case !ok && f == fault.Fault{}, ok && f == a[0], ok && f == b[1]:
				default:
					t.Errorf("picked %+v, %v", f, ok)
					return
				}
			}
		})
	}
	for range 2000 {
		for _, faults := range [][]fault.Fault{a, b, nil} {
			if err := i.Set(faults...); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestWait(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		delay time.Duration
		ends  time.Duration // of the context; 0: at once, negative: never
		took  time.Duration
		want  error
	}{
		{"no delay", 0, -1, 0, nil},
		{"no delay, no context", 0, 0, 0, context.Canceled},
		{"waits", time.Hour, -1, time.Hour, nil},
		{"ends with its context", time.Hour, time.Minute, time.Minute, context.Canceled},
		{"a context that has ended", time.Hour, 0, 0, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch {
				case tt.ends == 0:
					cancel()
				case tt.ends > 0:
					time.AfterFunc(tt.ends, cancel)
				}
				start := time.Now()
				err := fault.Fault{Delay: tt.delay}.Wait(ctx)
				if took := time.Since(start); !errors.Is(err, tt.want) || took != tt.took {
					t.Errorf("%v after %v, want %v after %v", err, took, tt.want, tt.took)
				}
			})
		})
	}
}
