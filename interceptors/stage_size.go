package interceptors

import (
	"context"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// sizeStage holds each message to its rule's limit. Of messages that come in, gRPC itself refuses, before decoding, what is larger
// than the largest limit of any rule; a rule with a smaller one is held to it here, by the size that the message has when
// encoded without redundancy. Messages that go out are all held to it here: what gRPC would refuse to send would have been
// recorded as sent.
type sizeStage struct {
	wire           int // gRPC's own limit of what comes in
	received, sent func(*policy.Rule) int
	errIn, errOut  *chain.Refusal
}

// newServerSize returns the stage of a server, which receives requests.
func newServerSize(p *policy.Policy) sizeStage {
	request, _ := wireLimits(p)
	return sizeStage{request, (*policy.Rule).MaxRequestBytes, (*policy.Rule).MaxResponseBytes, errRequestSize, errResponseSize}
}

// newClientSize returns the stage of a client, which receives responses.
func newClientSize(p *policy.Policy) sizeStage {
	_, response := wireLimits(p)
	return sizeStage{response, (*policy.Rule).MaxResponseBytes, (*policy.Rule).MaxRequestBytes, errResponseSize, errRequestSize}
}

func (sizeStage) Name() string { return "size" }

func (s sizeStage) Receive(_ context.Context, c *chain.Call, m chain.Message) *chain.Refusal {
	if c.Rule != nil && s.received(c.Rule) < s.wire && larger(m, s.received(c.Rule)) {
		return s.errIn
	}
	return nil
}

func (s sizeStage) Send(_ context.Context, c *chain.Call, m chain.Message) *chain.Refusal {
	if c.Rule != nil && larger(m, s.sent(c.Rule)) {
		return s.errOut
	}
	return nil
}

func larger(m chain.Message, limit int) bool {
	return m.Proto == nil || m.Size() > limit
}

// wireLimits returns the largest limits of any rule, and the defaults if there is none.
func wireLimits(p *policy.Policy) (request, response int) {
	for r := range p.Rules() {
		request, response = max(request, r.MaxRequestBytes()), max(response, r.MaxResponseBytes())
	}
	if request == 0 {
		request, response = policy.DefaultMaxMessageBytes, policy.DefaultMaxMessageBytes
	}
	return request, response
}
