package interceptors

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

// breakerMetrics are a client's. Callees and methods are the program's and the policy's own, so the labels are few.
type breakerMetrics struct {
	state   metric.Int64Gauge
	changes metric.Int64Counter
}

func newBreakerMetrics(t Telemetry) (m breakerMetrics, err error) {
	meter := t.MeterProvider.Meter(scope)
	var errs [2]error
	m.state, errs[0] = meter.Int64Gauge("grpcguard.breaker.state", metric.WithDescription("0 closed, 1 half-open, 2 open"))
	m.changes, errs[1] = meter.Int64Counter("grpcguard.breaker.changes", metric.WithDescription("changes of state, by the new one"))
	return m, errors.Join(errs[:]...)
}

func (m breakerMetrics) changed(callee, method string, c breaker.Change) {
	of := []attribute.KeyValue{attribute.String("grpcguard.callee", callee), attribute.String("rpc.method", method)}
	m.state.Record(context.Background(), int64(c.To), metric.WithAttributes(of...))
	m.changes.Add(context.Background(), 1, metric.WithAttributes(append(of, attribute.String("grpcguard.state", c.To.String()))...))
}

// limitMetrics are a server's.
type limitMetrics struct {
	refused  metric.Int64Counter
	failures metric.Int64Counter
}

func newLimitMetrics(meter metric.Meter) (m limitMetrics, err error) {
	var errs [2]error
	m.refused, errs[0] = meter.Int64Counter("grpcguard.rate_limit.refused", metric.WithDescription("calls and messages refused, by limit"))
	m.failures, errs[1] = meter.Int64Counter("grpcguard.rate_limit.store_failures", metric.WithDescription("decisions that the shared store did not make"))
	return m, errors.Join(errs[:]...)
}
