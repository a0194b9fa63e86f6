package chain

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/tap"

	"github.com/grpcguard/grpcguard/policy"
)

// slots is a stage whose calls hold something.
type slots struct{ held int }

func (*slots) Name() string { return "slots" }

func (s *slots) Admit(c *Call) *Refusal {
	s.held++
	c.Hold(s)
	return nil
}

func (s *slots) Release() { s.held-- }

// What a call holds is let go at the moment that the call ends, also when no interceptor has taken it: somebody may be refused for the want of
// it.
func TestACallThatIsNeverReadLetsGoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slots{}
		server := NewServer(&policy.Policy{}, func(err error) { t.Error(err) }, s)
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := server.Tap(ctx, &tap.Info{FullMethodName: "/a.B/C"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.held != 1 {
			t.Errorf("%d are held while the call is open", s.held)
		}
		cancel()
		synctest.Wait() // No time passes.
		if s.held != 0 {
			t.Errorf("%d are held when the call has ended", s.held)
		}
		if err := server.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
