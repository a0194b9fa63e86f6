package policy_test

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/grpcguard/grpcguard/policy"
)

// A service without annotations gets its rule in the policy file.
func ExampleCompile() {
	file, err := policy.ParseFile("policy.yaml", []byte(`
names:
  kubelet: {spiffe_ids: ["spiffe://example.org/node/*/kubelet"]}
services:
  grpc.health.v1.Health: {callers: [kubelet]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	pol, err := policy.Compile(file, healthv1.File_grpc_health_v1_health_proto)
	if err != nil {
		fmt.Println(err)
		return
	}
	check := pol.Rule("/grpc.health.v1.Health/Check")
	for _, id := range []string{"spiffe://example.org/node/7/kubelet", "spiffe://example.org/node/7/other"} {
		d := check.Decide(policy.Subject{ID: spiffeid.RequireFromString(id)})
		fmt.Println(d.Allowed, d.Reason)
	}
	// Output:
	// true caller-allowed
	// false caller-not-listed
}
