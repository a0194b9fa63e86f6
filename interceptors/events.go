package interceptors

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// events tells of what happens beside calls: the sink, if it takes events, and the span of the call in which it came to light.
type events struct {
	record  *recordStage
	onError func(error)
}

func (e events) tell(ctx context.Context, at time.Time, name audit.EventName, subject, detail string) {
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		span.AddEvent("grpcguard."+string(name), trace.WithTimestamp(at),
			trace.WithAttributes(attribute.String("grpcguard.subject", subject), attribute.String("grpcguard.detail", detail)))
	}
	sink, takes := e.record.sink.(audit.EventSink)
	if !takes {
		return
	}
	event := &audit.Event{Time: at, Name: name, Side: e.record.side, Service: e.record.service, Subject: subject, Detail: detail}
	if sc := span.SpanContext(); sc.IsValid() {
		event.TraceID, event.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	defer func() {
		if p := recover(); p != nil {
			e.onError(fmt.Errorf("interceptors: the sink panicked: %v", p))
		}
	}()
	// The call that it came to light in may be over, which is often why.
	if err := sink.WriteEvent(context.WithoutCancel(ctx), event); err != nil {
		e.onError(err)
	}
}
