//go:build unix

package otlpexport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

const origin = "bank.example/ledger/audit"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// zeros makes the tests' key the same each time, so that a child process has it too.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func keys(name string) (note.Signer, note.Verifier) {
	private, public, err := note.GenerateKey(zeros{}, name)
	signer, signerErr := note.NewSigner(private)
	verifier, verifierErr := note.NewVerifier(public)
	if err := errors.Join(err, signerErr, verifierErr); err != nil {
		panic(err)
	}
	return signer, verifier
}

// ledger is a journal of a test.
type ledger struct {
	*journal.Journal

	dir      string
	verifier note.Verifier
}

func openLedger(t testing.TB, dir string) *ledger {
	t.Helper()
	signer, verifier := keys(origin)
	j, err := journal.Open(dir, journal.Options{
		Signer: signer, Verifier: verifier, Create: true, SegmentBytes: 16 << 10, CheckpointEvery: 10 * time.Millisecond, Retention: time.Nanosecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return &ledger{j, dir, verifier}
}

// closedLedger is a journal of n calls that nobody writes to any more.
func closedLedger(t testing.TB, n int) *ledger {
	t.Helper()
	l := openLedger(t, t.TempDir())
	l.calls(t, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// call is the record that the tests have at an index.
func call(index uint64) *audit.Record {
	return &audit.Record{
		ID: audit.ID{Guard: 7, Call: index}, Type: audit.TypeCall, Time: time.Unix(1_800_000_000, int64(index)), Side: audit.SideServer,
		Method: "/bank.v1.LedgerService/GetBalance", Caller: "spiffe://bank.example/web", Outcome: audit.OutcomeOK,
	}
}

// calls appends n records that are durable when it returns.
func (l *ledger) calls(t testing.TB, n int) {
	t.Helper()
	var last journal.Pending
	from := l.Size()
	for i := range uint64(n) {
		var err error
		if last, err = l.Begin(context.Background(), audit.AppendRecord(nil, call(from+i))); err != nil {
			t.Fatal(err)
		}
	}
	if n > 0 {
		if _, err := last.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// options are the least that there must be.
func options(t testing.TB) Options {
	t.Helper()
	return Options{Cursor: filepath.Join(t.TempDir(), "cursor"), ServiceName: "ledger"}
}

func newExporter(t testing.TB, l *ledger, conn grpc.ClientConnInterface, opts Options) *Exporter {
	t.Helper()
	e, err := New(l.dir, l.verifier, conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func drain(t testing.TB, e *Exporter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// run runs an exporter until the function that is returned is called.
func run(t testing.TB, e *Exporter) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// troubles keeps what an exporter told.
type troubles struct {
	mu  sync.Mutex
	all []string
}

func (t *troubles) tell(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, err.Error())
}

func (t *troubles) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.all, "\n")
}

// conn stands in for a connection, for faults that a real collector does not make when asked.
type conn func(ctx context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error)

func (c conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if method != "/opentelemetry.proto.collector.logs.v1.LogsService/Export" {
		return fmt.Errorf("method %s", method)
	}
	answer, err := c(ctx, args.(*collogs.ExportLogsServiceRequest))
	if answer != nil {
		proto.Merge(reply.(proto.Message), answer)
	}
	return err
}

func (conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("OTLP has no streams")
}

// confirm is a collector that takes everything.
func confirm(context.Context, *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	return nil, nil
}

func sent(in *collogs.ExportLogsServiceRequest) []*logs.LogRecord {
	return in.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords()
}

func attr(l []*common.KeyValue, key string) *common.AnyValue {
	for _, kv := range l {
		if kv.GetKey() == key {
			return kv.GetValue()
		}
	}
	return nil
}

func indexOf(l *logs.LogRecord) uint64 {
	return uint64(attr(l.GetAttributes(), "grpcguard.record.index").GetIntValue())
}

// span is the first and the last record of a request.
func span(in *collogs.ExportLogsServiceRequest) string {
	all := sent(in)
	return fmt.Sprintf("%d-%d", indexOf(all[0]), indexOf(all[len(all)-1]))
}
