package interceptors

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
)

// Covers returns an error that names every method registered with srv that has no rule, and says where to write one. Such
// methods are denied anyway; a server that has any should not start. Call it after all services are registered.
func (s *Server) Covers(srv interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}) error {
	var missing []string
	for service, info := range srv.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			rule := s.policy.Rule(method)
			switch {
			case rule == nil:
				missing = append(missing, s.policy.Missing(method))
			case rule.ClientStreams() != m.IsClientStream || rule.ServerStreams() != m.IsServerStream:
				missing = append(missing, method+" is registered as another kind of call than its descriptor says")
			}
		}
	}
	slices.Sort(missing)
	errs := make([]error, len(missing))
	for i, text := range missing {
		errs[i] = fmt.Errorf("interceptors: %s", text)
	}
	return errors.Join(errs...)
}
