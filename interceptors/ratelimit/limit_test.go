package ratelimit_test

import (
	"math"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

func TestLimitsThatAreNone(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		limit ratelimit.Limit
		want  string
	}{
		{ratelimit.Limit{}, "ratelimit: a limit without permits allows nothing"},
		{ratelimit.Limit{Per: time.Second, Burst: 1}, "ratelimit: a limit without permits allows nothing"},
		{ratelimit.Limit{Permits: 1}, "ratelimit: the period of a limit must be longer than 0"},
		{ratelimit.Limit{Permits: 1, Per: -1}, "ratelimit: the period of a limit must be longer than 0"},
		{ratelimit.Limit{Permits: 1, Per: math.MinInt64}, "ratelimit: the period of a limit must be longer than 0"},
		{ratelimit.Limit{Permits: 9, Per: 1}, "ratelimit: 9 permits in 1ns are more than 8000000000 a second, which cannot be counted"},
		{
			ratelimit.Limit{Permits: 8_000_000_000*86400 + 1, Per: 24 * time.Hour},
			"ratelimit: 691200000000001 permits in 24h0m0s are more than 8000000000 a second, which cannot be counted",
		},
		{
			ratelimit.Limit{Permits: math.MaxUint64, Per: year},
			"ratelimit: 18446744073709551615 permits in 8760h0m0s are more than 8000000000 a second, which cannot be counted",
		},
		{ratelimit.Limit{Permits: 1, Per: 2*year + 1}, "ratelimit: a burst of 1 takes longer than 17520h0m0s to come back"},
		{ratelimit.Limit{Permits: 1, Per: math.MaxInt64, Burst: 2}, "ratelimit: a burst of 2 takes longer than 17520h0m0s to come back"},
		{ratelimit.Limit{Permits: 1, Per: year, Burst: 3}, "ratelimit: a burst of 3 takes longer than 17520h0m0s to come back"},
		{
			ratelimit.Limit{Permits: 1, Per: time.Second, Burst: math.MaxUint64},
			"ratelimit: a burst of 18446744073709551615 takes longer than 17520h0m0s to come back",
		},
		{
			ratelimit.Limit{Permits: 8, Per: 1, Burst: 8*uint64(2*year) + 1},
			"ratelimit: a burst of 504576000000000001 takes longer than 17520h0m0s to come back",
		},
	} {
		if err := tt.limit.Validate(); err == nil || err.Error() != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.limit, err, tt.want)
		}
		if _, err := ratelimit.New(tt.limit); err == nil || err.Error() != tt.want {
			t.Errorf("New(%+v):\ngot  %v\nwant %s", tt.limit, err, tt.want)
		}
	}
}

// The largest limits of all kinds can be counted: what they allow at once, and not one more.
func TestLimitsAtTheEdge(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, limit := range []ratelimit.Limit{
		{Permits: 1, Per: 1},
		{Permits: 8, Per: 1},
		{Permits: 8, Per: 1, Burst: 8 * uint64(2*year)},
		{Permits: 8 * uint64(2*year), Per: 2 * year},
		{Permits: 8_000_000_000 * 86400, Per: 24 * time.Hour},
		{Permits: 1, Per: 2 * year},
		{Permits: math.MaxInt64, Per: math.MaxInt64, Burst: 1},
		{Permits: math.MaxUint64, Per: math.MaxInt64, Burst: 1},
		{Permits: 3, Per: 7, Burst: 1},
		{Permits: 7, Per: 3, Burst: 1 << 40},
	} {
		l, err := ratelimit.New(limit)
		if err != nil {
			t.Error(err)
			continue
		}
		now, burst := time.Now(), max(limit.Burst, 1)
		if limit.Burst == 0 {
			burst = limit.Permits
		}
		for _, step := range []struct {
			cost uint64
			want bool
		}{{math.MaxUint64, false}, {burst + 1, false}, {burst - burst/3, true}, {burst/3 + 1, false}, {burst / 3, true}, {1, false}} {
			if got := l.Take(now, nil, step.cost); got.Allowed != (step.want || step.cost == 0) {
				t.Errorf("%+v: %d permits: %+v", limit, step.cost, got)
			}
		}
	}
}

func TestRoomThatIsNone(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		0:             "ratelimit: the number of keys must be from 1 to 1<<30, not 0",
		-1:            "ratelimit: the number of keys must be from 1 to 1<<30, not -1",
		1<<30 + 1:     "ratelimit: the number of keys must be from 1 to 1<<30, not 1073741825",
		math.MaxInt32: "ratelimit: the number of keys must be from 1 to 1<<30, not 2147483647",
	} {
		if _, err := ratelimit.New(ratelimit.Limit{Permits: 1, Per: 1}, ratelimit.WithMaxKeys(n)); err == nil || err.Error() != want {
			t.Errorf("%d:\ngot  %v\nwant %s", n, err, want)
		}
	}
	for n, want := range map[int]int{1: 16, 16: 16, 17: 32, 1000: 1024, 1 << 20: 1 << 20, 1 << 30: 1 << 30} {
		l, err := ratelimit.New(ratelimit.Limit{Permits: 1, Per: 1}, ratelimit.WithMaxKeys(n))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Stats(); got != (ratelimit.Stats{MaxSlots: want}) {
			t.Errorf("room for %d keys: %+v, want %d and none taken yet", n, got, want)
		}
	}
}
