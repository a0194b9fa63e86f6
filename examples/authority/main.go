// Authority serves the SPIFFE Workload API for development: one socket for each workload, named on the command line. Whoever can open
// a workload's socket is that workload. In production a SPIRE agent takes its place, and no program knows the difference.
//
//	go run github.com/grpcguard/grpcguard/examples/authority -domain example.org greeter web
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/identity/authority"
)

func main() {
	domain := flag.String("domain", "example.org", "the `trust domain`")
	dir := flag.String("dir", filepath.Join(os.TempDir(), "spiffe"), "the `folder` of the sockets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *domain, *dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "authority:", err)
		os.Exit(1)
	}
}

// serve serves until ctx is done.
func serve(ctx context.Context, domain, dir string, workloads []string) error {
	td, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return err
	}
	a, err := authority.New(td)
	if err != nil {
		return err
	}
	defer a.Close()
	for _, name := range workloads {
		id, err := spiffeid.FromPathf(td, "/%s", name)
		if err != nil {
			return err
		}
		endpoint, err := a.ServeWorkloadAPI(filepath.Join(dir, name), id)
		if err != nil {
			return err
		}
		fmt.Printf("SPIFFE_ENDPOINT_SOCKET=%s  # %s\n", endpoint.Addr(), id)
	}
	<-ctx.Done()
	return nil
}
