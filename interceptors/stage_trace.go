package interceptors

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// traceStage makes a call's span and measures how long it took. It is the outermost, so that both cover all that the caller waits for, the
// record included. It does without a stats handler: to have one costs a call more than the span does.
type traceStage struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	side       audit.Side
	durations  durations
	options    []trace.SpanStartOption
	methods    map[*policy.Rule]*traced
	other      *traced // of all methods that have no rule
}

// traced is what is known of the spans of one method before any of its calls.
type traced struct {
	*measured

	span string // its name
}

func newTraceStage(t Telemetry, side audit.Side, p *policy.Policy) (*traceStage, error) {
	d, err := newDurations(t, side)
	if err != nil {
		return nil, err
	}
	s := &traceStage{
		tracer:     t.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: t.Propagator, side: side, durations: d, methods: make(map[*policy.Rule]*traced),
		options: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)},
	}
	if side == audit.SideClient {
		s.options[0] = trace.WithSpanKind(trace.SpanKindClient)
	}
	s.other = &traced{newMeasured(otherMethod), "grpc"}
	for r := range p.Rules() {
		m := newMeasured(r.Method())
		s.methods[r] = &traced{m, m.name}
	}
	return s, nil
}

func (*traceStage) Name() string { return "trace" }

// of returns what is known of the method of a call. One that has no rule is whatever somebody sent, and no name for anything.
func (s *traceStage) of(c *chain.Call) *traced {
	if m := s.methods[c.Rule]; m != nil {
		return m
	}
	return s.other
}

func (s *traceStage) Begin(ctx context.Context, c *chain.Call) *chain.Refusal {
	if ctx = s.start(ctx, c); s.side == audit.SideClient {
		ctx = s.inject(ctx)
	}
	c.SetContext(ctx)
	return nil
}

// start begins the span of a call, below the one that its caller names.
func (s *traceStage) start(ctx context.Context, c *chain.Call, more ...trace.SpanStartOption) context.Context {
	if s.side == audit.SideServer {
		ctx = s.propagator.Extract(ctx, carrier(c.Header))
	}
	options := s.options
	if len(more) > 0 {
		options = slices.Concat(options, more)
	}
	// A sampler knows the method by the span's name. Attributes come later, and only if there is somebody to read them.
	ctx, c.Span = s.tracer.Start(ctx, s.of(c).span, options...) //nolint:spancheck // End ends it.
	return ctx
}

// inject writes the trace into the call's metadata, in place of what the program wrote there.
func (s *traceStage) inject(ctx context.Context) context.Context {
	out := outgoing{ctx: ctx}
	s.propagator.Inject(ctx, &out)
	if out.carrier == nil {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, metadata.MD(out.carrier))
}

// End ends the span. A call that was refused before it began has none yet, and a trace should end where the call was refused and not in the
// dark.
func (s *traceStage) End(ctx context.Context, c *chain.Call) error {
	took := c.Result.Duration
	if c.Span != nil {
		// The record of the call was part of it.
		took = time.Since(c.Start)
		s.describe(c)
		c.Span.End()
	}
	s.durations.record(ctx, s.of(c).measured, c.Result.Code, took.Seconds())
	return nil
}

func (s *traceStage) describe(c *chain.Call) {
	if !c.Span.IsRecording() {
		return
	}
	var room [16]attribute.KeyValue
	attributes := append(room[:0],
		semconv.RPCSystemNameGRPC, semconv.RPCMethod(s.of(c).name),
		semconv.RPCResponseStatusCode(statusName(c.Result.Code)),
		attribute.String("grpcguard.outcome", string(c.Result.Outcome)),
	)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, attribute.String(key, value))
		}
	}
	reason := c.Result.Reason
	if d := c.Decision; d != nil {
		add("grpcguard.rule", d.Rule)
		if reason == "" {
			reason = d.Reason.String()
		}
	}
	add("grpcguard.decision", decisionOf(c))
	add("grpcguard.reason", reason)
	add("grpcguard.stage", c.Result.Stage)
	if c.Outbound != nil {
		add("grpcguard.callee", c.Outbound.Callee)
	}
	if c.Caller != nil {
		add("grpcguard.caller", c.Caller.ID().String())
		attributes = appendAddress(attributes, c.Caller.Address())
	}
	if s.durations.failed(c.Result.Code) {
		name := statusName(c.Result.Code)
		add(string(semconv.ErrorTypeKey), name)
		c.Span.SetStatus(codes.Error, name)
	}
	c.Span.SetAttributes(attributes...)
}

func appendAddress(attributes []attribute.KeyValue, address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return append(attributes, semconv.NetworkPeerAddress(address))
	}
	attributes = append(attributes, semconv.NetworkPeerAddress(host))
	if n, err := strconv.Atoi(port); err == nil {
		attributes = append(attributes, semconv.NetworkPeerPort(n))
	}
	return attributes
}

// lateTraceStage gives a span to a call that has none when it ends: it was refused, or ended, before it began. It is inside of whatever
// writes the call's record, which names the span.
type lateTraceStage struct{ trace *traceStage }

func (s lateTraceStage) Name() string { return s.trace.Name() }

func (s lateTraceStage) End(_ context.Context, c *chain.Call) error {
	if c.Span == nil {
		s.trace.start(c, c, trace.WithTimestamp(c.Start))
	}
	return nil
}

// carrier reads trace context out of metadata, and writes it there.
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

// outgoing is the metadata of a context, and what a propagator writes into it. It is made only if there is something to write.
type outgoing struct {
	carrier

	ctx context.Context //nolint:containedctx // It does not outlive the call that it is made in.
}

func (i *outgoing) Set(key, value string) {
	if i.carrier == nil {
		md, _ := metadata.FromOutgoingContext(i.ctx)
		if md == nil {
			md = make(metadata.MD, 1)
		}
		i.carrier = carrier(md)
	}
	i.carrier.Set(key, value)
}
