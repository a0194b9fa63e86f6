package interceptors

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/validate"
	"github.com/grpcguard/grpcguard/policy"
)

// Client guards the calls that a program makes. It is safe for concurrent use, and serves any number of connections.
type Client struct {
	policy  *policy.Policy
	source  identity.Source
	record  *recordStage
	rules   *validate.Validator
	cfg     clientConfig
	metrics breakerMetrics
	// outermost are the stages that come first on every connection.
	outermost []chain.Stage

	mu       sync.Mutex
	breakers map[string]*breakerStage // by callee
	left     leaving
}

// NewClient returns a guard for calls made with the X509-SVID of source. Of p it uses the names of callees, and of methods
// that it knows the deadlines and sizes; whether a call is allowed is the server's to say. Every call's record goes to sink.
// Responses are validated.
func NewClient(p *policy.Policy, source identity.Source, sink audit.Sink, opts ...ClientOption) (*Client, error) {
	cfg, err := newClientConfig(opts)
	if err != nil {
		return nil, err
	}
	service, _, err := self(p, source, sink)
	if err != nil {
		return nil, err
	}
	rules, err := validate.NewLazy(messages(p)...)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	for method, f := range cfg.fallbacks {
		if err := f.fits(p, method); err != nil {
			return nil, fmt.Errorf("interceptors: %w", err)
		}
	}
	metrics, err := newBreakerMetrics(cfg.telemetry)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	records := newRecorder(sink, audit.SideClient, service, p, cfg.config)
	record := &recordStage{recorder: records, denials: newDenials(records, cfg.denials)}
	newAuditStage(record, nil)
	if err := record.start(); err != nil {
		return nil, fmt.Errorf("interceptors: recording the start: %w", err)
	}
	outermost := []chain.Stage{record}
	if !cfg.telemetry.Off {
		traces, err := newTraceStage(cfg.telemetry, audit.SideClient, p)
		if err != nil {
			return nil, fmt.Errorf("interceptors: %w", err)
		}
		outermost = []chain.Stage{traces, record, lateTraceStage{traces}}
	}
	return &Client{
		policy: p, source: source, rules: rules, cfg: cfg, metrics: metrics, breakers: make(map[string]*breakerStage),
		record: record, outermost: outermost,
	}, nil
}

// Close ends the sharing of breakers, and records the end. It is for after the client's connections are closed and before the sink is.
// The record of the end has five seconds. What the sink says goes to the error handler.
func (c *Client) Close() {
	c.left.all()
	c.record.denials.flush()
	if err := c.record.stop(); err != nil {
		c.cfg.onSinkError(err)
	}
}

// leaving is what ends the sharing of each breaker.
type leaving struct {
	mu    sync.Mutex
	leave []func()
}

func (l *leaving) add(leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave = append(l.leave, leave)
}

func (l *leaving) all() {
	l.mu.Lock()
	leave := l.leave
	l.leave = nil
	l.mu.Unlock()
	for _, f := range leave {
		f()
	}
}

// breakersOf returns the breakers of a callee, which all connections to it share.
func (c *Client) breakersOf(callee string) *breakerStage {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.breakers[callee]
	if s == nil {
		s = &breakerStage{
			callee: callee, fallbacks: c.cfg.fallbacks, sharer: c.cfg.sharer, events: c.record.recorder, metrics: c.metrics, left: &c.left,
			circuits: make(map[*policy.Rule]*atomic.Pointer[circuit]),
		}
		for r := range c.policy.Rules() {
			if !r.Breaker().Disabled {
				s.circuits[r] = &atomic.Pointer[circuit]{}
			}
		}
		c.breakers[callee] = s
	}
	return s
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
	ch := c.chain(callee)
	return []grpc.DialOption{
		grpc.WithTransportCredentials(identity.NewClientCredentials(c.source, accept.Match)),
		grpc.WithChainUnaryInterceptor(ch.Unary),
		grpc.WithChainStreamInterceptor(ch.Stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(response), grpc.MaxCallSendMsgSize(request)),
	}, nil
}

// chain returns the stages of the calls to callee.
func (c *Client) chain(callee string) *chain.Client {
	stages := slices.Clone(c.outermost)
	stages = append(stages,
		deadlineStage{}, newClientSize(c.policy),
		validateStage{rules: c.rules, checkReceived: true, received: calleesFault, checkSent: c.cfg.validateRequests, sent: theirFault},
		c.record.intents,
		c.breakersOf(callee), // after validation: a message that is refused does not show that the callee is well
	)
	if c.cfg.faults != nil {
		stages = append(stages, &faultStage{c.cfg.faults})
	}
	return chain.NewClient(c.policy, callee, c.cfg.onSinkError, stages...)
}
