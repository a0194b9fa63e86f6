package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	greetv1 "github.com/grpcguard/grpcguard/examples/greeter/v1"
	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start serves the greeter as spiffe://example.org/greeter, with an SVID from a real Workload API.
func start(t *testing.T) (*authority.Authority, string) {
	t.Helper()
	a, err := authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	dir, err := os.MkdirTemp("", "g")
	must(t, err)
	endpoint, err := a.ServeWorkloadAPI(filepath.Join(dir, "s"), spiffeid.RequireFromString("spiffe://example.org/greeter"))
	must(t, err)
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", endpoint.Addr())
	srv, err := guarded(t.Context(), "policy.yaml", audit.Discard)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		srv.Stop()
		must(t, <-served)
		must(t, a.Close())
		must(t, os.RemoveAll(dir))
	})
	return a, listener.Addr().String()
}

func TestGreeter(t *testing.T) {
	a, addr := start(t)
	for _, tt := range []struct {
		caller, name string
		code         codes.Code
	}{
		{"web", "Ada", codes.OK},
		{"web", "", codes.InvalidArgument},
		{"web", strings.Repeat("x", 51), codes.InvalidArgument},
		{"website", "Ada", codes.PermissionDenied},
	} {
		w, err := a.Workload(spiffeid.RequireFromString("spiffe://example.org/" + tt.caller))
		must(t, err)
		creds := identity.NewClientCredentials(w, spiffeid.MatchID(spiffeid.RequireFromString("spiffe://example.org/greeter")))
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
		must(t, err)
		resp, err := greetv1.NewGreeterServiceClient(cc).Greet(t.Context(), &greetv1.GreetRequest{Name: tt.name})
		if status.Code(err) != tt.code {
			t.Errorf("%s greets %q: %v, want %v", tt.caller, tt.name, err, tt.code)
		}
		if want := "Hello Ada, says spiffe://example.org/web"; err == nil && resp.GetGreeting() != want {
			t.Errorf("got %q, want %q", resp.GetGreeting(), want)
		}
		must(t, cc.Close())
	}
}

// What the README quotes is what this program is made of.
func TestREADMEQuotesThisProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	must(t, err)
	for language, file := range map[string]string{"go": "main.go", "proto": "../proto/greet/v1/greet.proto", "yaml": "policy.yaml"} {
		_, rest, ok := strings.Cut(string(readme), "```"+language+"\n")
		if !ok {
			t.Fatalf("the README has no %s in it", language)
		}
		quoted, _, _ := strings.Cut(rest, "```")
		source, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(quoted) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(string(source), line) {
				t.Errorf("the README says %q, which %s does not", line, file)
			}
		}
	}
}
