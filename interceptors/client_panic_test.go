package interceptors_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// explodingPropagator is a propagator that panics.
type explodingPropagator struct{ propagation.TraceContext }

func (explodingPropagator) Inject(context.Context, propagation.TextMapCarrier) { panic("no trace") }

// What a program gives a guard may panic before the first message. The program gets its own panic, and the call has a record, whatever its kind.
func TestAClientsPanicBeforeTheFirstMessageIsRecorded(t *testing.T) {
	t.Parallel()
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			records := newRecorder()
			c, _ := w.guarded(records, interceptors.Telemetry{Propagator: explodingPropagator{}})
			func() {
				defer func() {
					if p := recover(); p != "no trace" {
						t.Errorf("the program got %v", p)
					}
				}()
				_ = call(t.Context(), c)
			}()
			if r := records.one(t); r.Outcome != audit.OutcomePanicked {
				t.Errorf("record %+v", r)
			}
		})
	}
}
