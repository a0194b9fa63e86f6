//go:build unix

package redislimit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// clocked is the script with a clock that the test sets, and keys that last: Redis itself would end them by its own clock.
func clocked(t testing.TB) string {
	t.Helper()
	text := script
	for old, replacement := range map[string]string{
		"redis.call('TIME')":                 "{ARGV[#ARGV - 1], ARGV[#ARGV]}",
		", 'PX', string.format('%.0f', ms))": ")",
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("the script does not say %s once, as this test thinks it does", old)
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	return text
}

const epoch = 1_767_225_600_000_000

// runAt runs the script at a time in microseconds since the epoch.
func runAt(t testing.TB, client *redis.Client, us int64, parts ...part) (reply, error) {
	t.Helper()
	s := &Store{prefix: "p:"}
	args := []any{"eval", clocked(t), len(parts)}
	for i := range parts {
		args = append(args, s.redisKey(&parts[i].id))
	}
	for _, p := range parts {
		args = append(args, p.plan.ratio, p.plan.unit, p.plan.ticks, p.least, p.most)
	}
	args = append(args, (us+epoch)/1_000_000, (us+epoch)%1_000_000)
	cmd := redis.NewIntSliceCmd(t.Context(), args...)
	if err := client.Process(t.Context(), cmd); err != nil {
		return reply{}, err
	}
	return read(cmd.Val(), parts)
}

func mustPlan(t testing.TB, l ratelimit.Limit) *plan {
	t.Helper()
	p, err := newPlan(&ratelimit.Shared{Name: "l", Limit: l})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bucket is the model: the same algorithm in whole numbers, on one key.
type bucket struct {
	limit ratelimit.Limit
	full  int64
	known bool
}

func (b *bucket) numbers(us int64) (now, unit, burst int64, ratio float64) {
	shift, ratio := ticks(b.limit)
	size := b.limit.Burst
	if size == 0 {
		size = b.limit.Permits
	}
	return int64(math.Floor(float64(us) * ratio)), 1 << shift, int64(size) << shift, ratio
}

func (b *bucket) take(us int64, least, most uint64) (taken uint64, wait int64) {
	now, unit, burst, ratio := b.numbers(us)
	full := now
	if b.known {
		full = min(max(b.full, now), now+burst)
	}
	room := now + burst - full
	if room < int64(least)*unit {
		need := full + int64(least)*unit - burst
		when := int64(math.Ceil(float64(need) / ratio))
		for int64(math.Floor(float64(when)*ratio)) < need {
			when++
		}
		return 0, when - us
	}
	taken = min(most, uint64(room/unit))
	b.full, b.known = full+int64(taken)*unit, true
	return taken, 0
}

// The script decides as the model does, for limits of all kinds, over times that leap, stand still and go back.
func TestScriptAgainstModel(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 150 {
		b := &bucket{limit: randomLimit(r)}
		p := mustPlan(t, b.limit)
		id := p.digest(key(fmt.Sprint(i)))
		us := r.Int64N(20 * 365 * 86_400_000_000)
		for step := range 40 {
			switch r.IntN(8) {
			case 0:
				us += r.Int64N(1 << r.IntN(40))
			case 1:
				us += int64(p.after(1)/time.Microsecond) + r.Int64N(3) - 1
			case 2:
				us = max(0, us-r.Int64N(1<<r.IntN(40)))
			default:
			}
			least := 1 + r.Uint64N(min(p.burst, 1<<r.IntN(40)))
			most := least
			if r.IntN(2) == 0 {
				most = min(p.burst, least+r.Uint64N(p.burst))
			}
			got, err := runAt(t, client, us, part{plan: p, id: id, least: least, most: most})
			if err != nil {
				t.Fatal(err)
			}
			taken, wait := b.take(us, least, most)
			if taken > 0 != (got.refused < 0) || taken > 0 && uint64(got.taken[0]) != taken ||
				taken == 0 && got.wait != time.Duration(wait)*time.Microsecond {
				t.Fatalf("limit %+v, step %d at %d µs, %d to %d permits: %+v, want %d taken or a wait of %d µs", b.limit, step, us, least, most, got, taken, wait)
			}
		}
	}
}

// Whatever is asked for when: in no span of time are there more permits than the limit allows, and a refused request is allowed exactly when it
// was told to come back.
func TestScriptNeverOverAdmits(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 60 {
		l := randomLimit(r)
		p := mustPlan(t, l)
		id := p.digest(key(fmt.Sprint(i)))
		_, ratio := ticks(l)
		type admission struct {
			us int64
			n  uint64
		}
		var all []admission
		us := r.Int64N(1 << 48)
		for range 60 {
			us += r.Int64N(int64(p.after(1+p.burst/8)/time.Microsecond) + 2)
			least := 1 + r.Uint64N(p.burst)
			ask := part{plan: p, id: id, least: least, most: least}
			got, err := runAt(t, client, us, ask)
			if err != nil {
				t.Fatal(err)
			}
			if wait := int64(got.wait / time.Microsecond); got.refused >= 0 {
				// Rounding may make it one microsecond too long.
				if early, err := runAt(t, client, us+wait-2, ask); err != nil || wait > 2 && early.refused < 0 {
					t.Fatalf("%+v: allowed before its time: %+v, %v", l, early, err)
				}
				us += wait
				if got, err = runAt(t, client, us, ask); err != nil || got.refused >= 0 {
					t.Fatalf("%+v: not allowed at its time: %+v, %v", l, got, err)
				}
			}
			all = append(all, admission{us, least})
			var sum uint64
			for _, earlier := range slices.Backward(all) {
				sum += earlier.n
				span := float64(us-earlier.us) + 2/ratio
				most := float64(p.burst) + float64(l.Permits)*span*1000/float64(l.Per)
				if float64(sum) > most*(1+1e-12) {
					t.Fatalf("%+v: %d permits in %d µs, at most %g are allowed", l, sum, us-earlier.us, most)
				}
			}
		}
	}
}

// At a frozen instant there are exactly Burst permits, whatever way they are asked for.
func TestBurstInAnyPartition(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 100 {
		l := randomLimit(r)
		p := mustPlan(t, l)
		id := p.digest(key(fmt.Sprint(i)))
		us := r.Int64N(1 << 49)
		var sum uint64
		for sum < p.burst {
			n := 1 + r.Uint64N(p.burst-sum)
			if i%2 == 0 {
				n = max(n, (p.burst-sum)/4)
			}
			got, err := runAt(t, client, us, part{plan: p, id: id, least: n, most: n})
			if err != nil || got.refused >= 0 {
				t.Fatalf("%+v: %d permits after %d were refused: %+v, %v", l, n, sum, got, err)
			}
			sum += n
		}
		if got, err := runAt(t, client, us, part{plan: p, id: id, least: 1, most: 1}); err != nil || got.refused != 0 {
			t.Fatalf("%+v: one more than the burst: %+v, %v", l, got, err)
		}
	}
}

// Of several, none is taken if one is refused; and a key that is asked for twice is counted twice.
func TestScriptAllOrNothing(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := mustPlan(t, ratelimit.Limit{Permits: 10, Per: time.Hour})
	ask := func(name string, n uint64) part { return part{plan: p, id: p.digest(key(name)), least: n, most: n} }
	for _, c := range []struct {
		parts []part
		want  int
	}{
		{[]part{ask("a", 6), ask("a", 5)}, 1},
		{[]part{ask("a", 6), ask("b", 11)}, 1},
		{[]part{ask("a", 10), ask("b", 5)}, -1}, // nothing was taken of a before
		{[]part{ask("b", 5), ask("a", 1)}, 1},
		{[]part{ask("b", 2), ask("c", 10), ask("b", 3)}, -1},
		{[]part{ask("b", 1)}, 0},
	} {
		if got, err := runAt(t, client, 1, c.parts...); err != nil || got.refused != c.want {
			t.Errorf("%d parts: %+v, %v, want %d refused", len(c.parts), got, err, c.want)
		}
	}
}

// A key lives no longer than it takes to fill.
func TestKeysExpire(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	s := newStore(t, client)
	day := &ratelimit.Shared{Name: "day", Limit: ratelimit.Limit{Permits: 24, Per: 24 * time.Hour}}
	take(t, s, demand(day, key("a"), 3))
	keys := client.Keys(t.Context(), "*").Val()
	if ttl := client.PTTL(t.Context(), keys[0]).Val(); ttl > 3*time.Hour+2*time.Millisecond || ttl < 3*time.Hour-time.Minute {
		t.Errorf("three permits of 24 a day are kept for %v", ttl)
	}
	fast := &ratelimit.Shared{Name: "fast", Limit: ratelimit.Limit{Permits: 100, Per: time.Second}}
	for i := range 100 {
		take(t, s, demand(fast, key(fmt.Sprint(i)), 1))
	}
	eventually(t, "only the key of the slow limit is left", func() bool { return client.DBSize(t.Context()).Val() == 1 })
}

func TestScriptRefusesWhatItCannotCount(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := mustPlan(t, ratelimit.Limit{Permits: 8, Per: time.Microsecond})
	ask := part{plan: p, id: p.digest(nil), least: 1, most: 1}
	_, err := runAt(t, client, 36*365*86_400_000_000, ask)
	wantError(t, err, "GRPCGUARD the clock is too far ahead")
	if got, err := runAt(t, client, -1_000_000, ask); err != nil || got.refused >= 0 {
		t.Errorf("a clock before the epoch: %+v, %v", got, err)
	}
	for _, value := range []string{"nan", "inf", "0x10", "1e3", "12.5", "", " 1", "text"} {
		client.Set(t.Context(), (&Store{prefix: "p:"}).redisKey(&ask.id), value, 0)
		_, err := runAt(t, client, 1, ask)
		wantError(t, err, "GRPCGUARD a key holds what grpcguard did not write")
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	parts := []part{{least: 1, most: 5}, {least: 2, most: 2}}
	for _, c := range []struct {
		numbers []int64
		want    string
	}{
		{nil, "an answer that the script does not give: []"},
		{[]int64{0, 0}, "an answer that the script does not give: [0 0]"},
		{[]int64{-1, 0, 0}, "an answer that the script does not give: [-1 0 0]"},
		{[]int64{3, 0, 0}, "an answer that the script does not give: [3 0 0]"},
		{[]int64{0, 0, 0, 1}, "an answer about 1 limits instead of 2"},
		{[]int64{0, 0, 0, 0, 2}, "0 permits were taken instead of 1 to 5"},
		{[]int64{0, 0, 0, 6, 2}, "6 permits were taken instead of 1 to 5"},
		{[]int64{0, 0, 0, 1, -2}, "-2 permits were taken instead of 2 to 2"},
	} {
		_, err := read(c.numbers, parts)
		wantError(t, err, c.want)
	}
	if r, err := read([]int64{2, 0, 0}, parts); err != nil || r.refused != 1 || r.wait != time.Microsecond {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := read([]int64{1, math.MaxInt64, 0}, parts); err != nil || r.wait <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
