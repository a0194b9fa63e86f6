package chain

import (
	"context"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// Client runs the stages of a client's calls.
type Client struct {
	plan    plan
	callee  string
	onError func(error)
}

// NewClient returns a chain of stages, outermost first, for connections that are pinned to callee, and for the methods of a policy and all
// others. Errors of End hooks whose call has ended with an error already go to onError.
func NewClient(p *policy.Policy, callee string, onError func(error), all ...Stage) *Client {
	return &Client{plan: newPlan(p, all), callee: callee, onError: onError}
}

// meet makes the Call.
func (cl *Client) meet(ctx context.Context, method string, kind Kind) *Call {
	out := &outboundCall{outbound: Outbound{Callee: cl.callee}}
	c := &out.Call
	c.Outbound = &out.outbound
	c.Context, c.Method, c.Start, c.Kind = ctx, method, time.Now(), kind
	c.Rule, c.stages = cl.plan.of(method)
	return c
}

// start runs the hooks that come before the first message, and returns the context that the rest of the call has.
func (c *Call) start() (context.Context, *Refusal) {
	if r := c.stages.runAdmit(c); r != nil {
		return c, r
	}
	return c.stages.runBegin(c, c)
}

// finish ends a call, and withholds a good answer that cannot be recorded.
func (cl *Client) finish(c *Call, err error, p *panicked) error {
	passed := err
	if err = c.conclude(err, p); c.refusal.Load() == nil && p == nil && c.Result.Outcome != audit.OutcomePanicked {
		// What the callee said is for the program to read as it is.
		err = passed
	}
	unkept := c.stages.runEnd(c.under(c), c)
	c.release()
	if unkept != nil {
		cl.onError(unkept)
		if err == nil {
			return errUnkept
		}
	}
	return err
}

// Unary is the client's unary interceptor.
func (cl *Client) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) (err error) {
	c := cl.meet(ctx, method, KindUnary)
	returned := false
	defer func() {
		var p *panicked
		if !returned {
			p = &panicked{value: recover(), stack: debug.Stack()}
		}
		err = cl.finish(c, err, p)
		if p != nil && p.value != nil {
			// The panic is the program's own, and on a client there is nobody else to protect from it.
			panic(p.value)
		}
		if err != nil {
			// A reply that was refused must not be used by a program that looks at it before the error.
			c.message(reply).clear()
		}
	}()
	ctx, r := c.start()
	sent := c.message(req)
	if r == nil {
		r = c.stages.runSend(ctx, c, sent)
	}
	if r != nil {
		returned = true
		return r.err
	}
	c.sent.add(sent)
	if i := c.instead(); i != nil {
		err = i.unary(ctx, req, reply)
	} else {
		err = invoke(ctx, method, req, reply, cc, opts...)
	}
	if err == nil {
		if r := c.stages.runReceive(ctx, c, c.message(reply)); r != nil {
			err = r.err
		}
	}
	returned = true
	return err
}

// Stream is the client's stream interceptor, for all three kinds of stream.
func (cl *Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (cs grpc.ClientStream, err error) { //nolint:ireturn // gRPC's interface.
	// The stream is ours to cancel, so that a message that is refused ends it at the other side too.
	ctx, cancel := context.WithCancel(ctx)
	c := cl.meet(ctx, method, kindOf(desc.ClientStreams, desc.ServerStreams))
	c.cancel = cancel
	returned := false
	defer func() {
		if returned {
			return
		}
		// As in Unary: the panic is the program's own, and is recorded.
		p := &panicked{value: recover(), stack: debug.Stack()}
		cs, err = nil, cl.finish(c, nil, p)
		if p.value != nil {
			panic(p.value)
		}
	}()
	ctx, r := c.start()
	if r != nil {
		returned = true
		return nil, cl.finish(c, r.err, nil)
	}
	if i := c.instead(); i != nil {
		cs, err = i.stream(ctx, desc)
	} else {
		cs, err = open(ctx, desc, cc, method, opts...)
	}
	returned = true
	if err != nil {
		return nil, cl.finish(c, err, nil)
	}
	s := &clientStream{ClientStream: cs, chain: cl, ctx: ctx, call: c, answersOnce: !desc.ServerStreams}
	// A program may walk away from a stream by cancelling its context, and never look at it again.
	// Its own context is watched, not the stream's, which gRPC cancels on a good end as well.
	c.unwatch = context.AfterFunc(c.Context, func() { _ = s.finishOnce(c.Err()) })
	return s, nil
}
