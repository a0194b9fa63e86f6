//go:build unix

package redisbreaker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// childOf is the variable of the environment that makes this test binary a process of its own, which shares with its parent.
const childOf = "REDISBREAKER_CHILD_OF"

func TestMain(m *testing.M) {
	if addr := os.Getenv(childOf); addr != "" {
		child(addr)
		return
	}
	logging.Disable()
	goleak.VerifyTestMain(m)
}

const (
	ledger = "spiffe://bank.test/ledger /bank.v1.Ledger/Transfer"
	fence  = "fence"

	// long is for waiting on what will happen, on a busy machine.
	long = 30 * time.Second
)

// side is one process's part: a sharer and a breaker, whose changes can be waited for.
type side struct {
	*Sharer
	*breaker.Breaker

	changes chan breaker.Change
	leave   func()
}

func newSharer(t *testing.T, client *redis.Client, opts ...Option) *Sharer {
	t.Helper()
	s, err := New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// join makes a breaker, opens it by one failure, and has it join s.
func join(t *testing.T, s *Sharer, name string, openFor time.Duration) *side {
	t.Helper()
	j := &side{Sharer: s, changes: make(chan breaker.Change, 100)}
	b, err := breaker.New(breaker.Settings{ConsecutiveFailures: 1, OpenFor: openFor}, func(c breaker.Change) {
		s.Changed(name, c)
		j.changes <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	j.Breaker = b
	if j.leave, err = s.Join(name, b); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *side) call(t *testing.T, o breaker.Outcome) {
	t.Helper()
	ticket, err := j.Allow()
	if err != nil {
		t.Fatal(err)
	}
	ticket.Done(o)
}

// next waits for a change and compares it.
func (j *side) next(t *testing.T, to breaker.State, remote bool) {
	t.Helper()
	select {
	case c := <-j.changes:
		if c.To != to || c.Remote != remote {
			t.Fatalf("to %v, remote %v; want %v, %v", c.To, c.Remote, to, remote)
		}
	case <-time.After(long):
		t.Fatalf("waited in vain for %v; %+v", to, j.Stats())
	}
}

func (j *side) noMore(t *testing.T) {
	t.Helper()
	select {
	case c := <-j.changes:
		t.Errorf("%v to %v, remote %v", c.From, c.To, c.Remote)
	default:
	}
}

// until waits for what takes its time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (j *side) untilSubscribed(t *testing.T) *side {
	t.Helper()
	until(t, "the subscription", func() bool { return j.Stats().Subscribed })
	return j
}

func TestOpeningIsSharedOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	sa, sb := newSharer(t, server.Client(t)), newSharer(t, server.Client(t))
	a, b := join(t, sa, ledger, time.Hour).untilSubscribed(t), join(t, sb, ledger, time.Hour).untilSubscribed(t)
	other := join(t, sb, "another", time.Hour)
	afterA, afterB := join(t, sa, fence, time.Hour), join(t, sb, fence, time.Hour)

	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	b.next(t, breaker.Open, true)
	// Messages keep their order. If b had sent the opening back, it would have come before this one.
	afterB.call(t, breaker.Failure)
	afterB.next(t, breaker.Open, false)
	afterA.next(t, breaker.Open, true)
	for _, j := range []*side{a, b, other, afterA, afterB} {
		j.noMore(t)
	}
	if s := other.State(); s != breaker.Closed {
		t.Errorf("another name: %v", s)
	}
	until(t, "the counts", func() bool { return sa.Stats().Published == 1 && sb.Stats().Published == 1 })
	want := Stats{Published: 1, Received: 1, Subscribed: true}
	if got := sa.Stats(); got != want {
		t.Errorf("a: %+v, want %+v", got, want)
	}
	if got := sb.Stats(); got != want {
		t.Errorf("b: %+v, want %+v", got, want)
	}
}

// Each process heals by its own probes, and what heals in one does not close another.
func TestEachHealsByItself(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const openFor = 2 * time.Second
	a := join(t, newSharer(t, server.Client(t)), ledger, openFor).untilSubscribed(t)
	b := join(t, newSharer(t, server.Client(t)), ledger, openFor).untilSubscribed(t)
	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	b.next(t, breaker.Open, true)
	until(t, "half-open", func() bool { return a.State() == breaker.HalfOpen && b.State() == breaker.HalfOpen })
	a.next(t, breaker.HalfOpen, false)
	b.next(t, breaker.HalfOpen, false)
	b.call(t, breaker.Success)
	b.next(t, breaker.Closed, false)
	if s := a.State(); s != breaker.HalfOpen {
		t.Errorf("a is %v when b has healed", s)
	}
	// A probe that fails is an opening like any other.
	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	b.next(t, breaker.Open, true)
}

func TestLateJoiner(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	a := join(t, newSharer(t, client), ledger, time.Hour)
	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	until(t, "publication", func() bool { return a.Stats().Published == 1 })
	b := join(t, newSharer(t, server.Client(t)), ledger, time.Hour)
	b.next(t, breaker.Open, true)
	// So does one that joins the same sharer.
	c := join(t, a.Sharer, ledger, time.Hour)
	c.next(t, breaker.Open, true)
	if left := client.PTTL(t.Context(), a.key(ledger)).Val(); left <= 59*time.Minute || left > time.Hour {
		t.Errorf("the key lives for %v", left)
	}
	a.noMore(t)
}

func TestKeyLivesAsLongAsTheOpening(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	a := join(t, newSharer(t, client), ledger, 50*time.Millisecond)
	a.call(t, breaker.Failure)
	until(t, "publication", func() bool { return a.Stats().Published == 1 })
	until(t, "the end of the key", func() bool { return client.DBSize(t.Context()).Val() == 0 })
}

// Two clients of one process, with breakers of the same name: they need no Redis to hear of each other.
func TestSameNameInOneProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	s := newSharer(t, server.Client(t))
	a, b, left := join(t, s, ledger, time.Hour), join(t, s, ledger, time.Hour), join(t, s, ledger, time.Hour)
	left.leave()
	left.leave()
	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	if st := b.State(); st != breaker.Open {
		t.Errorf("the other: %v", st)
	}
	b.next(t, breaker.Open, true)
	if st := left.State(); st != breaker.Closed {
		t.Errorf("one that has left: %v", st)
	}
}

// What is not an opening of a breaker's own goes nowhere.
func TestWhatIsNotShared(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	s := newSharer(t, server.Client(t))
	now := time.Now()
	for name, c := range map[string]breaker.Change{
		"remote":    {From: breaker.Closed, To: breaker.Open, Time: now, OpenFor: time.Hour, Remote: true},
		"closed":    {From: breaker.HalfOpen, To: breaker.Closed, Time: now},
		"half-open": {From: breaker.Open, To: breaker.HalfOpen, Time: now},
		"long ago":  {From: breaker.Closed, To: breaker.Open, Time: now.Add(-time.Minute), OpenFor: time.Minute},
		"zero":      {},
	} {
		s.Changed(name, c)
	}
	opened := breaker.Change{From: breaker.Closed, To: breaker.Open, Time: now, OpenFor: time.Hour}
	s.Changed("", opened)
	s.Changed(strings.Repeat("n", maxName+1), opened)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) != 0 {
		t.Errorf("queued: %+v", s.queue)
	}
}

// Whoever can write to Redis can send anything. None of it does more than open a breaker of a known name.
func TestUntrustedMessages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	b := join(t, newSharer(t, client), ledger, time.Hour).untilSubscribed(t)
	id := strings.Repeat("ab", idSize)
	messages := []string{
		"", "1", "nonsense", "1 " + id + " 1", "1 " + id + " x " + ledger, "2 " + id + " 1 " + ledger, "1 " + id + " 1 unknown",
		"1 " + id + " 1 " + ledger + "x", "1 " + id + " 1 " + ledger[1:], strings.Repeat("x", 1<<20), "1 " + id + " 1 " + strings.Repeat("x", 1<<20),
		"\x00\xff\r\n",
	}
	for _, m := range messages {
		if err := client.Publish(t.Context(), b.channel(), m).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		if err := client.Publish(t.Context(), b.channel(), messageOf(valueOf(id, uint64(i)), fmt.Sprintf("invented-%d", i))).Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := uint64(len(messages) + 1000)
	until(t, "all messages", func() bool { return b.Stats().Ignored == want })
	if s := b.State(); s != breaker.Closed {
		t.Errorf("the breaker is %v", s)
	}
	b.mu.Lock()
	if len(b.members) != 1 || len(b.lookup) != 0 || len(b.queue) != 0 {
		t.Errorf("%d names, %d look-ups, %d openings are kept", len(b.members), len(b.lookup), len(b.queue))
	}
	b.mu.Unlock()
	// The real one is heard, and the second time it is not new.
	genuine := messageOf(valueOf(id, 5), ledger)
	for _, m := range []string{genuine, genuine, "the end"} {
		if err := client.Publish(t.Context(), b.channel(), m).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b.next(t, breaker.Open, true)
	until(t, "the end", func() bool { return b.Stats().Ignored == want+1 })
	if got := b.Stats().Received; got != 1 {
		t.Errorf("%d received", got)
	}
}

// Keys that no sharer wrote open nothing, and do not keep others from being read.
func TestUntrustedKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := newSharer(t, client)
	value := valueOf(strings.Repeat("ab", idSize), 1)
	ctx := t.Context()
	for name, set := range map[string]error{
		"for ever":   client.Set(ctx, s.key("for ever"), value, 0).Err(),
		"too long":   client.Set(ctx, s.key("too long"), value, maxOpenFor+time.Hour).Err(),
		"nonsense":   client.Set(ctx, s.key("nonsense"), "nonsense", time.Minute).Err(),
		"longer":     client.Set(ctx, s.key("longer"), value+strings.Repeat("1", 1<<20), time.Minute).Err(),
		"a list":     client.LPush(ctx, s.key("a list"), value).Err(),
		"well":       client.Set(ctx, s.key("well"), value, time.Minute).Err(),
		"the prefix": client.Set(ctx, s.prefix, value, time.Minute).Err(),
	} {
		if set != nil {
			t.Fatalf("%s: %v", name, set)
		}
	}
	var all []*side
	for _, name := range []string{"for ever", "too long", "nonsense", "longer", "a list", "the prefix", "absent"} {
		all = append(all, join(t, s, name, time.Hour))
	}
	join(t, s, "well", time.Hour).next(t, breaker.Open, true)
	until(t, "all look-ups", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.lookup) == 0 })
	// One that is read after all of these.
	join(t, s, "well", time.Hour).next(t, breaker.Open, true)
	for _, j := range all {
		j.noMore(t)
	}
	if got := s.Stats().Errors; got != 0 {
		t.Errorf("%d errors", got)
	}
}

// Other prefixes are other worlds.
func TestPrefix(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := join(t, newSharer(t, server.Client(t), WithPrefix("blue:")), ledger, time.Hour).untilSubscribed(t)
	b := join(t, newSharer(t, server.Client(t), WithPrefix("green:")), ledger, time.Hour).untilSubscribed(t)
	c := join(t, newSharer(t, server.Client(t), WithPrefix("blue:")), ledger, time.Hour).untilSubscribed(t)
	a.call(t, breaker.Failure)
	c.next(t, breaker.Open, true)
	late := join(t, b.Sharer, ledger, time.Hour)
	until(t, "the look-up", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.lookup) == 0 })
	if b.State() != breaker.Closed || late.State() != breaker.Closed {
		t.Error("the other prefix heard of it")
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	if _, err := New(nil); err == nil || err.Error() != "redisbreaker: there is no client" {
		t.Errorf("no client: %v", err)
	}
	server := redistest.Start(t)
	if _, err := New(server.Client(t), WithPrefix("x"), nil); err == nil || err.Error() != "redisbreaker: option 1 is nil" {
		t.Errorf("a nil option: %v", err)
	}
	s := newSharer(t, server.Client(t))
	b, err := breaker.New(breaker.Settings{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Join("", b); err == nil || err.Error() != "redisbreaker: the name of a breaker has 1 to 4096 bytes, not 0" {
		t.Errorf("no name: %v", err)
	}
	if _, err := s.Join(strings.Repeat("x", 4097), b); err == nil || err.Error() != "redisbreaker: the name of a breaker has 1 to 4096 bytes, not 4097" {
		t.Errorf("a long name: %v", err)
	}
	if _, err := s.Join("x", nil); err == nil || err.Error() != "redisbreaker: there is no breaker for x" {
		t.Errorf("no breaker: %v", err)
	}
	leave, err := s.Join("x", b)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	leave()
	if _, err := s.Join("x", b); err == nil || err.Error() != "redisbreaker: the sharer is closed" {
		t.Errorf("closed: %v", err)
	}
	s.Changed("x", breaker.Change{To: breaker.Open, Time: time.Now(), OpenFor: time.Hour})
	if len(s.queue) != 0 {
		t.Error("a closed sharer queues")
	}
}

// Redis is killed: breakers open by themselves as before. It comes back, empty: both find it, and what is still true is told.
func TestRedisKilled(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	told := make(chan error, 10000)
	a := join(t, newSharer(t, server.Client(t), WithErrorHandler(func(err error) { told <- err })), ledger, time.Hour).untilSubscribed(t)
	b := join(t, newSharer(t, server.Client(t)), ledger, time.Hour).untilSubscribed(t)
	server.Kill()
	until(t, "both to notice", func() bool { return !a.Stats().Subscribed && !b.Stats().Subscribed })
	a.call(t, breaker.Failure)
	a.next(t, breaker.Open, false)
	b.call(t, breaker.Success)
	b.noMore(t)
	until(t, "errors", func() bool { return a.Stats().Errors > 1 })
	if err := <-told; err == nil || !strings.HasPrefix(err.Error(), "redisbreaker: ") {
		t.Errorf("told %v", err)
	}
	server.Restart()
	b.next(t, breaker.Open, true)
	a.untilSubscribed(t)
	b.untilSubscribed(t)
	until(t, "publication", func() bool { return a.Stats().Published == 1 })
	a.noMore(t)
	b.noMore(t)
}

// Redis is not there when the program starts.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	a := join(t, newSharer(t, server.Client(t)), ledger, time.Hour)
	b := join(t, newSharer(t, server.Client(t)), ledger, time.Hour)
	a.call(t, breaker.Failure)
	b.call(t, breaker.Success)
	until(t, "errors", func() bool { return a.Stats().Errors > 1 && b.Stats().Errors > 1 })
	server.Restart()
	b.next(t, breaker.Open, true)
}

// A subscription that is cut misses a message, and reads the key instead.
func TestMissedMessage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	b := join(t, newSharer(t, server.Client(t)), ledger, time.Hour).untilSubscribed(t)
	// Nobody publishes this one, as if it had been while b was cut off.
	if err := client.Set(t.Context(), b.key(ledger), valueOf(newID(), 1), time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	b.noMore(t)
	if err := client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	b.next(t, breaker.Open, true)
	// Cut again, it finds the same key, which is no news.
	errs := b.Stats().Errors
	if err := client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the cut", func() bool { return b.Stats().Errors > errs })
	b.untilSubscribed(t)
	until(t, "the look-up", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.lookup) == 0 })
	b.noMore(t)
}

// A Redis that accepts connections and does not answer holds up neither a call nor Close, and no more openings are kept than there
// is room for.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*redistest.Server) *redis.Options{
		"a strict client":  (*redistest.Server).Options,
		"a default client": func(s *redistest.Server) *redis.Options { return &redis.Options{Addr: s.Addr()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			s, err := New(redistest.Client(t, options(server)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			a := join(t, s, ledger, time.Hour).untilSubscribed(t)
			server.Pause()
			a.call(t, breaker.Failure)
			start := time.Now()
			const more = 1000
			for i := range more {
				s.Changed(fmt.Sprintf("name-%d", i), breaker.Change{To: breaker.Open, Time: time.Now(), OpenFor: time.Hour})
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("%d openings took %v", more, took)
			}
			until(t, "an error", func() bool { return s.Stats().Errors > 0 })
			if got, want := s.Stats().Dropped, uint64(1+more-queueSize); got != want {
				t.Errorf("%d dropped, want %d", got, want)
			}
			start = time.Now()
			s.Close()
			if took := time.Since(start); took > 10*commandTimeout {
				t.Errorf("Close took %v", took)
			}
			if got := s.Stats().Dropped; got != 1+more {
				t.Errorf("%d dropped in the end", got)
			}
			server.Resume()
		})
	}
}

// Nor does one that stops answering in the middle of an exchange hold up Close for longer than an exchange takes.
func TestCloseWhileRedisIsFrozen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := New(redistest.Client(t, &redis.Options{Addr: server.Addr()}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := join(t, s, ledger, time.Hour).untilSubscribed(t)
	server.Pause()
	defer server.Resume()
	a.call(t, breaker.Failure)
	start := time.Now()
	s.Close()
	if took := time.Since(start); took > 5*commandTimeout {
		t.Errorf("Close took %v", took)
	}
}

// A connection that died without a word is noticed by its silence.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	errs := make(chan error, 10000)
	quick := func(s *Sharer) { s.silence = 50 * time.Millisecond }
	b := join(t, newSharer(t, server.Client(t), quick, WithErrorHandler(func(err error) { errs <- err })), ledger, time.Hour).untilSubscribed(t)
	server.Pause()
	for {
		if err := <-errs; errors.Is(err, errSilent) {
			break
		}
	}
	server.Resume()
	b.untilSubscribed(t)
	a := join(t, newSharer(t, server.Client(t)), ledger, time.Hour)
	a.call(t, breaker.Failure)
	b.next(t, breaker.Open, true)
}

// An opening that waited for Redis until the breaker was not open any more is not told.
func TestOldOpeningsAreNotTold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	s := newSharer(t, server.Client(t))
	a := join(t, s, ledger, 50*time.Millisecond)
	a.call(t, breaker.Failure)
	until(t, "half-open", func() bool { return a.State() == breaker.HalfOpen })
	until(t, "it to be dropped", func() bool { return s.Stats().Dropped == 1 })
	if got := s.Stats().Published; got != 0 {
		t.Errorf("%d published", got)
	}
}

// The callback of a breaker that panics when it is tripped does not end the process, nor the sharing.
func TestCallbackPanics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	errs := make(chan error, 10000)
	s := newSharer(t, server.Client(t), WithErrorHandler(func(err error) { errs <- err }))
	b, err := breaker.New(breaker.Settings{}, func(breaker.Change) { panic("the callback") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Join(ledger, b); err != nil {
		t.Fatal(err)
	}
	after := join(t, s, fence, time.Hour).untilSubscribed(t)
	a := newSharer(t, server.Client(t))
	join(t, a, ledger, time.Hour).call(t, breaker.Failure)
	if err, want := <-errs, "panic: the callback"; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if b.State() != breaker.Open {
		t.Error("the breaker is not open")
	}
	join(t, a, fence, time.Hour).call(t, breaker.Failure)
	after.next(t, breaker.Open, true)
}

// More names than are read at once.
func TestManyNames(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := newSharer(t, server.Client(t)), newSharer(t, server.Client(t))
	const names = 3*lookupSize + 1
	for i := range names {
		join(t, a, fmt.Sprint(i), time.Hour).call(t, breaker.Failure)
		until(t, "publication", func() bool { return a.Stats().Published == uint64(i)+1 })
	}
	var all []*side
	for i := range names {
		all = append(all, join(t, b, fmt.Sprint(i), time.Hour))
	}
	for _, j := range all {
		j.next(t, breaker.Open, true)
	}
}

// child is a process of its own: it says when its breaker has opened, and what its next call meets.
func child(addr string) {
	client := redis.NewClient(redistest.Options(addr))
	defer client.Close()
	s, err := New(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	opened := make(chan breaker.Change, 1)
	b, err := breaker.New(breaker.Settings{}, func(c breaker.Change) { s.Changed(ledger, c); opened <- c })
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Join(ledger, b); err != nil {
		fmt.Println(err)
		return
	}
	for end := time.Now().Add(long); !s.Stats().Subscribed && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println("joined")
	select {
	case c := <-opened:
		_, err := b.Allow()
		var refused *breaker.OpenError
		fmt.Println(c.To, c.Remote, errors.As(err, &refused))
	case <-time.After(long):
		fmt.Println("waited in vain")
	}
}

func TestFourProcesses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var outputs []*bufio.Scanner
	for range 3 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childOf+"="+server.Addr())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() })
		outputs = append(outputs, bufio.NewScanner(out))
	}
	read := func() (lines []string) {
		for _, out := range outputs {
			out.Scan()
			lines = append(lines, out.Text())
		}
		return lines
	}
	if got, want := read(), []string{"joined", "joined", "joined"}; !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	a := join(t, newSharer(t, server.Client(t)), ledger, time.Hour)
	a.call(t, breaker.Failure)
	if got, want := read(), []string{"open true true", "open true true", "open true true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
