// Svid writes this workload's X509-SVID, its key and the trust bundle as PEM files into a folder, for tools that read files, such
// as grpcurl. Who this workload is, is the business of the Workload API that SPIFFE_ENDPOINT_SOCKET names.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: svid FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "svid:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all, err := workloadapi.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	svid := all.DefaultSVID()
	cert, key, err := svid.Marshal()
	if err != nil {
		return err
	}
	own, err := all.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	bundle, err := own.Marshal()
	if err != nil {
		return err
	}
	fmt.Printf("%s, valid until %s\n", svid.ID, svid.Certificates[0].NotAfter.Format(time.RFC3339))
	return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "svid.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600), os.WriteFile(filepath.Join(dir, "bundle.pem"), bundle, 0o600))
}
