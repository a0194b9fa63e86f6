package otlpexport

import (
	"context"
	"errors"
	"fmt"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// firstPause and lastPause bound the pause after a failure, and longestWish what a collector may ask for: a mistake of it must not
	// stop the export for a day.
	firstPause  = time.Second
	lastPause   = 30 * time.Second
	longestWish = 5 * time.Minute
	// lastCall is what a request is given that is under way when the exporter ends.
	lastCall = 2 * time.Second
)

// entry is a log record that waits to be sent.
type entry struct {
	log   *logs.LogRecord
	index uint64
	size  int
}

// sizeOf returns how much a log record adds to a request.
func sizeOf(l *logs.LogRecord) int {
	return protowire.SizeTag(2) + protowire.SizeBytes(proto.Size(l))
}

// RejectedError says that the collector took a request and dropped records of it, or has something to say about it. OTLP forbids to
// send such a request again. It goes to Options.Trouble.
type RejectedError struct {
	// From and To are the first and the last record of the request. Which of them were dropped OTLP does not say.
	From, To uint64
	// Rejected is how many were dropped. It is 0 for a mere warning.
	Rejected int64
	// Message is the collector's.
	Message string
}

func (e *RejectedError) Error() string {
	if e.Rejected == 0 {
		return fmt.Sprintf("otlpexport: the collector took records %d to %d and warns: %q", e.From, e.To, e.Message)
	}
	return fmt.Sprintf("otlpexport: the collector took records %d to %d and dropped %d of them: %q", e.From, e.To, e.Rejected, e.Message)
}

// errHalved says that a request was refused, and half of it is to be sent now.
var errHalved = errors.New("otlpexport: refused; trying half of it")

// send sends a request and waits until it is confirmed.
func (e *Exporter) send(ctx context.Context, batch []entry) error {
	from, to := batch[0].index, batch[len(batch)-1].index
	if conn, ok := e.conn.(interface{ ResetConnectBackoff() }); ok && e.failed > 0 {
		// The pauses are the exporter's. gRPC's own would be added, up to two minutes.
		conn.ResetConnectBackoff()
	}
	response, err := e.export(ctx, batch)
	if err != nil {
		e.metrics.failures.Add(ctx, 1)
		return e.refused(len(batch), fmt.Errorf("otlpexport: records %d to %d were not confirmed: %w", from, to, err))
	}
	// Half of a request that was refused was not: the next may be larger again.
	e.most = min(2*e.most, e.opts.BatchRecords)
	rejected := response.GetPartialSuccess().GetRejectedLogRecords()
	e.metrics.records.Add(ctx, max(int64(len(batch))-rejected, 0))
	if message := response.GetPartialSuccess().GetErrorMessage(); rejected != 0 || message != "" {
		e.metrics.rejected.Add(ctx, rejected)
		e.opts.Trouble(&RejectedError{From: from, To: to, Rejected: rejected, Message: message})
	}
	return nil
}

func (e *Exporter) export(ctx context.Context, batch []entry) (*collogs.ExportLogsServiceResponse, error) {
	list := make([]*logs.LogRecord, len(batch))
	for i, b := range batch {
		list[i] = b.log
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.opts.Timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastCall, cancel) })()
	return e.client.Export(call, &collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource:  e.resource,
		ScopeLogs: []*logs.ScopeLogs{{Scope: e.scope, LogRecords: list}},
	}}}, grpc.WaitForReady(true))
}

// refused decides what a failure means for the next request. The codes are OTLP's.
func (e *Exporter) refused(n int, err error) error {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return err
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		// That is not for what the request says.
		return err
	case codes.ResourceExhausted:
		if wish(err) > 0 {
			return err
		}
	default:
	}
	// The collector does not want this request. If that is for one record, half of the request is without it; if it is for its size, half
	// is smaller. If it is for every request, as when what is behind the collector is misconfigured, it ends with one record a pause.
	if n == 1 {
		return fmt.Errorf("%w; all records from there on wait", err)
	}
	e.most = n / 2
	return errHalved
}

// wish returns how long the collector asks to wait, or 0.
func wish(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return min(info.GetRetryDelay().AsDuration(), longestWish)
		}
	}
	return 0
}

// pause returns how long to wait after a failure. Many exporters that lost one collector do not come back to it at the same time.
func (e *Exporter) pause(err error) time.Duration {
	if d := wish(err); d > 0 {
		return d + time.Duration(e.opts.jitter()*float64(d)/10)
	}
	d := min(firstPause<<min(e.failed, 10), lastPause)
	return d/2 + time.Duration(e.opts.jitter()*float64(d)/2)
}
