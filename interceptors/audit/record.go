package audit

import (
	"time"

	"google.golang.org/grpc/codes"
)

// Side says which end of a call wrote a record.
type Side string

// The two sides.
const (
	SideServer Side = "server"
	SideClient Side = "client"
)

// Outcome says how a call ended, in one word.
type Outcome string

// The outcomes of a call.
const (
	// OutcomeOK is a call that was allowed and answered with OK.
	OutcomeOK Outcome = "ok"
	// OutcomeDenied is a call that grpcguard refused; Stage, Rule and Reason say which stage did, by what and why.
	OutcomeDenied Outcome = "denied"
	// OutcomeFailed is a call that was allowed, and that the handler, the callee or the connection ended with an error.
	OutcomeFailed Outcome = "failed"
	// OutcomePanicked is a call whose handler panicked, or left its goroutine without returning.
	OutcomePanicked Outcome = "panicked"
	// OutcomeUnread is a call that was allowed and never reached its handler, because gRPC could not read its request: it was not
	// protobuf, over the size limit, compressed in an unknown way, missing, or the caller left.
	OutcomeUnread Outcome = "unread"
	// OutcomeDegraded is a client's call that its callee never saw: the breaker was open, and the program's fallback answered.
	OutcomeDegraded Outcome = "degraded"
	// OutcomeHandshake is not a call: it is a connection that was refused in its handshake.
	OutcomeHandshake Outcome = "handshake-refused"
)

// Record is what is known of one call at its end. Strings that a caller can choose (Method, Detail, Address) are as they came
// in; a sink must encode them so that they cannot pass for anything else. A field that is not known is zero.
//
// A sink gets a pointer that is valid until its Write returns; it must copy what it keeps.
type Record struct {
	// Time is when the call began.
	Time time.Time
	// Duration is how long it took.
	Duration time.Duration
	// Side is the end of the call that this record is from.
	Side Side
	// Service is the SPIFFE ID of the workload that wrote the record.
	Service string
	// TraceID and SpanID tie the record to its span; lower-case hexadecimal, empty without tracing.
	TraceID, SpanID string
	// Method is the full method, /pkg.Service/Method. On the server it may be anything that a caller put there.
	Method string
	// Kind is unary, client_stream, server_stream or bidi_stream; empty where the call was refused before that was known.
	Kind string

	// Caller is the SPIFFE ID of the verified caller, or empty. In a handshake's record it is the unverified claim.
	Caller string
	// CallerSerial is the serial number of the caller's X509-SVID, in hexadecimal.
	CallerSerial string
	// Address is the network address of the other end.
	Address string
	// Callee is, on the client, the name or SPIFFE ID that the connection is pinned to.
	Callee string

	// Decision is "allowed" or "denied": what the policy said of the caller and the method.
	Decision string
	// Rule names the rule that decided, and where it is written.
	Rule string
	// Reason is the policy's reason, or the reason of the stage that refused the call later.
	Reason string
	// Stage is the stage that refused the call; empty where none did.
	Stage string
	// PolicyRevision and PolicyHash say which policy was in force.
	PolicyRevision, PolicyHash string

	// Outcome is how the call ended.
	Outcome Outcome
	// Code is the status code that the other side saw, or, on the client, that this side saw.
	Code codes.Code
	// Detail is the cause in full: an error's text, a panic's value and stack, the fields and rules that a message broke.
	Detail string

	// Received and Sent count messages, from the point of view of Side.
	Received, Sent uint64
}
