// Package service is how every process of the bank starts, serves and stops.
package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/fault"
	"github.com/grpcguard/grpcguard/policy"
)

// Process is one process of the bank, with its identity, its policy and where its records and spans go.
type Process struct {
	Policy *policy.Policy

	source    *workloadapi.X509Source
	sink      audit.Sink
	records   io.Closer
	telemetry *telemetry
	options   Flags
	client    *interceptors.Client
	conns     []*grpc.ClientConn
}

// Flags are what a process is told by whoever starts it.
type Flags struct {
	Policy, Spans, Listen string

	Records Records

	// Chaos is off unless whoever starts the process says otherwise: then lines on its standard input break and mend it.
	Chaos bool
	// Server and Client are further options of the process's own.
	Server []interceptors.ServerOption
	Client []interceptors.ClientOption
}

// Register adds the flags to the process's command line.
func (f *Flags) Register() {
	flag.StringVar(&f.Policy, "policy", "policy.yaml", "the policy `file`")
	f.Records.register()
	flag.StringVar(&f.Spans, "spans", os.DevNull, "the `file` that spans are appended to")
	flag.StringVar(&f.Listen, "listen", "127.0.0.1:0", "the `address` to serve on")
	flag.BoolVar(&f.Chaos, "chaos", false, "take faults to inject from standard input")
}

// Start fetches this process's SVID from the Workload API that SPIFFE_ENDPOINT_SOCKET names, and reads the policy. Everything
// that could be wrong is wrong here, before the first call.
func Start(ctx context.Context, f Flags) (*Process, error) {
	p := &Process{options: f}
	var err error
	if p.Policy, err = LoadPolicy(f.Policy); err != nil {
		return nil, err
	}
	if p.telemetry, err = newTelemetry(f.Spans); err != nil {
		return nil, err
	}
	if p.source, err = workloadapi.NewX509Source(ctx); err != nil {
		return nil, fmt.Errorf("no identity: %w", err)
	}
	if p.sink, p.records, err = f.Records.open(); err != nil {
		return nil, err
	}
	p.client, err = interceptors.NewClient(p.Policy, p.source, p.sink, append(f.Client, p.telemetry.guard())...)
	return p, err
}

// LoadPolicy compiles the bank's policy: all of its services share one file. Health and reflection, which the file names too,
// are found because this package imports them.
func LoadPolicy(path string) (*policy.Policy, error) {
	return policy.Load(path, bankv1.File_bank_v1_payment_proto, bankv1.File_bank_v1_account_proto,
		bankv1.File_bank_v1_ledger_proto, bankv1.File_bank_v1_admin_proto)
}

// Dial connects to a callee of the policy; whoever answers at addr must prove to be it.
func (p *Process) Dial(callee, addr string) (*grpc.ClientConn, error) {
	opts, err := p.client.DialOptions(callee)
	if err != nil {
		return nil, err
	}
	cc, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err == nil {
		p.conns = append(p.conns, cc)
	}
	return cc, err
}

// Serve serves on an address that it prints, by default a port of its own, until standard input ends. Whoever started the process
// holds the other end, so the process cannot outlive it.
func (p *Process) Serve(register func(*grpc.Server)) error {
	options, err := p.options.Records.guard()
	if err != nil {
		return err
	}
	options = append(append(options, p.options.Server...), p.telemetry.guard())
	var faults *fault.Injector
	if p.options.Chaos {
		if faults, err = fault.New(); err != nil {
			return err
		}
		options = append(options, interceptors.WithFaults(faults))
	}
	guard, err := interceptors.NewServer(p.Policy, p.source, p.sink, options...)
	if err != nil {
		return err
	}
	srv := grpc.NewServer(guard.ServerOptions()...)
	register(srv)
	reflection.Register(srv)
	if err := guard.Covers(srv); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", p.options.Listen)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		obey(os.Stdin, faults)
		srv.Stop()
	}()
	err = srv.Serve(listener)
	// Records of calls that ended with the server may still be on their way.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, guard.Close(ctx))
}

// Close lets go of everything: connections, then the guard of the client, then the journal that it and the server's write to.
func (p *Process) Close() error {
	var errs []error
	for _, cc := range p.conns {
		errs = append(errs, cc.Close())
	}
	p.client.Close()
	return errors.Join(append(errs, p.records.Close(), p.source.Close(), p.telemetry.close())...)
}

// Main runs a process of the bank: start, body, close. A process that cannot do its work says why and exits with 1.
func Main(f Flags, body func(ctx context.Context, p *Process) error) {
	ctx := context.Background()
	p, err := Start(ctx, f)
	if err == nil {
		err = errors.Join(body(ctx, p), p.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
