//go:build unix

package redislimit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// serve accepts connections and gives each to f, until the test ends.
func serve(t testing.TB, f func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() { f(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// late is a Redis whose answers come late.
func late(t testing.TB, server *redistest.Server, delay *atomic.Int64) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		defer conn.Close()
		up, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			_, _ = io.Copy(up, conn)
			up.Close()
		}()
		b := make([]byte, 1<<16)
		for {
			n, err := up.Read(b)
			if err != nil {
				return
			}
			time.Sleep(time.Duration(delay.Load()))
			if _, err := conn.Write(b[:n]); err != nil {
				return
			}
		}
	})
}

// saying is a server that gives one answer to every command.
func saying(t testing.TB, answer string) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			words, _ := strconv.Atoi(strings.Trim(line, "*\r\n"))
			for range 2 * words { // each is its length and itself
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
			}
			if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
				return
			}
		}
	})
}

// slack is what a busy machine may add to a deadline; what is tested for is seconds.
const slack = 250 * time.Millisecond

// faults are ways in which Redis does not answer. Each returns a client of such a Redis.
var faults = map[string]func(testing.TB) *redis.Client{
	"accepts and never answers": func(t testing.TB) *redis.Client {
		return redistest.Client(t, redistest.Options(serve(t, func(net.Conn) {})))
	},
	"refuses connections": func(t testing.TB) *redis.Client {
		server := redistest.Start(t)
		server.Kill()
		return server.Client(t)
	},
	"refuses connections, and go-redis dials five times": func(t testing.TB) *redis.Client {
		server := redistest.Start(t)
		server.Kill()
		options := server.Options()
		options.DialerRetries, options.DialTimeout = 0, 0
		return redistest.Client(t, options)
	},
	"stops while connected": func(t testing.TB) *redis.Client {
		server := redistest.Start(t)
		client := server.Client(t)
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		server.Pause()
		return client
	},
	"stops before": func(t testing.TB) *redis.Client {
		server := redistest.Start(t)
		server.Pause()
		return server.Client(t)
	},
	"a dialer that does not look at its context": func(t testing.TB) *redis.Client {
		options := redistest.Options("127.0.0.1:1")
		end := make(chan struct{})
		options.Dialer = func(context.Context, string, string) (net.Conn, error) {
			<-end
			return nil, errors.New("the test is over")
		}
		client := redistest.Client(t, options)
		t.Cleanup(func() { close(end) })
		return client
	},
	"closes every connection": func(t testing.TB) *redis.Client {
		return redistest.Client(t, redistest.Options(serve(t, func(c net.Conn) { c.Close() })))
	},
	"sends one byte of an answer": func(t testing.TB) *redis.Client {
		return redistest.Client(t, redistest.Options(serve(t, func(c net.Conn) { _, _ = c.Write([]byte("*")) })))
	},
}

// timed runs f several times, and fails if it took longer than allowed.
func timed(t *testing.T, what string, allowed time.Duration, f func()) {
	t.Helper()
	var longest time.Duration
	for range 3 {
		start := time.Now()
		f()
		longest = max(longest, time.Since(start))
	}
	t.Logf("%s: %v at most, %v are allowed", what, longest, allowed)
	if longest > allowed+slack {
		t.Errorf("%s took %v, %v are allowed", what, longest, allowed)
	}
}

// Whatever Redis does: Take is back when its context is done, and says that it knows nothing. Then nobody waits any more.
func TestTakeReturnsInTime(t *testing.T) {
	t.Parallel()
	for name, broken := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, lease := range []uint64{0, 10} {
				demands := []ratelimit.Demand{demand(slow("l", 100, lease), key("a"), 1)}
				fails := func(s *Store, ctx context.Context) {
					if r, _, err := s.Take(ctx, demands); err == nil || r.Allowed {
						t.Errorf("%+v, %v", r, err)
					}
				}
				client := broken(t)
				deadlines, defaults, cancels := newStore(t, client), newStore(t, client), newStore(t, client)
				timed(t, "a deadline of 20 ms", 20*time.Millisecond, func() {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
					defer cancel()
					fails(deadlines, ctx)
				})
				timed(t, "no deadline", defaultPatience, func() { fails(defaults, context.Background()) })
				timed(t, "canceled after 10 ms", 10*time.Millisecond, func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					time.AfterFunc(10*time.Millisecond, cancel)
					fails(cancels, ctx)
				})
				eventually(t, "the store does not ask any more", func() bool {
					_, _, err := defaults.Take(context.Background(), demands)
					return errors.Is(err, ErrDown)
				})
				timed(t, "down", 0, func() { fails(defaults, context.Background()) })
				if got := defaults.Stats(); !got.Down || got.Failures < tripAfter || got.Refused == 0 {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// A context that is done needs no Redis.
func TestContextDone(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := s.Take(ctx, []ratelimit.Demand{demand(slow("l", 1, 0), key("a"), 1)})
	wantError(t, err, "redislimit: no answer: context canceled")
	if !errors.Is(err, context.Canceled) {
		t.Error("it is not context.Canceled")
	}
	if got := s.Stats(); got.Trips != 0 {
		t.Errorf("%+v", got)
	}
}

// Answers that are errors: each is one of Take, and counts as a failure.
func TestErrorsOfRedis(t *testing.T) {
	t.Parallel()
	limit := slow("l", 100, 0)
	for name, c := range map[string]struct {
		client func(*testing.T) *redis.Client
		want   string
	}{
		"OOM": {func(t *testing.T) *redis.Client {
			client := redistest.Start(t).Client(t)
			client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction")
			client.ConfigSet(t.Context(), "maxmemory", "1")
			return client
		}, "OOM command not allowed"},
		"READONLY": {func(t *testing.T) *redis.Client {
			client := redistest.Start(t).Client(t)
			client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1")
			return client
		}, "READONLY "},
		"WRONGTYPE": {func(t *testing.T) *redis.Client {
			client := redistest.Start(t).Client(t)
			id := mustPlan(t, limit.Limit).digest(key("a"))
			client.RPush(t.Context(), (&Store{prefix: defaultPrefix}).redisKey(&id), "x")
			return client
		}, "WRONGTYPE "},
		"LOADING": {func(t *testing.T) *redis.Client {
			return redistest.Client(t, redistest.Options(saying(t, "-LOADING Redis is loading the dataset in memory")))
		}, "LOADING "},
		"NOSCRIPT twice": {func(t *testing.T) *redis.Client {
			return redistest.Client(t, redistest.Options(saying(t, "-NOSCRIPT No matching script")))
		}, "NOSCRIPT "},
		"no Redis": {func(t *testing.T) *redis.Client {
			return redistest.Client(t, redistest.Options(saying(t, "+HTTP/1.1 200 OK")))
		}, ""},
		"an answer of another script": {func(t *testing.T) *redis.Client {
			return redistest.Client(t, redistest.Options(saying(t, "*2\r\n:0\r\n:0")))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, c.client(t))
			check(t, s, &ratelimit.Shared{Name: limit.Name, Limit: limit.Limit})
			demands := []ratelimit.Demand{demand(&ratelimit.Shared{Name: "l", Limit: limit.Limit}, key("a"), 1)}
			for range tripAfter {
				_, _, err := s.Take(patient(t), demands)
				if err == nil || !strings.HasPrefix(err.Error(), "redislimit: redis: ") || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want one with %q", err, c.want)
				}
			}
			if _, _, err := s.Take(patient(t), demands); !errors.Is(err, ErrDown) {
				t.Errorf("after %d failures: %v", tripAfter, err)
			}
		})
	}
}

// Callers who leave at once, or have hardly any time, do not make a Redis look broken that only needs a moment.
func TestHastyCallersAreNoFailure(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var delay atomic.Int64
	s := newExactStore(t, redistest.Client(t, redistest.Options(late(t, server, &delay))))
	demands := []ratelimit.Demand{demand(slow("l", 1000, 0), key("a"), 1)}
	take(t, s, demands...)
	delay.Store(int64(10 * time.Millisecond))
	for i := range 4 * tripAfter {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if i%2 == 0 {
			time.AfterFunc(time.Millisecond/2, cancel)
		}
		if _, _, err := s.Take(ctx, demands); err == nil {
			t.Error("an answer came before it was sent")
		}
		cancel()
	}
	if _, _, err := s.Take(patient(t), demands); err != nil || s.Stats().Down || s.Stats().Failures > 0 {
		t.Errorf("%v; %+v", err, s.Stats())
	}
}

// But a Redis that does not answer is noticed, whatever the callers do.
func TestHastyCallersDoNotHideAFailure(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Client(t, redistest.Options(serve(t, func(net.Conn) {}))))
	eventually(t, "Redis is down", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		_, _, err := s.Take(ctx, []ratelimit.Demand{demand(slow("l", 1000, 0), key("a"), 1)})
		return errors.Is(err, ErrDown)
	})
}

// An answer that comes too late is nobody's: later ones are not shifted by it.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var delay atomic.Int64
	s := newStore(t, redistest.Client(t, redistest.Options(late(t, server, &delay))))
	full, empty := slow("full", 1_000_000, 0), slow("empty", 1, 0)
	take(t, s, demand(full, nil, 1))
	take(t, s, demand(empty, nil, 1))
	for range 2 {
		delay.Store(int64(2 * defaultPatience))
		for range tripAfter {
			if _, _, err := s.Take(context.Background(), []ratelimit.Demand{demand(full, nil, 1)}); err == nil {
				t.Error("an answer came before it was sent")
			}
		}
		delay.Store(0)
		eventually(t, "Redis is asked again", func() bool {
			_, _, err := s.Take(patient(t), []ratelimit.Demand{demand(full, nil, 1)})
			return err == nil && !s.Stats().Down
		})
		for range 50 {
			if r, _ := take(t, s, demand(empty, nil, 1)); r.Allowed {
				t.Fatal("an empty limit allowed something")
			}
			if r, _ := take(t, s, demand(full, nil, 1)); !r.Allowed {
				t.Fatal("a full limit allowed nothing")
			}
		}
	}
}

// changeLog notes changes, and looks at the store meanwhile, which must not block.
type changeLog struct {
	mu    sync.Mutex
	store *Store
	all   []Change
}

func (l *changeLog) note(c Change) {
	l.store.Stats()
	l.store.Take(context.Background(), []ratelimit.Demand{demand(slow("log", 10, 0), nil, 1)})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, c)
}

func (l *changeLog) get() []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Change(nil), l.all...)
}

// kill -9 under load, twice: no call waits longer than it may, most do not wait at all, and when Redis is back, it is used again.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := &changeLog{}
	s := newStore(t, server.Client(t), WithOnChange(log.note))
	log.store = s
	var longest atomic.Int64
	var failed atomic.Uint64
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer workers.Wait()
	defer cancel()
	for i := range 8 {
		workers.Go(func() {
			demands := []ratelimit.Demand{
				demand(&ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 1_000_000, Per: time.Second}, Lease: uint64(i % 2 * 20)}, key("a"), 1),
			}
			for ctx.Err() == nil {
				start := time.Now()
				if _, _, err := s.Take(context.Background(), demands); err != nil {
					failed.Add(1)
					time.Sleep(time.Millisecond)
				}
				if d := int64(time.Since(start)); d > longest.Load() {
					longest.Store(d)
				}
			}
		})
	}
	for round := range 2 {
		eventually(t, "Redis is asked", func() bool { return !s.Stats().Down && s.Stats().Trips > 100 })
		server.Kill()
		eventually(t, "the store is down, and says so", func() bool { return s.Stats().Down && len(log.get()) == 2*round+1 })
		before := s.Stats()
		time.Sleep(1500 * time.Millisecond) // and is tried about once a second
		if probes := s.Stats().Trips - before.Trips; probes > 4 {
			t.Errorf("asked %d times in 1.5 s of being down", probes)
		}
		server.Restart()
		restarted := time.Now()
		eventually(t, "the store is up, and says so", func() bool { return !s.Stats().Down && len(log.get()) == 2*round+2 })
		t.Logf("healed %v after the restart", time.Since(restarted).Round(time.Millisecond))
	}
	cancel()
	workers.Wait()
	t.Logf("longest call %v, %d failed, %+v", time.Duration(longest.Load()), failed.Load(), s.Stats())
	if longest := time.Duration(longest.Load()); longest > defaultPatience+2*slack {
		t.Errorf("a call took %v", longest)
	}
	for i, c := range log.get() {
		if up := i%2 == 1; c.Up != up || (c.Err == nil) != up {
			t.Errorf("change %d: %+v", i, c)
		}
	}
}

// All connections are taken, by others or by their own slow trips: Take is back in time, and that says nothing about Redis.
func TestNoConnectionIsNoFailure(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		change func(*redis.Options)
		want   string
	}{
		"the deadline ends the wait":    {func(*redis.Options) {}, "context deadline exceeded"},
		"go-redis ends the wait":        {func(o *redis.Options) { o.PoolTimeout = time.Millisecond }, redis.ErrPoolTimeout.Error()},
		"there must not be another one": {func(o *redis.Options) { o.PoolSize, o.MaxActiveConns = 2, 1 }, redis.ErrPoolExhausted.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := server.Options()
			options.PoolSize = 1
			c.change(options)
			client := redistest.Client(t, options)
			conn := client.Conn()
			defer conn.Close()
			if err := conn.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			s := newStore(t, client)
			demands := []ratelimit.Demand{demand(slow("l", 100, 0), key(name), 1)}
			for range 2 * tripAfter {
				start := time.Now()
				r, _, err := s.Take(context.Background(), demands)
				if err == nil || r.Allowed || errors.Is(err, ErrDown) {
					t.Errorf("%+v, %v", r, err)
				}
				if d := time.Since(start); d > defaultPatience+slack {
					t.Errorf("it took %v", d)
				}
			}
			_, err := s.run(canceledAfter(t, 10*time.Millisecond), []part{somePart(t)}, 10*time.Millisecond)
			wantError(t, err, errNotAsked.Error()+": "+c.want)
			conn.Close()
			take(t, s, demands...)
			if got := s.Stats(); got.Down || got.Failures > 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func canceledAfter(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func somePart(t *testing.T) part {
	t.Helper()
	p := mustPlan(t, ratelimit.Limit{Permits: 1, Per: time.Hour})
	return part{plan: p, id: p.digest(nil), cost: 1, least: 1, most: 1}
}

// A connection comes so late that Redis has hardly any time left: that it does not answer in it says nothing.
func TestLateConnectionIsNoFailure(t *testing.T) {
	t.Parallel()
	var delay atomic.Int64
	options := redistest.Options(late(t, redistest.Start(t), &delay))
	options.PoolSize = 1
	client := redistest.Client(t, options)
	s := newStore(t, client)
	for _, c := range []struct {
		taken    time.Duration
		notAsked bool
	}{{900 * time.Millisecond, true}, {0, false}} {
		delay.Store(0)
		conn := client.Conn()
		if err := conn.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		delay.Store(int64(3 * time.Second))
		if c.taken == 0 {
			conn.Close()
		} else {
			time.AfterFunc(c.taken, func() { conn.Close() })
		}
		_, err := s.run(canceledAfter(t, time.Second), []part{somePart(t)}, time.Second)
		if err == nil || errors.Is(err, errNotAsked) != c.notAsked {
			t.Errorf("taken for %v: %v", c.taken, err)
		}
	}
}

// Reports that panic: the process lives, and the others are reported.
func TestChangesPanic(t *testing.T) {
	t.Parallel()
	var got []bool
	c := changes{report: func(change Change) {
		got = append(got, change.Up)
		panic("the caller's")
	}}
	for range 3 {
		c.add(Change{})
		c.add(Change{Up: true})
		c.deliver()
	}
	if want := []bool{false, true, false, true, false, true}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Changes are reported one at a time and in order, by whoever is there.
func TestChanges(t *testing.T) {
	t.Parallel()
	var c changes
	var got []string
	var busy atomic.Bool
	c.report = func(change Change) {
		if !busy.CompareAndSwap(false, true) {
			t.Error("two reports at once")
		}
		got = append(got, change.Err.Error())
		if len(got) < 5 {
			c.add(change)
			c.deliver() // from within a report, which reports it next
		}
		busy.Store(false)
	}
	var workers sync.WaitGroup
	c.add(Change{Err: errors.New("first")})
	for i := range 20 {
		workers.Go(func() {
			c.add(Change{Err: errors.New(fmt.Sprint(i))})
			c.deliver()
		})
	}
	workers.Wait()
	c.deliver()
	if len(got) != 25 || got[0] != "first" {
		t.Errorf("%d reports: %q", len(got), got)
	}
}
