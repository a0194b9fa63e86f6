package audit

import (
	"time"

	"google.golang.org/grpc/codes"
)

// Type says what a record is of.
type Type string

// The types of records.
const (
	// TypeCall is a call that is no transaction, at its end.
	TypeCall Type = "call"
	// TypeIntent is a transaction before its handler starts. It is durable before the handler sees the message.
	TypeIntent Type = "intent"
	// TypeAnswered is a stream that is one or more transactions, before a message leaves that may tell of them.
	TypeAnswered Type = "answered"
	// TypeOutcome is a call that is one or more transactions, at its end.
	TypeOutcome Type = "outcome"
	// TypeDenials is several calls of one caller that were denied alike. Count says how many.
	TypeDenials Type = "denials"
	// TypeEvent is something beside calls. Event says what.
	TypeEvent Type = "event"
)

// Class says whether a record is waited for. The zero value is the strict one.
type Class uint8

// The classes of records.
const (
	// Durable is for records that must be kept before anybody is answered.
	Durable Class = iota
	// BestEffort is for records that nobody waits for. A sink may drop them rather than make a call wait, and then counts them.
	BestEffort
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
	// OutcomeDenied is a call that grpcguard refused; Stage, Rule and Reason say which stage did, by what and why. It is also a
	// connection that was refused in its handshake.
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
)

// Record is an audit record. The fields are those of the schema's grpcguard.v1.Record; one that is not known, or does not apply,
// is zero. Texts that a caller can choose (Method, Detail, Address, RequestID and the Transaction's) are as they came in: a sink must
// encode them so that they cannot pass for anything else, as [AppendRecord] and [AppendJSON] do.
//
// A sink gets a pointer that is valid until its Write returns; it must copy what it keeps.
type Record struct {
	// ID names the record.
	ID ID
	// Type says what the record is of.
	Type Type
	// Class says whether the record is waited for. It is for the sink, and no part of what is recorded.
	Class Class

	// Time is when the call began, or the event happened; of an intent and an answered, when it was written.
	Time time.Time
	// Duration is how long the call took; of denials, the time from the first to the last.
	Duration time.Duration
	// Side is the end of the call that this record is from.
	Side Side
	// Service is the SPIFFE ID of the workload that wrote the record.
	Service string
	// TraceID and SpanID tie the record to its span; lower-case hexadecimal, empty without tracing.
	TraceID, SpanID string
	// RequestID is what the caller calls the request, in the metadata x-request-id.
	RequestID string
	// Method is the full method, /pkg.Service/Method. On the server it may be anything that a caller put there.
	Method string
	// Kind is unary, client_stream, server_stream or bidi_stream; empty where the call was refused before that was known.
	Kind string

	// Caller is the SPIFFE ID of the verified caller, or empty. In the record of a refused handshake it is the unverified claim.
	Caller string
	// CallerSerial is the serial number of the caller's X509-SVID, in hexadecimal.
	CallerSerial string
	// TrustDomain is the caller's trust domain.
	TrustDomain string
	// Address is the network address of the other end.
	Address string
	// EndUser is on whose behalf the caller calls. Access tokens are not read yet, so it is empty.
	EndUser string
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

	// Outcome is how the call ended; empty in a record that was written before that.
	Outcome Outcome
	// Code is the status code that the other side saw, or, on the client, that this side saw. It is part of the record where Outcome
	// is.
	Code codes.Code
	// Detail is the cause in full: an error's text, a panic's value and stack, the fields and rules that a message broke.
	Detail string

	// Received and Sent count messages, from the point of view of Side, and ReceivedBytes and SentBytes their bytes, in encoded form
	// without redundancy.
	Received, Sent           uint64
	ReceivedBytes, SentBytes uint64

	// Transaction is what was to happen to money, or happened.
	Transaction Transaction
	// Messages is, of an intent, the number of the message on its stream, from 1; of an answered and an outcome, how many intents
	// the call had.
	Messages uint64

	// Event is what happened, and Subject what it happened to.
	Event   EventName
	Subject string
	// Count is how many, of denials and of what was dropped.
	Count uint64

	// Cut says of a record that was decoded that some text of it was longer than a record holds.
	Cut bool
}

// Transaction is what a record says of money. A value of a sensitive field is one that [Redactor.Text] made.
type Transaction struct {
	// ID is the transaction's ID.
	ID string
	// Amount is a decimal number.
	Amount string
	// Currency is the amount's currency, as ISO 4217.
	Currency string
	// MinorUnits says that the amount is in minor units of the currency, such as cents.
	MinorUnits bool
	// FromAccount pays, and ToAccount is paid.
	FromAccount, ToAccount string
}
