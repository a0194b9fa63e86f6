package interceptors

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// handshakes records connections that were refused. Anybody at all can make those, so a sink that stands still must not make
// the process hold on to each: beyond maxHandshakes that wait for it, the records are dropped, and every drop is reported.
type handshakes struct {
	record  *recordStage
	writing chan struct{}
}

const maxHandshakes = 256

var errHandshakeDropped = errors.New("interceptors: the record of a refused handshake was dropped, since the sink is behind")

func (h *handshakes) refused(e *identity.HandshakeError) {
	r := h.record.event(time.Now(), audit.EventHandshakeRefused)
	r.Stage, r.Decision, r.Reason, r.Outcome, r.Code = "handshake", "denied", "handshake-refused", audit.OutcomeDenied, codes.Unavailable
	r.Detail = e.Err.Error()
	if e.Remote != nil {
		r.Address = e.Remote.String()
	}
	// The identity is a claim that nobody verified.
	if !e.Claimed.IsZero() {
		r.Caller = e.Claimed.String()
	}
	if h.record.denials.counts(&r, false) {
		return
	}
	select {
	case h.writing <- struct{}{}:
		defer func() { <-h.writing }()
	default:
		h.record.onError(errHandshakeDropped)
		return
	}
	h.record.try(context.Background(), &r)
}
