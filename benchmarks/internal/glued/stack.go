package glued

import (
	"io"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	protovalidatemw "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Level says how many of the controls there are. Each has all of those before it.
type Level int

// The levels.
const (
	// Controls are identity, callers, limits, deadlines, breakers, and that a panic ends its call alone.
	Controls Level = iota
	// WithValidation has protovalidate look at each message that a server receives.
	WithValidation
	// WithTracing has otelgrpc's stats handlers on both sides.
	WithTracing
)

// String returns the level in words.
func (l Level) String() string {
	return [...]string{"identity, callers, limits, breaker, deadline", "and protovalidate on a transfer", "and tracing, not sampled"}[l]
}

// Source is who a workload is, and whom it trusts.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// Stack is what is assembled. It is used for one server or one client's connections, and is not changed once it is.
type Stack struct {
	Level Level
	// Source is this workload.
	Source Source
	// Callers may call all methods of the services, which are full names. For a server.
	Callers  []spiffeid.ID
	Services []string
	// Requests are how many calls each caller has in a period, and at once; with 0 there is no limit. For a server.
	Requests int
	Per      time.Duration
	// Messages are those whose rules are compiled before the first call. For a server.
	Messages []proto.Message
	// Callee is who must answer. For a client.
	Callee spiffeid.ID
	// MaxDeadline is the longest that a call may take.
	MaxDeadline time.Duration
	// Tracing is what otelgrpc is told.
	Tracing []otelgrpc.Option
	// Log takes an access log in JSON, a line for each call that has ended, from both sides; nil for none.
	Log io.Writer
}

// interceptors returns those of a server, outermost first.
func (s *Stack) interceptors() (unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor, err error) {
	callers, err := newCallers(s.Callers, s.Services)
	if err != nil {
		return nil, nil, err
	}
	recovered := recovery.WithRecoveryHandler(func(any) error { return status.Error(codes.Internal, "internal error") })
	if s.Log != nil {
		log := newAccessLog(slog.New(slog.NewJSONHandler(s.Log, nil)))
		unary, stream = append(unary, log.unaryServer()), append(stream, log.streamServer())
	}
	unary, stream = append(unary, callers.UnaryInterceptor), append(stream, callers.StreamInterceptor)
	if s.Requests > 0 {
		limits := ratelimitOf(s.Requests, s.Per)
		unary, stream = append(unary, ratelimit.UnaryServerInterceptor(limits)), append(stream, ratelimit.StreamServerInterceptor(limits))
	}
	unary, stream = append(unary, s.deadlineUnary), append(stream, s.deadlineStream)
	if s.Level >= WithValidation {
		rules, err := protovalidate.New(protovalidate.WithMessages(s.Messages...))
		if err != nil {
			return nil, nil, err
		}
		unary = append(unary, protovalidatemw.UnaryServerInterceptor(rules))
		stream = append(stream, protovalidatemw.StreamServerInterceptor(rules))
	}
	unary = append(unary, recovery.UnaryServerInterceptor(recovered))
	stream = append(stream, recovery.StreamServerInterceptor(recovered))
	return unary, stream, nil
}

// ServerOptions returns what grpc.NewServer needs.
func (s *Stack) ServerOptions() ([]grpc.ServerOption, error) {
	unary, stream, err := s.interceptors()
	if err != nil {
		return nil, err
	}
	tls := tlsconfig.MTLSServerConfig(s.Source, s.Source, tlsconfig.AuthorizeAny()) // who may call is for the callers to say
	tls.SessionTicketsDisabled = true                                               // a session that is resumed is not verified again
	opts := []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(tls)),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
		grpc.MaxConcurrentStreams(1000),
		grpc.MaxHeaderListSize(64 << 10),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: 15 * time.Minute, MaxConnectionAgeGrace: s.MaxDeadline, Time: 2 * time.Minute, Timeout: 20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Minute}),
	}
	if s.Level >= WithTracing {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(s.Tracing...)))
	}
	return opts, nil
}

// clientInterceptors returns those of a client, outermost first.
func (s *Stack) clientInterceptors() []grpc.UnaryClientInterceptor {
	var unary []grpc.UnaryClientInterceptor
	if s.Log != nil {
		unary = append(unary, newAccessLog(slog.New(slog.NewJSONHandler(s.Log, nil))).unaryClient())
	}
	return append(unary, s.deadlineClient, new(breakers).unary)
}

// DialOptions returns what grpc.NewClient needs.
func (s *Stack) DialOptions() []grpc.DialOption {
	tls := tlsconfig.MTLSClientConfig(s.Source, s.Source, tlsconfig.AuthorizeID(s.Callee))
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(tls)),
		grpc.WithChainUnaryInterceptor(s.clientInterceptors()...),
	}
	if s.Level >= WithTracing {
		opts = append(opts, grpc.WithStatsHandler(otelgrpc.NewClientHandler(s.Tracing...)))
	}
	return opts
}
