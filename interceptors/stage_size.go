package interceptors

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// sizeStage holds each message to its rule's limit. gRPC itself refuses, before decoding, what is larger than the largest limit
// of any rule (wireRequest, wireResponse); a rule with a smaller one is held to it here, by the size that the message
// has when encoded without redundancy.
type sizeStage struct {
	wireRequest, wireResponse int
}

func (sizeStage) Name() string { return "size" }

func (s sizeStage) Receive(_ context.Context, c *chain.Call, msg any) *chain.Refusal {
	if c.Rule != nil && larger(msg, c.Rule.MaxRequestBytes(), s.wireRequest) {
		return errRequestSize
	}
	return nil
}

func (s sizeStage) Send(_ context.Context, c *chain.Call, msg any) *chain.Refusal {
	if c.Rule != nil && larger(msg, c.Rule.MaxResponseBytes(), s.wireResponse) {
		return errResponseSize
	}
	return nil
}

// clientSizeStage is sizeStage seen from the client, who sends requests and receives responses.
type clientSizeStage struct{ limits sizeStage }

func (clientSizeStage) Name() string { return "size" }

func (s clientSizeStage) Receive(ctx context.Context, c *chain.Call, msg any) *chain.Refusal {
	return s.limits.Send(ctx, c, msg)
}

func (s clientSizeStage) Send(ctx context.Context, c *chain.Call, msg any) *chain.Refusal {
	return s.limits.Receive(ctx, c, msg)
}

func larger(msg any, limit, wire int) bool {
	if limit >= wire {
		return false
	}
	m, ok := msg.(proto.Message)
	return !ok || proto.Size(m) > limit
}

// wireLimits returns the largest limits of any rule, the defaults at least.
func wireLimits(p *policy.Policy) (request, response int) {
	for r := range p.Rules() {
		request, response = max(request, r.MaxRequestBytes()), max(response, r.MaxResponseBytes())
	}
	if request == 0 {
		request, response = policy.DefaultMaxMessageBytes, policy.DefaultMaxMessageBytes
	}
	return request, response
}
