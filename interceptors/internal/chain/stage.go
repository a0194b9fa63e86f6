package chain

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Stage is one control. It has a name, for records, and whichever of the hooks below it needs. Hooks run in the order of the
// stages, but for End, which runs in reverse, so that what began first ends last. A stage is shared by all calls and must be
// safe for concurrent use; what it knows of one call is kept in the [Call].
type Stage interface {
	Name() string
}

// Admitter decides by caller and method alone. On a server it runs on the goroutine that reads the connection, before the
// call's messages are read: it must neither block nor do I/O.
type Admitter interface {
	Admit(c *Call) *Refusal
}

// Beginner runs on the call's own goroutine before any message passes.
type Beginner interface {
	Begin(ctx context.Context, c *Call) *Refusal
}

// Receiver sees each message that came from the other side, before the program does. Receive and Send of one stream may run
// at the same time.
type Receiver interface {
	Receive(ctx context.Context, c *Call, m Message) *Refusal
}

// Sender sees each message that the program sends, before it leaves.
type Sender interface {
	Send(ctx context.Context, c *Call, m Message) *Refusal
}

// HeaderSender runs before the header of a stream leaves ahead of its messages, if the call has it withheld: see [Call.Withhold].
type HeaderSender interface {
	SendHeader(ctx context.Context, c *Call) *Refusal
}

// Ender runs once for every call, however it ended, refused ones included, when its Result is known and before the other
// side learns it. The ctx is the call's, and may be cancelled.
//
// An error withholds what a server's handler answers, and on a client an answer that is no error.
type Ender interface {
	End(ctx context.Context, c *Call) error
}

// stages holds each hook's implementers in the order they run, so that a call asks no stage for what it does not do.
type stages struct {
	admit   []named[Admitter]
	begin   []named[Beginner]
	receive []named[Receiver]
	send    []named[Sender]
	header  []named[HeaderSender]
	end     []Ender
	weigh   bool // somebody wants to know the size of all messages
}

type named[H any] struct {
	name string
	hook H
}

func newStages(all []Stage) *stages {
	s := &stages{}
	for i, stage := range all {
		name := stage.Name()
		if _, ok := stage.(Weigher); ok {
			s.weigh = true
		}
		if h, ok := stage.(Admitter); ok {
			s.admit = append(s.admit, named[Admitter]{name, h})
		}
		if h, ok := stage.(Beginner); ok {
			s.begin = append(s.begin, named[Beginner]{name, h})
		}
		if h, ok := stage.(Receiver); ok {
			s.receive = append(s.receive, named[Receiver]{name, h})
		}
		if h, ok := stage.(Sender); ok {
			s.send = append(s.send, named[Sender]{name, h})
		}
		if h, ok := stage.(HeaderSender); ok {
			s.header = append(s.header, named[HeaderSender]{name, h})
		}
		if h, ok := all[len(all)-1-i].(Ender); ok {
			s.end = append(s.end, h)
		}
	}
	return s
}

func (s *stages) runAdmit(c *Call) *Refusal {
	for _, a := range s.admit {
		if r := a.hook.Admit(c); r != nil {
			return c.refuse(a.name, r)
		}
	}
	return nil
}

// runBegin returns the context that the rest of the call has.
func (s *stages) runBegin(ctx context.Context, c *Call) (context.Context, *Refusal) {
	for _, b := range s.begin {
		if r := b.hook.Begin(ctx, c); r != nil {
			return c.under(ctx), c.refuse(b.name, r)
		}
		ctx = c.under(ctx) //nolint:fatcontext // A hook makes its context below the one that it was given.
	}
	return ctx, nil
}

func (s *stages) runReceive(ctx context.Context, c *Call, m Message) *Refusal {
	c.received.add(m)
	for _, v := range s.receive {
		if r := v.hook.Receive(ctx, c, m); r != nil {
			return c.refuse(v.name, r)
		}
	}
	if !c.reached.Load() {
		c.reached.Store(true)
	}
	return nil
}

func (s *stages) runSend(ctx context.Context, c *Call, m Message) *Refusal {
	for _, v := range s.send {
		if r := v.hook.Send(ctx, c, m); r != nil {
			return c.refuse(v.name, r)
		}
	}
	return nil
}

func (s *stages) runSendHeader(ctx context.Context, c *Call) *Refusal {
	if r := c.refused(); r != nil {
		return r.Refusal
	}
	for _, v := range s.header {
		if r := v.hook.SendHeader(ctx, c); r != nil {
			return c.refuse(v.name, r)
		}
	}
	return nil
}

// runEnd runs all End hooks, whatever the others do, and gives back what the call holds. A panic is an error here: the call's
// own recovery is over, and what a sink does must not take the process down.
func (s *stages) runEnd(ctx context.Context, c *Call) (err error) {
	for _, e := range s.end {
		err = errors.Join(err, endSafely(ctx, e, c))
	}
	c.letGo()
	return err
}

func endSafely(ctx context.Context, e Ender, c *Call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s", &panicked{p, debug.Stack()})
		}
	}()
	return e.End(ctx, c)
}
