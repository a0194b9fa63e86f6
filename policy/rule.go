package policy

import (
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What a method gets whose rule does not say.
const (
	DefaultMaxDeadline     = 30 * time.Second
	DefaultMaxMessageBytes = 10 << 20
)

// Rule is what holds for one method, after service, method and policy file were merged. It is immutable and safe for concurrent
// use. A nil *Rule denies everybody.
type Rule struct {
	*access
	*settings

	method      string
	descriptor  protoreflect.MethodDescriptor
	limits      []*RateLimit
	transaction *Transaction
}

// settings is what of a rule is numbers. APIs with thousands of methods have few that differ: methods whose settings are equal share one.
type settings struct {
	maxDeadline time.Duration
	maxRequest  int
	maxResponse int
	budget      Budget
	breaker     Breaker
	class       RecordClass
}

// access is who may call. Methods whose callers are declared in the same places share one.
type access struct {
	denyList   *denyList
	denied     callerSet
	callers    callerSet
	noIdentity *Decision
	otherwise  *Decision
}

// Method returns the full method, as in "/bank.v1.LedgerService/PostTransfer".
func (r *Rule) Method() string { return r.method }

// Input returns the type of the messages that the method receives.
func (r *Rule) Input() protoreflect.MessageDescriptor { return r.descriptor.Input() }

// Output returns the type of the messages that the method sends.
func (r *Rule) Output() protoreflect.MessageDescriptor { return r.descriptor.Output() }

// ClientStreams reports whether the caller sends a stream of messages.
func (r *Rule) ClientStreams() bool { return r.descriptor.IsStreamingClient() }

// ServerStreams reports whether the method answers with a stream of messages.
func (r *Rule) ServerStreams() bool { return r.descriptor.IsStreamingServer() }

// MaxDeadline returns the longest that a call may take. Default: 30 s.
func (r *Rule) MaxDeadline() time.Duration { return r.maxDeadline }

// MaxRequestBytes returns the size of the largest message that the method takes. Default: 10 MiB.
func (r *Rule) MaxRequestBytes() int { return r.maxRequest }

// MaxResponseBytes returns the size of the largest message that the method sends. Default: 10 MiB.
func (r *Rule) MaxResponseBytes() int { return r.maxResponse }

// Budget returns what a call may use.
func (r *Rule) Budget() Budget { return r.budget }

// Breaker returns the circuit breaker of clients that call the method.
func (r *Rule) Breaker() *Breaker { return &r.breaker }

// RateLimits returns the rate limits of the method, all of which hold. It must not be modified.
func (r *Rule) RateLimits() []*RateLimit { return r.limits }

// Transaction returns where a request holds what the records of a transaction have; nil: the method is none.
func (r *Rule) Transaction() *Transaction { return r.transaction }

// RecordClass returns how the records of the method's calls are kept. A transaction's are durable.
func (r *Rule) RecordClass() RecordClass { return r.class }
