package chain

import (
	"context"
	"time"
)

// lasting is the context of a call without its end.
type lasting Call

// Lasting returns ctx, a context of this call, without its end: what is recorded of a call must be recorded however the call ended. Where
// it is the call itself, this costs nothing.
func (c *Call) Lasting(ctx context.Context) context.Context {
	if ctx == context.Context(c) {
		return (*lasting)(c)
	}
	return context.WithoutCancel(ctx)
}

// Deadline implements [context.Context].
func (*lasting) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements [context.Context].
func (*lasting) Done() <-chan struct{} { return nil }

// Err implements [context.Context].
func (*lasting) Err() error { return nil }

// Value implements [context.Context]. The context package finds what cancels a context as a value of it, which is a context.
func (l *lasting) Value(key any) any {
	v := (*Call)(l).Value(key)
	if _, cancels := v.(context.Context); cancels && key != any(callKey{}) {
		return nil
	}
	return v
}
