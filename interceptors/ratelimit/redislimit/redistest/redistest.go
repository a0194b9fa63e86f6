//go:build unix

// Package redistest starts a real redis-server for a test, on a port of its own, and can kill it, freeze it and bring it back.
// Nothing here takes the server's place: a test that cannot find one fails.
package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// programVariable names the redis-server to start, where it is not the one in PATH.
	programVariable = "REDIS_SERVER"
	// startTime is how long a server may take to answer. It is long, for machines that run many tests at once.
	startTime = 20 * time.Second
	// attempts is how many ports are tried. Between finding a free one and the server's listening on it, another program may
	// take it.
	attempts = 10
)

const howToInstall = "redistest: these tests need a real redis-server: `make test` installs one, as do `apt-get install redis-server` " +
	"(Debian, Ubuntu) and `brew install redis` (macOS); " + programVariable + " may name one that is not in PATH (%v)"

// errPortTaken says that the server ended before it answered, most likely because its port was not free any more.
var errPortTaken = errors.New("redis-server ended before it answered")

// Server is a redis-server that belongs to one test. Its methods fail the test instead of returning errors, and may be called
// from any goroutine but those that fail with Fatal, which is all but Addr and Options.
type Server struct {
	tb      testing.TB
	program string
	dir     string
	port    int

	mu      sync.Mutex
	process *process // nil while there is none
}

// process is one run of the server.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a server that keeps nothing on disk, and ends it when the test does.
func Start(tb testing.TB) *Server {
	tb.Helper()
	program, err := find()
	if err != nil {
		tb.Fatalf(howToInstall, err)
	}
	s := &Server{tb: tb, program: program, dir: tb.TempDir()}
	tb.Cleanup(s.Kill)
	for range attempts {
		if s.port, err = freePort(); err != nil {
			tb.Fatalf("redistest: %v", err)
		}
		if err = s.start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		tb.Fatalf("redistest: %v\n%s", err, s.log())
	}
	return s
}

func find() (string, error) {
	if program := os.Getenv(programVariable); program != "" {
		return exec.LookPath(program)
	}
	return exec.LookPath("redis-server")
}

func freePort() (int, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// start runs the server on s.port and waits until it answers.
func (s *Server) start() error {
	cmd := exec.CommandContext(context.Background(), s.program, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--appendonly", "no", "--logfile", filepath.Join(s.dir, "redis.log"))
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	if err := s.await(p); err != nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
		return err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return nil
}

// await waits until the server that answers is p and nobody else's, which took the port first.
func (s *Server) await(p *process) error {
	want := "process_id:" + strconv.Itoa(p.cmd.Process.Pid)
	for end := time.Now().Add(startTime); time.Now().Before(end); {
		if told, err := info(s.Addr()); err == nil && told == want {
			return nil
		}
		select {
		case <-p.ended:
			return errPortTaken
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("redis-server did not answer within %v", startTime)
}

// info asks a server for the line with its process ID. It is not asked through go-redis, whose pool remembers failures.
func info(addr string) (string, error) {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("INFO server\r\n")); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "process_id:") {
			return line, nil
		}
	}
	return "", errors.Join(lines.Err(), errors.New("no process ID in the answer"))
}

// log returns what the server wrote, for the message of a test that cannot go on.
func (s *Server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	return string(text)
}

// Addr returns the server's address, which stays the same over Restart.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Options returns options of a client that obeys deadlines and asks once.
func (s *Server) Options() *redis.Options { return Options(s.Addr()) }

// Options returns options of a client of addr that obeys deadlines and asks once.
func Options(addr string) *redis.Options {
	return &redis.Options{
		Addr:                  addr,
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           time.Second,
	}
}

// Client returns a client of the server, which is closed when the test ends.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return Client(tb, s.Options())
}

// Client returns a client that is closed when the test ends.
func Client(tb testing.TB, options *redis.Options) *redis.Client {
	tb.Helper()
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Kill ends the server at once, as kill -9 does. It does nothing if there is none.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	// A stopped process can be killed too. That it ended by itself is no error.
	_ = s.process.cmd.Process.Kill()
	<-s.process.ended
	s.process = nil
}

// Restart kills the server, if it runs, and starts an empty one on the same port.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	err := errPortTaken
	for end := time.Now().Add(startTime); errors.Is(err, errPortTaken) && time.Now().Before(end); {
		// The port is the system's to give meanwhile: whoever got it, an outgoing connection most likely, lets go of it soon.
		err = s.start()
	}
	if err != nil {
		s.tb.Fatalf("redistest: restart on %s: %v\n%s", s.Addr(), err, s.log())
	}
}

// Pause freezes the server: the system still accepts connections for it, and nobody answers.
func (s *Server) Pause() { s.tb.Helper(); s.signal(syscall.SIGSTOP) }

// Resume ends a Pause. The server then answers what was sent to it meanwhile.
func (s *Server) Resume() { s.tb.Helper(); s.signal(syscall.SIGCONT) }

func (s *Server) signal(which os.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.tb.Fatalf("redistest: %v for a server that does not run", which)
	}
	if err := s.process.cmd.Process.Signal(which); err != nil {
		s.tb.Fatalf("redistest: %v: %v", which, err)
	}
}
