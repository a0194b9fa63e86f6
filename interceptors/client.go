package interceptors

import (
	"fmt"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/validate"
	"github.com/grpcguard/grpcguard/policy"
)

// Client guards the calls that a program makes. It is safe for concurrent use, and serves any number of connections.
type Client struct {
	policy *policy.Policy
	source identity.Source
	record *recordStage
	rules  *validate.Validator
	cfg    clientConfig
}

// NewClient returns a guard for calls made with the X509-SVID of source. Of p it uses the names of callees, and of methods
// that it knows the deadlines and sizes; whether a call is allowed is the server's to say. Every call's record goes to sink.
// Responses are validated.
func NewClient(p *policy.Policy, source identity.Source, sink audit.Sink, opts ...ClientOption) (*Client, error) {
	cfg := clientConfig{onSinkError: otel.Handle}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("interceptors: client option %d is nil", i)
		}
		opt(&cfg)
	}
	service, _, err := self(p, source, sink)
	if err != nil {
		return nil, err
	}
	rules, err := validate.NewLazy(messages(p)...)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	cfg.telemetry = cfg.telemetry.settled()
	return &Client{
		policy: p, source: source, rules: rules, cfg: cfg,
		record: &recordStage{sink: sink, side: audit.SideClient, service: service, policy: p},
	}, nil
}

// ClientOption configures [NewClient].
type ClientOption func(*clientConfig)

type clientConfig struct {
	telemetry        Telemetry
	validateRequests bool
	onSinkError      func(error)
}

// WithRequestValidation has the messages that the client sends validated before they leave; one that is invalid ends its call
// with InvalidArgument, without bothering the server. Default: only responses are validated.
func WithRequestValidation() ClientOption {
	return func(c *clientConfig) { c.validateRequests = true }
}

// DialOptions returns what grpc.NewClient needs to talk to callee and to nobody else. The callee is a name that the policy file
// binds, a SPIFFE ID or a pattern; an unknown name is an error. Whoever answers at the address must prove in the handshake to
// be that callee.
func (c *Client) DialOptions(callee string) ([]grpc.DialOption, error) {
	accept, err := c.policy.Callee(callee)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	request, response := wireLimits(c.policy)
	// On a client a request is what is sent and a response what is received.
	limits := clientSizeStage{sizeStage{wireRequest: request, wireResponse: response}}
	ch := chain.NewClient(callee, c.cfg.onSinkError, c.record, ruleStage{policy: c.policy}, deadlineStage{}, limits,
		validateStage{rules: c.rules, checkReceived: true, received: calleesFault, checkSent: c.cfg.validateRequests, sent: theirFault})
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(identity.NewClientCredentials(c.source, accept.Match)),
		grpc.WithChainUnaryInterceptor(ch.Unary),
		grpc.WithChainStreamInterceptor(ch.Stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(response), grpc.MaxCallSendMsgSize(request)),
	}
	if !c.cfg.telemetry.Off {
		opts = append(opts, grpc.WithStatsHandler(clientStats{otelgrpc.NewClientHandler(c.cfg.telemetry.options()...)}))
	}
	return opts, nil
}
