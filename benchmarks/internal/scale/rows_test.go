package scale

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/grpcguard/grpcguard/policy"
)

// Memory is that of the whole process, so that nothing else may run beside what is measured: these tests are one, and not parallel.
func TestMemoryIsSeen(t *testing.T) { //nolint:paralleltest // See above.
	t.Run("of methods", methodsAreSeen)
	t.Run("of connections", connectionsAreSeen)
	t.Run("of callers of a limit", callersAreSeen)
	t.Run("rows", rowsAreWhole)
}

func methodsAreSeen(t *testing.T) {
	w := newTestWorld(t, oneCaller)
	if _, err := w.ofMethods(1, limitsOfMethods); err != nil {
		t.Fatal(err)
	}
	const n = 300
	lean, err := w.ofMethods(n, rulesOfServices)
	if err != nil {
		t.Fatal(err)
	}
	fat, err := w.ofMethods(n, limitsOfMethods)
	if err != nil {
		t.Fatal(err)
	}
	if lean.policy <= 0 || lean.guard <= 0 {
		t.Errorf("a method holds %.0f bytes in the policy and %.0f in the guard", lean.policy, lean.guard)
	}
	// A limit is one of ours and a limiter, of which the limiter alone has 64 pointers.
	if more := fat.bytes() - lean.bytes(); more < 512 {
		t.Errorf("a rule and a limit at each method hold %.0f bytes more", more)
	}
	for _, name := range methodsOf(n, 3) {
		if fat.compiled.Rule(name) == nil {
			t.Errorf("%s has no rule", name)
		}
	}
}

// heavy holds more of each connection than the credentials that it wraps.
type heavy struct {
	credentials.TransportCredentials

	bytes int
}

type heavyConn struct {
	net.Conn

	ballast []byte
}

func (h heavy) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := h.TransportCredentials.ServerHandshake(raw)
	return &heavyConn{Conn: c, ballast: make([]byte, h.bytes)}, info, err
}

func (h heavy) Clone() credentials.TransportCredentials { return h }

func connectionsAreSeen(t *testing.T) {
	w := newTestWorld(t, fleet)
	servers, err := w.servers()
	if err != nil {
		t.Fatal(err)
	}
	const ballast = 10 << 10
	weighted := server{"more", func() ([]grpc.ServerOption, error) {
		return []grpc.ServerOption{grpc.Creds(heavy{w.bareCredentials(), ballast})}, nil
	}}
	const n = 100
	if _, err := w.perConnection(weighted, n); err != nil { // for what a process makes once
		t.Fatal(err)
	}
	var bytes [2]float64
	for i, s := range []server{servers[0], weighted} {
		if bytes[i], err = w.perConnection(s, n); err != nil {
			t.Fatal(err)
		}
	}
	// Stacks differ from one time to the next, by a step of one goroutine's at the most.
	if more := bytes[1] - bytes[0]; more < ballast/2 || more > ballast*2 {
		t.Errorf("a connection that holds %d bytes more is seen to hold %.0f more", ballast, more)
	}
}

func callersAreSeen(t *testing.T) {
	const n = 10_000
	c, err := ofLimiter(n)
	if err != nil {
		t.Fatal(err)
	}
	if c.bytes < 16 || c.bytes > 100 {
		t.Errorf("a caller holds %.0f bytes, a slot has 16", c.bytes)
	}
	if c.crowded > 0 {
		t.Errorf("of %d callers %.2f found no room", n, c.crowded)
	}
}

func rowsAreWhole(t *testing.T) {
	r := &run{sizes: sizes{
		methods: []int{10, 100}, exact: []int{1, 2000}, callers: []int{10, 1000}, connections: []int{20},
		memoryRounds: 1, connectionRounds: 1, rounds: 1, turn: time.Millisecond,
	}}
	rows, plots, err := r.measure()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range rows {
		if line.Group != group || line.Name == "" || line.Unit == "" || len(line.Ours.Values) == 0 || line.Note == "" {
			t.Errorf("a row lacks something: %+v", line)
		}
	}
	lines := 0
	for _, p := range plots {
		if p.Group != group || p.Title == "" || p.X == "" || p.Unit == "" {
			t.Errorf("a plot lacks something: %+v", p)
		}
		for _, l := range p.Lines {
			if l.Name == "" || len(l.Points) == 0 {
				t.Errorf("a line of %q lacks something: %+v", p.Title, l)
			}
		}
		lines += len(p.Lines)
	}
	if len(rows) != 10 || len(plots) != 6 || lines != 15 {
		t.Errorf("%d rows and %d plots of %d lines", len(rows), len(plots), lines)
	}
}

// A side that is answered otherwise than it should be is an error, and not a fast row.
func TestADenialIsAnError(t *testing.T) {
	t.Parallel()
	p, err := matched()
	if err != nil {
		t.Fatal(err)
	}
	stranger := []policy.Subject{{ID: id("/stranger"), Serial: "1"}}
	err = decide(p, methodsOf(1, 1), stranger)(1)
	if want := "scale: spiffe://scale.example/stranger may not call /scale.v1.Part0Service/Post0: caller-not-listed"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestACallThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, `names: {caller: {spiffe_ids: ["spiffe://scale.example/nobody"]}}`)
	servers, err := w.servers()
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.perConnection(servers[2], 1)
	if err == nil || !strings.Contains(err.Error(), "the call ended with status 7") {
		t.Errorf("got %v, want status 7", err)
	}
}

func TestEveryExactCallerIsListed(t *testing.T) {
	t.Parallel()
	const n = mostBound + 1
	p, err := listed(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := decide(p, methodsOf(1, 1), subjects(n, n))(n); err != nil {
		t.Error(err)
	}
}

func TestConnectWithoutAServer(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, fleet)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.connect(ctx, "127.0.0.1:1", 0); err == nil {
		t.Error("a connection to nobody was opened")
	}
}

func newTestWorld(t *testing.T, bindings string) *world {
	t.Helper()
	w, err := newWorld(bindings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}
