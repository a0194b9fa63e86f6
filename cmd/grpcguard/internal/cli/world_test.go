package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "bank.example/ledger/audit"

// noon is when the tests' calls began, and later is when they are looked at.
var (
	noon  = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	later = noon.Add(90 * time.Minute)
)

// world is a folder with a key pair and a journal.
type world struct {
	t        testing.TB
	dir      string
	key      string
	signer   note.Signer
	verifier note.Verifier
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: filepath.Join(dir, "audit"), key: filepath.Join(dir, "audit.vkey")}
	if status, _, stderr := w.run("keygen", origin, "-out", dir); status != 0 {
		t.Fatal(stderr)
	}
	var err error
	if w.signer, err = note.NewSigner(strings.TrimSpace(w.read(filepath.Join(dir, "audit.skey")))); err != nil {
		t.Fatal(err)
	}
	if w.verifier, err = note.NewVerifier(strings.TrimSpace(w.read(w.key))); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) read(path string) string {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(filepath.Dir(w.dir), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) open(change func(o *journal.Options)) *journal.Journal {
	w.t.Helper()
	opts := journal.Options{Signer: w.signer, Verifier: w.verifier, Create: true, CheckpointEvery: 10 * time.Millisecond}
	if change != nil {
		change(&opts)
	}
	j, err := journal.Open(w.dir, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = j.Close() })
	return j
}

func add(t testing.TB, j *journal.Journal, records ...audit.Record) {
	t.Helper()
	for i := range records {
		addBytes(t, j, audit.AppendRecord(nil, &records[i]))
	}
}

func addBytes(t testing.TB, j *journal.Journal, b []byte) {
	t.Helper()
	if _, err := j.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// covered waits until a checkpoint covers everything, and returns it.
func covered(t testing.TB, j *journal.Journal) journal.Checkpoint {
	t.Helper()
	if err := j.WaitCheckpoint(context.Background(), j.Size()); err != nil {
		t.Fatal(err)
	}
	return j.Checkpoint()
}

func (w *world) close(j *journal.Journal) {
	w.t.Helper()
	if err := j.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// run runs "grpcguard audit" at the time later.
func (w *world) run(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &err, now: func() time.Time { return later }, poll: time.Millisecond}
	status = p.run(context.Background(), append([]string{"audit"}, args...))
	return status, out.String(), err.String()
}

// on runs a command on the journal.
func (w *world) on(command string, args ...string) (status int, stdout, stderr string) {
	return w.run(append([]string{command, w.dir, "-key", w.key}, args...)...)
}

// must runs a command on the journal that ends well, and returns what it prints.
func (w *world) must(command string, args ...string) string {
	w.t.Helper()
	status, stdout, stderr := w.on(command, args...)
	if status != 0 {
		w.t.Fatalf("%s %q: exit status %d, %s", command, args, status, stderr)
	}
	return stdout
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

const (
	anna = "spiffe://bank.example/teller/anna"
	otto = "spiffe://bank.example/teller/otto"
	pay  = "/bank.v1.Payments/Pay"
	feed = "/bank.v1.Payments/Feed"
)

func id(call, number uint64) audit.ID { return audit.ID{Guard: 0xabc, Call: call, Number: number} }

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// business is a few minutes at the bank. Call 4 is a stream with two transactions that has no outcome.
func business() []audit.Record {
	return []audit.Record{
		{ID: id(1, 0), Type: audit.TypeEvent, Time: at(0), Side: audit.SideServer, Event: audit.EventStarted, Subject: "v1"},
		{ID: id(2, 0), Type: audit.TypeCall, Time: at(10), Caller: anna, Method: "/bank.v1.Accounts/Get", Outcome: audit.OutcomeOK, TraceID: strings.Repeat("7", 32)},
		{ID: id(3, 0), Type: audit.TypeIntent, Time: at(20), Caller: anna, Method: pay, Transaction: audit.Transaction{ID: "tx-1", Amount: "100.50", Currency: "EUR", FromAccount: "DE1", ToAccount: "DE2"}},
		{ID: id(3, 1), Type: audit.TypeOutcome, Time: at(20), Caller: anna, Method: pay, Outcome: audit.OutcomeOK, Messages: 1, Transaction: audit.Transaction{ID: "tx-1", Amount: "100.50", Currency: "EUR", FromAccount: "DE1", ToAccount: "DE2"}},
		{ID: id(9, 0), Type: audit.TypeDenials, Time: at(30), Caller: "spiffe://evil.example/x", Method: pay, Outcome: audit.OutcomeDenied, Code: codes.PermissionDenied, Stage: "rule", Reason: "no rule allows the caller", Count: 7},
		{ID: id(4, 0), Type: audit.TypeIntent, Time: at(40), Caller: otto, Method: feed, Transaction: audit.Transaction{ID: "tx-2", Amount: "20.25", Currency: "EUR", FromAccount: "DE3", ToAccount: "DE1"}},
		{ID: id(5, 0), Type: audit.TypeIntent, Time: at(41), Caller: anna, Method: pay, Transaction: audit.Transaction{ID: "tx-4", Amount: "500", Currency: "JPY", MinorUnits: true, FromAccount: "DE2", ToAccount: "DE4"}},
		{ID: id(4, 1), Type: audit.TypeIntent, Time: at(42), Caller: otto, Method: feed, Transaction: audit.Transaction{ID: "tx-3", Amount: "0.005", Currency: "EUR", FromAccount: "DE3", ToAccount: "DE1"}},
		{ID: id(4, 2), Type: audit.TypeAnswered, Time: at(43), Caller: otto, Method: feed, Messages: 2},
		{ID: id(5, 1), Type: audit.TypeOutcome, Time: at(41), Caller: anna, Method: pay, Outcome: audit.OutcomeFailed, Code: codes.Aborted, Messages: 1, Transaction: audit.Transaction{ID: "tx-4", Amount: "500", Currency: "JPY", MinorUnits: true, FromAccount: "DE2", ToAccount: "DE4"}},
	}
}

// bank returns a world with the journal of business, closed.
func bank(t testing.TB, more ...audit.Record) *world {
	t.Helper()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, business()...)
	add(t, j, more...)
	w.close(j)
	return w
}

// settled is the outcome of the stream in business.
func settled() audit.Record {
	return audit.Record{ID: id(4, 3), Type: audit.TypeOutcome, Time: at(40), Caller: otto, Method: feed, Outcome: audit.OutcomeOK, Messages: 2}
}
