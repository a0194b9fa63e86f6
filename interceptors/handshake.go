package interceptors

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

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
