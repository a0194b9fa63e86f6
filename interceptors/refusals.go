package interceptors

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo in every refusal. Its reason is IDENTITY_REQUIRED, IDENTITY_EXPIRED,
// PERMISSION_DENIED, MESSAGE_TOO_LARGE, MESSAGE_INVALID or DEADLINE_EXCEEDED.
const ErrorDomain = "github.com/grpcguard/grpcguard"

func errorInfo(reason string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain}
}

func refusal(code codes.Code, message, info, reason string) *chain.Refusal {
	return chain.RefuseWith(code, message, reason, "", errorInfo(info))
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
)
