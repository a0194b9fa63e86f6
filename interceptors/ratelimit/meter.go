package ratelimit

import (
	"math/bits"
	"time"
)

// meter is a Limit in the numbers that are counted in.
//
// It counts in ticks. A tick is the time in which 1/2^k of a permit comes back, k being the largest number for which that is 1 ns
// or more, and so less than 2 ns, or 0 if permits come back faster than that. Costs and bursts are therefore whole numbers of ticks,
// and only readings of the clock have to be brought to ticks. They are rounded down: a span of time can be one tick longer in
// ticks than it is, but no sum of spans that follow each other.
//
// The clock of ticks is slow, never fast, by less than one tick in 2^60 ns (36 years), and never goes back when the clock does not.
type meter struct {
	base    time.Time     // tick 0
	horizon time.Duration // after base, the clock of ticks stands still
	perNano uint64        // ticks in a nanosecond, times 2^60, rounded down; it is from 2^59 to 2^63
	burst   uint64        // in permits
	full    int64         // the burst in ticks, less than 2^60
	shift   uint          // k
}

// past is how long before its meter is made a clock reading may be and still count. Clocks get set back, and tests have clocks of
// their own. At the fastest limit it leaves 9 years of the 18 that fit.
const past = 9 * 365 * 24 * time.Hour

// maxTicks is the last tick: with a burst added to it, the sum still fits.
const maxTicks = 1 << 62

// newMeter returns the meter of a limit that is valid.
func newMeter(l Limit, now time.Time) meter {
	per := uint64(l.Per)
	m := meter{base: now.Add(-past), burst: l.burst()}
	if q := per / l.Permits; q > 0 {
		m.shift = uint(bits.Len64(q)) - 1
	}
	m.full = int64(m.burst << m.shift)
	m.perNano = shiftedQuotient(l.Permits<<m.shift, per)
	m.horizon = time.Duration(min(shiftedQuotient(maxTicks, m.perNano), uint64(Never)))
	return m
}

// shiftedQuotient is x*2^60/y, rounded down. It must fit.
func shiftedQuotient(x, y uint64) uint64 {
	q, _ := bits.Div64(x>>4, x<<60, y)
	return q
}

// ticks returns the tick at d after base.
func (m *meter) ticks(d time.Duration) int64 {
	if uint64(d) > uint64(m.horizon) { // or negative
		d = min(max(d, 0), m.horizon)
	}
	high, low := bits.Mul64(uint64(d), m.perNano)
	return int64(high<<4 | low>>60)
}

// wait returns how long after d it is until tick, which is later: up to its very first nanosecond.
func (m *meter) wait(d time.Duration, tick int64) time.Duration {
	at, rest := bits.Div64(uint64(tick)>>4, uint64(tick)<<60, m.perNano)
	if rest > 0 {
		at++
	}
	wait := at - uint64(d)
	if at > uint64(m.horizon) || wait > uint64(Never) {
		return Never
	}
	return time.Duration(wait)
}
