package chain

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/status"
)

// A call can end before its handler says so: a handler that does not look at its context, or only sends, would otherwise go on
// for as long as it likes, past its deadline and past the identity of who called. The handler itself cannot be stopped; its
// caller is told, and whatever it sends from then on goes nowhere.

// cutting is what is known of a call that can be cut.
type cutting struct {
	cut   context.CancelCauseFunc
	at    time.Time
	cause *RefusalCause // nil where there is no time for it
	timer *time.Timer
}

// Cuttable makes it possible to [Call.Cut] the call. For Admit hooks.
func (c *Call) Cuttable() {
	if c.cutting != nil {
		return
	}
	ctx, cut := context.WithCancelCause(c.Context)
	c.Context, c.cutting = ctx, &cutting{cut: cut}
	before := c.cancel
	c.cancel = func() {
		cut(context.Canceled)
		if before != nil {
			before()
		}
	}
}

// Cut ends a call that is Cuttable as if the named stage had refused it: its caller is told at once, and its context is cancelled.
// It may be called from any goroutine, and does nothing once the call has ended.
func (c *Call) Cut(cause *RefusalCause) {
	c.refuse(cause.Stage, cause.Refusal)
	if !c.final.CompareAndSwap(false, true) {
		return
	}
	// First the answer: gRPC has another one for a stream that waits for a message when its context ends.
	c.answer(cause.Refusal.status)
	c.cutting.cut(cause)
}

// CutAt makes the call Cuttable and cuts it at the given time. For Admit hooks.
func (c *Call) CutAt(at time.Time, cause *RefusalCause) {
	c.Cuttable()
	c.cutting.at, c.cutting.cause = at, cause
}

// arm starts the time of CutAt, when all Admit hooks have made the call what it is.
func (c *Call) arm() {
	if k := c.cutting; k != nil && k.cause != nil {
		k.timer = time.AfterFunc(k.at.Sub(c.Start), func() { c.Cut(k.cause) })
	}
}

// Err implements context.Context. A call that was cut has met its end in time, and was not given up by who made it.
func (c *Call) Err() error {
	err := c.Context.Err()
	if err != nil && c.cutting != nil {
		if _, ok := errors.AsType[*RefusalCause](context.Cause(c.Context)); ok {
			return context.DeadlineExceeded
		}
	}
	return err
}

// answerOver tells the caller that the time of a call is over whose handler is at work.
func (c *Call) answerOver() {
	if r := c.refused(); r != nil && c.final.CompareAndSwap(false, true) {
		c.answer(r.status)
	}
}

// answer sends a status at once, past the handler, as gRPC itself does for streams that break.
func (c *Call) answer(s *status.Status) {
	if c.state.Load() != stateTaken {
		return // gRPC is still waiting for the request, and ends the call by its context.
	}
	if w, ok := c.stream.(interface {
		WriteStatus(s *status.Status) error
	}); ok {
		c.answered.CompareAndSwap(0, 1+uint32(s.Code()))
		// An error says that there is nobody left to tell.
		_ = w.WriteStatus(s)
	}
}
