package authority

import (
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Workload is one workload's identity, always current. It is a source of X509-SVIDs and of X.509 bundles for programs and tests
// that are in the same process as the authority and need no socket. It is safe for concurrent use.
type Workload struct {
	authority *Authority
	id        spiffeid.ID

	mu    sync.Mutex
	svid  *x509svid.SVID
	timer *time.Timer
	ended bool
}

// Workload returns the workload with the given ID, the same one each time. Its X509-SVID is replaced at half its life.
func (a *Authority) Workload(id spiffeid.ID) (*Workload, error) {
	if err := a.serves(id); err != nil {
		return nil, err
	}
	a.mu.Lock()
	w := a.workloads[id]
	a.mu.Unlock()
	if w != nil {
		return w, nil
	}
	w = &Workload{authority: a, id: id}
	if err := w.rotate(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.closed:
		w.stop()
		return nil, fmt.Errorf("authority: %s is closed", a.td)
	default:
	}
	if other := a.workloads[id]; other != nil {
		w.stop()
		return other, nil
	}
	a.workloads[id] = w
	return w, nil
}

// ID returns the workload's SPIFFE ID.
func (w *Workload) ID() spiffeid.ID { return w.id }

// GetX509SVID returns the workload's X509-SVID.
func (w *Workload) GetX509SVID() (*x509svid.SVID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.svid, nil
}

// GetX509BundleForTrustDomain returns the bundle of the authority's own trust domain, or of one it federates with.
func (w *Workload) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	own, federated, _ := w.authority.bundles()
	for _, b := range append(federated, own) {
		if b.TrustDomain() == td {
			return b.X509Bundle(), nil
		}
	}
	return nil, fmt.Errorf("authority: no bundle for trust domain %q", td)
}

func (w *Workload) rotate() error {
	svid, err := w.authority.MintX509SVID(w.id)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	w.svid = svid
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(w.authority.x509TTL/2, func() {
		// A failure here is one of the random source; the SVID that there is stays, and expires for all to see.
		if err := w.rotate(); err == nil {
			w.authority.notify()
		}
	})
	return nil
}

func (w *Workload) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
