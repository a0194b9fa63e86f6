package interceptors

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

const scope = "github.com/grpcguard/grpcguard/interceptors"

// Telemetry configures OpenTelemetry on either side; it is an [Option]. The zero value is the default: otelgrpc's stats handler
// with the global providers.
type Telemetry struct {
	// Off does without spans, metrics and the stats handler, which is the larger part of what a guarded call costs. Records then
	// have no trace ID, and those of calls that never reached an interceptor have the code Canceled or DeadlineExceeded where
	// gRPC's own would have been more exact.
	Off bool
	// TracerProvider makes spans. Default: otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// MeterProvider makes otelgrpc's metrics, and those of limits and breakers. Default: otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Propagator carries trace context between services. Default: otel.GetTextMapPropagator().
	Propagator propagation.TextMapPropagator
}

func (t Telemetry) server(c *serverConfig) error { c.telemetry = t; return nil }

func (t Telemetry) client(c *clientConfig) error { c.telemetry = t; return nil } //nolint:unparam // Other options can fail.

// settled returns t with its defaults filled in.
func (t Telemetry) settled() Telemetry {
	if t.Off {
		t.MeterProvider = noop.NewMeterProvider()
	}
	if t.TracerProvider == nil {
		t.TracerProvider = otel.GetTracerProvider()
	}
	if t.MeterProvider == nil {
		t.MeterProvider = otel.GetMeterProvider()
	}
	if t.Propagator == nil {
		t.Propagator = otel.GetTextMapPropagator()
	}
	return t
}

func (t Telemetry) options() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.TracerProvider), otelgrpc.WithMeterProvider(t.MeterProvider), otelgrpc.WithPropagators(t.Propagator),
	}
}

// serverStats is otelgrpc's stats handler, and tells the chain how calls end that never reach an interceptor: gRPC reads the
// request of a unary call first, and may find that it cannot.
type serverStats struct {
	stats.Handler

	chain *chain.Server
}

func (h serverStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if c := chain.FromContext(ctx); c != nil {
		c.Tag()
		if c.Rule == nil {
			// Whatever the caller sent there is no name for a span, and must not become the label of a metric.
			info = &stats.RPCTagInfo{FullMethodName: "/unknown/unknown", FailFast: info.FailFast}
		}
	}
	return h.Handler.TagRPC(ctx, info)
}

func (h serverStats) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		h.chain.Unread(ctx, end.Error)
	}
	h.Handler.HandleRPC(ctx, s)
}

// clientStats is otelgrpc's stats handler, and tells the call which span is its own: it is made below the interceptors.
type clientStats struct{ stats.Handler }

func (h clientStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	ctx = h.Handler.TagRPC(ctx, info)
	if c := chain.FromContext(ctx); c != nil {
		span := trace.SpanFromContext(ctx)
		span.SetAttributes(attribute.String("grpcguard.callee", c.Callee))
		c.SetSpanContext(span.SpanContext())
	}
	return ctx
}
