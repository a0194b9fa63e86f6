package breaker_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

func TestWrongSettings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		s    breaker.Settings
		want string
	}{
		{breaker.Settings{FailureRatio: -0.1}, "breaker: FailureRatio: -0.1 is not between 0 and 1"},
		{breaker.Settings{FailureRatio: 1.5}, "breaker: FailureRatio: 1.5 is not between 0 and 1"},
		{breaker.Settings{FailureRatio: math.NaN()}, "breaker: FailureRatio: NaN is not between 0 and 1"},
		{breaker.Settings{MinCalls: 1}, "breaker: MinCalls: without a FailureRatio it does nothing"},
		{breaker.Settings{Window: time.Second}, "breaker: Window: without a FailureRatio it does nothing"},
		{breaker.Settings{FailureRatio: 1, Window: -1}, "breaker: Window: -1ns is less than 100ms"},
		{breaker.Settings{FailureRatio: 1, Window: 99 * time.Millisecond}, "breaker: Window: 99ms is less than 100ms"},
		{breaker.Settings{OpenFor: -time.Second}, "breaker: OpenFor: -1s is less than 1ms"},
		{breaker.Settings{OpenFor: 999 * time.Microsecond}, "breaker: OpenFor: 999µs is less than 1ms"},
	}
	for _, tt := range tests {
		if err := tt.s.Validate(); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v, want %s", tt.s, err, tt.want)
		}
		if b, err := breaker.New(tt.s, nil); b != nil || err == nil || err.Error() != tt.want {
			t.Errorf("New(%+v): %v, %v, want %s", tt.s, b, err, tt.want)
		}
	}
	for _, s := range []breaker.Settings{{}, {FailureRatio: 1, MinCalls: 1, Window: 100 * time.Millisecond, OpenFor: time.Millisecond}} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[breaker.State]string{breaker.Closed: "closed", breaker.HalfOpen: "half-open", breaker.Open: "open", 7: "unknown"} {
		if s.String() != want {
			t.Errorf("%d: %q, want %q", s, s.String(), want)
		}
	}
	err := &breaker.OpenError{State: breaker.HalfOpen, RetryAfter: time.Second}
	if want := "breaker: the circuit is half-open, try again in 1s"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

// run does what a script says to a breaker and returns a log of what came of it. Words of the script:
//
//	ok, fail, ignore     a call that is let through and ends so at once
//	begin:x, x:ok        a call that is let through, and its end
//	refused:open:29s     a call that is refused, by which state and for how long
//	wait:30s             time passes
//	state, trip
func run(t *testing.T, s breaker.Settings, script string) (log []string) {
	t.Helper()
	start := time.Now()
	b, err := breaker.New(s, func(c breaker.Change) {
		line := fmt.Sprintf("%v %v>%v", c.Time.Sub(start), c.From, c.To)
		if c.To == breaker.Open {
			line += fmt.Sprintf(" for %v", c.OpenFor)
		}
		if c.Remote {
			line += " remote"
		}
		log = append(log, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]breaker.Outcome{"ok": breaker.Success, "fail": breaker.Failure, "ignore": breaker.Ignored, "odd": 77}
	open := make(map[string]*breaker.Ticket)
	begin := func(i int, word string) *breaker.Ticket {
		ticket, err := b.Allow()
		if err != nil {
			t.Fatalf("word %d, %s: %v", i, word, err)
		}
		return &ticket
	}
	for i, word := range strings.Fields(script) {
		verb, rest, _ := strings.Cut(word, ":")
		switch {
		case verb == "begin":
			open[rest] = begin(i, word)
		case verb == "refused":
			_, err := b.Allow()
			var refused *breaker.OpenError
			if !errors.As(err, &refused) {
				t.Fatalf("word %d, %s: %v", i, word, err)
			}
			if got := fmt.Sprintf("%v:%v", refused.State, refused.RetryAfter); got != rest {
				t.Errorf("word %d, %s: refused:%s", i, word, got)
			}
		case verb == "wait":
			d, err := time.ParseDuration(rest)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		case verb == "trip":
			b.Trip()
		case verb == "state":
			if got := b.State().String(); got != rest {
				t.Errorf("word %d, %s: %s", i, word, got)
			}
		case open[verb] != nil:
			open[verb].Done(outcomes[rest])
		default:
			begin(i, word).Done(outcomes[word])
		}
	}
	return log
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	three := breaker.Settings{ConsecutiveFailures: 3, OpenFor: 10 * time.Second}
	probes := breaker.Settings{ConsecutiveFailures: 1, OpenFor: 10 * time.Second, HalfOpenProbes: 2}
	ratio := breaker.Settings{ConsecutiveFailures: 100, FailureRatio: 0.5, MinCalls: 4, Window: 10 * time.Second, OpenFor: 10 * time.Second}
	const opened, halfOpened, closed = "0s closed>open for 10s", "10s open>half-open", "10s half-open>closed"
	tests := []struct {
		name   string
		s      breaker.Settings
		script string
		want   []string
	}{
		{"nothing happens", three, "ok fail fail ok fail fail state:closed", nil},
		{"the defaults", breaker.Settings{}, "fail fail fail fail state:closed fail refused:open:30s wait:29s refused:open:1s wait:999ms refused:open:1ms wait:1ms begin:x refused:half-open:1s x:ok state:closed", []string{"0s closed>open for 30s", "30s open>half-open", "30s half-open>closed"}},
		{"three in a row", three, "fail fail fail refused:open:10s", []string{opened}},
		{"years apart", three, "fail wait:9000h fail wait:9000h fail state:open", []string{"18000h0m0s closed>open for 10s"}},
		{"a success between", three, "fail fail ok fail fail state:closed fail state:open", []string{opened}},
		{"ignored ones between", three, "fail ignore fail ignore odd fail state:open", []string{opened}},
		{"ignored alone", three, "ignore ignore ignore ignore state:closed", nil},
		{"an odd outcome is ignored", three, "odd odd odd odd state:closed", nil},
		{"done twice counts once", three, "begin:x x:fail x:fail x:fail x:fail state:closed", nil},
		{"the first counts", three, "fail fail begin:x x:ok x:fail state:closed fail fail state:closed", nil},
		{"it ends when it ends", three, "begin:x fail x:ok fail fail state:closed fail state:open", []string{opened}},
		{"the clock alone changes nothing", three, "fail fail fail wait:1h", []string{opened}},
		{"asking half-opens", three, "fail fail fail wait:10s state:half-open", []string{opened, halfOpened}},
		{"a probe closes", three, "fail fail fail wait:10s ok state:closed fail fail state:closed", []string{opened, halfOpened, closed}},
		{"a probe opens", three, "fail fail fail wait:10s fail refused:open:10s", []string{opened, halfOpened, "10s half-open>open for 10s"}},
		{"a probe says nothing", three, "fail fail fail wait:10s ignore state:half-open ok state:closed", []string{opened, halfOpened, closed}},
		{"what began before it opened", three, "begin:x begin:y fail fail fail x:ok y:fail refused:open:10s", []string{opened}},
		{"what began before it opened is no probe", three, "begin:x begin:y begin:z fail fail fail wait:10s state:half-open x:ok y:fail z:ignore state:half-open begin:p refused:half-open:1s", []string{opened, halfOpened}},
		{"what began before it opened, closed again", three, "begin:x begin:y begin:z fail fail fail wait:10s ok x:fail y:fail z:fail state:closed", []string{opened, halfOpened, closed}},
		{"two probes, both needed", probes, "fail wait:10s begin:x begin:y refused:half-open:1s x:ok refused:half-open:1s y:ok state:closed", []string{opened, halfOpened, closed}},
		{"two probes, one after the other", probes, "fail wait:10s ok state:half-open begin:y refused:half-open:1s y:ok state:closed", []string{opened, halfOpened, closed}},
		{"two probes, one fails", probes, "fail wait:10s begin:x begin:y x:ok y:fail refused:open:10s", []string{opened, halfOpened, "10s half-open>open for 10s"}},
		{"two probes, the other comes late", probes, "fail wait:10s begin:x begin:y y:fail x:ok refused:open:10s wait:10s state:half-open x:ok state:half-open", []string{opened, halfOpened, "10s half-open>open for 10s", "20s open>half-open"}},
		{"an ignored probe frees its place", probes, "fail wait:10s begin:x begin:y refused:half-open:1s y:ignore begin:z refused:half-open:1s x:ok z:ok state:closed", []string{opened, halfOpened, closed}},
		{"a probe done twice frees one place", probes, "fail wait:10s begin:x begin:y x:ignore x:ignore x:ok begin:z refused:half-open:1s", []string{opened, halfOpened}},
		{"a probe hangs", three, "fail fail fail wait:10s begin:x wait:9999ms refused:half-open:1s wait:1ms begin:y refused:half-open:1s x:fail refused:half-open:1s y:ok state:closed x:fail state:closed", []string{opened, halfOpened, "20s half-open>closed"}},
		{"a probe ends too late, nobody else called", three, "fail fail fail wait:10s begin:x wait:10s x:ok state:half-open ok state:closed", []string{opened, halfOpened, "20s half-open>closed"}},
		{"a probe ends just in time", three, "fail fail fail wait:10s begin:x wait:9999ms x:ok state:closed", []string{opened, halfOpened, "19.999s half-open>closed"}},
		{"a short OpenFor is a short wait for probes", breaker.Settings{ConsecutiveFailures: 1, OpenFor: 20 * time.Millisecond}, "fail refused:open:20ms wait:20ms begin:x refused:half-open:20ms x:fail refused:open:20ms", []string{"0s closed>open for 20ms", "20ms open>half-open", "20ms half-open>open for 20ms"}},
		{"tripped", three, "trip refused:open:10s wait:10s ok", []string{"0s closed>open for 10s remote", halfOpened, closed}},
		{"tripped while open", three, "fail fail fail wait:9s trip refused:open:1s", []string{opened}},
		{"tripped when it was to half-open", three, "fail fail fail wait:10s trip refused:open:10s", []string{opened, halfOpened, "10s half-open>open for 10s remote"}},
		{"tripped while a probe is out", three, "fail fail fail wait:10s begin:x trip refused:open:10s x:ok refused:open:10s", []string{opened, halfOpened, "10s half-open>open for 10s remote"}},
		{"tripped after one of two probes", probes, "fail wait:10s ok trip refused:open:10s", []string{opened, halfOpened, "10s half-open>open for 10s remote"}},
		{"tripped once, it opens by itself the next time", three, "trip wait:10s ok fail fail fail", []string{"0s closed>open for 10s remote", halfOpened, closed, "10s closed>open for 10s"}},
		{"half of four", ratio, "ok ok fail state:closed fail state:open", []string{opened}},
		{"half, at a failure", ratio, "fail fail ok ok state:closed fail state:open", []string{opened}},
		{"less than half", ratio, "ok ok ok ok fail fail fail state:closed", nil},
		{"too few calls", ratio, "fail fail fail state:closed wait:10s fail fail fail state:closed", nil},
		{"ignored calls are no calls", ratio, "fail fail fail ignore ignore ignore state:closed fail state:open", []string{opened}},
		{"old successes leave the window", ratio, "ok ok ok ok ok ok ok ok wait:10s fail fail fail state:closed fail state:open", []string{"10s closed>open for 10s"}},
		{"it moves in tenths", ratio, "ok ok wait:9s fail state:closed fail state:open", []string{"9s closed>open for 10s"}},
		{"in a row, within the window", breaker.Settings{ConsecutiveFailures: 3, FailureRatio: 1, MinCalls: 1000, OpenFor: 10 * time.Second}, "fail fail wait:10s fail fail state:closed fail state:open", []string{"10s closed>open for 10s"}},
		{"a ratio of all", breaker.Settings{ConsecutiveFailures: 100, FailureRatio: 1, MinCalls: 2, OpenFor: 10 * time.Second}, "ok fail fail fail fail state:closed wait:10s fail fail state:open", []string{"10s closed>open for 10s"}},
		{"a probe closes, the window is empty", ratio, "fail fail fail fail wait:10s ok fail fail fail state:closed fail state:open", []string{opened, halfOpened, closed, "10s closed>open for 10s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := run(t, tt.s, tt.script); !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			})
		})
	}
}

func TestTheZeroTicketDoesNothing(t *testing.T) {
	t.Parallel()
	var ticket breaker.Ticket
	ticket.Done(breaker.Failure)
}

// fails makes a call that fails.
func fails(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	ticket, err := b.Allow()
	if err != nil {
		t.Error(err)
	}
	ticket.Done(breaker.Failure)
}

// Two goroutines end the same call: it is counted once.
func TestDoneByTwoCountsOnce(t *testing.T) {
	t.Parallel()
	for range 500 {
		b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 2}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ticket, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { ticket.Done(breaker.Failure) })
		}
		wg.Wait()
		if s := b.State(); s != breaker.Closed {
			t.Fatal(s)
		}
	}
}

// However many call at once, a half-open breaker has no more probes out than it should, and closes after as many successes.
func TestHalfOpenBounds(t *testing.T) {
	t.Parallel()
	for _, probes := range []uint32{1, 3} {
		t.Run(fmt.Sprint(probes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const openFor, rounds = time.Second, 100
				b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: openFor, HalfOpenProbes: probes}, nil)
				if err != nil {
					t.Fatal(err)
				}
				for round := range rounds {
					b.Trip()
					time.Sleep(openFor)
					var mu sync.Mutex
					var out []*breaker.Ticket
					var wg sync.WaitGroup
					for range 16 {
						wg.Go(func() {
							for range 20 {
								if ticket, err := b.Allow(); err == nil {
									mu.Lock()
									out = append(out, &ticket)
									mu.Unlock()
								}
								runtime.Gosched()
							}
						})
					}
					wg.Wait()
					if len(out) != int(probes) || b.State() != breaker.HalfOpen {
						t.Fatalf("round %d: %d probes out, want %d; %v", round, len(out), probes, b.State())
					}
					for _, ticket := range out {
						wg.Go(func() { ticket.Done(breaker.Success) })
					}
					wg.Wait()
					if s := b.State(); s != breaker.Closed {
						t.Fatalf("round %d: %v after %d probes went well", round, s, probes)
					}
				}
			})
		})
	}
}

// Many calls, begun and ended and given up by many goroutines while others trip and ask: changes follow from one another and are
// told one at a time.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	var told []breaker.Change
	var telling atomic.Int32
	b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 2, OpenFor: time.Millisecond, HalfOpenProbes: 2}, func(c breaker.Change) {
		if telling.Add(1) != 1 {
			t.Error("two changes are told at once")
		}
		told = append(told, c)
		runtime.Gosched()
		telling.Add(-1)
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	end := time.Now().Add(300 * time.Millisecond)
	for g := range 8 {
		wg.Go(func() {
			for i := g; time.Now().Before(end); i++ {
				ticket, err := b.Allow()
				if err != nil {
					var refused *breaker.OpenError
					if !errors.As(err, &refused) || refused.RetryAfter <= 0 || refused.RetryAfter > time.Millisecond {
						t.Errorf("refused: %v", err)
					}
					continue
				}
				ticket.Done(breaker.Outcome(i % 3))
				if i%1000 == 0 {
					b.Trip()
				}
			}
		})
	}
	wg.Wait()
	if len(told) < 10 {
		t.Errorf("%d changes: the test tests nothing", len(told))
	}
	from := breaker.Closed
	for i, c := range told {
		if c.From != from || c.To == from {
			t.Fatalf("change %d is %v to %v after %v", i, c.From, c.To, from)
		}
		if i > 0 && c.Time.Before(told[i-1].Time) {
			t.Fatalf("change %d was before change %d", i, i-1)
		}
		from = c.To
	}
	if s := b.State(); len(told) > 0 && s != told[len(told)-1].To {
		t.Errorf("the state is %v, told was %v", s, told[len(told)-1].To)
	}
}

// Who is told of a change may use the breaker, and what changes by that is told afterwards.
func TestCallbackCallsIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var told []string
		depth := 0
		onChange := func(c breaker.Change) {
			if depth++; depth > 1 {
				t.Error("a callback in a callback")
			}
			told = append(told, fmt.Sprintf("%v>%v, now %v", c.From, c.To, b.State()))
			switch c.To {
			case breaker.Open:
				if _, err := b.Allow(); err == nil {
					t.Error("a call is let through")
				}
				time.Sleep(time.Minute)
				ticket, err := b.Allow() // half-open from here
				if err != nil {
					t.Error(err)
				}
				ticket.Done(breaker.Success)
			case breaker.HalfOpen:
			case breaker.Closed:
				if len(told) < 9 {
					b.Trip()
				}
			}
			depth--
		}
		b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: time.Minute}, func(c breaker.Change) { onChange(c) })
		if err != nil {
			t.Fatal(err)
		}
		fails(t, b)
		want := []string{"closed>open, now open", "open>half-open, now closed", "half-open>closed, now closed"}
		want = append(want, append(want, want...)...)
		if !slices.Equal(told, want) {
			t.Errorf("got  %q\nwant %q", told, want)
		}
	})
}

// A change that happens while another is told is told by who tells, not by who made it, who is not held up.
func TestSlowCallbackHoldsUpOnlyOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: time.Second}, func(c breaker.Change) {
			told = append(told, c.To.String())
			time.Sleep(time.Hour)
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { fails(t, b) })
		time.Sleep(time.Second)
		ticket, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		ticket.Done(breaker.Success)
		if s, took := b.State(), time.Since(start); s != breaker.Closed || took != time.Second {
			t.Errorf("%v after %v", s, took)
		}
		wg.Wait()
		if want := []string{"open", "half-open", "closed"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// A callback that panics takes its call with it and nothing else: the breaker works, and the other changes are told.
func TestCallbackPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var told []string
		b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: time.Minute}, func(c breaker.Change) {
			told = append(told, c.To.String())
			switch c.To {
			case breaker.Open: // Two more changes wait when this one panics.
				time.Sleep(time.Minute)
				ticket, err := b.Allow()
				if err != nil {
					t.Error(err)
				}
				ticket.Done(breaker.Success)
				panic("the callback of open")
			case breaker.HalfOpen:
				panic("the callback of half-open")
			case breaker.Closed:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			told = nil
			ticket, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			func() {
				defer func() {
					if p := recover(); p != "the callback of half-open" {
						t.Errorf("recovered %v", p)
					}
				}()
				ticket.Done(breaker.Failure)
				t.Error("the panic is gone")
			}()
			if want := []string{"open", "half-open", "closed"}; !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
			if s := b.State(); s != breaker.Closed {
				t.Errorf("the state is %v", s)
			}
		}
	})
}

// So does one that ends its goroutine, as a test's FailNow does.
func TestCallbackEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: time.Minute}, func(c breaker.Change) {
			told = append(told, c.To.String())
			runtime.Goexit()
		})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { fails(t, b) })
		wg.Wait()
		time.Sleep(time.Minute)
		wg.Go(func() { b.State() })
		wg.Wait()
		if want := []string{"open", "half-open"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestAllocations(t *testing.T) {
	for name, s := range map[string]breaker.Settings{"in a row": {}, "ratio": {FailureRatio: 0.5}} {
		b, err := breaker.New(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []breaker.Outcome{breaker.Success, breaker.Ignored, breaker.Failure} {
			n := testing.AllocsPerRun(1000, func() {
				ticket, err := b.Allow()
				if err != nil {
					return
				}
				ticket.Done(o)
			})
			if want := 0.0; o != breaker.Failure && n != want || n > 1 {
				t.Errorf("%s, outcome %d: %v allocations", name, o, n)
			}
		}
	}
}
