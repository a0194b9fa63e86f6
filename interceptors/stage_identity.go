package interceptors

import "github.com/grpcguard/grpcguard/interceptors/internal/chain"

// identityStage wants a caller, and one whose SVID has not expired since its connection was made.
type identityStage struct{}

func (identityStage) Name() string { return "identity" }

func (identityStage) Admit(c *chain.Call) *chain.Refusal {
	switch {
	case c.Caller == nil:
		return errNoIdentity
	case c.Caller.Expired(c.Start):
		return errIdentityExpired
	}
	return nil
}
