package interceptors

import (
	"context"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// durations measures how long calls take, by method and status, as the semantic conventions say. A set of attributes is made once for
// each method and status, and not once a call.
type durations struct {
	metric.Float64Histogram

	failed func(codes.Code) bool
}

// bounds are those that the conventions recommend, in seconds.
var bounds = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

func newDurations(t Telemetry, side audit.Side) (durations, error) {
	meter := t.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	if side == audit.SideClient {
		h, err := rpcconv.NewClientCallDuration(meter, bounds)
		return durations{h.Inst(), clientFailed}, err
	}
	h, err := rpcconv.NewServerCallDuration(meter, bounds)
	return durations{h.Inst(), serverFailed}, err
}

// clientFailed reports whether a client counts a status as a failure.
func clientFailed(c codes.Code) bool { return c != codes.OK }

// serverFailed reports whether a server counts a status as its own failure, and not its caller's.
func serverFailed(c codes.Code) bool {
	switch c { //nolint:exhaustive // The others are the caller's.
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// measured is one method, as metrics name it.
type measured struct {
	name   string
	byCode [codes.Unauthenticated + 1]atomic.Pointer[metric.MeasurementOption]
}

// otherMethod is what the conventions call all methods that are not known: their names are anybody's.
const otherMethod = "_OTHER"

func newMeasured(method string) *measured { return &measured{name: strings.TrimPrefix(method, "/")} }

func (d durations) record(ctx context.Context, m *measured, c codes.Code, seconds float64) {
	if !d.Enabled(ctx) {
		return
	}
	if int(c) >= len(m.byCode) {
		c = codes.Unknown // A handler can make up codes, and as many of them as it likes.
	}
	slot := &m.byCode[c]
	of := slot.Load()
	if of == nil {
		attributes := []attribute.KeyValue{semconv.RPCSystemNameGRPC, semconv.RPCMethod(m.name), semconv.RPCResponseStatusCode(statusName(c))}
		if d.failed(c) {
			attributes = append(attributes, semconv.ErrorTypeKey.String(statusName(c)))
		}
		made := metric.WithAttributeSet(attribute.NewSet(attributes...))
		slot.Store(&made)
		of = &made
	}
	d.Record(ctx, seconds, *of)
}

// statusName is a status as the conventions write it, which is as google.rpc does.
func statusName(c codes.Code) string { return code.Code(c).String() }
