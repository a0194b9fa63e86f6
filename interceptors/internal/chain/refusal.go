package chain

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// Refusal is a stage's no: what the other side is told, and what the record is told. A stage makes its refusals once where it
// can, and returns the same one for every call.
type Refusal struct {
	reason string
	detail string
	err    error
	status *status.Status
	// failure says that the call counts as one that failed, and not as one that was denied.
	failure bool
}

// AsFailure has r end its call as a failure, as if the handler or the callee had failed.
func (r *Refusal) AsFailure() *Refusal {
	failed := *r
	failed.failure = true
	return &failed
}

// Refuse makes a refusal. The message goes over the wire, so it says little; reason, a word or two, goes into records.
func Refuse(code codes.Code, message, reason string) *Refusal {
	return newRefusal(status.New(code, message), reason, "")
}

// RefuseWith makes a refusal that carries standard error details to the other side, and a detail of its own to the record.
func RefuseWith(code codes.Code, message, reason, detail string, details ...protoadapt.MessageV1) *Refusal {
	s := status.New(code, message)
	// WithDetails fails for OK and for what cannot be marshalled. The refusal stands without its details.
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return newRefusal(s, reason, detail)
}

func newRefusal(s *status.Status, reason, detail string) *Refusal {
	return &Refusal{reason: reason, detail: detail, status: s, err: s.Err()}
}

// Reason returns the word or two that records have.
func (r *Refusal) Reason() string { return r.reason }

// Err returns the error that goes over the wire.
func (r *Refusal) Err() error { return r.err }

// refused is a refusal and the stage that it came from.
type refused struct {
	*Refusal

	stage string
}
