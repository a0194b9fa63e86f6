package service

import (
	"context"
	"errors"
	"os"

	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpcguard/grpcguard/interceptors"
)

// telemetry writes spans to a file, one JSON object each. A bank would export them over OTLP; a demonstration wants to read
// them.
type telemetry struct {
	file     *os.File
	provider *sdktrace.TracerProvider
}

func newTelemetry(path string) (*telemetry, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(file))
	if err != nil {
		return nil, err
	}
	return &telemetry{file: file, provider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))}, nil
}

func (t *telemetry) guard() interceptors.Telemetry {
	return interceptors.Telemetry{TracerProvider: t.provider, Propagator: propagation.TraceContext{}}
}

func (t *telemetry) close() error {
	return errors.Join(t.provider.Shutdown(context.Background()), t.file.Close())
}

// Span begins a span of the process's own, the root of all that it does under ctx.
func (p *Process) Span(ctx context.Context, name string) (context.Context, trace.Span) {
	return p.telemetry.provider.Tracer("bank").Start(ctx, name) //nolint:spancheck // The caller ends it.
}
