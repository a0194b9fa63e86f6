package chain

import (
	"context"
	"time"
)

// lasting is the context of a call without its end.
type lasting Call

// Lasting returns the context of what comes after the Begin hooks without its end: what is recorded of a call must be recorded however the
// call ended. It costs nothing.
func (c *Call) Lasting() context.Context { return (*lasting)(c) }

// Deadline implements [context.Context].
func (*lasting) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements [context.Context].
func (*lasting) Done() <-chan struct{} { return nil }

// Err implements [context.Context].
func (*lasting) Err() error { return nil }

// Value implements [context.Context]. The context package finds what cancels a context as a value of it, which is a context.
func (l *lasting) Value(key any) any {
	c := (*Call)(l)
	v := c.under(c).Value(key)
	if _, cancels := v.(context.Context); cancels && key != any(callKey{}) {
		return nil
	}
	return v
}
