package interceptors

import (
	"context"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

// traceStage puts the decision on the span that otelgrpc made for the call. A call that the tap refused never reaches
// otelgrpc; it gets a span from here, so that a trace ends where the call was refused and not in the dark.
type traceStage struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

func (traceStage) Name() string { return "trace" }

func (s traceStage) End(ctx context.Context, c *chain.Call) error {
	span := trace.SpanFromContext(ctx)
	// A context that is still the bare call has not been with otelgrpc.
	if bare := ctx == context.Context(c); bare && !span.SpanContext().IsValid() {
		span = s.start(c)
		defer span.End()
	}
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(
		attribute.String("grpcguard.decision", decisionOf(c)),
		attribute.String("grpcguard.outcome", string(c.Result.Outcome)),
	)
	if c.Caller != nil {
		span.SetAttributes(attribute.String("grpcguard.caller", c.Caller.ID().String()))
	}
	reason := c.Result.Reason
	if d := c.Decision; d != nil {
		span.SetAttributes(attribute.String("grpcguard.rule", d.Rule))
		if reason == "" {
			reason = d.Reason.String()
		}
	}
	if reason != "" {
		span.SetAttributes(attribute.String("grpcguard.reason", reason))
	}
	if c.Result.Stage != "" {
		span.SetAttributes(attribute.String("grpcguard.stage", c.Result.Stage))
	}
	return nil
}

// start begins the span of a call that has none. A method that has no rule is whatever somebody sent, and no name for a span.
func (s traceStage) start(c *chain.Call) trace.Span {
	ctx := context.Context(c)
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = s.propagator.Extract(ctx, carrier(md))
	}
	name := "unknown method"
	if c.Rule != nil {
		name = strings.TrimPrefix(c.Method, "/")
	}
	_, span := s.tracer.Start(ctx, name, //nolint:spancheck // End ends it.
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(c.Start),
		trace.WithAttributes(
			attribute.String("rpc.system.name", "grpc"),
			attribute.String("rpc.method", name),
			attribute.String("rpc.response.status_code", c.Result.Code.String()),
		),
	)
	span.SetStatus(codes.Error, c.Result.Code.String())
	c.SetSpanContext(span.SpanContext())
	return span //nolint:spancheck // See above.
}

// carrier reads trace context out of incoming metadata.
type carrier metadata.MD

func (m carrier) Get(key string) string {
	if v := metadata.MD(m).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (m carrier) Set(key, value string) { metadata.MD(m).Set(key, value) }

func (m carrier) Keys() []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
