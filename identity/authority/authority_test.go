package authority_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td  = spiffeid.RequireTrustDomainFromString("a.test")
	one = spiffeid.RequireFromString("spiffe://a.test/one")
	two = spiffeid.RequireFromString("spiffe://a.test/two")
)

func start(t *testing.T, td spiffeid.TrustDomain, opts ...authority.Option) *authority.Authority {
	t.Helper()
	a, err := authority.New(td, opts...)
	must(t, err)
	t.Cleanup(func() { must(t, a.Close()) })
	return a
}

// folder is one whose name is short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func serve(t *testing.T, a *authority.Authority, id spiffeid.ID) *authority.Endpoint {
	t.Helper()
	e, err := a.ServeWorkloadAPI(filepath.Join(folder(t), "s"), id)
	must(t, err)
	return e
}

func x509Source(t *testing.T, e *authority.Endpoint) *workloadapi.X509Source {
	t.Helper()
	s, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr(e.Addr())))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for updates of a source until what is asked for is so.
func until(t *testing.T, s *workloadapi.X509Source, so func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for !so() {
		select {
		case <-s.Updated():
		case <-timeout:
			t.Fatal("not after 10 s")
		}
	}
}

func TestEveryWorkloadReadsItsOwnIdentity(t *testing.T) {
	t.Parallel()
	a := start(t, td)
	for _, id := range []spiffeid.ID{one, two} {
		s := x509Source(t, serve(t, a, id))
		svid, err := s.GetX509SVID()
		must(t, err)
		if svid.ID != id {
			t.Errorf("got %s, want %s", svid.ID, id)
		}
		if got, _, err := x509svid.Verify(svid.Certificates, s); err != nil || got != id {
			t.Errorf("verify: %v %v", got, err)
		}
		leaf := svid.Certificates[0]
		if len(leaf.URIs) != 1 || leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 2 ||
			leaf.NotAfter.Sub(leaf.NotBefore) > time.Hour+time.Minute {
			t.Errorf("leaf %+v", leaf)
		}
	}
}

func TestSPIFFE_ENDPOINT_SOCKETDecides(t *testing.T) {
	a := start(t, td)
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", serve(t, a, one).Addr())
	s, err := workloadapi.NewX509Source(t.Context())
	must(t, err)
	defer s.Close()
	if svid, err := s.GetX509SVID(); err != nil || svid.ID != one {
		t.Errorf("%v %v", svid, err)
	}
}

func TestSVIDsAreReplacedAtHalfTheirLife(t *testing.T) {
	t.Parallel()
	a := start(t, td, authority.WithX509TTL(3*time.Second))
	s := x509Source(t, serve(t, a, one))
	first, err := s.GetX509SVID()
	must(t, err)
	until(t, s, func() bool {
		svid, err := s.GetX509SVID()
		return err == nil && svid.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0
	})
	if time.Now().After(first.Certificates[0].NotAfter) {
		t.Error("the SVID expired before it was replaced")
	}
}

// At no moment does a workload present what another one cannot verify.
func TestRollingTheCA(t *testing.T) {
	t.Parallel()
	a := start(t, td)
	s := x509Source(t, serve(t, a, one))
	w, err := a.Workload(two)
	must(t, err)
	verify := func(svid *x509svid.SVID, bundles x509bundle.Source) error {
		_, _, err := x509svid.Verify(svid.Certificates, bundles)
		return err
	}
	current := func() *x509svid.SVID {
		svid, err := w.GetX509SVID()
		must(t, err)
		return svid
	}
	roots := func() int {
		b, err := s.GetX509BundleForTrustDomain(td)
		must(t, err)
		return len(b.X509Authorities())
	}
	if err := a.ActivateCA(); err == nil || err.Error() != "authority: no CA is prepared" {
		t.Errorf("got %v", err)
	}
	old := current()
	must(t, verify(old, s))
	must(t, a.PrepareCA())
	until(t, s, func() bool { return roots() == 2 })
	if current() != old {
		t.Error("the prepared CA signs already")
	}
	must(t, a.ActivateCA())
	fresh := current()
	must(t, verify(fresh, s))
	must(t, verify(old, s))
	a.DropOldCAs()
	until(t, s, func() bool { return roots() == 1 })
	must(t, verify(fresh, s))
	if err := verify(old, s); err == nil {
		t.Error("an SVID of a dropped CA verifies")
	}
}

func TestFederation(t *testing.T) {
	t.Parallel()
	a, b := start(t, td), start(t, spiffeid.RequireTrustDomainFromString("b.test"))
	s := x509Source(t, serve(t, a, one))
	foreign, err := b.MintX509SVID(spiffeid.RequireFromString("spiffe://b.test/x"))
	must(t, err)
	known := func() bool {
		_, _, err := x509svid.Verify(foreign.Certificates, s)
		return err == nil
	}
	if known() {
		t.Error("known before federation")
	}
	must(t, a.Federate(b))
	must(t, b.Federate(a)) // Both ways at once must not wait for each other.
	until(t, s, known)
	must(t, b.PrepareCA()) // Its later changes arrive too.
	until(t, s, func() bool {
		bundle, err := s.GetX509BundleForTrustDomain(b.TrustDomain())
		return err == nil && len(bundle.X509Authorities()) == 2
	})
	a.Unfederate(b.TrustDomain())
	until(t, s, func() bool { return !known() })
	for name, err := range map[string]error{"itself": a.Federate(a), "nobody": a.Federate(nil)} {
		if err == nil || err.Error() != "authority: an authority federates with one of another trust domain" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJWTs(t *testing.T) {
	t.Parallel()
	a, b := start(t, td), start(t, spiffeid.RequireTrustDomainFromString("b.test"))
	e := serve(t, a, one)
	source, err := workloadapi.NewJWTSource(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr(e.Addr())))
	must(t, err)
	defer source.Close()
	svid, err := source.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "shop"})
	must(t, err)
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{"shop"}); err != nil || svid.ID != one {
		t.Errorf("%v %v", svid.ID, err)
	}
	validate := func(token, audience string) error {
		_, err := workloadapi.ValidateJWTSVID(t.Context(), token, audience, workloadapi.WithAddr(e.Addr()))
		return err
	}
	must(t, validate(svid.Marshal(), "shop"))
	foreign, err := b.MintJWTSVID(spiffeid.RequireFromString("spiffe://b.test/x"), "shop")
	must(t, err)
	forged, err := start(t, td).MintJWTSVID(one, "shop")
	must(t, err)
	for name, err := range map[string]error{
		"another audience":        validate(svid.Marshal(), "bank"),
		"a foreign trust domain":  validate(foreign, "shop"),
		"another authority's key": validate(forged, "shop"),
		"no token":                validate("x", "shop"),
		"a cut signature":         validate(svid.Marshal()[:len(svid.Marshal())-4], "shop"),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, a.Federate(b))
	must(t, validate(foreign, "shop"))
	if _, err := source.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "shop", Subject: two}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another workload's token: %v", err)
	}
	if _, err := a.MintJWTSVID(one); err == nil || err.Error() != "authority: a JWT-SVID needs an audience" {
		t.Errorf("got %v", err)
	}
}

func TestCallsWithoutTheSecurityHeaderAreRefused(t *testing.T) {
	t.Parallel()
	e := serve(t, start(t, td), one)
	cc, err := grpc.NewClient(e.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer cc.Close()
	api := workload.NewSpiffeWorkloadAPIClient(cc)
	for name, ctx := range map[string]context.Context{
		"none": t.Context(), "false": metadata.AppendToOutgoingContext(t.Context(), "workload.spiffe.io", "false"),
		"twice": metadata.AppendToOutgoingContext(t.Context(), "workload.spiffe.io", "true", "workload.spiffe.io", "true"),
	} {
		stream, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		must(t, err)
		_, err = stream.Recv()
		_, unary := api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"x"}})
		for _, err := range []error{err, unary} {
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != "the security header workload.spiffe.io: true is missing" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestSockets(t *testing.T) {
	t.Parallel()
	a := start(t, td)
	dir := folder(t)
	path := filepath.Join(dir, "sub", "s")
	e, err := a.ServeWorkloadAPI(path, one)
	must(t, err)
	for file, mode := range map[string]os.FileMode{path: 0o600 | os.ModeSocket, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want %v", file, info.Mode(), err, mode)
		}
	}
	_, err = a.ServeWorkloadAPI(path, two)
	if want := `authority: the socket "` + path + `" is in use`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	must(t, e.Close())
	must(t, e.Close())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	e, err = a.ServeWorkloadAPI(path, two)
	must(t, err)
	must(t, e.Close())

	must(t, os.WriteFile(path, nil, 0o600))
	_, err = a.ServeWorkloadAPI(path, one)
	if want := `authority: "` + path + `" is there and is not a socket`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err = a.ServeWorkloadAPI(filepath.Join(dir, strings.Repeat("x", 100)), one); err == nil || !strings.HasSuffix(err.Error(), "at most 103 work") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAnAuthorityDoesNotMint(t *testing.T) {
	t.Parallel()
	a := start(t, td)
	for id, want := range map[spiffeid.ID]string{
		{}: "authority: the SPIFFE ID is empty",
		spiffeid.RequireFromString("spiffe://b.test/x"): "authority: spiffe://b.test/x is not in trust domain a.test",
		td.ID(): "authority: spiffe://a.test names a trust domain, not a workload",
	} {
		_, mint := a.MintX509SVID(id)
		_, token := a.MintJWTSVID(id, "x")
		_, wl := a.Workload(id)
		_, endpoint := a.ServeWorkloadAPI("/nowhere", id)
		for _, err := range []error{mint, token, wl, endpoint} {
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
	if _, err := authority.New(spiffeid.TrustDomain{}); err == nil || err.Error() != "authority: the trust domain is empty" {
		t.Errorf("got %v", err)
	}
	for _, opt := range []authority.Option{authority.WithX509TTL(0), authority.WithJWTTTL(-1)} {
		if _, err := authority.New(td, opt); err == nil || err.Error() != "authority: a lifetime must be positive" {
			t.Errorf("got %v", err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	a, err := authority.New(td)
	must(t, err)
	path := filepath.Join(folder(t), "s")
	e, err := a.ServeWorkloadAPI(path, one)
	must(t, err)
	s, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr(e.Addr())))
	must(t, err)
	defer s.Close()
	must(t, a.Close())
	must(t, a.Close())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := a.Workload(two); err == nil || err.Error() != "authority: a.test is closed" {
		t.Errorf("got %v", err)
	}
	if _, err := a.ServeWorkloadAPI(path, one); err == nil {
		t.Error("a closed authority serves")
	}
}

// Keys of JWT-SVIDs rotate with the roots: what an old key signed is valid until the old ones are dropped, and no longer.
func TestJWTKeysRotateWithTheCA(t *testing.T) {
	t.Parallel()
	a, err := authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	defer func() { must(t, a.Close()) }()
	id := spiffeid.RequireFromString("spiffe://example.org/w")
	mint := func() string {
		token, err := a.MintJWTSVID(id, "there")
		must(t, err)
		return token
	}
	valid := func(token string) bool {
		_, err := jwtsvid.ParseAndValidate(token, a.JWTBundle(), []string{"there"})
		return err == nil
	}
	old := mint()
	must(t, a.PrepareCA())
	prepared := mint()
	must(t, a.ActivateCA())
	fresh := mint()
	if !valid(old) || !valid(prepared) || !valid(fresh) {
		t.Errorf("before the old key is dropped: %v, %v, %v", valid(old), valid(prepared), valid(fresh))
	}
	a.DropOldCAs()
	if valid(old) || valid(prepared) || !valid(fresh) {
		t.Errorf("after the old key was dropped: %v, %v, %v", valid(old), valid(prepared), valid(fresh))
	}
}
