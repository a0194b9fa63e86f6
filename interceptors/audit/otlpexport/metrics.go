package otlpexport

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// metrics have no labels: there is one exporter to a journal, and the resource says whose.
type metrics struct {
	records, failures, rejected, lost metric.Int64Counter
	lag                               metric.Registration
}

// newMetrics makes the metrics. What is behind is asked when they are collected, so it is right while the exporter waits.
func newMetrics(provider metric.MeterProvider, behind func() (int64, error)) (m metrics, err error) {
	meter := provider.Meter(scope)
	var errs [6]error
	m.records, errs[0] = meter.Int64Counter("grpcguard.export.records", metric.WithUnit("{record}"),
		metric.WithDescription("records that the collector took"))
	m.failures, errs[1] = meter.Int64Counter("grpcguard.export.failures", metric.WithUnit("{request}"),
		metric.WithDescription("requests that the collector did not take or did not confirm"))
	m.rejected, errs[2] = meter.Int64Counter("grpcguard.export.rejected", metric.WithUnit("{record}"),
		metric.WithDescription("records that the collector dropped, of requests that it took"))
	m.lost, errs[3] = meter.Int64Counter("grpcguard.export.lost", metric.WithUnit("{record}"),
		metric.WithDescription("records that were deleted from the journal before they were sent"))
	var lag metric.Int64ObservableGauge
	lag, errs[4] = meter.Int64ObservableGauge("grpcguard.export.lag", metric.WithUnit("{record}"),
		metric.WithDescription("records that a checkpoint covers and the collector has not confirmed"))
	if errs[4] == nil {
		m.lag, errs[5] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			n, err := behind()
			if err == nil {
				o.ObserveInt64(lag, n)
			}
			return err
		}, lag)
	}
	return m, errors.Join(errs[:]...)
}

func (m metrics) close() error { return m.lag.Unregister() }
