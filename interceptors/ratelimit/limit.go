package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Limit is how many permits there are in a period, and how many of them may be taken at once.
//
// It is the generic cell rate algorithm (ITU-T I.371): permits come back one after the other, evenly over the period, and never
// more than Burst pile up. In any span of time t no more than Burst + Permits*t/Per permits are given out.
type Limit struct {
	// Permits is how many permits come back in one Per. It must not be 0.
	Permits uint64
	// Per is the period. It must be longer than 0.
	Per time.Duration
	// Burst is how many permits may be taken at once. 0: Permits.
	Burst uint64
}

// MaxPermitsPerSecond is the fastest limit that can be counted exactly in one 64-bit word for years on end.
const MaxPermitsPerSecond = 8_000_000_000

// The errors of [Limit.Validate].
var (
	errNoPermits = errors.New("ratelimit: a limit without permits allows nothing")
	errNoPeriod  = errors.New("ratelimit: the period of a limit must be longer than 0")
)

// Validate says what is wrong with l, nil if nothing is.
func (l Limit) Validate() error {
	switch {
	case l.Permits == 0:
		return errNoPermits
	case l.Per <= 0:
		return errNoPeriod
	case less(MaxPermitsPerSecond, uint64(l.Per), l.Permits, uint64(time.Second)):
		return fmt.Errorf("ratelimit: %d permits in %v are more than %d a second, which cannot be counted", l.Permits, l.Per, int64(MaxPermitsPerSecond))
	case less(uint64(maxRefill), l.Permits, l.burst(), uint64(l.Per)):
		return fmt.Errorf("ratelimit: a burst of %d takes longer than %v to come back", l.burst(), maxRefill)
	}
	return nil
}

// less says whether a*b < c*d. The products have 128 bits.
func less(a, b, c, d uint64) bool {
	high, low := bits.Mul64(a, b)
	otherHigh, otherLow := bits.Mul64(c, d)
	return high < otherHigh || high == otherHigh && low < otherLow
}

// maxRefill bounds how long an empty bucket takes to fill.
const maxRefill = 2 * 365 * 24 * time.Hour

func (l Limit) burst() uint64 {
	if l.Burst == 0 {
		return l.Permits
	}
	return l.Burst
}

// Result is what came of asking for permits.
type Result struct {
	// Allowed says that the permits were given.
	Allowed bool
	// RetryAfter is how long it takes until the same request would be allowed, if nobody else asks; 0 if it was allowed, [Never]
	// if it asks for more than the burst.
	RetryAfter time.Duration
}

// Never is the RetryAfter of a request that no waiting helps.
const Never = time.Duration(math.MaxInt64)
