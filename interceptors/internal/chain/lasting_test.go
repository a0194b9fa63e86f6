package chain

import (
	"context"
	"errors"
	"testing"
	"time"
)

type ownKey struct{}

// What is recorded of a call has the values of its context, and neither its end nor the cause of it. Not parallel: it counts allocations.
func TestLasting(t *testing.T) {
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), ownKey{}, "parent"))
	defer cancel(nil)
	parent, stop := context.WithTimeout(parent, time.Hour)
	defer stop()
	c := &Call{Context: parent}
	given := context.WithValue(c, ownKey{}, "given")
	for _, tt := range []struct{ name, want string }{{"the call itself", "parent"}, {"what a hook has made of it", "given"}} {
		ctx := c.Lasting()
		cancel(errors.New("over"))
		if _, is := ctx.Deadline(); is || ctx.Done() != nil || ctx.Err() != nil || context.Cause(ctx) != nil {
			t.Errorf("%s: it ends: %v, %v", tt.name, ctx.Err(), context.Cause(ctx))
		}
		if v := ctx.Value(ownKey{}); v != tt.want || FromContext(ctx) != c {
			t.Errorf("%s: the value is %v, and the call %p", tt.name, v, FromContext(ctx))
		}
		below, end := context.WithTimeout(ctx, time.Minute)
		if below.Err() != nil {
			t.Errorf("%s: a context below it has ended", tt.name)
		}
		end()
		c.SetContext(given)
	}
	if n := testing.AllocsPerRun(10, func() { _ = c.Lasting() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
