//go:build unix

package otlpexport

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	otelattribute "go.opentelemetry.io/otel/attribute"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/otlpexport/collectortest"
)

// quick is options under which a test does not wait long.
func quick(t testing.TB) Options {
	t.Helper()
	opts := options(t)
	opts.Every, opts.jitter = 10*time.Millisecond, func() float64 { return 0 }
	return opts
}

// check checks that the records below n arrived, each as it was written, and returns how often those came that came again, by
// their index.
func check(t *testing.T, all []collectortest.Log, n int) (again map[uint64]int) {
	t.Helper()
	seen := make(map[uint64]bool)
	again = make(map[uint64]int)
	for _, l := range all {
		index := indexOf(l.LogRecord)
		if got, want := attr(l.GetAttributes(), "grpcguard.record.id").GetStringValue(), call(index).ID.String(); got != want {
			t.Errorf("record %d has the ID %s, want %s", index, got, want)
		}
		if seen[index] {
			again[index]++
		}
		seen[index] = true
	}
	for i := range uint64(n) {
		if !seen[i] {
			t.Errorf("record %d is lost", i)
		}
	}
	if len(seen) != n {
		t.Errorf("%d records arrived, want %d", len(seen), n)
	}
	return again
}

// Everything arrives once, in order, under its resource and scope, and with the trace that the collector has from elsewhere.
func TestThroughACollector(t *testing.T) {
	t.Parallel()
	c := collectortest.Start(t)
	conn := c.Dial(t)
	l := openLedger(t, t.TempDir())
	r := outcome()
	for _, data := range [][]byte{audit.AppendRecord(nil, &r), []byte("\xff no record")} {
		if _, err := l.Append(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	opts := quick(t)
	opts.ServiceInstance = "one"
	opts.Resource = []otelattribute.KeyValue{
		otelattribute.String("deployment.environment.name", "test"), otelattribute.Int("n", 3), otelattribute.StringSlice("list", []string{"a", "b"}),
		otelattribute.Bool("yes", true), otelattribute.Float64("half", 0.5), otelattribute.String("service.name", "not this one"),
		otelattribute.String("not UTF-8", "\xff"),
	}
	run(t, newExporter(t, l, conn, opts))
	trace := &traces.Span{Name: "bank.v1.LedgerService/PostTransfer", TraceId: []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"), SpanId: []byte("\x11\x12\x13\x14\x15\x16\x17\x18")}
	if _, err := coltraces.NewTraceServiceClient(conn).Export(t.Context(), &coltraces.ExportTraceServiceRequest{ResourceSpans: []*traces.ResourceSpans{{
		ScopeSpans: []*traces.ScopeSpans{{Spans: []*traces.Span{trace}}},
	}}}); err != nil {
		t.Fatal(err)
	}
	all := c.AwaitLogs(t, 2)
	first, second := all[0], all[1]
	if s := c.Spans()[0]; string(s.GetTraceId()) != string(first.GetTraceId()) || string(s.GetSpanId()) != string(first.GetSpanId()) {
		t.Errorf("the record is of %x %x, the span of %x %x", first.GetTraceId(), first.GetSpanId(), s.GetTraceId(), s.GetSpanId())
	}
	if first.GetEventName() != "grpcguard.outcome" || first.GetSeverityText() != "INFO" || first.GetTimeUnixNano() != uint64(r.Time.UnixNano()) ||
		first.GetBody().GetStringValue() != "outcome ok /bank.v1.LedgerService/PostTransfer by spiffe://bank.example/web: caller-allowed" ||
		len(flat(first.GetAttributes())) != 37 {
		t.Errorf("%d attributes: %v", len(flat(first.GetAttributes())), first.LogRecord)
	}
	if string(second.GetBody().GetBytesValue()) != "\xff no record" || indexOf(second.LogRecord) != 1 {
		t.Errorf("%v", second.LogRecord)
	}
	if first.Scope.GetName() != scope {
		t.Errorf("scope %v", first.Scope)
	}
	got := flat(first.Resource.GetAttributes())
	for key, want := range map[string]string{
		"service.name": "ledger", "service.instance.id": "one", "grpcguard.journal": origin, "deployment.environment.name": "test", "n": "3",
		"list": fmt.Sprint(value(otelattribute.StringSliceValue([]string{"a", "b"})).String()), "yes": "bool_value:true", "half": "double_value:0.5", "not UTF-8": "\uFFFD",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if len(got) != 9 {
		t.Errorf("resource %v", got)
	}
}

// The collector is away at the beginning, goes away, cannot deliver, hangs, and comes back. Nothing is lost after.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	c := collectortest.New(t)
	l := openLedger(t, t.TempDir())
	var told troubles
	opts := quick(t)
	opts.Trouble, opts.BatchRecords, opts.Timeout = told.tell, 50, 2*time.Second
	e := newExporter(t, l, c.Dial(t), opts)
	run(t, e)
	confirmed := func(n uint64) {
		for e.Next() < n {
			moment(t)
		}
	}

	l.calls(t, 120)
	c.Restart()
	confirmed(120)

	c.Kill()
	l.calls(t, 120)
	c.Restart()
	confirmed(240)

	c.Refuse(http.StatusServiceUnavailable)
	l.calls(t, 60)
	for told.String() == "" {
		moment(t)
	}
	c.Refuse(0)
	confirmed(300)

	c.Pause()
	l.calls(t, 60)
	c.Resume()
	confirmed(360)
	if again := check(t, c.Logs(), 360); len(again) != 0 {
		t.Errorf("came again although no request was cut off: %v", again)
	}
}

// moment waits a moment, for tests that poll what has no channel.
func moment(t testing.TB) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal("the test ended before")
	case <-time.After(5 * time.Millisecond):
	}
}

// The collector is killed again and again, also in the middle of requests. Nothing is lost; what comes again is no
// more than one request for each kill.
func TestCollectorKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	c := collectortest.New(t)
	l := openLedger(t, t.TempDir())
	opts := quick(t)
	opts.BatchRecords = 20
	run(t, newExporter(t, l, c.Dial(t), opts))
	const kills, rounds = 4, 100
	var wg sync.WaitGroup
	written := make(chan struct{}, rounds)
	wg.Go(func() {
		for range rounds {
			l.calls(t, 10)
			written <- struct{}{}
		}
	})
	for i := range kills {
		c.Restart()
		c.AwaitLogs(t, (i+1)*100) // and more are under way
		c.Kill()
	}
	c.Restart()
	wg.Wait()
	for len(distinct(c.Logs())) < 10*rounds {
		moment(t)
	}
	if again := check(t, c.Logs(), 10*rounds); len(again) > kills*opts.BatchRecords {
		t.Errorf("%d records came again, for %d kills", len(again), kills)
	}
}

func distinct(all []collectortest.Log) map[uint64]bool {
	seen := make(map[uint64]bool)
	for _, l := range all {
		seen[indexOf(l.LogRecord)] = true
	}
	return seen
}

// The exporter is killed between the collector's confirmation and its cursor. The next one sends that batch again, and no other; the
// index and the ID tell that it is the same.
func TestKilledBeforeTheCursor(t *testing.T) {
	t.Parallel()
	c := collectortest.Start(t)
	l := closedLedger(t, 100)
	opts := quick(t)
	opts.BatchRecords = 20
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+c.Addr(), "OTLPEXPORT_DIR="+l.dir, "OTLPEXPORT_CURSOR="+opts.Cursor)
	out, err := cmd.CombinedOutput()
	if state := cmd.ProcessState; state == nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was to be killed: %v\n%s", err, out)
	}
	e := newExporter(t, l, c.Dial(t), opts)
	if e.Next() != 40 {
		t.Errorf("the cursor says %d, want 40", e.Next())
	}
	drain(t, e)
	again := check(t, c.Logs(), 100)
	for i := uint64(40); i < 60; i++ {
		if again[i] != 1 {
			t.Errorf("record %d came again %d times, want once", i, again[i])
		}
	}
	if len(again) != 20 {
		t.Errorf("came again: %v", again)
	}
}

const childVariable = "OTLPEXPORT_CHILD"

// child is an exporter that is killed when it is to write its cursor for the third time.
func child() {
	_, verifier := keys(origin)
	conn, err := grpc.NewClient(os.Getenv(childVariable), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	saves := 0
	e, err := New(os.Getenv("OTLPEXPORT_DIR"), verifier, conn, Options{
		Cursor: os.Getenv("OTLPEXPORT_CURSOR"), ServiceName: "ledger", BatchRecords: 20,
		save: func(c *cursor, s state) error {
			if saves++; saves == 3 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return c.save(s)
		},
	})
	if err != nil {
		panic(err)
	}
	_ = e.Drain(context.Background())
}

// A frozen collector takes connections and answers nobody, for as long as it likes; the journal's writers do not notice.
func TestFrozenCollector(t *testing.T) {
	t.Parallel()
	c := collectortest.Start(t)
	l := openLedger(t, t.TempDir())
	opts := quick(t)
	e := newExporter(t, l, c.Dial(t), opts)
	run(t, e)
	l.calls(t, 10)
	c.AwaitLogs(t, 10)
	c.Pause()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if _, err := l.Append(t.Context(), []byte("not looked at")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := e.Next(); n > 10 {
		t.Errorf("%d records were confirmed by a frozen collector", n)
	}
	c.Resume()
	c.AwaitLogs(t, 10+8*200)
}
