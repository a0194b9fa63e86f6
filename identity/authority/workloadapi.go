package authority

import (
	"context"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// workloadAPI is the SPIFFE Workload API for one workload.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	authority *Authority
	workload  *Workload
}

// Every call must carry this header, so that a request which somebody was tricked into making is not one (SPIFFE Workload
// Endpoint, section 5).
const securityHeader = "workload.spiffe.io"

func hasHeader(ctx context.Context) error {
	if v := metadata.ValueFromIncomingContext(ctx, securityHeader); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "the security header "+securityHeader+": true is missing")
	}
	return nil
}

func checkHeader(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := hasHeader(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func checkStreamHeader(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := hasHeader(ss.Context()); err != nil {
		return err
	}
	return handler(srv, ss)
}

func (s *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return follow(s.authority, stream, func(own *spiffebundle.Bundle, federated []*spiffebundle.Bundle) (*workload.X509SVIDResponse, error) {
		svid, err := s.workload.GetX509SVID()
		if err != nil {
			return nil, err
		}
		key, err := x509.MarshalPKCS8PrivateKey(svid.PrivateKey)
		if err != nil {
			return nil, err
		}
		resp := &workload.X509SVIDResponse{
			Svids: []*workload.X509SVID{{
				SpiffeId: svid.ID.String(), X509Svid: concat(svid.Certificates), X509SvidKey: key, Bundle: concat(own.X509Authorities()),
			}},
			FederatedBundles: make(map[string][]byte),
		}
		for _, b := range federated {
			resp.FederatedBundles[b.TrustDomain().IDString()] = concat(b.X509Authorities())
		}
		return resp, nil
	})
}

func (s *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return follow(s.authority, stream, func(own *spiffebundle.Bundle, federated []*spiffebundle.Bundle) (*workload.X509BundlesResponse, error) {
		resp := &workload.X509BundlesResponse{Bundles: make(map[string][]byte)}
		for _, b := range append(federated, own) {
			resp.Bundles[b.TrustDomain().IDString()] = concat(b.X509Authorities())
		}
		return resp, nil
	})
}

func (s *workloadAPI) FetchJWTBundles(_ *workload.JWTBundlesRequest, stream grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return follow(s.authority, stream, func(own *spiffebundle.Bundle, federated []*spiffebundle.Bundle) (*workload.JWTBundlesResponse, error) {
		resp := &workload.JWTBundlesResponse{Bundles: make(map[string][]byte)}
		for _, b := range append(federated, own) {
			jwks, err := b.JWTBundle().Marshal()
			if err != nil {
				return nil, err
			}
			resp.Bundles[b.TrustDomain().IDString()] = jwks
		}
		return resp, nil
	})
}

// follow sends what is true now, and again whenever it changes.
func follow[R any](a *Authority, stream grpc.ServerStreamingServer[R], now func(own *spiffebundle.Bundle, federated []*spiffebundle.Bundle) (*R, error)) error {
	for {
		own, federated, changed := a.bundles()
		resp, err := now(own, federated)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func (s *workloadAPI) FetchJWTSVID(_ context.Context, req *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	id := s.workload.ID()
	if req.GetSpiffeId() != "" && req.GetSpiffeId() != id.String() {
		return nil, status.Error(codes.PermissionDenied, "the workload is not entitled to that identity")
	}
	if len(req.GetAudience()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "an audience is required")
	}
	token, err := s.authority.MintJWTSVID(id, req.GetAudience()...)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: id.String(), Svid: token}}}, nil
}

func (s *workloadAPI) ValidateJWTSVID(_ context.Context, req *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if req.GetAudience() == "" {
		return nil, status.Error(codes.InvalidArgument, "an audience is required")
	}
	svid, err := s.authority.validateJWT(req.GetSvid(), req.GetAudience())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}

// concat joins certificates in the form of the Workload API: ASN.1 DER, one after the other.
func concat(certs []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return der
}
