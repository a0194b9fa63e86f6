// Package breaker stops calls to a callee that fails: they fail at once instead of waiting for it, and it is left alone to recover.
//
// A [Breaker] is closed while all is well. Too many failures open it, and calls are refused. After a while it is half-open: it
// lets a few calls through, and what becomes of these probes closes it or opens it again.
//
// The states and the counting are gobreaker's. This package adds what calls over a network need:
//
//   - A call is let through and reported in two steps, without an allocation and, while the breaker is closed and nothing fails,
//     without a lock and without reading the clock.
//   - A probe that does not end, such as a stream that hangs, holds its place for no longer than OpenFor.
//   - A refusal says when to try again.
//   - Changes of state are told outside of all locks, in order, each once, so that who is told may use the breaker.
//   - Another process's breaker can open this one: see [Sharer].
//
// There is one breaker for each thing that fails as a whole, such as one method of one callee. Only what says something about the
// callee's health must be reported as a failure: if a caller's own mistakes were, one caller could open the breaker for all.
package breaker
