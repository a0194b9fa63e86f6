package interceptors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// handshakes records connections that were refused. Anybody at all can make those, so a sink that stands still must not make
// the process hold on to each: beyond maxHandshakes that wait for it, the records are dropped, and every drop is reported.
type handshakes struct {
	record  *recordStage
	onError func(error)
	writing chan struct{}
}

const maxHandshakes = 256

var errHandshakeDropped = errors.New("interceptors: the record of a refused handshake was dropped, since the sink is behind")

func (h *handshakes) refused(e *identity.HandshakeError) {
	select {
	case h.writing <- struct{}{}:
		defer func() { <-h.writing }()
	default:
		h.onError(errHandshakeDropped)
		return
	}
	// No call's recovery is around this: a panic of the sink would end the process.
	defer func() {
		if p := recover(); p != nil {
			h.onError(fmt.Errorf("interceptors: the sink panicked: %v", p))
		}
	}()
	if err := h.record.sink.Write(context.Background(), h.record.ofHandshake(e)); err != nil {
		h.onError(err)
	}
}

// ofHandshake makes the record of a connection that was refused. The identity in it is a claim that nobody verified.
func (s *recordStage) ofHandshake(e *identity.HandshakeError) *audit.Record {
	r := &audit.Record{
		Time:           time.Now(),
		Side:           s.side,
		Service:        s.service,
		Stage:          "handshake",
		Decision:       "denied",
		Reason:         "handshake-refused",
		Outcome:        audit.OutcomeHandshake,
		Code:           codes.Unavailable,
		Detail:         e.Err.Error(),
		PolicyRevision: s.policy.Revision(),
		PolicyHash:     s.policy.Hash(),
	}
	if e.Remote != nil {
		r.Address = e.Remote.String()
	}
	if !e.Claimed.IsZero() {
		r.Caller = e.Claimed.String()
	}
	return r
}
