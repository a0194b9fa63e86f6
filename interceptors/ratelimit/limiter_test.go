package ratelimit_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

const day = 24 * time.Hour

func newLimiter(t *testing.T, limit ratelimit.Limit, opts ...ratelimit.Option) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.New(limit, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func key(s string) ratelimit.Key { return ratelimit.Key(nil).Text(s) }

// step is a Take, or, if returned, a Return.
type step struct {
	after    time.Duration // the start
	cost     uint64
	want     ratelimit.Result
	returned bool
}

var allowed = ratelimit.Result{Allowed: true}

func refused(wait time.Duration) ratelimit.Result { return ratelimit.Result{RetryAfter: wait} }

func TestTake(t *testing.T) {
	t.Parallel()
	euros := ratelimit.Limit{Permits: 100_000_000, Per: day} // in cents
	tests := map[string]struct {
		limit ratelimit.Limit
		steps []step
	}{
		"thirds of a day's money and the cent that is left": {euros, []step{
			{cost: 33_333_333, want: allowed}, {cost: 33_333_333, want: allowed}, {cost: 33_333_333, want: allowed},
			{cost: 2, want: refused(864_000)}, {cost: 1, want: allowed}, {cost: 1, want: refused(864_000)},
		}},
		"70,000 in odd pieces": {ratelimit.Limit{Permits: 70_000, Per: day}, []step{
			{cost: 12_345, want: allowed}, {cost: 57_654, want: allowed}, {cost: 1, want: allowed}, {cost: 1, want: refused(1_234_285_715)},
		}},
		"more than the burst never": {euros, []step{
			{cost: 100_000_001, want: refused(ratelimit.Never)}, {cost: math.MaxUint64, want: refused(ratelimit.Never)},
			{cost: 1 << 63, want: refused(ratelimit.Never)}, {cost: 100_000_000, want: allowed},
		}},
		"nothing is always allowed": {euros, []step{
			{want: allowed}, {cost: 100_000_000, want: allowed}, {want: allowed}, {cost: 1, want: refused(864_000)}, {after: -time.Hour, want: allowed},
		}},
		"permits come back one by one": {ratelimit.Limit{Permits: 10, Per: time.Minute}, []step{
			{cost: 10, want: allowed},
			{after: 6*time.Second - 2, cost: 1, want: refused(2)},
			{after: 6*time.Second + 2, cost: 1, want: allowed},
			{after: 6*time.Second + 2, cost: 2, want: refused(12*time.Second - 2)},
			{after: 18*time.Second + 2, cost: 2, want: allowed},
			{after: 17 * time.Hour, cost: 10, want: allowed},
			{after: 17 * time.Hour, cost: 1, want: refused(6 * time.Second)},
		}},
		"a burst smaller than the period's permits": {ratelimit.Limit{Permits: 3600, Per: time.Hour, Burst: 2}, []step{
			{cost: 3, want: refused(ratelimit.Never)}, {cost: 2, want: allowed}, {cost: 1, want: refused(time.Second)},
			{after: time.Second + 2, cost: 1, want: allowed}, {after: time.Second + 2, cost: 2, want: refused(2*time.Second - 2)},
		}},
		"a burst larger than them": {ratelimit.Limit{Permits: 1, Per: time.Second, Burst: 5}, []step{
			{cost: 5, want: allowed}, {cost: 5, want: refused(5 * time.Second)}, {after: 5*time.Second + 2, cost: 5, want: allowed},
		}},
		"faster than the clock": {ratelimit.Limit{Permits: 8, Per: 1, Burst: 8}, []step{
			{cost: 8, want: allowed}, {cost: 1, want: refused(1)}, {after: 1, cost: 8, want: allowed}, {after: 1, cost: 8, want: refused(1)},
		}},
		"a clock that is set back waits until it is there again": {ratelimit.Limit{Permits: 10, Per: time.Minute}, []step{
			{cost: 7, want: allowed},
			{after: -time.Hour, cost: 4, want: refused(time.Hour + 6*time.Second)},
			{after: -time.Hour, cost: 3, want: refused(time.Hour)},
			{cost: 3, want: allowed},
		}},
		"a clock from before all time": {ratelimit.Limit{Permits: 10, Per: time.Minute}, []step{
			{after: -200 * 365 * day, cost: 10, want: allowed},
			{after: -190 * 365 * day, cost: 1, want: refused(181*365*day + 6*time.Second)},
			{after: math.MinInt64, cost: 1, want: refused(math.MaxInt64 - 9*365*day + 6*time.Second + 1)},
			{cost: 10, want: allowed},
		}},
		"a clock beyond all time stands still": {ratelimit.Limit{Permits: 10, Per: time.Minute}, []step{
			{after: 283 * 365 * day, cost: 10, want: allowed},
			{after: math.MaxInt64, cost: 1, want: refused(ratelimit.Never)},
			{after: 30 * 365 * day, cost: 1, want: refused(ratelimit.Never)},
		}},
		"what is returned is there again": {euros, []step{
			{cost: 100_000_000, want: allowed}, {cost: 1, want: refused(864_000)},
			{cost: 100_000_000, returned: true}, {cost: 100_000_001, want: refused(ratelimit.Never)},
			{cost: 60_000_000, want: allowed}, {cost: 40_000_000, want: allowed},
			{cost: 40_000_000, returned: true}, {cost: 40_000_001, want: refused(864_000)}, {cost: 40_000_000, want: allowed},
		}},
		"and no more than that": {ratelimit.Limit{Permits: 10, Per: time.Minute}, []step{
			{cost: 5, returned: true}, {cost: 10, want: allowed}, {cost: 0, returned: true}, {cost: 11, returned: true},
			{cost: math.MaxUint64, returned: true}, {cost: 1, want: refused(6 * time.Second)},
			{after: 61 * time.Second, cost: 10, returned: true}, {after: 61 * time.Second, cost: 10, want: allowed},
			{after: 61 * time.Second, cost: 1, want: refused(6 * time.Second)},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			l, err := ratelimit.NewAt(tt.limit, start)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range tt.steps {
				now := start.Add(s.after)
				if s.returned {
					l.Return(now, key("account"), s.cost)
					continue
				}
				got := l.Take(now, key("account"), s.cost)
				slack := time.Duration(0)
				if !got.Allowed && s.want.RetryAfter != ratelimit.Never {
					slack = 2 // times are rounded to ticks of less than 2 ns
				}
				if d := s.want.RetryAfter - got.RetryAfter; got.Allowed != s.want.Allowed || d < -slack || d > slack {
					t.Errorf("%d: %d permits after %v: %+v, want %+v", i, s.cost, s.after, got, s.want)
				}
			}
		})
	}
}

// RetryAfter is the very first nanosecond at which the same request is allowed.
func TestRetryAfterIsExact(t *testing.T) {
	t.Parallel()
	for _, limit := range []ratelimit.Limit{
		{Permits: 10, Per: time.Minute},
		{Permits: 100_000_000, Per: day},
		{Permits: 7, Per: 3 * time.Second, Burst: 1000},
		{Permits: 1_000_000_007, Per: time.Second},
		{Permits: 3, Per: 1},
		{Permits: 1, Per: 2 * 365 * day},
	} {
		l := newLimiter(t, limit)
		now := time.Now()
		l.Take(now, nil, limit.Permits)
		for i := range 60 {
			cost := 1 + uint64(i)*limit.Permits/60
			r := l.Take(now, nil, cost)
			if r.Allowed {
				now = now.Add(time.Duration(i))
				continue
			}
			if r.RetryAfter <= 0 || r.RetryAfter == ratelimit.Never {
				t.Fatalf("%+v: %+v", limit, r)
			}
			if early := l.Take(now.Add(r.RetryAfter-1), nil, cost); early.Allowed || early.RetryAfter != 1 {
				t.Errorf("%+v: told to wait %v, and 1 ns before that: %+v", limit, r.RetryAfter, early)
			}
			now = now.Add(r.RetryAfter)
			if late := l.Take(now, nil, cost); !late.Allowed {
				t.Errorf("%+v: told to wait %v, and after that: %+v", limit, r.RetryAfter, late)
			}
		}
	}
}

func TestKeysHaveBudgetsOfTheirOwn(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, ratelimit.Limit{Permits: 2, Per: day})
	now := time.Now()
	keys := []ratelimit.Key{nil, key(""), key("a"), key("b"), key("ab"), key("a").Text("b"), key("a").Int(1), key("a").Uint(1), ratelimit.Key(nil).Int(0)}
	for round, want := range []bool{true, true, false, false} {
		for i, k := range keys {
			if got := l.Take(now, k, 1); got.Allowed != want {
				t.Errorf("round %d, key %d: %+v", round, i, got)
			}
		}
	}
	if got := l.Stats(); got.Shared != 0 || got.Slots == 0 || got.MaxSlots != 1<<20 {
		t.Errorf("%+v", got)
	}
}

// A wall clock that has no monotonic reading, and one of any zone, are as good as others.
func TestWallClock(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, ratelimit.Limit{Permits: 1, Per: time.Hour})
	start := time.Now().Round(0)
	for i := range 5 {
		now := start.Add(time.Duration(i) * (time.Hour + 2)).In(time.FixedZone("", i*3600))
		if got := l.Take(now, nil, 1); !got.Allowed {
			t.Errorf("hour %d: %+v", i, got)
		}
		if got := l.Take(now.Add(time.Minute), nil, 1); got.Allowed || got.RetryAfter > 59*time.Minute || got.RetryAfter < 59*time.Minute-2 {
			t.Errorf("hour %d and a minute: %+v", i, got)
		}
	}
}

func TestYear2600(t *testing.T) {
	t.Parallel()
	for _, limit := range []ratelimit.Limit{{Permits: 1, Per: time.Hour}, {Permits: 8, Per: 1, Burst: 8}} {
		l := newLimiter(t, limit)
		now := time.Date(2600, 1, 1, 0, 0, 0, 0, time.UTC)
		if got := l.Take(now, nil, limit.Permits); !got.Allowed {
			t.Errorf("%+v", got)
		}
		for _, now := range []time.Time{now, now.AddDate(1000, 0, 0), time.Now(), {}} {
			if got := l.Take(now, nil, 1); got != refused(ratelimit.Never) {
				t.Errorf("%v: %+v", now, got)
			}
		}
	}
}

// It must not run in parallel with others, whose allocations would be counted.
//
//nolint:paralleltest // see above
func TestNothingAllocates(t *testing.T) {
	l := newLimiter(t, ratelimit.Limit{Permits: 5000, Per: 365 * day})
	now := time.Now()
	for name, take := range map[string]func(){
		"a hit": func() {
			var room [64]byte
			l.Take(now, ratelimit.Key(room[:0]).Text("hit"), 1)
		},
		"a refusal": func() {
			var room [64]byte
			l.Take(now, ratelimit.Key(room[:0]).Text("refused"), 2501)
		},
		"more than the burst": func() {
			var room [64]byte
			l.Take(now, ratelimit.Key(room[:0]).Text("large"), math.MaxUint64)
		},
		"a return": func() {
			var room [64]byte
			k := ratelimit.Key(room[:0]).Text("returned")
			l.Take(now, k, 2)
			l.Return(now, k, 1)
		},
		"a number": func() { l.Stats() },
	} {
		take()
		take()
		if n := testing.AllocsPerRun(1000, take); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func ExampleLimiter() {
	// Ten purchases a minute from an account, however many callers make them.
	purchases, err := ratelimit.New(ratelimit.Limit{Permits: 10, Per: time.Minute})
	if err != nil {
		panic(err)
	}
	now := time.Now()
	var room [64]byte
	account := ratelimit.Key(room[:0]).Text("DE02120300000000202051")
	fmt.Println(purchases.Take(now, account, 10).Allowed)
	fmt.Println(purchases.Take(now, account, 1).Allowed)
	fmt.Println(purchases.Take(now.Add(6*time.Second), account, 1).Allowed)
	// Output:
	// true
	// false
	// true
}
