//go:build unix

package redistest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

func ping(t *testing.T, s *Server) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	return s.Client(t).Ping(ctx).Err()
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := s.Client(t)
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	if err := ping(t, s); err == nil {
		t.Error("a frozen server answered")
	}
	s.Resume()
	if got := client.Get(t.Context(), "key").Val(); got != "value" {
		t.Errorf("after Resume: %q, want %q", got, "value")
	}
	s.Kill()
	if err := ping(t, s); err == nil {
		t.Error("a killed server answered")
	}
	s.Kill() // again, which does nothing
	addr := s.Addr()
	s.Restart()
	if s.Addr() != addr {
		t.Errorf("address %s after Restart, want %s", s.Addr(), addr)
	}
	if err := ping(t, s); err != nil {
		t.Errorf("after Restart: %v", err)
	}
	if n := s.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys after Restart, want none", n)
	}
}

// Two servers that want the same port: the second notices that it is not the one who answers.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	s := Start(t)
	other := &Server{tb: t, program: s.program, dir: t.TempDir(), port: s.port}
	if err := other.start(); err == nil {
		other.Kill()
		t.Fatal("started on a port that is taken")
	}
}

// failing is a test that notes how it ended.
type failing struct {
	testing.TB

	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = strings.TrimSpace(format)
	panic(f)
}

func TestNoServer(t *testing.T) {
	t.Setenv(programVariable, "/nowhere/redis-server")
	f := &failing{TB: t}
	func() {
		defer func() { _ = recover() }()
		Start(f)
	}()
	if !strings.Contains(f.message, "apt-get install redis-server") {
		t.Errorf("a missing redis-server ends the test with %q, which does not say how to install it", f.message)
	}
}
