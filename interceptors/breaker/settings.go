package breaker

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Settings say when a breaker opens and how it heals. The zero Settings are good ones.
type Settings struct {
	// ConsecutiveFailures is how many failures in a row open the breaker. Without a FailureRatio they may be any time apart;
	// with one, those that have left its Window no longer count. 0: 5.
	ConsecutiveFailures uint32
	// FailureRatio is the share of failures, of all successes and failures in a Window, from which on the breaker opens: more than
	// 0, and 1 for all. It is looked at when a call fails. 0: not used.
	FailureRatio float64
	// MinCalls is how many successes and failures there must be in a Window before FailureRatio is looked at. 0: 20.
	MinCalls uint32
	// Window is how long FailureRatio looks back. It moves on in ten steps, so that it forgets between nine tenths of it
	// and all of it ago. 0: 10 s; otherwise at least 100 ms.
	Window time.Duration
	// OpenFor is how long the breaker stays open, and how long a probe may take before its place is given to another. 0: 30 s;
	// otherwise at least 1 ms.
	OpenFor time.Duration
	// HalfOpenProbes is how many calls are let through while the breaker is half-open. If all of them succeed it closes; the first
	// that fails opens it. 0: 1.
	HalfOpenProbes uint32
}

const (
	minOpenFor = time.Millisecond
	minWindow  = 100 * time.Millisecond

	// windowSteps is how many parts of the window are counted apart.
	windowSteps = 10
)

// Validate says what is wrong with s, nil if nothing is.
func (s Settings) Validate() error {
	switch {
	case s.FailureRatio < 0, s.FailureRatio > 1, math.IsNaN(s.FailureRatio):
		return fmt.Errorf("breaker: FailureRatio: %v is not between 0 and 1", s.FailureRatio)
	case s.FailureRatio == 0 && s.MinCalls > 0:
		return errors.New("breaker: MinCalls: without a FailureRatio it does nothing")
	case s.FailureRatio == 0 && s.Window != 0:
		return errors.New("breaker: Window: without a FailureRatio it does nothing")
	case s.Window != 0 && s.Window < minWindow:
		return fmt.Errorf("breaker: Window: %v is less than %v", s.Window, minWindow)
	case s.OpenFor != 0 && s.OpenFor < minOpenFor:
		return fmt.Errorf("breaker: OpenFor: %v is less than %v", s.OpenFor, minOpenFor)
	}
	return nil
}

func (s Settings) withDefaults() Settings {
	if s.ConsecutiveFailures == 0 {
		s.ConsecutiveFailures = 5
	}
	if s.MinCalls == 0 {
		s.MinCalls = 20
	}
	if s.Window == 0 {
		s.Window = 10 * time.Second
	}
	if s.OpenFor == 0 {
		s.OpenFor = 30 * time.Second
	}
	if s.HalfOpenProbes == 0 {
		s.HalfOpenProbes = 1
	}
	return s
}

// readyToTrip decides whether a failure of a closed breaker opens it.
func (s Settings) readyToTrip(c gobreaker.Counts) bool {
	if c.ConsecutiveFailures >= s.ConsecutiveFailures {
		return true
	}
	calls := uint64(c.TotalSuccesses) + uint64(c.TotalFailures)
	return s.FailureRatio > 0 && calls >= uint64(s.MinCalls) && float64(c.TotalFailures) >= s.FailureRatio*float64(calls)
}
