package interceptors_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// seriesOf is a meter provider that keeps which series there are. The SDK's would be one more module to depend on.
type seriesOf struct {
	noop.MeterProvider

	mu   sync.Mutex
	seen map[string]map[attribute.Set]int // by instrument
}

func (p *seriesOf) Meter(string, ...metric.MeterOption) metric.Meter { return seriesMeter{provider: p} }

func (p *seriesOf) saw(name string, set attribute.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[name] == nil {
		p.seen[name] = make(map[attribute.Set]int)
	}
	p.seen[name][set]++
}

type seriesMeter struct {
	noop.Meter

	provider *seriesOf
}

func (m seriesMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return floatSeries{provider: m.provider, name: name}, nil
}

func (m seriesMeter) Int64Histogram(name string, _ ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	return intSeries{provider: m.provider, name: name}, nil
}

func (m seriesMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counterSeries{provider: m.provider, name: name}, nil
}

type floatSeries struct {
	noop.Float64Histogram

	provider *seriesOf
	name     string
}

func (s floatSeries) Enabled(context.Context) bool { return true }
func (s floatSeries) Record(_ context.Context, _ float64, opts ...metric.RecordOption) {
	s.provider.saw(s.name, metric.NewRecordConfig(opts).Attributes())
}

type intSeries struct {
	noop.Int64Histogram

	provider *seriesOf
	name     string
}

func (s intSeries) Enabled(context.Context) bool { return true }
func (s intSeries) Record(_ context.Context, _ int64, opts ...metric.RecordOption) {
	s.provider.saw(s.name, metric.NewRecordConfig(opts).Attributes())
}

type counterSeries struct {
	noop.Int64Counter

	provider *seriesOf
	name     string
}

func (s counterSeries) Enabled(context.Context) bool { return true }
func (s counterSeries) Add(_ context.Context, _ int64, opts ...metric.AddOption) {
	s.provider.saw(s.name, metric.NewAddConfig(opts).Attributes())
}

// Names that callers make up are labels of nothing and names of no span. Some of these calls are refused in the tap, and some, while
// the sink stands still, in the interceptor.
func TestInventedMethodsLeaveNoTraces(t *testing.T) {
	t.Parallel()
	exporter, telemetry := spans()
	series := &seriesOf{seen: make(map[string]map[attribute.Set]int)}
	telemetry.MeterProvider = series
	w := newWorld(t, telemetry)
	w.records.blocked = make(chan struct{})
	const each = 800 // Twice that is more than the tap's queue holds.
	answers := make(chan error, 2*each)
	for who, cc := range map[string]*grpc.ClientConn{"friend": w.dial(w.workload(friendID)), "stranger": w.dial(w.workload(strangerID))} {
		for i := range each {
			go func() {
				answers <- cc.Invoke(t.Context(), fmt.Sprintf("/invented.%s/Made%dUp", who, i), &pb.UnaryRequest{}, &pb.UnaryResponse{})
			}()
		}
	}
	for i := range 2 * each {
		if i == 1000 {
			close(w.records.blocked) // Those were in the queue; the others wait behind it.
		}
		wantStatus(t, <-answers, codes.PermissionDenied, "permission denied")
	}
	must(t, calls["unary"](t.Context(), w.as(friendID)))
	must(t, w.guard.Close(t.Context()))
	const total = 2*each + 1
	if n := len(w.records.all(t, total)); n != total {
		t.Errorf("%d records of %d calls", n, total)
	}
	names := make(map[string]int)
	for _, span := range finished(t, exporter, total) {
		names[span.Name]++
		for _, a := range span.Attributes {
			if strings.Contains(a.Value.String(), "invented") || strings.Contains(a.Value.String(), "Made") {
				t.Errorf("an attribute %s = %s", a.Key, a.Value.String())
			}
		}
	}
	delete(names, "guardtest.v1.EchoService/Unary")
	delete(names, "grpc")
	if len(names) > 0 {
		t.Errorf("%d names of spans that should not be: %v", len(names), names)
	}
	series.mu.Lock()
	defer series.mu.Unlock()
	if len(series.seen["rpc.server.call.duration"]) != 2 {
		t.Errorf("not two methods were measured: %v", series.seen)
	}
	for name, sets := range series.seen {
		if len(sets) > 4 {
			t.Errorf("%s has %d series", name, len(sets))
		}
		for set := range sets {
			if text := set.Encoded(attribute.DefaultEncoder()); strings.Contains(text, "invented") || strings.Contains(text, "Made") {
				t.Errorf("%s has the series %s", name, text)
			}
		}
	}
}
