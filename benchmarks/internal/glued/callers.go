package glued

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/authz"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// newCallers returns grpc-go's authorization of callers to all methods of services. Whoever is not listed is denied.
func newCallers(callers []spiffeid.ID, services []string) (*authz.StaticInterceptor, error) {
	type source struct {
		Principals []string `json:"principals"`
	}
	type request struct {
		Paths []string `json:"paths"`
	}
	type rule struct {
		Name    string  `json:"name"`
		Source  source  `json:"source"`
		Request request `json:"request"`
	}
	allow := rule{Name: "callers"}
	for _, c := range callers {
		allow.Source.Principals = append(allow.Source.Principals, c.String())
	}
	for _, s := range services {
		allow.Request.Paths = append(allow.Request.Paths, "/"+s+"/*")
	}
	if len(allow.Source.Principals) == 0 || len(allow.Request.Paths) == 0 {
		return nil, fmt.Errorf("glued: a rule of %d callers and %d services would allow everybody or everything", len(callers), len(services))
	}
	text, err := json.Marshal(map[string]any{"name": "services", "allow_rules": []rule{allow}})
	if err != nil {
		return nil, err
	}
	return authz.NewStatic(string(text))
}

// callerOf returns the SPIFFE ID of whoever calls, or "" when nobody knows.
func callerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || info.SPIFFEID == nil {
		return ""
	}
	return info.SPIFFEID.String()
}
