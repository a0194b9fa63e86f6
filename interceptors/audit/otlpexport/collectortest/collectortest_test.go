//go:build unix

package collectortest

import (
	"context"
	"net/http"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func send(t *testing.T, c *Collector, event string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := collogs.NewLogsServiceClient(c.Dial(t)).Export(ctx, &collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		ScopeLogs: []*logs.ScopeLogs{{LogRecords: []*logs.LogRecord{{EventName: event}}}},
	}}})
	return err
}

func TestCollector(t *testing.T) {
	t.Parallel()
	c := Start(t)
	if err := send(t, c, "first"); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	if err := send(t, c, "lost"); status.Code(err) != codes.Unavailable {
		t.Errorf("to nobody: %v", err)
	}
	c.Kill() // again, which does nothing
	c.Restart()
	c.Refuse(http.StatusServiceUnavailable)
	if err := send(t, c, "refused for now"); status.Code(err) != codes.Unavailable {
		t.Errorf("refused for now: %v", err)
	}
	c.Refuse(http.StatusBadRequest)
	if err := send(t, c, "refused"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("refused for good: %v", err)
	}
	c.Refuse(0)
	if err := send(t, c, "second"); err != nil {
		t.Fatal(err)
	}
	got := c.AwaitLogs(t, 2)
	if len(got) != 2 || got[0].GetEventName() != "first" || got[1].GetEventName() != "second" {
		t.Errorf("arrived: %v", got)
	}
	c.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := collogs.NewLogsServiceClient(c.Dial(t)).Export(ctx, &collogs.ExportLogsServiceRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a frozen collector: %v", err)
	}
	c.Resume()
	if err := send(t, c, "third"); err != nil {
		t.Error(err)
	}
}

// Traces and metrics go the way that logs go.
func TestTheOtherSignals(t *testing.T) {
	t.Parallel()
	c := Start(t)
	conn := c.Dial(t)
	if _, err := coltraces.NewTraceServiceClient(conn).Export(t.Context(), &coltraces.ExportTraceServiceRequest{ResourceSpans: []*traces.ResourceSpans{{
		ScopeSpans: []*traces.ScopeSpans{{Spans: []*traces.Span{{Name: "a span", TraceId: make([]byte, 16), SpanId: make([]byte, 8)}}}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := colmetrics.NewMetricsServiceClient(conn).Export(t.Context(), &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		ScopeMetrics: []*metrics.ScopeMetrics{{Metrics: []*metrics.Metric{{Name: "a metric", Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: []*metrics.NumberDataPoint{{}}}}}}}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if len(c.Spans()) != 1 || len(c.Metrics()) != 1 || c.Spans()[0].GetName() != "a span" || c.Metrics()[0].GetName() != "a metric" {
		t.Errorf("arrived: %v %v", c.Spans(), c.Metrics())
	}
}

// Two collectors that want the same port: the second notices that it is not the one who answers.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	c := Start(t)
	other := New(t)
	other.addr = c.addr
	if err := other.start(); err == nil {
		t.Fatal("started on a port that is taken")
	}
}
