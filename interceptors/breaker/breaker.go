package breaker

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// State is what a breaker does with calls.
type State uint8

// The states.
const (
	// Closed: calls are let through.
	Closed State = iota
	// HalfOpen: a few calls are let through, to see how they fare.
	HalfOpen
	// Open: calls are refused.
	Open
)

// String returns the state as records have it.
func (s State) String() string {
	names := [...]string{"closed", "half-open", "open"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// Outcome is what a call says about the callee.
type Outcome uint8

// The outcomes. Anything else is Ignored.
const (
	// Ignored: nothing, for instance because the caller went away.
	Ignored Outcome = iota
	// Success: it is well.
	Success
	// Failure: it is not.
	Failure
)

// Change is a breaker's going from one state to another.
type Change struct {
	From, To State
	Time     time.Time
	// OpenFor is how long the breaker stays open, if To is Open.
	OpenFor time.Duration
	// Remote says that [Breaker.Trip] did it. Whoever shares openings with other processes must not share these: they would
	// send them back and forth for ever.
	Remote bool
}

// OpenError is why a call was not let through.
type OpenError struct {
	// State is Open or HalfOpen.
	State State
	// RetryAfter is how long it takes, at the least, until a call may be let through: while the breaker is open, until it is
	// half-open; while it is half-open and its probes are under way, a second, or OpenFor if that is less.
	RetryAfter time.Duration
}

// Error implements error.
func (e *OpenError) Error() string {
	return fmt.Sprintf("breaker: the circuit is %v, try again in %v", e.State, e.RetryAfter)
}

// probeRetryAfter is how long who meets a half-open breaker is told to wait: nobody knows how long its probes take.
const probeRetryAfter = time.Second

// Breaker is a circuit breaker. It is safe for concurrent use.
//
// It opens at the call that is one failure too many; it becomes half-open at the first call, or the first question for its State,
// after OpenFor. It has no goroutine and no timer.
type Breaker struct {
	settings Settings
	onChange func(Change)
	started  time.Time

	// These are read without the lock, and changed with it. What a call in a closed breaker needs is here.
	now     atomic.Uint64 // a stamp
	until   atomic.Int64  // when an open breaker becomes half-open, in nanoseconds since started
	failing atomic.Bool   // the last outcome that was counted is a failure

	mu       sync.Mutex
	circuit  *gobreaker.CircuitBreaker[struct{}] // used under mu only; all of its callbacks run under mu
	tripping bool
	probes   []probe
	probeIDs uint64

	untold  []Change
	telling bool
}

// stamp is a state and how many changes there were before it. What a call says counts only while the breaker has the stamp that
// it had when the call began: a call from before an opening says nothing about the time after it.
type stamp uint64

func (s stamp) state() State         { return State(s & 3) }
func (s stamp) next(to State) stamp  { return (s>>2+1)<<2 | stamp(to) }
func (b *Breaker) stamp() stamp      { return stamp(b.now.Load()) }
func (b *Breaker) sinceStart() int64 { return int64(time.Since(b.started)) }

// probe is a call of a half-open breaker that has not ended.
type probe struct {
	id    uint64
	began int64
}

// New returns a closed breaker. onChange, which may be nil, is told of every change of state, in their order, each once, and one
// after the other. It runs on the goroutine of a call, or of whoever else uses the breaker, and holds it up; the changes that come
// meanwhile on other goroutines wait for it and are told by the same one. It may use the breaker. If it panics, the call panics,
// and the changes that follow are told all the same.
func New(s Settings, onChange func(Change)) (*Breaker, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	b := &Breaker{settings: s, onChange: onChange, started: time.Now()}
	cs := gobreaker.Settings{
		MaxRequests: s.HalfOpenProbes,
		// It waits for longer than its timeout; this makes it as long as OpenFor.
		Timeout:       s.OpenFor - 1,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return b.tripping || s.readyToTrip(c) },
		OnStateChange: func(_ string, from, to gobreaker.State) { b.changed(stateOf(from), stateOf(to)) },
	}
	if s.FailureRatio > 0 {
		cs.Interval, cs.BucketPeriod = s.Window, s.Window/windowSteps
	}
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](cs)
	return b, nil
}

func stateOf(s gobreaker.State) State {
	switch s {
	case gobreaker.StateClosed:
		return Closed
	case gobreaker.StateHalfOpen:
		return HalfOpen
	case gobreaker.StateOpen:
	}
	return Open
}

// State returns the state.
func (b *Breaker) State() State {
	if s := b.stamp().state(); s != Open || b.openFor() > 0 {
		return s
	}
	b.mu.Lock()
	defer b.unlock()
	return b.current().state()
}

// openFor returns how much longer an open breaker stays open.
func (b *Breaker) openFor() time.Duration { return time.Duration(b.until.Load() - b.sinceStart()) }

// current returns the stamp after the change, if it is due, from open to half-open. It needs the lock.
func (b *Breaker) current() stamp {
	b.circuit.State()
	return b.stamp()
}

// Allow lets a call through, or refuses it with an [*OpenError]. If it lets it through, the Ticket must be given its outcome.
func (b *Breaker) Allow() (Ticket, error) {
	now := b.stamp()
	switch now.state() {
	case Closed:
		return Ticket{breaker: b, stamp: now}, nil
	case Open:
		if left := b.openFor(); left > 0 {
			return Ticket{}, &OpenError{State: Open, RetryAfter: left}
		}
	case HalfOpen:
	}
	return b.allowProbe()
}

func (b *Breaker) allowProbe() (Ticket, error) {
	b.mu.Lock()
	defer b.unlock()
	now := b.current()
	switch now.state() {
	case Closed:
		return Ticket{breaker: b, stamp: now}, nil
	case Open:
		return Ticket{}, &OpenError{State: Open, RetryAfter: max(b.openFor(), 1)}
	case HalfOpen:
	}
	at := b.sinceStart()
	b.giveUpProbes(at)
	if uint64(len(b.probes))+uint64(b.circuit.Counts().TotalSuccesses) >= uint64(b.settings.HalfOpenProbes) {
		return Ticket{}, &OpenError{State: HalfOpen, RetryAfter: min(probeRetryAfter, b.settings.OpenFor)}
	}
	b.probeIDs++
	b.probes = append(b.probes, probe{id: b.probeIDs, began: at})
	return Ticket{breaker: b, stamp: now, probe: b.probeIDs}, nil
}

// giveUpProbes forgets the probes that have been under way for OpenFor.
func (b *Breaker) giveUpProbes(at int64) {
	b.probes = slices.DeleteFunc(b.probes, func(p probe) bool { return at-p.began >= int64(b.settings.OpenFor) })
}

// Trip opens the breaker as if too many calls had failed, for instance because another process says that its own has opened. An
// open breaker stays as it is. It is not told for how long: this breaker finds out by its own probes when all is well again.
func (b *Breaker) Trip() {
	b.mu.Lock()
	defer b.unlock()
	if b.current().state() == Open {
		return
	}
	b.tripping = true
	b.count(Failure)
	b.tripping = false
}

// Ticket is a call that was let through. It must not be copied once it is in use; the zero Ticket, which comes with a refusal,
// takes any outcome and does nothing.
type Ticket struct {
	breaker *Breaker
	stamp   stamp
	probe   uint64 // 0: the call is no probe
	done    atomic.Bool
}

// Probe reports whether the call is one of the few that a half-open breaker lets through. Others wait for what becomes of it.
func (t *Ticket) Probe() bool { return t.probe != 0 }

// Done says how the call ended. The first time counts. A call that began before the breaker last changed its state does not count,
// nor does a probe that was under way for OpenFor or longer: its place has been given to another.
func (t *Ticket) Done(o Outcome) {
	b := t.breaker
	if b == nil || t.done.Swap(true) || b.stamp() != t.stamp {
		return
	}
	if t.probe == 0 && !b.counts(o) {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	if b.stamp() != t.stamp || t.probe != 0 && !b.takeProbe(t.probe) {
		return
	}
	if o == Success || o == Failure {
		b.count(o)
	}
}

// counts says whether the outcome of a call that is no probe can change anything. Without a window, a success only ends a row of
// failures: where there is none, gobreaker need not hear of it.
func (b *Breaker) counts(o Outcome) bool {
	return o == Failure || o == Success && (b.settings.FailureRatio > 0 || b.failing.Load())
}

// takeProbe forgets a probe, and says whether it was known.
func (b *Breaker) takeProbe(id uint64) bool {
	b.giveUpProbes(b.sinceStart())
	i := slices.IndexFunc(b.probes, func(p probe) bool { return p.id == id })
	if i < 0 {
		return false
	}
	b.probes = slices.Delete(b.probes, i, i+1)
	return true
}

var errFailed = errors.New("failed")

// count tells gobreaker of an outcome, as a call that begins and ends at once, since it is here that places are counted. gobreaker
// refuses none of them: it is not open, and of a half-open one's probes no more are let through than it would.
func (b *Breaker) count(o Outcome) {
	b.failing.Store(o == Failure)
	_, _ = b.circuit.Execute(func() (struct{}, error) {
		if o == Failure {
			return struct{}{}, errFailed
		}
		return struct{}{}, nil
	})
}

// changed is gobreaker's callback. It runs under its lock and ours.
func (b *Breaker) changed(from, to State) {
	c := Change{From: from, To: to, Time: time.Now()}
	if to == Open {
		c.OpenFor, c.Remote = b.settings.OpenFor, b.tripping
		b.until.Store(int64(c.Time.Sub(b.started) + c.OpenFor))
	}
	b.failing.Store(false)
	b.probes = b.probes[:0]
	b.now.Store(uint64(b.stamp().next(to)))
	if b.onChange != nil {
		b.untold = append(b.untold, c)
	}
}

// unlock gives the lock back and tells of what changed, unless somebody is about to: then it is told there, in its turn.
func (b *Breaker) unlock() {
	if b.telling || len(b.untold) == 0 {
		b.mu.Unlock()
		return
	}
	b.telling = true
	b.tell()
}

// tell is called with the lock and returns without it.
func (b *Breaker) tell() {
	told := false
	defer func() {
		if !told { // onChange panicked, or ended its goroutine
			b.mu.Lock()
			b.tell()
		}
	}()
	for len(b.untold) > 0 {
		c := b.untold[0]
		b.untold = b.untold[1:]
		b.mu.Unlock()
		b.onChange(c)
		b.mu.Lock()
	}
	b.untold, b.telling, told = nil, false, true
	b.mu.Unlock()
}
