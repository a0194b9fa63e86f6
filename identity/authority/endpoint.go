package authority

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
)

// Endpoint serves the SPIFFE Workload API to one workload.
type Endpoint struct {
	authority *Authority
	path      string
	server    *grpc.Server
	done      chan struct{}
	once      sync.Once
	err       error
}

// maxSocketPath is what Linux and the BSDs have in common for the path of a Unix socket.
const maxSocketPath = 103

// ServeWorkloadAPI serves the Workload API for the workload with the given ID on a Unix socket at path. Whoever can open the
// socket is that workload, so only this user can: the socket gets mode 0600, and its folder, if it is made here, 0700. A
// socket that nobody answers on is replaced; one that somebody answers on is an error.
func (a *Authority) ServeWorkloadAPI(path string, id spiffeid.ID) (*Endpoint, error) {
	w, err := a.Workload(id)
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("authority: the socket path %q has %d bytes; at most %d work", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("authority: %w", err), listener.Close())
	}
	e := &Endpoint{
		authority: a, path: path, done: make(chan struct{}),
		server: grpc.NewServer(grpc.UnaryInterceptor(checkHeader), grpc.StreamInterceptor(checkStreamHeader)),
	}
	workload.RegisterSpiffeWorkloadAPIServer(e.server, &workloadAPI{authority: a, workload: w})
	a.mu.Lock()
	select {
	case <-a.closed:
		a.mu.Unlock()
		return nil, errors.Join(fmt.Errorf("authority: %s is closed", a.td), listener.Close())
	default:
	}
	a.endpoints[e] = true
	a.mu.Unlock()
	go func() {
		defer close(e.done)
		e.err = e.server.Serve(listener)
	}()
	return e, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("authority: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("authority: %q is there and is not a socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if c, err := dialer.DialContext(context.Background(), "unix", path); err == nil {
		return errors.Join(fmt.Errorf("authority: the socket %q is in use", path), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	return nil
}

// Addr returns the endpoint's address in the form that SPIFFE_ENDPOINT_SOCKET takes.
func (e *Endpoint) Addr() string { return "unix://" + e.path }

// Close ends the streams of the endpoint and removes its socket. It may be called more than once.
func (e *Endpoint) Close() error {
	e.once.Do(func() {
		e.server.Stop()
		<-e.done
		e.authority.mu.Lock()
		delete(e.authority.endpoints, e)
		e.authority.mu.Unlock()
		if errors.Is(e.err, grpc.ErrServerStopped) {
			e.err = nil
		}
	})
	return e.err
}
