// Package glued assembles by hand, out of what is most often picked for it, the controls that grpcguard puts on a unary call, and
// measures both beside a bare call. Each part is configured as its documentation recommends:
//
//   - mutual TLS 1.3 with X509-SVIDs: go-spiffe's tlsconfig behind gRPC's own credentials, so that the next can read the identity
//   - callers: grpc-go's authz, a static policy that lists who may call
//   - limits by caller: golang.org/x/time/rate behind go-grpc-middleware's ratelimit
//   - deadlines: an interceptor of a few lines a side
//   - breakers: sony/gobreaker, one a method, in a client interceptor
//   - validation: buf.build/go/protovalidate behind go-grpc-middleware's protovalidate
//   - panics: go-grpc-middleware's recovery, last in the chain
//   - tracing: otelgrpc's stats handlers
//   - an access log, where it is asked for: go-grpc-middleware's logging over log/slog
//
// It does less than grpcguard. The expiry of a caller's SVID is looked at in the handshake alone, and not at each call. Nothing is refused
// before its message is read, and calls that no interceptor meets leave no line in the log. The client does not validate responses. The
// client's streams have no interceptors, and so neither deadline nor breaker.
//
// What is measured of grpcguard has all of that in it, except for streams, which are not measured here.
package glued
