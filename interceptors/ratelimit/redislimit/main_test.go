//go:build unix

package redislimit

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis prints every connection that fails
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// newStore returns a store that is closed when the test ends.
func newStore(t testing.TB, client *redis.Client, options ...Option) *Store {
	t.Helper()
	s, err := New(client, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newExactStore returns a store that gives Redis so much time that no answer comes too late, and nothing is lost by that.
func newExactStore(t testing.TB, client *redis.Client) *Store {
	t.Helper()
	s := newStore(t, client)
	s.patience = time.Minute
	return s
}

// check checks limits and returns the first.
func check(t testing.TB, s *Store, limits ...*ratelimit.Shared) {
	t.Helper()
	for _, l := range limits {
		if err := s.Check(l); err != nil {
			t.Fatal(err)
		}
	}
}

// slow is a limit whose permits do not come back while a test runs.
func slow(name string, burst, lease uint64) *ratelimit.Shared {
	return &ratelimit.Shared{Name: name, Lease: lease, Limit: ratelimit.Limit{Permits: burst, Per: 365 * 24 * time.Hour}}
}

func key(parts ...string) ratelimit.Key {
	var k ratelimit.Key
	for _, p := range parts {
		k = k.Text(p)
	}
	return k
}

func demand(l *ratelimit.Shared, k ratelimit.Key, cost uint64) ratelimit.Demand {
	return ratelimit.Demand{Limit: l, Key: k, Cost: cost}
}

// patient is a context with time enough for a machine that is busy.
func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// take takes and fails the test if Redis does not answer.
func take(t testing.TB, s *Store, demands ...ratelimit.Demand) (ratelimit.Result, int) {
	t.Helper()
	r, refused, err := s.Take(patient(t), demands)
	if err != nil {
		t.Fatal(err)
	}
	return r, refused
}

// admitted takes one permit after the other until it is refused, and says how many there were.
func admitted(t testing.TB, s *Store, d ratelimit.Demand) (n uint64) {
	t.Helper()
	for {
		if r, _ := take(t, s, d); !r.Allowed {
			return n
		}
		n += d.Cost
	}
}

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// wantError fails unless err says want.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", errors.Join(err), want)
	}
}
