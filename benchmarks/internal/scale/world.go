package scale

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// world is who signs, who serves, and what callers are called.
type world struct {
	authority *authority.Authority
	server    *authority.Workload
	file      *policy.File
}

var trustDomain = spiffeid.RequireTrustDomainFromString("scale.example")

// fleet binds the name that rules use to all callers that connections have, and gives the method that they call two rate limits.
const fleet = `
names: {caller: {spiffe_ids: ["spiffe://scale.example/fleet/*"]}}
methods:
  /bench.v1.TransferService/TransferPlain:
    rate_limits:
      - {requests: 1000000, per: 1s, key: [KEY_CALLER]}
      - {requests: 1000000, per: 1s, key: [KEY_METHOD]}
`

// oneCaller binds the name to one caller.
const oneCaller = `names: {caller: {spiffe_ids: ["spiffe://scale.example/caller"]}}`

func newWorld(bindings string) (*world, error) {
	a, err := authority.New(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	w := &world{authority: a}
	if w.server, err = a.Workload(id("/server")); err == nil {
		w.file, err = policy.ParseFile("policy.yaml", []byte(bindings))
	}
	if err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("scale: %w", err)
	}
	return w, nil
}

func (w *world) close() { _ = w.authority.Close() }

func id(path string) spiffeid.ID {
	return spiffeid.RequireFromPath(trustDomain, path)
}

// guard returns a guard with all that it does by itself, without telemetry, which has memory of its own, and without records.
func (w *world) guard(p *policy.Policy) (*interceptors.Server, error) {
	g, err := interceptors.NewServer(p, w.server, audit.Discard, interceptors.Telemetry{Off: true})
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	return g, nil
}
