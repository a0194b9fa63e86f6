package breaker_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

// model is what a breaker is to do, kept the slow and obvious way: every outcome of its window, every probe, and the time as an
// argument.
type model struct {
	s       breaker.Settings
	state   breaker.State
	since   time.Duration // when it came to this state
	changes int
	counted []outcome
	probes  []*call
	passed  uint32
	told    []breaker.Change
}

type outcome struct {
	step   int64
	failed bool
}

type call struct {
	changes int // that the breaker had seen when it began
	began   time.Duration
	probe   bool
	done    bool
}

func (m *model) to(state breaker.State, now time.Duration, remote bool) {
	c := breaker.Change{From: m.state, To: state, Remote: remote}
	if state == breaker.Open {
		c.OpenFor = m.s.OpenFor
	}
	m.told = append(m.told, c)
	m.state, m.since, m.counted, m.probes, m.passed = state, now, nil, nil, 0
	m.changes++
}

func (m *model) at(now time.Duration) {
	if m.state == breaker.Open && now-m.since >= m.s.OpenFor {
		m.to(breaker.HalfOpen, now, false)
	}
	m.probes = slices.DeleteFunc(m.probes, func(c *call) bool { return now-c.began >= m.s.OpenFor })
}

func (m *model) allow(now time.Duration) (*call, time.Duration) {
	m.at(now)
	c := &call{changes: m.changes, began: now}
	switch m.state {
	case breaker.Open:
		return nil, m.since + m.s.OpenFor - now
	case breaker.HalfOpen:
		if len(m.probes)+int(m.passed) >= int(m.s.HalfOpenProbes) {
			return nil, min(time.Second, m.s.OpenFor)
		}
		c.probe = true
		m.probes = append(m.probes, c)
	case breaker.Closed:
	}
	return c, 0
}

func (m *model) done(c *call, o breaker.Outcome, now time.Duration) {
	if c.done {
		return
	}
	c.done = true
	if c.changes != m.changes {
		return
	}
	if c.probe {
		m.at(now)
		i := slices.Index(m.probes, c)
		if i < 0 {
			return
		}
		m.probes = slices.Delete(m.probes, i, i+1)
	}
	if o == breaker.Success || o == breaker.Failure {
		m.count(o == breaker.Failure, now)
	}
}

func (m *model) count(failed bool, now time.Duration) {
	if m.state == breaker.HalfOpen {
		if failed {
			m.to(breaker.Open, now, false)
		} else if m.passed++; m.passed == m.s.HalfOpenProbes {
			m.to(breaker.Closed, now, false)
		}
		return
	}
	var step int64
	if m.s.FailureRatio > 0 {
		step = int64((now - m.since) / (m.s.Window / 10))
	}
	m.counted = append(m.counted, outcome{step, failed})
	m.counted = slices.DeleteFunc(m.counted, func(o outcome) bool { return o.step <= step-10 })
	var row, failures uint32
	for _, o := range m.counted {
		row++
		if failures++; !o.failed {
			row = 0
			failures--
		}
	}
	calls := len(m.counted)
	if failed && (row >= m.s.ConsecutiveFailures ||
		m.s.FailureRatio > 0 && calls >= int(m.s.MinCalls) && float64(failures)/float64(calls) >= m.s.FailureRatio) {
		m.to(breaker.Open, now, false)
	}
}

func (m *model) trip(now time.Duration) {
	m.at(now)
	if m.state != breaker.Open {
		m.to(breaker.Open, now, true)
	}
}

// follow drives a breaker and a model by the same bytes and compares all that can be seen.
func follow(t *testing.T, data []byte) {
	t.Helper()
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	s := breaker.Settings{
		ConsecutiveFailures: uint32(1 + next()%6),
		OpenFor:             time.Duration(1+next()%4) * 700 * time.Millisecond,
		HalfOpenProbes:      uint32(1 + next()%3),
	}
	if n := next() % 4; n > 0 {
		s.FailureRatio, s.MinCalls, s.Window = float64(n)/4, uint32(1+next()%8), time.Duration(1+next()%3)*time.Second
	}
	var told []breaker.Change
	start := time.Now()
	b, err := breaker.New(s, func(c breaker.Change) { told = append(told, c) })
	if err != nil {
		t.Fatal(err)
	}
	m := &model{s: s}
	type pair struct {
		real  *breaker.Ticket
		model *call
	}
	var calls []pair
	for step := 0; len(data) > 0; step++ {
		now := time.Since(start)
		switch op := next(); op % 8 {
		case 0, 1, 2:
			ticket, err := b.Allow()
			c, retryAfter := m.allow(now)
			var refused *breaker.OpenError
			switch {
			case c == nil && (!errors.As(err, &refused) || refused.RetryAfter != retryAfter || refused.State != m.state):
				t.Fatalf("step %d, %v: %v, want refused by %v for %v", step, now, err, m.state, retryAfter)
			case c != nil && err != nil:
				t.Fatalf("step %d, %v: %v, want a ticket", step, now, err)
			case c != nil:
				calls = append(calls, pair{&ticket, c})
			}
		case 3, 4, 5:
			if len(calls) == 0 {
				continue
			}
			i, o := next()%len(calls), breaker.Outcome(op/8%4)
			if o > breaker.Failure {
				o = breaker.Failure
			}
			calls[i].real.Done(o)
			m.done(calls[i].model, o, now)
		case 6:
			time.Sleep(time.Duration(1+next()%16) * 50 * time.Millisecond)
		case 7:
			if op < 128 {
				m.at(now)
				if got := b.State(); got != m.state {
					t.Fatalf("step %d, %v: %v, want %v", step, now, got, m.state)
				}
			} else {
				b.Trip()
				m.trip(now)
			}
		}
		if len(told) != len(m.told) {
			t.Fatalf("step %d, %v: %d changes told, want %d", step, now, len(told), len(m.told))
		}
	}
	for i, c := range told {
		c.Time = time.Time{}
		if c != m.told[i] {
			t.Fatalf("change %d: %+v, want %+v", i, c, m.told[i])
		}
	}
}

func TestFollowsTheModel(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 5))
	for range 3000 {
		data := make([]byte, r.IntN(400))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		synctest.Test(t, func(t *testing.T) { follow(t, data) })
	}
}

func FuzzFollowsTheModel(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 0, 3 + 16, 0, 0, 3 + 16, 1, 6, 15, 6, 15, 0, 3 + 8, 2})
	f.Add([]byte{0, 0, 2, 2, 3, 1, 0, 3 + 16, 0, 7 + 128, 6, 15, 0, 0, 0, 3 + 8, 1, 3, 2, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { follow(t, data) })
	})
}
