package chain

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/breaker"
	"github.com/grpcguard/grpcguard/policy"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Kind is how many messages pass each way.
type Kind uint8

// The four kinds of a call.
const (
	KindUnknown Kind = iota
	KindUnary
	KindClientStream
	KindServerStream
	KindBidiStream
)

func kindOf(clientStreams, serverStreams bool) Kind {
	switch {
	case clientStreams && serverStreams:
		return KindBidiStream
	case clientStreams:
		return KindClientStream
	case serverStreams:
		return KindServerStream
	}
	return KindUnary
}

// String returns the kind as records have it.
func (k Kind) String() string {
	return [...]string{"", "unary", "client_stream", "server_stream", "bidi_stream"}[k]
}

// Call is all that the stages know of one call. It is also the call's context, which spares a context.WithValue: its Value
// method answers for the Call and leaves all else to the context that it wraps. For that reason a Call is never reused; a
// handler's goroutines may hold on to it. It is the one thing that every guarded call allocates, and so it is small: what few calls need
// is behind a pointer.
type Call struct {
	context.Context //nolint:containedctx // It is the context.

	// Method is the full method: the policy's own string where there is a Rule, and else what the caller sent.
	Method string
	// Start is when the call began, the one reading of the clock that all stages share.
	Start time.Time
	// Number is what the record stage counts calls by.
	Number uint64
	// Caller is who calls; nil on a client, and on a server when nobody knows.
	Caller *identity.Caller
	// Rule is the method's rule; nil if there is none.
	Rule *policy.Rule
	// Decision is what the policy said; nil if it was not asked.
	Decision *policy.Decision
	// Header is, on a server, the metadata that the caller sent. It is gRPC's own, and must not be changed.
	Header metadata.MD
	// Span is the call's own; nil where it has none. For Begin hooks, and for End hooks where it is nil.
	Span trace.Span
	// Outbound is what a client's call has more; nil on a server.
	Outbound *Outbound
	// Result is how the call ended. It is set before the End hooks run.
	Result Result

	stages         *stages // those of its method
	refusal        atomic.Pointer[refused]
	received, sent passed
	stream         grpc.ServerTransportStream // set before state is stateTaken, and read only then
	withheld       *withheld                  // nil where nothing is
	given          context.Context            //nolint:containedctx // nil where it is the Call; see SetContext
	unwatch        func() bool
	before         *Call // another call that no interceptor has taken; see unread
	cancel         context.CancelFunc
	cutting        *cutting // nil where it cannot be cut
	kept           *kept
	answered       atomic.Uint32 // 1 + the code of the status that gRPC has sent by itself
	state          atomic.Uint32
	reached        atomic.Bool // a message that was received came through
	final          atomic.Bool // it is decided how the call ends
	withhold       bool

	// Kind is how many messages pass each way.
	Kind Kind
}

// Outbound is what only a client's call has.
type Outbound struct {
	// Callee is the name that the connection is pinned to.
	Callee string
	// Instead takes the place of the call itself; see [Instead]. For Begin hooks.
	Instead *Instead
	// Ticket is for the breaker.
	Ticket breaker.Ticket
}

// outboundCall is a client's call in one piece.
type outboundCall struct {
	Call

	outbound Outbound
}

// instead returns what takes the place of the call itself, if anything does.
func (c *Call) instead() *Instead {
	if c.Outbound == nil {
		return nil
	}
	return c.Outbound.Instead
}

// kept is what a stage knows of the call, or what the call holds.
type kept struct {
	stage Stage // nil for what the call holds
	value any
	next  *kept
}

// Keep has the call remember a value for a stage, which [Call.Kept] returns. For Admit and Begin hooks.
func (c *Call) Keep(stage Stage, value any) {
	for k := c.kept; k != nil; k = k.next {
		if k.stage == stage {
			k.value = value
			return
		}
	}
	c.kept = &kept{stage, value, c.kept}
}

// Kept returns what the stage had the call remember, nil if nothing.
func (c *Call) Kept(stage Stage) any {
	for k := c.kept; k != nil; k = k.next {
		if k.stage == stage {
			return k.value
		}
	}
	return nil
}

// Releaser is something that a call holds until it has ended.
type Releaser interface{ Release() }

// Hold has r released once the call has ended, after all End hooks. For Admit and Begin hooks.
func (c *Call) Hold(r Releaser) { c.kept = &kept{nil, r, c.kept} }

// letGo releases what the call holds.
func (c *Call) letGo() {
	if c.cutting != nil && c.cutting.timer != nil {
		c.cutting.timer.Stop()
	}
	for k := c.kept; k != nil; k = k.next {
		if r, ok := k.value.(Releaser); ok && k.stage == nil {
			r.Release()
		}
	}
}

// Result is how a call ended.
type Result struct {
	// Why is never nil once the call has ended.
	*Why

	Outcome  audit.Outcome
	Code     codes.Code
	Duration time.Duration
}

// Why says what went wrong; Stage is empty where grpcguard refused nothing.
type Why struct{ Stage, Reason, Detail string }

// nothingWrong is what most calls share.
var nothingWrong = &Why{}

// passed counts messages that passed one way.
type passed struct{ messages, bytes atomic.Uint64 }

func (p *passed) add(m Message) {
	p.messages.Add(1)
	if m.weighed {
		p.bytes.Add(uint64(m.size))
	}
}

// Received counts the messages that were received so far.
func (c *Call) Received() uint64 { return c.received.messages.Load() }

// Sent counts the messages that were sent so far.
func (c *Call) Sent() uint64 { return c.sent.messages.Load() }

// ReceivedBytes counts the bytes of the messages that were received so far, in encoded form without redundancy, where there is a [Weigher].
func (c *Call) ReceivedBytes() uint64 { return c.received.bytes.Load() }

// SentBytes is the like of ReceivedBytes.
func (c *Call) SentBytes() uint64 { return c.sent.bytes.Load() }

// Reached reports whether a message came through all stages, whichever way. Then more was done than to refuse the call, however it ended.
func (c *Call) Reached() bool { return c.reached.Load() || c.Sent() > 0 }

// SpanContext returns the span that belongs to the call: its own, or the one in ctx, the context of a hook, that others made.
func (c *Call) SpanContext(ctx context.Context) trace.SpanContext {
	if c.Span != nil {
		return c.Span.SpanContext()
	}
	return trace.SpanContextFromContext(ctx)
}

// SetContext gives what comes after a Begin hook another context, one below the hook's own. For Begin hooks.
func (c *Call) SetContext(ctx context.Context) { c.given = ctx }

// under returns the context that Begin hooks have made of ctx.
func (c *Call) under(ctx context.Context) context.Context {
	if c.given != nil {
		return c.given
	}
	return ctx
}

type callKey struct{}

// Value makes the Call findable in every context below it.
func (c *Call) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// FromContext returns the innermost call that ctx belongs to, nil if there is none.
func FromContext(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// release lets go of what EndAt holds. On a server only a call that gRPC drops needs it: gRPC sends the answer of any other
// under the call's context, and cancels it afterwards.
func (c *Call) release() {
	if c.cancel != nil {
		c.cancel()
	}
}

// EndAt bounds the call by a deadline of its own, with a cause that [context.Cause] then returns. For Admit hooks.
func (c *Call) EndAt(deadline time.Time, cause error) {
	ctx, cancel := context.WithDeadlineCause(c.Context, deadline, cause)
	c.Context = ctx
	if before := c.cancel; before != nil {
		c.cancel = func() { cancel(); before() }
		return
	}
	c.cancel = cancel
}

// RefusalCause is a cause for [Call.EndAt] and [Call.Cut] that ends the call as if the named stage had refused it.
type RefusalCause struct {
	Stage   string
	Refusal *Refusal
}

// Error returns the refusal's reason.
func (r *RefusalCause) Error() string { return r.Refusal.reason }

// refuse makes r the call's refusal. The first one stands: on a stream two directions can be refused at once.
func (c *Call) refuse(stage string, r *Refusal) *Refusal {
	c.refusal.CompareAndSwap(nil, &refused{r, stage})
	return c.refusal.Load().Refusal
}

// refused returns the refusal that the call ends with, including one that came as the cause of its cancelled context: a
// handler that does not look at its context goes on after its time, and its answer comes too late all the same.
func (c *Call) refused() *refused {
	if r := c.refusal.Load(); r != nil {
		return r
	}
	if c.Context.Err() == nil {
		return nil
	}
	if cause, ok := errors.AsType[*RefusalCause](context.Cause(c.Context)); ok {
		c.refuse(cause.Stage, cause.Refusal)
		return c.refusal.Load()
	}
	return nil
}

// over returns what a call has ended with whose handler has not begun; nil while it goes on.
func (c *Call) over() error {
	if c.Context.Err() == nil {
		return nil
	}
	if r := c.refused(); r != nil {
		return r.err
	}
	return status.FromContextError(c.Err()).Err()
}

// A call is open until an interceptor takes it or until it ends before one did. Whichever comes first writes its record.
const (
	stateOpen = iota
	stateTaken
	stateEnded
)

func (c *Call) take() bool { return c.state.CompareAndSwap(stateOpen, stateTaken) }

// concludeUnread comes to the Result of a call that ended before an interceptor took it, and reports whether it did: whoever
// makes the call's end writes its record.
func (c *Call) concludeUnread(err error) bool {
	if !c.state.CompareAndSwap(stateOpen, stateEnded) {
		return false
	}
	if c.refused() != nil {
		_ = c.conclude(err, nil)
		// What the other side saw is what gRPC found before, where it is known to have found something.
		if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
			c.Result.Code = s.Code()
		}
		return true
	}
	c.Result = Result{&Why{Detail: "ended before the guard's interceptor"}, audit.OutcomeUnread, transportCode(err), time.Since(c.Start)}
	if err != nil {
		c.Result.Detail += ": " + err.Error()
	}
	return true
}

// transportCode is the code of gRPC's own error, or of the context that ended the call where gRPC told nothing.
func transportCode(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

// answeredWith notes that gRPC has ended the call by itself. When a stream cannot be read or written, gRPC sends the status of
// that before the handler knows, and whatever the handler returns comes too late.
func (c *Call) answeredWith(err error) { c.answered.CompareAndSwap(0, 1+uint32(transportCode(err))) }

// conclude turns what the handler, the callee or a stage left behind into the call's Result, and into the error that the
// other side gets. A refusal wins over whatever the program made of it, so that no handler can overrule a stage by ignoring
// an error.
func (c *Call) conclude(err error, p *panicked) error {
	res := &c.Result
	res.Duration, res.Why = time.Since(c.Start), nothingWrong
	defer func() {
		if code := c.answered.Load(); code > 0 {
			res.Code = codes.Code(code - 1)
			if res.Outcome == audit.OutcomeOK && res.Code != codes.OK {
				res.Outcome, res.Why = audit.OutcomeFailed, &Why{Detail: "the stream broke, and the handler did not say so"}
			}
		}
	}()
	switch r := c.refused(); {
	case p != nil:
		res.Outcome, res.Code, res.Why = audit.OutcomePanicked, codes.Internal, &Why{Detail: p.String()}
		return errPanicked
	case r != nil:
		res.Outcome, res.Code = audit.OutcomeDenied, r.status.Code()
		res.Why = &Why{r.stage, r.reason, r.detail}
		if r.failure {
			res.Outcome = audit.OutcomeFailed
		}
		return r.err
	case err == nil:
		res.Outcome, res.Code = audit.OutcomeOK, codes.OK
		if i := c.instead(); i != nil {
			res.Outcome, res.Why = audit.OutcomeDegraded, &Why{Stage: i.Stage, Reason: i.Reason}
		}
		return nil
	default:
		detail, p, wire := read(err)
		if p != nil {
			res.Outcome, res.Code, res.Why = audit.OutcomePanicked, codes.Internal, &Why{Detail: p.String()}
			return errPanicked
		}
		res.Outcome, res.Code, res.Why = audit.OutcomeFailed, status.Code(wire), &Why{Detail: detail}
		if i := c.instead(); i != nil {
			res.Stage, res.Reason = i.Stage, i.Reason
		}
		return wire
	}
}

// read asks an error for its text and its status. The methods of an error are the program's code, and can panic: those of a nil
// pointer that was returned as an error do.
func read(err error) (detail string, p *panicked, wire error) {
	defer func() {
		if v := recover(); v != nil {
			p = &panicked{v, debug.Stack()}
		}
	}()
	return err.Error(), nil, onTheWire(err)
}

// onTheWire keeps the status that a handler made on purpose. The text of any other error, and what was wrapped around a
// status on its way, belongs to the inside, and gRPC would send it along.
func onTheWire(err error) error {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		if s.GRPCStatus().Code() == codes.OK {
			return errUnknown
		}
		return s.GRPCStatus().Err()
	}
	if code := status.FromContextError(err).Code(); code != codes.Unknown {
		return status.Error(code, code.String())
	}
	return errUnknown
}

var (
	errUnknown  = status.Error(codes.Unknown, "the call failed")
	errPanicked = status.Error(codes.Internal, "internal error")
	errGone     = status.Error(codes.Canceled, "the call has ended")
	errUnkept   = status.Error(codes.Unavailable, "the outcome could not be recorded")
)

// panicked is a panic that was caught, with the stack it came from.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) String() string {
	if p.value == nil {
		return "the handler left its goroutine without returning"
	}
	return fmt.Sprintf("panic: %v\n%s", p.value, p.stack)
}
