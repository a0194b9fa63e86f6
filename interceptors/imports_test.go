package interceptors_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/grpcguard/grpcguard/"

// The import graph is part of the design: what a package must never pull into a program, and why.
func TestImports(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pkg, never, why string
	}{
		{"policy", "google.golang.org/grpc", "a decision is a pure function: it can be asked in a linter, a test or another framework"},
		{"policy", module + "identity", "siblings do not import each other: a policy knows SPIFFE IDs, not connections"},
		{"policy", module + "interceptors", "importing runs downwards"},
		{"policy", "net/http", "compiling a policy is no I/O"},
		{"identity", module + "policy", "siblings do not import each other: an identity says who, not what they may"},
		{"identity", module + "interceptors", "importing runs downwards"},
		{"identity", module + "identity/authority", "a program in production must not hold a development authority"},
		{"identity", "go.opentelemetry.io", "credentials trace nothing"},
		{"identity/authority", module + "policy", "an authority gives identities, not rights"},
		{"interceptors/audit", module, "a record is usable alone: sinks import it"},
		{"interceptors/audit/journal", module, "a journal keeps bytes, whatever they say"},
		{"interceptors/audit/journal", "google.golang.org", "a journal is of use without gRPC too"},
		{"interceptors/audit/durable", module + "policy", "a sink keeps what it is given"},
		{"interceptors/audit/durable", module + "interceptors/internal", "a sink knows nothing of stages"},
		{"interceptors", module + "interceptors/audit/journal", "where records go is the program's choice"},
		{"interceptors/audit/otlpexport", module + "interceptors/internal", "an exporter reads a journal, and knows nothing of stages"},
		{"interceptors/audit/otlpexport", module + "identity", "how the collector is reached is the program's business"},
		{"interceptors/audit/otlpexport", "go.opentelemetry.io/otel/sdk", "what is exported comes from a journal, and passes through no SDK that may drop it"},
		{"interceptors/validate", module, "a primitive knows nothing of stages"},
		{"interceptors/shape", module, "a primitive knows nothing of stages"},
		{"interceptors/ratelimit", module, "a primitive knows nothing of stages"},
		{"interceptors/ratelimit", "github.com/redis", "a limiter over Redis is imported by who wants one"},
		{"interceptors/ratelimit", "google.golang.org", "limits are of use without gRPC too"},
		{"interceptors/ratelimit/redislimit", module + "interceptors/internal", "a store knows nothing of stages"},
		{"interceptors/ratelimit/redislimit", module + "policy", "a store keeps numbers, and knows nothing of rules"},
		{"interceptors/concurrency", module, "a primitive knows nothing of stages"},
		{"interceptors/breaker", module, "a primitive knows nothing of stages"},
		{"interceptors/breaker", "github.com/redis", "sharing over Redis is imported by who wants it"},
		{"interceptors/fault", module, "a primitive knows nothing of stages"},
		{"interceptors/internal/chain", module + "interceptors/validate", "the frame knows no control"},
		{"interceptors", module + "identity/authority", "a program in production must not hold a development authority"},
		{"interceptors", "go.opentelemetry.io/otel/sdk", "which SDK exports spans is the program's business"},
		{"interceptors", "go.opentelemetry.io/otel/exporters", "which exporter sends spans is the program's business"},
		{"interceptors", "go.opentelemetry.io/proto", "export is imported by who wants it"},
		{"interceptors", "github.com/redis", "a limiter over Redis is imported by who wants one"},
		{"interceptors", "github.com/spiffe/go-spiffe/v2/workloadapi", "where SVIDs come from is the program's business"},
		{"interceptors", "github.com/stretchr", "tests' helpers stay in tests"},
		{"interceptors", "flag", "a library has no command line"},
		{"cmd/grpcguard", module + "interceptors/internal", "an auditor's tool reads records, and makes no calls"},
		{"cmd/grpcguard", "google.golang.org/grpc/internal/transport", "an auditor's tool works offline"},
		{"proto/grpcguard/v1", module, "users import the annotations, and nothing else with them"},
	}
	deps := make(map[string][]string)
	for _, tt := range tests {
		if deps[tt.pkg] == nil {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+tt.pkg).Output()
			if err != nil {
				t.Fatal(err)
			}
			deps[tt.pkg] = strings.Fields(string(out))
		}
		for _, dep := range deps[tt.pkg] {
			if dep == module+tt.pkg {
				continue
			}
			if dep == tt.never || strings.HasPrefix(dep, strings.TrimSuffix(tt.never, "/")+"/") {
				t.Errorf("%s imports %s: %s", tt.pkg, dep, tt.why)
			}
		}
	}
}
