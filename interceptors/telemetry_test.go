package interceptors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/grpcguard/grpcguard/interceptors"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

func spans() (*tracetest.InMemoryExporter, interceptors.Telemetry) {
	exporter := tracetest.NewInMemoryExporter()
	return exporter, interceptors.Telemetry{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)),
		Propagator:     propagation.TraceContext{},
	}
}

// The span of a call and its record name each other, and the span says what was decided, by which rule, for whom.
func TestSpansCarryTheDecision(t *testing.T) {
	t.Parallel()
	const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tests := []struct {
		name, caller, method string
		want                 map[string]string
	}{
		{"allowed", friendID, "/guardtest.v1.EchoService/Unary", map[string]string{
			"grpcguard.decision": "allowed", "grpcguard.outcome": "ok", "grpcguard.caller": friendID, "grpcguard.reason": "caller-allowed",
			"grpcguard.rule": `guardtest/v1/guardtest.proto: service guardtest.v1.EchoService: (grpcguard.v1.service).callers[0] "friend" = spiffe://example.org/friend (policy.yaml:3)`,
		}},
		{"refused in the tap, before it begins", "spiffe://example.org/stranger", "/guardtest.v1.EchoService/Unary", map[string]string{
			"grpcguard.decision": "denied", "grpcguard.outcome": "denied", "grpcguard.caller": "spiffe://example.org/stranger",
			"grpcguard.reason": "caller-not-listed", "grpcguard.stage": "callers",
			"grpcguard.rule": "guardtest/v1/guardtest.proto: service guardtest.v1.EchoService: (grpcguard.v1.service).callers",
		}},
		{"an unknown method, whose name is anybody's", friendID, "/x/Invented", map[string]string{
			"grpcguard.decision": "denied", "grpcguard.outcome": "denied", "grpcguard.reason": "no-rule", "rpc.method": "_OTHER",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			exporter, telemetry := spans()
			w := newWorld(t, telemetry)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", remote)
			_ = w.dial(w.workload(tt.caller)).Invoke(ctx, tt.method, &pb.UnaryRequest{Text: "hi"}, &pb.UnaryResponse{})
			r := w.records.one(t)
			span := finished(t, exporter, 1)[0]
			if span.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || span.Parent.SpanID().String() != "b7ad6b7169203331" {
				t.Errorf("the span is not the remote one's child: %v %v", span.SpanContext, span.Parent)
			}
			if r.TraceID != span.SpanContext.TraceID().String() || r.SpanID != span.SpanContext.SpanID().String() {
				t.Errorf("the record names %s %s, the span is %v", r.TraceID, r.SpanID, span.SpanContext)
			}
			if span.SpanKind != trace.SpanKindServer {
				t.Errorf("kind %v", span.SpanKind)
			}
			got := attribute.NewSet(span.Attributes...)
			for key, want := range tt.want {
				if v, _ := got.Value(attribute.Key(key)); v.AsString() != want {
					t.Errorf("%s = %q, want %q", key, v.AsString(), want)
				}
			}
		})
	}
}

// The client's record names the client's span, whose child the server's is.
func TestClientAndServerAreOneTrace(t *testing.T) {
	t.Parallel()
	exporter, telemetry := spans()
	w := newWorld(t, telemetry)
	records := newRecorder()
	c, _ := w.guarded(records, telemetry)
	for _, call := range calls {
		must(t, call(t.Context(), c))
	}
	finished(t, exporter, 2*len(calls))
	server := make(map[string]string)
	for _, r := range w.records.all(t, len(calls)) {
		server[r.TraceID] = r.SpanID
	}
	for _, r := range records.all(t, len(calls)) {
		if server[r.TraceID] == "" || server[r.TraceID] == r.SpanID || r.SpanID == "" {
			t.Errorf("the client's record %+v has no counterpart in %v", r, server)
		}
	}
}

// begun counts spans that begin.
type begun struct{ atomic.Int64 }

func (b *begun) OnStart(context.Context, sdktrace.ReadWriteSpan) { b.Add(1) }
func (*begun) OnEnd(sdktrace.ReadOnlySpan)                       {}
func (*begun) Shutdown(context.Context) error                    { return nil }
func (*begun) ForceFlush(context.Context) error                  { return nil }

// A call has one span a side, allowed or not, and each that begins ends.
func TestEveryCallHasOneSpan(t *testing.T) {
	t.Parallel()
	exporter, started := tracetest.NewInMemoryExporter(), &begun{}
	telemetry := interceptors.Telemetry{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSpanProcessor(started)),
		Propagator:     propagation.TraceContext{},
	}
	w := newWorld(t, telemetry)
	c, _ := w.guarded(newRecorder(), telemetry)
	for _, call := range calls {
		must(t, call(t.Context(), c))
		_ = call(t.Context(), w.as(strangerID)) // no guarded client
	}
	w.records.all(t, 2*len(calls))
	finished(t, exporter, 3*len(calls))
	if n := started.Load(); n != int64(3*len(calls)) {
		t.Errorf("%d spans began, and %d ended", n, 3*len(calls))
	}
}

// finished waits for n spans: a server's ends a moment after its caller has the answer.
func finished(t *testing.T, exporter *tracetest.InMemoryExporter, n int) tracetest.SpanStubs {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for {
		if all := exporter.GetSpans(); len(all) >= n {
			return all
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%d spans of %d", len(exporter.GetSpans()), n)
		}
	}
}
