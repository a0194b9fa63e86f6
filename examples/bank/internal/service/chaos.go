package service

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/grpcguard/grpcguard/interceptors/fault"
)

// obey reads r to its end. Where there is an injector, a line is a method and a caller whose calls fail from then on; an empty line
// ends all faults.
func obey(r io.Reader, faults *fault.Injector) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if faults == nil {
			continue
		}
		var all []fault.Fault
		if method, caller, ok := strings.Cut(lines.Text(), " "); ok {
			all = append(all, fault.Fault{Method: method, Caller: caller, Share: 1, Code: codes.Unavailable})
		}
		if err := faults.Set(all...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// Health has s say that it is well, to those whom the policy lets ask.
func Health(s *grpc.Server) { healthv1.RegisterHealthServer(s, health.NewServer()) }
