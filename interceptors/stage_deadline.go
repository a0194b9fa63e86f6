package interceptors

import (
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// deadlineStage bounds every call: by its rule, and by the end of the caller's SVID, so that a stream does not outlive the
// identity that opened it. It works before the first message is read, since a unary call that never sends its message
// would otherwise wait for ever without reaching an interceptor.
type deadlineStage struct{}

func (deadlineStage) Name() string { return "deadline" }

var (
	causeDeadline = &chain.RefusalCause{Stage: deadlineStage{}.Name(), Refusal: errDeadline}
	causeExpired  = &chain.RefusalCause{Stage: identityStage{}.Name(), Refusal: errIdentityExpired}
)

func (deadlineStage) Admit(c *chain.Call) *chain.Refusal {
	longest := policy.DefaultMaxDeadline
	if c.Rule != nil {
		longest = c.Rule.MaxDeadline()
	}
	end := c.Start.Add(longest)
	if own, ok := c.Deadline(); !ok || own.After(end) {
		c.EndAt(end, causeDeadline)
	} else {
		end = own
	}
	if c.Caller != nil && c.Caller.Expires().Before(end) {
		c.CutAt(c.Caller.Expires(), causeExpired)
	}
	return nil
}
