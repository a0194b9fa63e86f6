package interceptors

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/protoadapt"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo that tells a caller which control refused its call. The reason is
// IDENTITY_REQUIRED, IDENTITY_EXPIRED, PERMISSION_DENIED, RATE_LIMITED, TOO_MANY_CALLS, MESSAGE_TOO_LARGE, MESSAGE_INVALID,
// STREAM_TOO_LONG, STREAM_IDLE, DEADLINE_EXCEEDED, NOT_RECORDABLE or, from a client's own breaker, CIRCUIT_OPEN.
const ErrorDomain = "github.com/grpcguard/grpcguard"

func errorInfo(reason string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain}
}

func refusal(code codes.Code, message, info, reason string, details ...protoadapt.MessageV1) *chain.Refusal {
	return chain.RefuseWith(code, message, reason, "", append([]protoadapt.MessageV1{errorInfo(info)}, details...)...)
}

// quota says which allowance is used up; what it is counted by, and nothing of how much it is or who used it.
func quota(subject, description string) *errdetails.QuotaFailure {
	return &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: subject, Description: description}}}
}

// A method without a rule, an unknown method and a caller who is not listed look the same from outside: who may not call
// something is not told whether it is there.
var (
	errNoIdentity      = refusal(codes.Unauthenticated, "a verified identity is required", "IDENTITY_REQUIRED", "no-identity")
	errIdentityExpired = refusal(codes.Unauthenticated, "the identity has expired", "IDENTITY_EXPIRED", "identity-expired")
	errNoRule          = refusal(codes.PermissionDenied, "permission denied", "PERMISSION_DENIED", "no-rule")
	errNotAllowed      = refusal(codes.PermissionDenied, "permission denied", "PERMISSION_DENIED", "")
	errDeadline        = refusal(codes.DeadlineExceeded, "the deadline has passed", "DEADLINE_EXCEEDED", "max-deadline")
	errRequestSize     = refusal(codes.ResourceExhausted, "the message is too large", "MESSAGE_TOO_LARGE", "request-too-large")
	errResponseSize    = refusal(codes.ResourceExhausted, "the message is too large", "MESSAGE_TOO_LARGE", "response-too-large")
	errTooDeep         = refusal(codes.InvalidArgument, "the message nests too deep", "MESSAGE_TOO_LARGE", "too-deep")
	errTooManyItems    = refusal(codes.InvalidArgument, "a field has too many elements", "MESSAGE_TOO_LARGE", "too-many-items")
	errMethodBusy      = refusal(codes.ResourceExhausted, "too many calls in flight", "TOO_MANY_CALLS", "method-busy", quota("method", "calls in flight"))
	errCallerBusy      = refusal(codes.ResourceExhausted, "too many calls in flight", "TOO_MANY_CALLS", "caller-busy", quota("caller", "calls in flight"))
	errStreamMessages  = refusal(codes.ResourceExhausted, "too many messages on one stream", "STREAM_TOO_LONG", "stream-messages", quota("stream", "messages"))
	errStreamBytes     = refusal(codes.ResourceExhausted, "too many bytes on one stream", "STREAM_TOO_LONG", "stream-bytes", quota("stream", "bytes"))
	errIdle            = refusal(codes.ResourceExhausted, "the stream was idle for too long", "STREAM_IDLE", "stream-idle", quota("stream", "idle time"))
)
