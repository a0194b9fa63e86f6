package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/policy"
)

const domain = "spiffe://bank.example/"

// lifetime is how long SVIDs live: short enough that they are replaced several times while the demo runs.
const lifetime = 20 * time.Second

// bank is the running bank.
type bank struct {
	dir, sources string
	authority    *authority.Authority
	partner      *authority.Authority
	policy       *policy.Policy
	processes    map[string]*process
	books        map[string]*book // workload -> its journal
	sources509   map[string]*workloadapi.X509Source
	sockets      map[string]string // workload -> address of its Workload API
}

// process is one service.
type process struct {
	name  string
	addr  string
	book  *book
	spans string
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// open builds and starts everything. What it started it stops again if something fails.
func open(ctx context.Context, dir, sources string) (b *bank, err error) {
	b = &bank{dir: dir, sources: sources, processes: make(map[string]*process), books: make(map[string]*book), sources509: make(map[string]*workloadapi.X509Source), sockets: make(map[string]string)}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err := b.build(ctx); err != nil {
		return b, err
	}
	if b.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("bank.example"), authority.WithX509TTL(lifetime)); err != nil {
		return b, err
	}
	if b.partner, err = authority.New(spiffeid.RequireTrustDomainFromString("partner.example")); err != nil {
		return b, err
	}
	if err := b.newSensitiveKey(); err != nil {
		return b, err
	}
	if b.policy, err = service.LoadPolicy(filepath.Join(sources, "policy.yaml")); err != nil {
		return b, err
	}
	for _, start := range []struct {
		name  string
		needs []string
	}{
		{"account", nil}, {"ledger", []string{"account"}}, {"payment", []string{"account", "ledger"}}, {"admin", nil},
	} {
		if err := b.start(ctx, start.name, start.needs); err != nil {
			return b, fmt.Errorf("%s: %w", start.name, err)
		}
	}
	return b, nil
}

func (b *bank) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.dir+"/bin/", "./account", "./ledger", "./payment", "./admin", "./teller")
	cmd.Dir = b.sources
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// socket serves the Workload API for one workload and returns its address.
func (b *bank) socket(name string) (string, error) {
	if addr := b.sockets[name]; addr != "" {
		return addr, nil
	}
	e, err := b.authority.ServeWorkloadAPI(filepath.Join(b.dir, "s", strings.ReplaceAll(name, "/", "-")), spiffeid.RequireFromString(domain+name))
	if err != nil {
		return "", err
	}
	b.sockets[name] = e.Addr()
	return e.Addr(), nil
}

// command prepares a process of the bank, which learns its identity from nothing but its socket.
func (b *bank) command(ctx context.Context, program, workload string, args ...string) (*exec.Cmd, error) {
	socket, err := b.socket(workload)
	if err != nil {
		return nil, err
	}
	kept, err := b.book(workload)
	if err != nil {
		return nil, err
	}
	args = append([]string{
		"-policy", "policy.yaml", "-spans", b.file(workload, "spans"),
		"-journal", kept.dir, "-journal-key", kept.key, "-sensitive-key", b.sensitiveKey(),
	}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "bin", program), args...)
	cmd.Dir = b.sources
	cmd.Env = append(os.Environ(), "SPIFFE_ENDPOINT_SOCKET="+socket)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

func (b *bank) file(workload, kind string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(workload, "/", "-")+"."+kind)
}

// start starts a service. One that was there before is there again, at the same address and with the same journal.
func (b *bank) start(ctx context.Context, name string, needs []string) error {
	var args []string
	if before := b.processes[name]; before != nil {
		args = append(args, "-listen", before.addr)
	}
	for _, need := range needs {
		args = append(args, "-"+need, b.processes[need].addr)
	}
	if name == "account" {
		args = append(args, "-chaos")
	}
	cmd, err := b.command(ctx, name, name, args...)
	if err != nil {
		return err
	}
	p := &process{name: name, cmd: cmd, book: b.books[name], spans: b.file(name, "spans")}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.processes[name] = p
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return errors.New("it did not start")
	}
	p.addr = strings.TrimSpace(line)
	return nil
}

// source returns what a workload reads from the Workload API, by go-spiffe's own client.
func (b *bank) source(ctx context.Context, name string) (*workloadapi.X509Source, error) {
	if s := b.sources509[name]; s != nil {
		return s, nil
	}
	socket, err := b.socket(name)
	if err != nil {
		return nil, err
	}
	s, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket)))
	if err != nil {
		return nil, err
	}
	b.sources509[name] = s
	return s, nil
}

// told is what the teller program prints.
type told struct {
	TraceID string `json:"trace_id"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// teller runs the teller program.
func (b *bank) teller(ctx context.Context, args ...string) (told, error) {
	var t told
	cmd, err := b.command(ctx, "teller", "teller", append([]string{
		"-payment", b.processes["payment"].addr, "-ledger", b.processes["ledger"].addr, "-account", b.processes["account"].addr,
	}, args...)...)
	if err != nil {
		return t, err
	}
	out, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("teller: %w", err)
	}
	return t, json.Unmarshal(out, &t)
}

// stay tells how to reach the bank, and waits until the demo is interrupted.
func (b *bank) stay(ctx context.Context, w io.Writer) error {
	for _, workload := range []string{"teller", "auditor", "operator", "stranger"} {
		addr, err := b.socket(workload)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "SPIFFE_ENDPOINT_SOCKET=%s  # %s%s\n", addr, domain, workload)
	}
	for _, p := range b.processes {
		fmt.Fprintf(w, "%s is at %s\n", p.name, p.addr)
	}
	b.howToLook(w)
	<-ctx.Done()
	return nil
}

// close stops what was started, each process by the end of its standard input and, if that takes long, by a signal.
func (b *bank) close() {
	for _, p := range b.processes {
		_ = p.stdin.Close()
		killer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		_ = p.cmd.Wait()
		killer.Stop()
	}
	for _, kept := range b.books {
		kept.follower.Close()
	}
	for _, s := range b.sources509 {
		_ = s.Close()
	}
	for _, a := range []*authority.Authority{b.authority, b.partner} {
		if a != nil {
			_ = a.Close()
		}
	}
}
