package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/authz"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/identity"
)

// grpc-go's own authorization engine, beside which this module measures, reads the identity out of AuthInfo: a rule of its that
// denies a caller must hold behind identity's credentials. (It lives here because the engine would bring half of xDS into the
// core's go.mod.)
func TestGRPCsOwnAuthorizationSeesTheIdentity(t *testing.T) {
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.close() }()
	static, err := authz.NewStatic(`{"name": "x",
		"deny_rules": [{"name": "the stranger", "source": {"principals": ["spiffe://bench.example/stranger"]}}],
		"allow_rules": [{"name": "others", "source": {"principals": ["*"]}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	opts := []grpc.ServerOption{grpc.Creds(identity.NewServerCredentials(w.server)), grpc.ChainUnaryInterceptor(static.UnaryInterceptor)}
	for who, want := range map[string]codes.Code{"caller": codes.OK, "stranger": codes.PermissionDenied} {
		source := w.caller
		if who == "stranger" {
			source = w.stranger
		}
		c, err := w.serve(source, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Transfer(context.Background(), &benchv1.TransferRequest{}); status.Code(err) != want {
			t.Errorf("%s: %v, want %v", who, err, want)
		}
	}
}
