package main

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// off does without spans and metrics.
var off = interceptors.Telemetry{Off: true}

// spans are those of a service that goes by its caller's decision to sample, or samples as often as root says. They are exported to nobody,
// and there are no metrics.
func (w *world) spans(root sdktrace.Sampler) interceptors.Telemetry {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(root)), sdktrace.WithBatcher(nowhere{}))
	w.atEnd(func() error { return provider.Shutdown(context.Background()) })
	return interceptors.Telemetry{TracerProvider: provider, MeterProvider: noop.NewMeterProvider(), Propagator: propagation.TraceContext{}}
}

// metered is t with the metrics of a service that somebody reads now and then, as a real SDK collects them. Nobody does here.
func (w *world) metered(t interceptors.Telemetry) interceptors.Telemetry {
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	w.atEnd(func() error { return provider.Shutdown(context.Background()) })
	t.MeterProvider = provider
	return t
}

// nowhere is an exporter that discards.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// otel is bare servers and clients with the same spans as a guard's.
func otel(t interceptors.Telemetry) (grpc.ServerOption, grpc.DialOption) {
	opts := []otelgrpc.Option{otelgrpc.WithTracerProvider(t.TracerProvider), otelgrpc.WithMeterProvider(t.MeterProvider), otelgrpc.WithPropagators(t.Propagator)}
	return grpc.StatsHandler(otelgrpc.NewServerHandler(opts...)), grpc.WithStatsHandler(otelgrpc.NewClientHandler(opts...))
}

// bareTraced is a bare server and a bare client with spans at both ends.
func (w *world) bareTraced(t interceptors.Telemetry) (benchv1.TransferServiceClient, error) {
	server, client := otel(t)
	address, err := w.listen(server, w.bareServer())
	if err != nil {
		return nil, err
	}
	return w.dial(address, client, bareClient(w.caller))
}

const (
	callsGroup    = "Whole unary calls"
	oneConnection = "client and server in this process, one connection a side, TLS 1.3 with both ends' certificates, 64 callers"
	otherOptions  = oneConnection + "; the guard's server has its defaults besides, such as 1,000 calls a connection and keepalive"
	// The guard's spans are its own, by a stage and without a stats handler.
	sameSpans = "spans at both ends of both, ours by a stage of the guard and theirs by otelgrpc's stats handlers, with the same sampler and W3C trace context; "
	bothEnds  = "the server and the client are guarded; " + otherOptions
)

// calls are whole unary calls beside bare ones.
func (b *bench) calls() ([]contest, error) {
	w, err := b.newWorld()
	if err != nil {
		return nil, err
	}
	// A sink is closed after the guards that write to it.
	sink, err := openSink(b.disk)
	if err != nil {
		return nil, err
	}
	w.atEnd(sink.Close)
	clientSink, err := openSink(b.disk)
	if err != nil {
		return nil, err
	}
	w.atEnd(clientSink.Close)
	never, always := w.spans(sdktrace.NeverSample()), w.spans(sdktrace.AlwaysSample())
	bestEffort := interceptors.WithRecordClass(audit.BestEffort)
	sides := &callSides{callers: b.callers}
	bare := sides.keep(w.bare())
	bareWorkers := sides.keep(w.bare(streamWorkers()))
	allWorkers := sides.keep(w.guardedBoth(both{options: []interceptors.Option{off}, server: []grpc.ServerOption{streamWorkers()}}))
	metered := w.metered(never)
	bareMetered := sides.keep(w.bareTraced(metered))
	bareNever, bareAlways := sides.keep(w.bareTraced(never)), sides.keep(w.bareTraced(always))
	callers := sides.keep(w.guarded(w.caller, audit.Discard, off))
	all := sides.keep(w.guardedBoth(both{options: []interceptors.Option{off}}))
	recorded := sides.keep(w.guardedBoth(both{sink: sink, options: []interceptors.Option{off, bestEffort}}))
	spansNever := sides.keep(w.guardedBoth(both{sink: sink, options: []interceptors.Option{never, bestEffort}}))
	spansAlways := sides.keep(w.guardedBoth(both{sink: sink, options: []interceptors.Option{always, bestEffort}}))
	spansMetered := sides.keep(w.guardedBoth(both{sink: sink, options: []interceptors.Option{metered, bestEffort}}))
	allRecorded := sides.keep(w.guardedBoth(both{sink: sink, clientSink: clientSink, options: []interceptors.Option{never, bestEffort}}))
	if sides.err != nil {
		return nil, sides.err
	}
	sides.add("bare", call(plain).inTime(bare))
	sides.add("bare, no deadline of the caller", call(plain).timeless(bare))
	sides.add("bare, stream workers", call(plain).inTime(bareWorkers))
	sides.add("identity, callers, limits, breaker, deadline, stream workers", call(plain).inTime(allWorkers))
	sides.add("bare, a transfer", call(valid).inTime(bare))
	sides.add("bare, a payment", call(pay).inTime(bare))
	sides.add("otelgrpc at both ends, not sampled", call(valid).inTime(bareNever))
	sides.add("otelgrpc at both ends, all sampled", call(valid).inTime(bareAlways))
	sides.add("identity and callers", call(plain).inTime(callers))
	sides.add("identity and callers, no deadline of the caller", call(plain).timeless(callers))
	sides.add("identity, callers, limits, breaker, deadline", call(plain).inTime(all))
	sides.add("and protovalidate", call(valid).inTime(all))
	sides.add("and best-effort records", call(valid).inTime(recorded))
	sides.add("otelgrpc at both ends, not sampled, metrics", call(valid).inTime(bareMetered))
	sides.add("spans at both ends, not sampled, metrics, best-effort records", call(valid).inTime(spansMetered))
	sides.add("spans at both ends, not sampled, best-effort records", call(valid).inTime(spansNever))
	sides.add("spans at both ends, all sampled, best-effort records", call(valid).inTime(spansAlways))
	sides.add("spans at both ends, not sampled, records of both ends", call(valid).inTime(allRecorded))
	sides.add("a transaction, not recorded", call(pay).inTime(all))
	sides.add("a transaction, durable", call(pay).inTime(recorded))
	return []contest{{sides: sides.list, lines: slices.Concat(
		beside(callsGroup, "identity and callers", "bare", 0, "the client is bare; "+otherOptions),
		beside(callsGroup, "identity, callers, limits, breaker, deadline", "bare", 0.97, bothEnds),
		beside(callsGroup, "identity, callers, limits, breaker, deadline, stream workers", "bare, stream workers", 0, "both servers have grpc.NumStreamWorkers, 32 a processor; "+bothEnds),
		beside(callsGroup, "identity, callers, limits, breaker, deadline, stream workers", "bare", 0, "the guarded server has grpc.NumStreamWorkers and the bare one has not: what the option gives back; "+bothEnds),
		beside(callsGroup, "and protovalidate", "bare, a transfer", 0.93, "seven rules, one of them CEL; "+bothEnds),
		beside(callsGroup, "and best-effort records", "bare, a transfer", 0, "the server's records go to a journal, the client's are discarded; "+bothEnds),
		beside(callsGroup, "spans at both ends, not sampled, best-effort records", "bare, a transfer", 0.85, "the bare side has no spans; both ends of ours do, without metrics, and the server's records go to a journal; "+bothEnds),
		beside(callsGroup, "spans at both ends, not sampled, best-effort records", "otelgrpc at both ends, not sampled", 0, sameSpans+"no metrics on either side; the bare side keeps no records; "+bothEnds),
		beside(callsGroup, "spans at both ends, all sampled, best-effort records", "bare, a transfer", 0.85, "spans are batched and then discarded; the bare side has none; no metrics; the server's records go to a journal; "+bothEnds),
		beside(callsGroup, "spans at both ends, all sampled, best-effort records", "otelgrpc at both ends, all sampled", 0, sameSpans+"no metrics on either side; the bare side keeps no records; "+bothEnds),
		beside(callsGroup, "spans at both ends, not sampled, metrics, best-effort records", "otelgrpc at both ends, not sampled, metrics", 0, sameSpans+"each side's metrics are collected by an SDK with a reader that is not read; the bare side keeps no records; "+bothEnds),
		beside(callsGroup, "spans at both ends, not sampled, records of both ends", "bare, a transfer", 0, "the client has a journal of its own on the same disk; "+bothEnds),
		beside(callsGroup, "a transaction, durable", "bare, a payment", 0.7, "intent and outcome are on disk before the answer leaves; the bare side keeps nothing; "+bothEnds),
		beside(callsGroup, "a transaction, durable", "a transaction, not recorded", 0.7, "the same guards with a sink that discards; "+bothEnds),
		beside(callsGroup, "identity and callers, no deadline of the caller", "bare, no deadline of the caller", 0, "the guard gives the call a deadline, the bare side has none; "+otherOptions),
	)}}, nil
}

// callSides collects sides that call, and the first error of what they call with.
type callSides struct {
	callers int
	list    []side
	err     error
}

func (s *callSides) keep(c benchv1.TransferServiceClient, err error) benchv1.TransferServiceClient {
	if s.err == nil {
		s.err = err
	}
	return c
}

func (s *callSides) add(name string, do func() (proto.Message, error)) {
	s.list = append(s.list, calling(name, s.callers, codes.OK, do))
}

// beside returns two lines, of throughput and of processor time. The goal is that of throughput.
func beside(group, ours, theirs string, goal float64, note string) []line {
	return []line{
		{
			Row:  row.Row{Group: group, Name: ours + ", beside " + theirs + ": throughput", Unit: "calls/s", More: true, Goal: goal, Note: note},
			ours: []string{ours}, theirs: []string{theirs}, value: perSecond,
		},
		{
			Row:  row.Row{Group: group, Name: ours + ", beside " + theirs + ": processor time", Unit: "µs/call", Note: "of client and server together; " + note},
			ours: []string{ours}, theirs: []string{theirs}, value: cpuMicros,
		},
	}
}
