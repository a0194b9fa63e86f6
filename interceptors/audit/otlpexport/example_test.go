//go:build unix

package otlpexport_test

import (
	"context"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit/otlpexport"
)

// A service, or a process beside it, exports the journal in a folder over mTLS, until it is told to end.
func Example() { //nolint:testableexamples // it is compiled; what it talks to is elsewhere
	export := func(ctx context.Context, source identity.Source, verifier note.Verifier, collector spiffeid.ID) error {
		conn, err := grpc.NewClient("collector.bank.example:4317",
			grpc.WithTransportCredentials(identity.NewClientCredentials(source, spiffeid.MatchID(collector))))
		if err != nil {
			return err
		}
		defer conn.Close()
		exporter, err := otlpexport.New("/var/lib/ledger/journal", verifier, conn, otlpexport.Options{
			Cursor:      "/var/lib/ledger/export.cursor",
			ServiceName: "ledger", // as in the program's traces
			Trouble:     func(err error) { slog.Error("export", "error", err) },
		})
		if err != nil {
			return err
		}
		defer exporter.Close()
		return exporter.Run(ctx)
	}
	_ = export
}
