package redislimit

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

const (
	// maxPerMicrosecond is the fastest limit: at this rate the ticks since the epoch have 53 bits until 2054.
	maxPerMicrosecond = 8
	// maxBurstTicks leaves room for a burst on top of them.
	maxBurstTicks = 1 << 50
)

// A lease lapses after its limit's Per, within these bounds: sooner, and a trip would take longer than the lease; later, and
// a process that has fallen silent would keep permits from the others for no good.
const (
	minLapse = time.Second
	maxLapse = time.Minute
)

// plan is what is worked out of a limit once.
//
// Redis counts in ticks. A tick is a permit divided by a power of two, the largest with which a tick still lasts a microsecond or
// more, so that a tick is as fine as Redis's clock and the number of ticks since the epoch is exact in a double for as long as
// possible. All sums and differences of ticks are of whole numbers, and exact.
type plan struct {
	burst uint64
	lease uint64
	lapse time.Duration
	// per and permits say how long a number of permits takes to come back.
	per, permits uint64
	// head is what all keys of the limit begin with before they are hashed.
	head []byte
	// ratio, unit and ticks are arguments of the script: ticks in a microsecond, ticks in a permit, ticks in the burst. They are
	// boxed once, and as text, which all processes write alike.
	ratio, unit, ticks any
}

func newPlan(limit *ratelimit.Shared) (*plan, error) {
	fail := func(err error) (*plan, error) { return nil, fmt.Errorf("redislimit: limit %q: %w", limit.Name, err) }
	if limit.Name == "" {
		return nil, errors.New("redislimit: a limit without a name would be counted together with all others without one")
	}
	if err := limit.Validate(); err != nil {
		return fail(err)
	}
	burst := limit.Burst
	if burst == 0 {
		burst = limit.Permits
	}
	shift, ratio := ticks(limit.Limit)
	switch {
	case ratio > maxPerMicrosecond:
		return fail(fmt.Errorf("%d permits in %v are more than %d a microsecond, which cannot be counted exactly in Redis", limit.Permits, limit.Per, maxPerMicrosecond))
	case math.Ldexp(float64(burst), shift) > maxBurstTicks:
		return fail(fmt.Errorf("a burst of %d cannot be counted exactly in Redis", burst))
	case limit.Lease > burst:
		return fail(fmt.Errorf("a lease of %d is more than the burst of %d", limit.Lease, burst))
	}
	unit := uint64(1) << shift
	return &plan{
		burst:   burst,
		lease:   limit.Lease,
		lapse:   min(max(limit.Per, minLapse), maxLapse),
		per:     uint64(limit.Per),
		permits: limit.Permits,
		head:    appendHead(nil, limit.Name, limit.Permits, uint64(limit.Per), burst),
		ratio:   strconv.FormatFloat(ratio, 'g', -1, 64),
		unit:    strconv.FormatUint(unit, 10),
		ticks:   strconv.FormatUint(burst*unit, 10),
	}, nil
}

// ticks returns how many times a permit is halved to make a tick, and how many ticks come back in a microsecond.
func ticks(limit ratelimit.Limit) (shift int, ratio float64) {
	microseconds := uint64(limit.Per / time.Microsecond)
	for limit.Permits <= microseconds>>(shift+1) {
		shift++
	}
	return shift, math.Ldexp(float64(limit.Permits)*float64(time.Microsecond)/float64(limit.Per), shift)
}

// after is how long n permits take to come back, rounded up.
func (p *plan) after(n uint64) time.Duration {
	high, low := bits.Mul64(n, p.per)
	if high >= p.permits {
		return ratelimit.Never
	}
	quotient, rest := bits.Div64(high, low, p.permits)
	if rest > 0 {
		quotient++
	}
	return time.Duration(min(quotient, math.MaxInt64))
}
