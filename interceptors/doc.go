// Package interceptors enforces a policy inside a gRPC service: [NewServer] for the services that a program offers, [NewClient]
// for those that it calls.
//
// A server needs three things: a compiled policy, a source of its own X509-SVID, and a sink for records. Its ServerOptions are
// transport credentials, interceptors for unary calls and streams, and a tap, which belong together; what is
// given to grpc.NewServer after them can take their place, and interceptors given to it before them run outside of them.
//
// Serve with grpc.Server.Serve. Through ServeHTTP gRPC knows no tap and no identity, and every call is refused.
//
// Every call passes the same stages in the same order, whatever its kind:
//
//	handshake    TLS 1.3, both X509-SVIDs verified                     the connection fails
//	record       one record for every call, however it ends             Unavailable if it cannot be written
//	trace        decision, rule and caller on the call's span
//	identity     a verified caller whose SVID is still valid            Unauthenticated
//	rule         the method has a rule                                  PermissionDenied
//	callers      deny list, denied_callers, callers                     PermissionDenied
//	limits       rate_limits that look into no message                  ResourceExhausted
//	concurrency  calls in flight                                        ResourceExhausted
//	deadline     max_deadline, and the end of the caller's SVID         DeadlineExceeded, Unauthenticated
//	size         max_request_bytes, max_response_bytes, each message    ResourceExhausted
//	budget       nesting and lists, each message; what a stream uses    InvalidArgument, ResourceExhausted
//	validate     protovalidate rules, each message                      InvalidArgument
//	limits       rate_limits that look into messages, or count them     ResourceExhausted, InvalidArgument
//	fault        only if the program injects faults                     what it says
//
// and on a client
//
//	record, rule, deadline, size, validate, breaker (Unavailable, or the fallback), fault
//
// A panic anywhere below the record stage ends its call with Internal; on a client it goes on to the program that made the call.
// What goes over the wire is generic. A refusal carries a google.rpc.ErrorInfo, for a limit a google.rpc.QuotaFailure and
// RetryInfo, for an invalid message a google.rpc.BadRequest and buf.validate.Violations; the whole truth is in the record. What gRPC
// answers by itself, such as to bytes that are no protobuf, carries no details.
package interceptors
