// Grpcguard reads what grpcguard keeps. "grpcguard audit" proves, searches and exports a journal of audit records.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
