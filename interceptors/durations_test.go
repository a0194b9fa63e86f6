package interceptors_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// Calls are measured as the semantic conventions say: who failed differs from side to side, and no status that a handler makes up
// becomes a series.
func TestDurationsAreMeasuredByMethodAndStatus(t *testing.T) {
	t.Parallel()
	serverReader, clientReader := sdkmetric.NewManualReader(), sdkmetric.NewManualReader()
	w := newWorld(t, interceptors.Telemetry{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(serverReader))})
	answers := []error{
		nil, nil, status.Error(codes.NotFound, "none"), status.Error(codes.Internal, "broken"),
		status.Error(codes.Code(4711), "made up"), status.Error(codes.Code(4712), "made up"),
	}
	answer := make(chan error, 1)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		return &pb.UnaryResponse{}, <-answer
	}
	c, _ := w.guarded(newRecorder(), interceptors.Telemetry{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(clientReader))})
	for _, err := range answers {
		answer <- err
		_, got := c.Unary(t.Context(), &pb.UnaryRequest{Text: "hi"})
		if status.Code(got) != status.Code(err) {
			t.Fatalf("got %v, want %v", got, err)
		}
	}
	_, _ = w.as("spiffe://example.org/stranger").Unary(t.Context(), &pb.UnaryRequest{Text: "hi"})
	must(t, w.guard.Close(t.Context()))
	const method = "rpc.method=guardtest.v1.EchoService/Unary,rpc.response.status_code="
	const end = ",rpc.system.name=grpc"
	for _, side := range []struct {
		name   string
		reader sdkmetric.Reader
		want   map[string]uint64
	}{
		{"rpc.server.call.duration", serverReader, map[string]uint64{
			method + "OK" + end: 2, method + "NOT_FOUND" + end: 1, "error.type=INTERNAL," + method + "INTERNAL" + end: 1,
			"error.type=UNKNOWN," + method + "UNKNOWN" + end: 2, method + "PERMISSION_DENIED" + end: 1,
		}},
		{"rpc.client.call.duration", clientReader, map[string]uint64{
			method + "OK" + end: 2, "error.type=NOT_FOUND," + method + "NOT_FOUND" + end: 1,
			"error.type=INTERNAL," + method + "INTERNAL" + end: 1, "error.type=UNKNOWN," + method + "UNKNOWN" + end: 2,
		}},
	} {
		got := callsMeasured(t, side.reader, side.name)
		for series, n := range side.want {
			if got[series] != n {
				t.Errorf("%s: %d calls of %s, want %d", side.name, got[series], series, n)
			}
		}
		if len(got) != len(side.want) {
			t.Errorf("%s has the series %v", side.name, got)
		}
	}
}

// callsMeasured counts the calls of each series of a histogram.
func callsMeasured(t *testing.T, reader sdkmetric.Reader, name string) map[string]uint64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	found := make(map[string]uint64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			data, ok := m.Data.(metricdata.Histogram[float64])
			if !ok || m.Name != name {
				continue
			}
			if m.Unit != "s" {
				t.Errorf("the unit of %s is %q", name, m.Unit)
			}
			for _, p := range data.DataPoints {
				found[p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Count
				if p.Sum <= 0 || p.Sum > 60 {
					t.Errorf("%s took %v s", name, p.Sum)
				}
			}
		}
	}
	return found
}

// sinkFunc is a sink that is a function.
type sinkFunc func(*audit.Record) error

func (f sinkFunc) Write(_ context.Context, r *audit.Record) error { return f(r) }

// The span of a call ends when its record is written: what a caller waits for is in it.
func TestTheRecordIsPartOfTheSpan(t *testing.T) {
	t.Parallel()
	exporter, telemetry := spans()
	w := newWorld(t)
	guard, err := interceptors.NewServer(w.policy, w.workload(serverID), sinkFunc(func(r *audit.Record) error {
		if n := len(exporter.GetSpans()); r.Type == audit.TypeCall && n != 0 {
			t.Errorf("%d spans have ended before the record was written", n)
		}
		return nil
	}), telemetry)
	must(t, err)
	w.addr = w.serve(guard.ServerOptions()...)
	_, err = w.as(friendID).Unary(t.Context(), &pb.UnaryRequest{Text: "hi"})
	must(t, err)
	finished(t, exporter, 1)
	must(t, guard.Close(t.Context()))
}

// What a program wrote itself does not make two traces of one, and its other metadata stays.
func TestTheTraceOfAClientReplacesWhatTheProgramWrote(t *testing.T) {
	t.Parallel()
	_, telemetry := spans()
	w := newWorld(t, telemetry)
	records := newRecorder()
	c, _ := w.guarded(records, telemetry)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id", "r-1")
	_, err := c.Unary(ctx, &pb.UnaryRequest{Text: "hi"})
	must(t, err)
	client, server := records.one(t), w.records.one(t)
	if client.TraceID == "" || client.TraceID == "0af7651916cd43dd8448eb211c80319c" || server.TraceID != client.TraceID || server.RequestID != "r-1" {
		t.Errorf("the client's record has trace %s, the server's %s and request %s", client.TraceID, server.TraceID, server.RequestID)
	}
}
