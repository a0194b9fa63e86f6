// Package interceptors enforces a policy inside a gRPC service: [NewServer] for the services that a program offers, [NewClient]
// for those that it calls.
//
// A server needs three things: a compiled policy, a source of its own X509-SVID, and a sink for records. Its ServerOptions are
// transport credentials, interceptors for unary calls and streams, a tap and a stats handler, which belong together; what is
// given to grpc.NewServer after them can take their place, and interceptors given to it before them run outside of them.
//
// Serve with grpc.Server.Serve. Through ServeHTTP gRPC knows no tap and no identity, and every call is refused.
//
// Every call passes the same stages in the same order, whatever its kind:
//
//	handshake   TLS 1.3, both X509-SVIDs verified                   the connection fails
//	record      one record for every call, however it ends           Unavailable if it cannot be written
//	trace       decision, rule and caller on the call's span
//	identity    a verified caller whose SVID is still valid          Unauthenticated
//	rule        the method has a rule                                PermissionDenied
//	callers     deny list, denied_callers, callers                   PermissionDenied
//	deadline    max_deadline, or the end of the caller's SVID        DeadlineExceeded, Unauthenticated
//	size        max_request_bytes, max_response_bytes, each message  ResourceExhausted
//	validate    protovalidate rules, each message                    InvalidArgument
//
// A panic anywhere below the record stage ends its call with Internal. What goes over the wire is generic, with a
// google.rpc.ErrorInfo, and for an invalid message a google.rpc.BadRequest and buf.validate.Violations; the whole truth is in
// the record.
package interceptors
