//go:build unix

package otlpexport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func retryIn(code codes.Code, d time.Duration) error {
	s, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		panic(err)
	}
	return s.Err()
}

// What the collector answers, and what is sent next and when. The first answers are those given, the others are good. Times are
// without jitter.
func TestRetries(t *testing.T) {
	t.Parallel()
	unavailable, internal := status.Error(codes.Unavailable, "away"), status.Error(codes.Internal, "refused")
	for name, tt := range map[string]struct {
		answers  []error
		requests string
		trouble  string
	}{
		"all is well": {nil, "0s:0-3 0s:4-7 0s:8-9", ""},
		"away": {
			slices.Repeat([]error{unavailable}, 7), "0s:0-3 1s:0-3 3s:0-3 7s:0-3 15s:0-3 31s:0-3 1m1s:0-3 1m31s:0-3 1m31s:4-7 1m31s:8-9",
			strings.Repeat("otlpexport: records 0 to 3 were not confirmed: rpc error: code = Unavailable desc = away\n", 7),
		},
		"away twice": {
			[]error{unavailable, unavailable, nil, unavailable}, "0s:0-3 1s:0-3 3s:0-3 3s:4-7 4s:4-7 4s:8-9",
			strings.Repeat("otlpexport: records 0 to 3 were not confirmed: rpc error: code = Unavailable desc = away\n", 2) +
				"otlpexport: records 4 to 7 were not confirmed: rpc error: code = Unavailable desc = away\n",
		},
		"asks to wait": {
			[]error{retryIn(codes.ResourceExhausted, 40*time.Second), retryIn(codes.Unavailable, 24*time.Hour)},
			"0s:0-3 40s:0-3 5m40s:0-3 5m40s:4-7 5m40s:8-9",
			"otlpexport: records 0 to 3 were not confirmed: rpc error: code = ResourceExhausted desc = busy\n" +
				"otlpexport: records 0 to 3 were not confirmed: rpc error: code = Unavailable desc = busy\n",
		},
		"too large": {
			[]error{status.Error(codes.ResourceExhausted, "too large")}, "0s:0-3 0s:0-1 0s:2-5 0s:6-9", "",
		},
		"refused for one record": {
			[]error{internal, internal, internal, internal}, "0s:0-3 0s:0-1 0s:0-0 1s:0-0 3s:0-0 3s:1-2 3s:3-6 3s:7-9",
			strings.Repeat("otlpexport: records 0 to 0 were not confirmed: rpc error: code = Internal desc = refused; all records from there on wait\n", 2),
		},
		"not allowed": {
			[]error{status.Error(codes.Unauthenticated, "who?"), status.Error(codes.PermissionDenied, "no"), status.Error(codes.Unimplemented, "what?")},
			"0s:0-3 1s:0-3 3s:0-3 7s:0-3 7s:4-7 7s:8-9",
			"otlpexport: records 0 to 3 were not confirmed: rpc error: code = Unauthenticated desc = who?\n" +
				"otlpexport: records 0 to 3 were not confirmed: rpc error: code = PermissionDenied desc = no\n" +
				"otlpexport: records 0 to 3 were not confirmed: rpc error: code = Unimplemented desc = what?\n",
		},
		"each code that OTLP calls transient": {
			[]error{
				status.Error(codes.Canceled, ""), status.Error(codes.DeadlineExceeded, ""), status.Error(codes.Aborted, ""),
				status.Error(codes.OutOfRange, ""), status.Error(codes.DataLoss, ""),
			},
			"0s:0-3 1s:0-3 3s:0-3 7s:0-3 15s:0-3 31s:0-3 31s:4-7 31s:8-9", "*",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := closedLedger(t, 10)
			synctest.Test(t, func(t *testing.T) {
				var told troubles
				var requests []string
				begun := time.Now()
				opts := options(t)
				opts.BatchRecords, opts.Trouble, opts.jitter = 4, told.tell, func() float64 { return 1 }
				if name == "asks to wait" {
					opts.jitter = func() float64 { return 0 }
				}
				e := newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
					requests = append(requests, fmt.Sprintf("%v:%s", time.Since(begun), span(in)))
					if n := len(requests); n <= len(tt.answers) {
						return nil, tt.answers[n-1]
					}
					return nil, nil
				}), opts)
				if err := e.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(requests, " "); got != tt.requests {
					t.Errorf("sent\n%s, want\n%s", got, tt.requests)
				}
				if got := told.String(); tt.trouble != "*" && got != strings.TrimSuffix(tt.trouble, "\n") {
					t.Errorf("told\n%s, want\n%s", got, tt.trouble)
				}
			})
		})
	}
}

// What a collector confirmed in part must not be sent again. It is told.
func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 10)
	var told []error
	requests := 0
	opts := options(t)
	opts.Trouble = func(err error) { told = append(told, err) }
	opts.BatchRecords = 5
	reader := metric.NewManualReader()
	opts.MeterProvider = metric.NewMeterProvider(metric.WithReader(reader))
	e := newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		if requests++; requests == 1 {
			return &collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 2, ErrorMessage: "too old"}}, nil
		}
		return &collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{ErrorMessage: "use another port"}}, nil
	}), opts)
	drain(t, e)
	var rejected *RejectedError
	if requests != 2 || len(told) != 2 || !errors.As(told[0], &rejected) || rejected.Rejected != 2 ||
		told[0].Error() != `otlpexport: the collector took records 0 to 4 and dropped 2 of them: "too old"` ||
		told[1].Error() != `otlpexport: the collector took records 5 to 9 and warns: "use another port"` {
		t.Errorf("%d requests, %v", requests, told)
	}
	if got := collect(t, reader); got["grpcguard.export.records"] != 8 || got["grpcguard.export.rejected"] != 2 {
		t.Errorf("%v", got)
	}
}

func collect(t *testing.T, reader metric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int64)
	for _, in := range all.ScopeMetrics {
		for _, m := range in.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				values[m.Name] = data.DataPoints[0].Value
			case metricdata.Gauge[int64]:
				values[m.Name] = data.DataPoints[0].Value
			}
		}
	}
	return values
}

// The lag is right while a request hangs, which is when somebody looks.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := openLedger(t, t.TempDir())
	l.calls(t, 10)
	reader := metric.NewManualReader()
	opts := options(t)
	opts.MeterProvider, opts.BatchRecords, opts.jitter = metric.NewMeterProvider(metric.WithReader(reader)), 4, func() float64 { return 0 }
	hangs, goOn := make(chan struct{}), make(chan struct{})
	requests := 0
	e := newExporter(t, l, conn(func(context.Context, *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		switch requests++; requests {
		case 2:
			close(hangs)
			<-goOn
		case 3:
			return nil, status.Error(codes.Unavailable, "away")
		}
		return nil, nil
	}), opts)
	stop := run(t, e)
	<-hangs
	l.calls(t, 5)
	if err := l.WaitCheckpoint(t.Context(), 15); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, reader); got["grpcguard.export.lag"] != 11 || got["grpcguard.export.records"] != 4 {
		t.Errorf("while a request hangs: %v", got)
	}
	close(goOn)
	stop()
	drain(t, e)
	if got := collect(t, reader); got["grpcguard.export.lag"] != 0 || got["grpcguard.export.records"] != 15 || got["grpcguard.export.failures"] > 1 {
		t.Errorf("at the end: %v", got)
	}
}

// What was deleted before it was sent cannot be sent. It is told, and counted, and the rest is sent.
func TestDeletedBeforeItWasSent(t *testing.T) {
	t.Parallel()
	l := openLedger(t, t.TempDir())
	reader := metric.NewManualReader()
	var told troubles
	opts := options(t)
	opts.Trouble, opts.MeterProvider, opts.jitter = told.tell, metric.NewMeterProvider(metric.WithReader(reader)), func() float64 { return 0 }
	var indexes []uint64
	e := newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		for _, r := range sent(in) {
			indexes = append(indexes, indexOf(r))
		}
		return nil, nil
	}), opts)
	for range 4 { // a segment has no more than one commit that is too large for it
		l.calls(t, 200)
	}
	if err := l.WaitCheckpoint(t.Context(), l.Size()); err != nil {
		t.Fatal(err)
	}
	first, err := l.Prune(t.Context())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	drain(t, e)
	if indexes[0] != first || uint64(len(indexes)) != l.Size()-first || indexes[len(indexes)-1] != l.Size()-1 {
		t.Errorf("%d records from %d on, want %d from %d on", len(indexes), indexes[0], l.Size()-first, first)
	}
	if want := fmt.Sprintf("otlpexport: journal: records 0 to %d were deleted before they were read", first-1); told.String() != want {
		t.Errorf("told %q, want %q", told.String(), want)
	}
	if got := collect(t, reader); got["grpcguard.export.lost"] != int64(first) {
		t.Errorf("%v", got)
	}
	// Whoever begins later has lost nothing: it begins with what there is.
	later := newExporter(t, l, conn(confirm), options(t))
	if later.Next() != first {
		t.Errorf("a new cursor begins with %d, want %d", later.Next(), first)
	}
}

// Records that no checkpoint covers may be gone after a crash, and are not shown to anybody.
func TestOnlyWhatACheckpointCovers(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 10)
	checkpoint := filepath.Join(l.dir, "checkpoint")
	old, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	again := openLedger(t, l.dir)
	again.calls(t, 10)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	current, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		if err := os.WriteFile(checkpoint, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(old)
	e := newExporter(t, l, conn(confirm), options(t))
	drain(t, e)
	if e.Next() != 10 {
		t.Errorf("%d records, want 10", e.Next())
	}
	put(current)
	drain(t, e)
	if e.Next() != 20 {
		t.Errorf("%d records, want 20", e.Next())
	}
}

// While the cursor cannot be written nothing more is sent, so that no more than one batch is repeated if the exporter ends there. What
// was confirmed is not sent again either.
func TestCursorCannotBeWritten(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 10)
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		var requests []string
		opts := options(t)
		opts.BatchRecords, opts.Trouble = 4, told.tell
		broken := 3
		opts.save = func(c *cursor, s state) error {
			if broken--; broken >= 0 {
				if len(requests) != 1 {
					t.Errorf("%v were sent", requests)
				}
				return errors.New("no room")
			}
			return c.save(s)
		}
		e := newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
			requests = append(requests, span(in))
			return nil, nil
		}), opts)
		if err := e.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(requests, " "); got != "0-3 4-7 8-9" || told.String() != "no room\nno room\nno room" {
			t.Errorf("sent %s, told %s", got, told.String())
		}
	})
}

// A record that is larger than a batch goes alone; others go together up to the bound; and no more than a batch is held in memory.
func TestBatches(t *testing.T) {
	t.Parallel()
	l := openLedger(t, t.TempDir())
	for i := range uint64(60) {
		r := call(i)
		if i%10 == 3 {
			r.Detail = strings.Repeat("x", 8<<10)
		}
		if _, err := l.Append(t.Context(), audit.AppendRecord(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opts := options(t)
	opts.BatchBytes, opts.BatchRecords = 4<<10, 7
	var e *Exporter
	alone := 0
	e = newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		n, size := len(sent(in)), 0
		for _, r := range sent(in) {
			size += sizeOf(r)
		}
		if n == 1 && size > opts.BatchBytes {
			alone++
		} else if n > opts.BatchRecords || size > opts.BatchBytes {
			t.Errorf("%d records of %d bytes", n, size)
		}
		if len(e.waiting) > opts.BatchRecords || e.bytes > opts.BatchBytes+10<<10 {
			t.Errorf("%d records of %d bytes in memory", len(e.waiting), e.bytes)
		}
		return nil, nil
	}), opts)
	drain(t, e)
	if alone != 6 || e.bytes != 0 || e.Next() != 60 {
		t.Errorf("%d went alone; %d bytes are left; %d were sent", alone, e.bytes, e.Next())
	}
}

// However much waits, memory does not grow. It does not run in parallel, since it looks at the heap.
func TestHugeBacklog(t *testing.T) { //nolint:paralleltest // it looks at the heap
	l := closedLedger(t, 0)
	l = openLedger(t, l.dir)
	const records = 60_000
	detail := strings.Repeat("x", 500)
	for i := range uint64(records) {
		r := call(i)
		r.Detail = detail
		p, err := l.Begin(t.Context(), audit.AppendRecord(nil, r))
		if err == nil && i == records-1 {
			_, err = p.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, requests, most := heap(), 0, uint64(0)
	e := newExporter(t, l, conn(func(_ context.Context, in *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		if size := proto.Size(in); size > 1<<20+1<<10 || len(sent(in)) > 512 {
			t.Errorf("a request of %d bytes and %d records", size, len(sent(in)))
		}
		if requests++; requests%20 == 0 {
			most = max(most, heap())
		}
		return nil, nil
	}), options(t))
	drain(t, e)
	if grown := int64(most) - int64(before); grown > 8<<20 || e.Next() != records {
		t.Errorf("the heap grew by %d KiB for %d records", grown>>10, e.Next())
	}
}

// A collector that hangs holds one request, and nobody's Append.
func TestAppendsGoOnWhileTheCollectorHangs(t *testing.T) {
	t.Parallel()
	l := openLedger(t, t.TempDir())
	l.calls(t, 1)
	hangs, goOn := make(chan struct{}), make(chan struct{})
	requests := 0
	opts := options(t)
	opts.Timeout = time.Hour
	e := newExporter(t, l, conn(func(context.Context, *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		if requests++; requests == 1 {
			close(hangs)
			<-goOn
		}
		return nil, nil
	}), opts)
	stop := run(t, e)
	<-hangs
	for range 500 {
		l.calls(t, 1)
	}
	if e.Next() != 0 {
		t.Errorf("%d records were confirmed by a collector that hangs", e.Next())
	}
	close(goOn)
	stop()
	if err := l.WaitCheckpoint(t.Context(), 501); err != nil {
		t.Fatal(err)
	}
	drain(t, e)
	if e.Next() != 501 {
		t.Errorf("%d records, want 501", e.Next())
	}
}

// A request that is under way when Run ends is waited for, so that it is not sent again; but not for long.
func TestTheLastRequest(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 4)
	for name, tt := range map[string]struct {
		takes, ends time.Duration
		next        uint64
	}{
		"is confirmed in time": {time.Second, time.Second, 4},
		"is not":               {time.Hour, lastCall, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				opts := options(t)
				opts.Trouble = func(err error) { t.Errorf("told %v", err) }
				e := newExporter(t, l, conn(func(ctx context.Context, _ *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
					cancel()
					select {
					case <-time.After(tt.takes):
						return nil, nil
					case <-ctx.Done():
						return nil, status.FromContextError(ctx.Err()).Err()
					}
				}), opts)
				begun := time.Now()
				if err := e.Run(ctx); err != nil || time.Since(begun) != tt.ends || e.Next() != tt.next {
					t.Errorf("after %v: %v, and %d were confirmed", time.Since(begun), err, e.Next())
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
				after, err := New(l.dir, l.verifier, conn(confirm), opts)
				if err != nil {
					t.Fatal(err)
				}
				defer after.Close()
				if after.Next() != tt.next {
					t.Errorf("the cursor says %d, want %d", after.Next(), tt.next)
				}
			})
		})
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 4)
	opts := options(t)
	in, out := make(chan struct{}), make(chan struct{})
	e := newExporter(t, l, conn(func(context.Context, *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
		close(in)
		<-out
		return nil, nil
	}), opts)
	if _, err := New(l.dir, l.verifier, conn(confirm), opts); !errors.Is(err, ErrLocked) {
		t.Errorf("two with one cursor: %v", err)
	}
	stop := run(t, e)
	<-in
	if err := e.Run(t.Context()); !errors.Is(err, errRunning) {
		t.Errorf("a second Run: %v", err)
	}
	if err := e.Drain(t.Context()); !errors.Is(err, errRunning) {
		t.Errorf("Drain beside Run: %v", err)
	}
	close(out)
	stop()
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := e.Run(t.Context()); !errors.Is(err, errRunning) {
		t.Errorf("Run after Close: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	e = newExporter(t, closedLedger(t, 4), conn(confirm), options(t))
	if err := e.Drain(ended); !errors.Is(err, context.Canceled) || err.Error() != "otlpexport: records 0 to 3 are not sent: context canceled" {
		t.Errorf("Drain without time: %v", err)
	}
}

// A journal that was damaged stops the export where it is, and says so each time.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	l := openLedger(t, t.TempDir())
	l.calls(t, 1) // a block of its own, which New reads
	l.calls(t, 399)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(l.dir, "segments", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	last := segments[len(segments)-1]
	data, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5] ^= 1
	if err := os.WriteFile(last, data, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var told []error
		opts := options(t)
		opts.Trouble, opts.jitter = func(err error) { told = append(told, err) }, func() float64 { return 1 }
		e := newExporter(t, l, conn(confirm), opts)
		if err := e.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drained: %v", err)
		}
		if len(told) != 4 || !errors.Is(told[0], journal.ErrTampered) { // after 0, 1, 3 and 7 seconds
			t.Errorf("told %v", told)
		}
	})
}
