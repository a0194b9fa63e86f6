//go:build unix

// Package collectortest runs a real OpenTelemetry Collector for a test, built from its Go modules, on a port of its own: OTLP comes in
// over gRPC, and goes out over HTTP to the test, which sees what arrived. The collector can be killed, frozen and brought back, and
// what is behind it can refuse. It keeps nothing in queues: what it confirms, the test has.
package collectortest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// startTime is how long a collector may take to pass something on. It is long, for machines that run many tests at once.
	startTime = 30 * time.Second
	// attempts is how many ports are tried. Between finding a free one and the collector's listening on it, another program may
	// take it.
	attempts = 10
)

const config = `
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: %s%s
exporters:
  otlp_http:
    endpoint: %s
    compression: none
    sending_queue:
      enabled: false
    retry_on_failure:
      enabled: false
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp_http]}
    traces: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
`

// errPortTaken says that the collector ended before it passed anything on, most likely because its port was not free any more.
var errPortTaken = errors.New("the collector ended before it passed anything on")

// Collector is an OpenTelemetry Collector that belongs to one test. Its methods fail the test instead of returning errors; those that
// can fail are called on the test's goroutine.
type Collector struct {
	tb      testing.TB
	program string
	dir     string
	addr    string
	tls     string
	creds   credentials.TransportCredentials
	behind  *backend

	mu      sync.Mutex
	process *process // nil while there is none
}

// process is one run of the collector.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start builds and starts a collector, and ends it when the test does.
func Start(tb testing.TB) *Collector {
	tb.Helper()
	c := New(tb)
	c.Restart()
	return c
}

// New builds a collector and leaves it to Restart to start it. Its address is known, and nobody answers there.
func New(tb testing.TB) *Collector {
	tb.Helper()
	program, err := Program()
	if err != nil {
		tb.Fatalf("collectortest: building a collector: %v", err)
	}
	c := &Collector{tb: tb, program: program, dir: tb.TempDir(), creds: insecure.NewCredentials(), behind: newBackend()}
	tb.Cleanup(c.behind.close)
	tb.Cleanup(c.Kill)
	if c.addr, err = freeAddress(); err != nil {
		tb.Fatalf("collectortest: %v", err)
	}
	return c
}

func freeAddress() (string, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// TLS makes the collector ask for certificates and show its own, from the next Restart on. The arguments are paths of PEM files, and
// what Dial connects with.
func (c *Collector) TLS(cert, key, clientCA string, creds credentials.TransportCredentials) {
	c.tls = fmt.Sprintf(`
        tls:
          cert_file: %s
          key_file: %s
          client_ca_file: %s
          min_version: "1.3"`, cert, key, clientCA)
	c.creds = creds
}

// Addr returns the address of the collector's OTLP over gRPC, which stays the same.
func (c *Collector) Addr() string { return c.addr }

// Dial returns a connection to the collector, which is closed when the test ends. It notices within milliseconds that the collector
// is back.
func (c *Collector) Dial(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	conn, err := c.dial()
	if err != nil {
		tb.Fatalf("collectortest: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *Collector) dial() (*grpc.ClientConn, error) {
	quick := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.2, MaxDelay: 100 * time.Millisecond}
	return grpc.NewClient(c.addr, grpc.WithTransportCredentials(c.creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}))
}

// Kill ends the collector at once, as kill -9 does. It does nothing if there is none.
func (c *Collector) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return
	}
	// A stopped process can be killed too. That it ended by itself is no error.
	_ = c.process.cmd.Process.Kill()
	<-c.process.ended
	c.process = nil
}

// Restart kills the collector, if it runs, and starts it again on the same port.
func (c *Collector) Restart() {
	c.tb.Helper()
	c.Kill()
	err := errPortTaken
	for i := 0; errors.Is(err, errPortTaken) && i < attempts; i++ {
		// The port is the system's to give meanwhile: whoever got it, an outgoing connection most likely, lets go of it soon.
		err = c.start()
	}
	if err != nil {
		text, _ := os.ReadFile(c.logFile())
		c.tb.Fatalf("collectortest: start on %s: %v\n%s", c.addr, err, text)
	}
}

func (c *Collector) logFile() string { return filepath.Join(c.dir, "collector.log") }

// start runs the collector and waits until it passes something on.
func (c *Collector) start() error {
	file := filepath.Join(c.dir, "collector.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, c.addr, c.tls, c.behind.server.URL), 0o600); err != nil {
		return err
	}
	log, err := os.Create(c.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), c.program, "--config", "file:"+file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	if err := c.await(p); err != nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
		return err
	}
	c.mu.Lock()
	c.process = p
	c.mu.Unlock()
	return nil
}

// await waits until what is sent to the address arrives behind this collector and nobody else's, which took the port first.
func (c *Collector) await(p *process) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = c.behind.probe(ctx, conn, strconv.Itoa(p.cmd.Process.Pid))
	select {
	case <-p.ended:
		return errPortTaken
	default:
		return err
	}
}

// Pause freezes the collector: the system still accepts connections for it, and nobody answers.
func (c *Collector) Pause() { c.tb.Helper(); c.signal(syscall.SIGSTOP) }

// Resume ends a Pause. The collector then takes what was sent to it meanwhile.
func (c *Collector) Resume() { c.tb.Helper(); c.signal(syscall.SIGCONT) }

func (c *Collector) signal(which os.Signal) {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		c.tb.Fatalf("collectortest: %v for a collector that does not run", which)
	}
	if err := c.process.cmd.Process.Signal(which); err != nil {
		c.tb.Fatalf("collectortest: %v: %v", which, err)
	}
}
