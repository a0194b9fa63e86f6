//go:build unix

package collectortest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// arrivalTime is how long what was sent may take to arrive.
const arrivalTime = time.Minute

// probeScope is the scope of what Restart sends to see whether it arrives. Tests do not see it.
const probeScope = "grpcguard collectortest"

// Log is a log record as it arrived.
type Log struct {
	*logs.LogRecord

	// Resource and Scope are what it came under.
	Resource *resource.Resource
	Scope    *common.InstrumentationScope
}

// backend is what is behind the collector.
type backend struct {
	server *httptest.Server

	mu      sync.Mutex
	logs    []Log
	spans   []*traces.Span
	metrics []*metrics.Metric
	probes  []string
	refuse  int
	changed chan struct{} // replaced when something arrives
}

func newBackend() *backend {
	b := &backend{changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		receive(b, w, r, &collogs.ExportLogsServiceRequest{}, &collogs.ExportLogsServiceResponse{}, b.takeLogs)
	})
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		receive(b, w, r, &coltraces.ExportTraceServiceRequest{}, &coltraces.ExportTraceServiceResponse{}, b.takeTraces)
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		receive(b, w, r, &colmetrics.ExportMetricsServiceRequest{}, &colmetrics.ExportMetricsServiceResponse{}, b.takeMetrics)
	})
	b.server = httptest.NewServer(mux)
	return b
}

func (b *backend) close() {
	b.server.CloseClientConnections()
	b.server.Close()
}

// receive answers one request: it takes what it can read.
func receive[Request, Response proto.Message](b *backend, w http.ResponseWriter, r *http.Request, in Request, out Response, take func(Request)) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, in)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	refuse := b.refuse
	if refuse == 0 {
		take(in)
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.mu.Unlock()
	if refuse != 0 {
		http.Error(w, "refused by the test", refuse)
		return
	}
	answer, err := proto.Marshal(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func (b *backend) takeLogs(r *collogs.ExportLogsServiceRequest) {
	for _, of := range r.GetResourceLogs() {
		for _, in := range of.GetScopeLogs() {
			for _, l := range in.GetLogRecords() {
				if in.GetScope().GetName() == probeScope {
					b.probes = append(b.probes, l.GetBody().GetStringValue())
					continue
				}
				b.logs = append(b.logs, Log{l, of.GetResource(), in.GetScope()})
			}
		}
	}
}

func (b *backend) takeTraces(r *coltraces.ExportTraceServiceRequest) {
	for _, of := range r.GetResourceSpans() {
		for _, in := range of.GetScopeSpans() {
			b.spans = append(b.spans, in.GetSpans()...)
		}
	}
}

func (b *backend) takeMetrics(r *colmetrics.ExportMetricsServiceRequest) {
	for _, of := range r.GetResourceMetrics() {
		for _, in := range of.GetScopeMetrics() {
			b.metrics = append(b.metrics, in.GetMetrics()...)
		}
	}
}

// probe sends a log record with that text and waits until it has arrived.
func (b *backend) probe(ctx context.Context, conn grpc.ClientConnInterface, text string) error {
	request := &collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{ScopeLogs: []*logs.ScopeLogs{{
		Scope:      &common.InstrumentationScope{Name: probeScope},
		LogRecords: []*logs.LogRecord{{Body: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: text}}}},
	}}}}}
	b.mu.Lock()
	refuse := b.refuse
	b.mu.Unlock()
	_, err := collogs.NewLogsServiceClient(conn).Export(ctx, request, grpc.WaitForReady(true))
	if refuse != 0 {
		return nil // What is behind takes nothing now, and that is the test's wish.
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.probes, text) {
		return fmt.Errorf("a collector answers, and what it took did not arrive")
	}
	return nil
}

// Refuse makes what is behind the collector answer with this HTTP status, and take nothing, until Refuse(0).
func (c *Collector) Refuse(status int) {
	c.behind.mu.Lock()
	defer c.behind.mu.Unlock()
	c.behind.refuse = status
}

// Logs returns the log records that arrived, in the order in which they did.
func (c *Collector) Logs() []Log {
	c.behind.mu.Lock()
	defer c.behind.mu.Unlock()
	return slices.Clone(c.behind.logs)
}

// Spans returns the spans that arrived.
func (c *Collector) Spans() []*traces.Span {
	c.behind.mu.Lock()
	defer c.behind.mu.Unlock()
	return slices.Clone(c.behind.spans)
}

// Metrics returns the metrics that arrived.
func (c *Collector) Metrics() []*metrics.Metric {
	c.behind.mu.Lock()
	defer c.behind.mu.Unlock()
	return slices.Clone(c.behind.metrics)
}

// AwaitLogs waits until at least n log records have arrived, and returns all that have.
func (c *Collector) AwaitLogs(tb testing.TB, n int) []Log {
	tb.Helper()
	timeout := time.After(arrivalTime)
	for {
		c.behind.mu.Lock()
		all, changed := slices.Clone(c.behind.logs), c.behind.changed
		c.behind.mu.Unlock()
		if len(all) >= n {
			return all
		}
		select {
		case <-changed:
		case <-timeout:
			tb.Fatalf("collectortest: %d log records arrived within %v, want %d", len(all), arrivalTime, n)
		}
	}
}
