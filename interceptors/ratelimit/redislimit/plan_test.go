//go:build unix

package redislimit

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

func TestNewRefusesClients(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options redis.Options
		want    string
	}{
		"the defaults": {
			redis.Options{},
			"redislimit: redis.Options.ContextTimeoutEnabled must be true, or the client ignores deadlines",
		},
		"retries by default": {
			redis.Options{ContextTimeoutEnabled: true},
			"redislimit: redis.Options.MaxRetries must be -1: a request that is repeated 3 times may take its permits each time",
		},
		"retries": {
			redis.Options{ContextTimeoutEnabled: true, MaxRetries: 1},
			"redislimit: redis.Options.MaxRetries must be -1: a request that is repeated 1 times may take its permits each time",
		},
		"reads without a deadline": {
			redis.Options{ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: -2, WriteTimeout: 1},
			"redislimit: redis.Options.ReadTimeout must not be -2, or the client reads without a deadline",
		},
		"writes without a deadline": {
			redis.Options{ContextTimeoutEnabled: true, MaxRetries: -1, WriteTimeout: -2},
			"redislimit: redis.Options.WriteTimeout must not be -2, or the client writes without a deadline",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&c.options)
			defer client.Close()
			_, err := New(client)
			wantError(t, err, c.want)
		})
	}
	_, err := New(nil)
	wantError(t, err, "redislimit: no client")
}

func TestNewTakesClients(t *testing.T) {
	t.Parallel()
	good := redis.Options{ContextTimeoutEnabled: true, MaxRetries: -1}
	unlimited := good
	unlimited.ReadTimeout, unlimited.WriteTimeout = -1, -1 // nothing but the context's deadline
	for _, client := range []*redis.Client{
		redis.NewClient(&good),
		redis.NewClient(&unlimited),
		redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true, MaxRetries: -1}),
	} {
		if _, err := New(client); err != nil {
			t.Error(err)
		}
		client.Close()
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	year := 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		limit ratelimit.Shared
		want  string // empty: taken
	}{
		"per second": {limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 100, Per: time.Second}}},
		"per hour":   {limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 3, Per: time.Hour}}},
		"money a day": {
			limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 100_000_000, Per: 24 * time.Hour}},
		},
		"one in two years":        {limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: 2 * year}}},
		"8 a microsecond":         {limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 8, Per: time.Microsecond}}},
		"a period of nanoseconds": {limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: 333}}},
		"the largest burst": {
			limit: ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 8_000_000, Per: time.Second, Burst: 8_000_000 * 86_400 * 730}},
		},
		"a lease as large as the burst": {limit: ratelimit.Shared{Name: "l", Lease: 10, Limit: ratelimit.Limit{Permits: 10, Per: time.Second}}},
		"no name": {
			ratelimit.Shared{Limit: ratelimit.Limit{Permits: 1, Per: time.Second}},
			"redislimit: a limit without a name would be counted together with all others without one",
		},
		"no permits": {
			ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Per: time.Second}},
			`redislimit: limit "l": ratelimit: a limit without permits allows nothing`,
		},
		"a negative period": {
			ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: -time.Second}},
			`redislimit: limit "l": ratelimit: the period of a limit must be longer than 0`,
		},
		"too fast": {
			ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 9, Per: time.Microsecond}},
			`redislimit: limit "l": 9 permits in 1µs are more than 8 a microsecond, which cannot be counted exactly in Redis`,
		},
		"as many as there are, too fast": {
			ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: math.MaxUint64, Per: time.Second}},
			`redislimit: limit "l": ratelimit: 18446744073709551615 permits in 1s are more than 8000000000 a second, which cannot be counted`,
		},
		"a lease of more than the burst": {
			ratelimit.Shared{Name: "l", Lease: 11, Limit: ratelimit.Limit{Permits: 10, Per: time.Second}},
			`redislimit: limit "l": a lease of 11 is more than the burst of 10`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newPlan(&c.limit)
			if c.want != "" {
				wantError(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	if err := (&Store{}).Check(nil); err == nil {
		t.Error("a nil limit was taken")
	}
}

// randomLimit returns a limit that can be counted.
func randomLimit(r *rand.Rand) ratelimit.Limit {
	for {
		l := ratelimit.Limit{
			Permits: 1 + r.Uint64N(1<<r.IntN(50)),
			Per:     time.Duration(1 + r.Int64N(1<<r.IntN(56))),
			Burst:   r.Uint64N(1 << r.IntN(50)),
		}
		if _, err := newPlan(&ratelimit.Shared{Name: "l", Limit: l}); err == nil {
			return l
		}
	}
}

// Ticks are as fine as they can be, everything stays below 2^53 until 2054, and the number of ticks since the epoch is off by one at most.
func TestTicksAreExact(t *testing.T) {
	t.Parallel()
	const microsecondsUntil2054 = 28 * 365 * 86_400_000_000
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		l := randomLimit(r)
		shift, ratio := ticks(l)
		if ratio > 1 && shift > 0 || ratio <= 0.5 {
			t.Fatalf("%+v: %d halvings and %g ticks a microsecond: too fine, or too coarse", l, shift, ratio)
		}
		burst := l.Burst
		if burst == 0 {
			burst = l.Permits
		}
		if most := ratio*microsecondsUntil2054 + math.Ldexp(float64(burst), shift+1); most >= 1<<53 {
			t.Fatalf("%+v: %g ticks are not exact", l, most)
		}
		us := r.Int64N(microsecondsUntil2054)
		exact := new(big.Int).Mul(big.NewInt(us), new(big.Int).Lsh(new(big.Int).SetUint64(l.Permits), uint(shift)))
		exact.Mul(exact, big.NewInt(1000)).Div(exact, big.NewInt(int64(l.Per)))
		if off := int64(math.Floor(float64(us)*ratio)) - exact.Int64(); off < -1 || off > 1 {
			t.Fatalf("%+v after %d µs: off by %d ticks", l, us, off)
		}
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		permits uint64
		per     time.Duration
		n       uint64
		want    time.Duration
	}{
		{10, time.Second, 1, 100 * time.Millisecond},
		{3, time.Second, 1, 333_333_334},
		{1, time.Hour, 5, 5 * time.Hour},
		{1, time.Hour, 0, 0},
		{1, math.MaxInt64, 2, math.MaxInt64},
		{1, math.MaxInt64, math.MaxUint64, math.MaxInt64},
	} {
		p := &plan{permits: c.permits, per: uint64(c.per)}
		if got := p.after(c.n); got != c.want {
			t.Errorf("%d permits of %d in %v come back in %v, want %v", c.n, c.permits, c.per, got, c.want)
		}
	}
}
