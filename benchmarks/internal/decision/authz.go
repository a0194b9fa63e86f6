package decision

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/authz"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Authz is grpc-go's own authorization, an allow rule a method. Its engine is internal, so it is asked through its interceptor, with a
// handler that does nothing, and the context of a call that was really served; who calls and which method are put over it.
func Authz(n int) (*Engine, error) {
	type allow struct {
		Name    string              `json:"name"`
		Source  map[string][]string `json:"source"`
		Request map[string][]string `json:"request"`
	}
	file := struct {
		Name  string  `json:"name"`
		Allow []allow `json:"allow_rules"`
	}{Name: "bench"}
	for _, r := range rulesOf(n) {
		file.Allow = append(file.Allow, allow{r.method, map[string][]string{"principals": r.callers}, map[string][]string{"paths": {r.method}}})
	}
	text, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	static, err := authz.NewStatic(string(text))
	if err != nil {
		return nil, fmt.Errorf("decision: authz: %w", err)
	}
	served, err := servedContext()
	if err != nil {
		return nil, fmt.Errorf("decision: the context of a call: %w", err)
	}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	return &Engine{Name: "grpc-go authz", Prepare: func(q Question) func() bool {
		id, err := url.Parse(q.Caller)
		if err != nil {
			return func() bool { return false }
		}
		p, _ := peer.FromContext(served)
		info := credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{{URIs: []*url.URL{id}}}}, SPIFFEID: id}
		ctx := peer.NewContext(served, &peer.Peer{Addr: p.Addr, LocalAddr: p.LocalAddr, AuthInfo: info})
		ctx = grpc.NewContextWithServerTransportStream(ctx, called{q.Method})
		unary := &grpc.UnaryServerInfo{FullMethod: q.Method}
		return func() bool {
			_, err := static.UnaryInterceptor(ctx, nil, unary, handler)
			return err == nil
		}
	}}, nil
}

// called is the transport's stream of a call, of which only the method is asked.
type called struct{ method string }

func (c called) Method() string             { return c.method }
func (called) SetHeader(metadata.MD) error  { return nil }
func (called) SendHeader(metadata.MD) error { return nil }
func (called) SetTrailer(metadata.MD) error { return nil }

// servedContext returns the context of a unary call on loopback. Its connection can be had in no other way, and is what the
// engine reads its port from.
func servedContext() (context.Context, error) {
	served := make(chan context.Context, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		served <- ctx
		return next(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(server, grpc_health_v1.UnimplementedHealthServer{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		// The answer is that the method is not implemented: its context is all that is wanted.
		_, _ = grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
		err = conn.Close()
	}
	server.Stop()
	if err = errors.Join(err, <-done); err != nil {
		return nil, err
	}
	select {
	case ctx := <-served:
		return ctx, nil
	default:
		return nil, errors.New("no call was served")
	}
}
