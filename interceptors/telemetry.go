package interceptors

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/grpcguard/grpcguard/interceptors"

// Telemetry configures OpenTelemetry on either side; it is an [Option]. The zero value is the default: a span and a duration for each
// call, with the global providers, by the semantic conventions for RPC (version 1.43). No other instrumentation of gRPC is needed
// beside it; gRPC's stats handlers, which others are, see more of a call and cost several times as much.
type Telemetry struct {
	// Off does without spans and metrics. Records then have no trace ID.
	Off bool
	// TracerProvider makes spans. Default: otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// MeterProvider makes the durations of calls, and the metrics of limits and breakers. Default: otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Propagator carries trace context between services. Default: otel.GetTextMapPropagator().
	Propagator propagation.TextMapPropagator
}

func (t Telemetry) server(c *serverConfig) error { c.telemetry = t; return nil }

func (t Telemetry) client(c *clientConfig) error { c.telemetry = t; return nil }

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
