package interceptors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/validate"
	"github.com/grpcguard/grpcguard/policy"
)

// Server guards the services of one gRPC server. It is safe for concurrent use, and may guard several servers.
type Server struct {
	policy      *policy.Policy
	chain       *chain.Server
	credentials credentials.TransportCredentials
	limits      *limits
	record      *recordStage
	age         time.Duration
}

// NewServer returns a guard that enforces p, presents the X509-SVID of source, and writes a record of every call to sink.
//
// It fails if source has no X509-SVID: a server without an identity does not start. It fails if a message that a rule's
// method receives or sends has a protovalidate rule that cannot be compiled.
func NewServer(p *policy.Policy, source identity.Source, sink audit.Sink, opts ...ServerOption) (*Server, error) {
	cfg, err := newServerConfig(opts)
	if err != nil {
		return nil, err
	}
	service, lifetime, err := self(p, source, sink)
	if err != nil {
		return nil, err
	}
	rules, err := validate.New(messages(p)...)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	records := newRecorder(sink, audit.SideServer, service, p, cfg.config)
	record := &recordStage{recorder: records, denials: newDenials(records, cfg.denials)}
	if err := cfg.redacts(p); err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	limits, err := newLimits(p, cfg, records)
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w", err)
	}
	s := &Server{record: record, policy: p, age: connectionAge(lifetime), limits: limits}
	stages := []chain.Stage{record}
	if !cfg.telemetry.Off {
		traces, err := newTraceStage(cfg.telemetry, audit.SideServer, p)
		if err != nil {
			return nil, fmt.Errorf("interceptors: %w", err)
		}
		stages = []chain.Stage{traces, record, lateTraceStage{traces}}
	}
	stages = append(stages, identityStage{}, ruleStage{}, callersStage{}, limitStage{limits},
		newConcurrencyStage(p), deadlineStage{}, newServerSize(p), newBudgetStage(p),
		validateStage{rules: rules, checkReceived: true, received: theirFault, checkSent: cfg.validateResponses, sent: ourFault},
		messageLimitStage{limits}, newAuditStage(record, cfg.redactor))
	if cfg.faults != nil {
		stages = append(stages, &faultStage{cfg.faults})
	}
	s.chain = chain.NewServer(p, cfg.onSinkError, stages...)
	s.credentials = identity.NewServerCredentials(source, identity.OnHandshakeError((&handshakes{record, make(chan struct{}, maxHandshakes)}).refused))
	if err := records.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("interceptors: recording the start: %w", err), limits.close())
	}
	return s, nil
}

// What one connection may hold on to. gRPC bounds neither calls in flight nor, short of 16 MiB a call, headers, which a few bytes
// on the wire can stand for; calls that are refused and wait for a slow sink would hold on to both. A handshake has two
// minutes, for whoever can reach the port.
const (
	maxConcurrentStreams = 1000
	maxHeaderListBytes   = 64 << 10
	handshakeTimeout     = 20 * time.Second
	// A connection whose other end is gone is noticed after so long, and not after gRPC's two hours.
	keepaliveTime    = 2 * time.Minute
	keepaliveTimeout = 20 * time.Second
	// A caller that pings more often, or without a call, is disconnected.
	minPingInterval = time.Minute
)

// ServerOptions returns what grpc.NewServer needs: transport credentials, the interceptors, the tap, the limits on the size of messages,
// limits of 1,000 calls in flight a connection, 64 KiB of headers a call, 20 seconds a handshake and a ping a minute, a ping of our own
// where nothing was heard for 2 minutes, and an age after which connections are
// renewed. The age, with jitter, is a quarter of the lifetime of this server's own X509-SVID, 15 minutes at most, so that callers
// connect again with a new SVID well before the one that opened the connection expires; calls in flight are finished first.
func (s *Server) ServerOptions() []grpc.ServerOption {
	request, response := wireLimits(s.policy)
	return []grpc.ServerOption{
		grpc.Creds(s.credentials),
		grpc.InTapHandle(s.chain.Tap),
		grpc.ChainUnaryInterceptor(s.chain.Unary),
		grpc.ChainStreamInterceptor(s.chain.Stream),
		// A method that has a rule and is not registered ends like any other call, with a record.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.Unimplemented, "unknown method")
		}),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.MaxHeaderListSize(maxHeaderListBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(request),
		grpc.MaxSendMsgSize(response),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: s.age, MaxConnectionAgeGrace: longest(s.policy), Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval}),
	}
}

// Close waits until all calls have ended and their records are with the sink, or until ctx is done, which is an error: a handler
// may take its time. The record of the end has five seconds. It is for after the gRPC server has stopped and before the sink is closed, which is its owner's.
func (s *Server) Close(ctx context.Context) error {
	err := s.chain.Close(ctx)
	s.record.denials.flush()
	if err := errors.Join(err, s.limits.close(), s.record.stop()); err != nil {
		return fmt.Errorf("interceptors: %w", err)
	}
	return nil
}

// longest returns the longest that any call may take.
func longest(p *policy.Policy) time.Duration {
	most := policy.DefaultMaxDeadline
	for r := range p.Rules() {
		most = max(most, r.MaxDeadline())
	}
	return most
}

// self returns who this workload is, and how long its X509-SVIDs live.
func self(p *policy.Policy, source identity.Source, sink audit.Sink) (id string, lifetime time.Duration, err error) {
	switch {
	case p == nil:
		return "", 0, errors.New("interceptors: the policy is nil")
	case source == nil:
		return "", 0, errors.New("interceptors: the source of X509-SVIDs is nil")
	case sink == nil:
		return "", 0, errors.New("interceptors: the sink is nil; to keep no records, say audit.Discard")
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return "", 0, fmt.Errorf("interceptors: no X509-SVID of our own: %w", err)
	}
	if svid == nil || len(svid.Certificates) == 0 {
		return "", 0, errors.New("interceptors: no X509-SVID of our own: the source returned an empty one")
	}
	leaf := svid.Certificates[0]
	return svid.ID.String(), leaf.NotAfter.Sub(leaf.NotBefore), nil
}

func connectionAge(lifetime time.Duration) time.Duration {
	return min(15*time.Minute, max(lifetime/4, time.Second))
}

// messages returns the types of all messages that pass under a rule. Where the program has generated code for one, it is that code's
// descriptor: the policy may have been compiled from another copy, such as one with source positions.
func messages(p *policy.Policy) []protoreflect.MessageDescriptor {
	var types []protoreflect.MessageDescriptor
	for r := range p.Rules() {
		types = append(types, linked(r.Input()), linked(r.Output()))
	}
	return types
}

func linked(d protoreflect.MessageDescriptor) protoreflect.MessageDescriptor {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t.Descriptor()
	}
	return d
}
