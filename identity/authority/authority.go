package authority

import (
	"crypto"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Authority is the SPIFFE authority of one trust domain. It is safe for concurrent use.
type Authority struct {
	td      spiffeid.TrustDomain
	x509TTL time.Duration
	jwtTTL  time.Duration
	closed  chan struct{}

	mu        sync.Mutex
	active    *root
	prepared  *root // in the bundle, not signing yet
	jwt       *jwtSigner
	nextJWT   *jwtSigner // in the bundle, not signing yet
	bundle    *spiffebundle.Bundle
	federated map[spiffeid.TrustDomain]*Authority
	followers map[*Authority]bool
	workloads map[spiffeid.ID]*Workload
	endpoints map[*Endpoint]bool
	changed   chan struct{} // closed at each change, and replaced
}

// Option configures [New].
type Option func(*Authority)

// WithX509TTL sets how long X509-SVIDs live. Default: 1 hour. They are replaced at half their life.
func WithX509TTL(ttl time.Duration) Option { return func(a *Authority) { a.x509TTL = ttl } }

// WithJWTTTL sets how long JWT-SVIDs live. Default: 5 minutes.
func WithJWTTTL(ttl time.Duration) Option { return func(a *Authority) { a.jwtTTL = ttl } }

// New returns an authority with a fresh root for td. It lives until Close.
func New(td spiffeid.TrustDomain, opts ...Option) (*Authority, error) {
	if td.IsZero() {
		return nil, errors.New("authority: the trust domain is empty")
	}
	a := &Authority{
		td: td, x509TTL: time.Hour, jwtTTL: 5 * time.Minute,
		closed:    make(chan struct{}),
		bundle:    spiffebundle.New(td),
		federated: make(map[spiffeid.TrustDomain]*Authority),
		followers: make(map[*Authority]bool),
		workloads: make(map[spiffeid.ID]*Workload),
		endpoints: make(map[*Endpoint]bool),
		changed:   make(chan struct{}),
	}
	for _, opt := range opts {
		opt(a)
	}
	if a.x509TTL <= 0 || a.jwtTTL <= 0 {
		return nil, errors.New("authority: a lifetime must be positive")
	}
	var err error
	if a.active, err = newRoot(td); err != nil {
		return nil, err
	}
	if a.jwt, err = newJWTSigner(); err != nil {
		return nil, err
	}
	a.bundle.AddX509Authority(a.active.cert)
	return a, a.bundle.AddJWTAuthority(a.jwt.keyID, a.jwt.key.Public())
}

// TrustDomain returns the authority's trust domain.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.td }

// Bundle returns a copy of the trust bundle as it is now.
func (a *Authority) Bundle() *spiffebundle.Bundle {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle.Clone()
}

// X509Bundle returns the X.509 part of the trust bundle.
func (a *Authority) X509Bundle() *x509bundle.Bundle { return a.Bundle().X509Bundle() }

// JWTBundle returns the JWT part of the trust bundle.
func (a *Authority) JWTBundle() *jwtbundle.Bundle { return a.Bundle().JWTBundle() }

// PrepareCA makes a new root and a new key for JWT-SVIDs and publishes both in the bundle, but does not sign with them yet: a workload
// must not present an SVID whose root others have not heard of, and only the caller knows how long they take to hear.
// ActivateCA comes after that.
func (a *Authority) PrepareCA() error {
	next, err := newRoot(a.td)
	if err != nil {
		return err
	}
	nextJWT, err := newJWTSigner()
	if err != nil {
		return err
	}
	a.mu.Lock()
	if a.prepared != nil {
		a.bundle.RemoveX509Authority(a.prepared.cert)
		a.bundle.RemoveJWTAuthority(a.nextJWT.keyID)
	}
	a.prepared, a.nextJWT = next, nextJWT
	a.bundle.AddX509Authority(next.cert)
	err = a.bundle.AddJWTAuthority(nextJWT.keyID, nextJWT.key.Public())
	a.mu.Unlock()
	a.notify()
	return err
}

// ActivateCA signs with the prepared root and key from now on, and replaces all X509-SVIDs. The old ones stay in the bundle, since
// connections and workloads still use SVIDs that they signed; DropOldCAs ends that.
func (a *Authority) ActivateCA() error {
	a.mu.Lock()
	if a.prepared == nil {
		a.mu.Unlock()
		return errors.New("authority: no CA is prepared")
	}
	a.active, a.prepared = a.prepared, nil
	a.jwt, a.nextJWT = a.nextJWT, nil
	a.mu.Unlock()
	return a.RotateSVIDs()
}

// DropOldCAs takes all roots and keys but those that sign, and the prepared ones, out of the bundle.
func (a *Authority) DropOldCAs() {
	a.mu.Lock()
	keep := []*x509.Certificate{a.active.cert}
	keys := map[string]crypto.PublicKey{a.jwt.keyID: a.jwt.key.Public()}
	if a.prepared != nil {
		keep = append(keep, a.prepared.cert)
		keys[a.nextJWT.keyID] = a.nextJWT.key.Public()
	}
	a.bundle.SetX509Authorities(keep)
	a.bundle.SetJWTAuthorities(keys)
	a.mu.Unlock()
	a.notify()
}

// RotateSVIDs replaces the X509-SVIDs of all workloads now.
func (a *Authority) RotateSVIDs() error {
	a.mu.Lock()
	all := make([]*Workload, 0, len(a.workloads))
	for _, w := range a.workloads {
		all = append(all, w)
	}
	a.mu.Unlock()
	var errs []error
	for _, w := range all {
		errs = append(errs, w.rotate())
	}
	a.notify()
	return errors.Join(errs...)
}

// Federate gives a's workloads the bundle of b, and its later changes. It is one way: b's workloads trust a's only after
// b.Federate(a).
func (a *Authority) Federate(b *Authority) error {
	if b == nil || b.td == a.td {
		return errors.New("authority: an authority federates with one of another trust domain")
	}
	a.mu.Lock()
	old := a.federated[b.td]
	a.federated[b.td] = b
	a.mu.Unlock()
	if old != nil && old != b {
		old.unfollow(a)
	}
	b.mu.Lock()
	b.followers[a] = true
	b.mu.Unlock()
	a.notify()
	return nil
}

// Unfederate takes the bundle of td away from a's workloads.
func (a *Authority) Unfederate(td spiffeid.TrustDomain) {
	a.mu.Lock()
	b := a.federated[td]
	delete(a.federated, td)
	a.mu.Unlock()
	if b != nil {
		b.unfollow(a)
	}
	a.notify()
}

func (a *Authority) unfollow(follower *Authority) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.followers, follower)
}

// bundles returns the bundles that a's workloads trust, and a channel that is closed when that changes. Other authorities are
// asked without a's lock, so that two that federate with each other cannot wait for each other.
func (a *Authority) bundles() (own *spiffebundle.Bundle, federated []*spiffebundle.Bundle, changed <-chan struct{}) {
	a.mu.Lock()
	own, changed = a.bundle.Clone(), a.changed
	others := make([]*Authority, 0, len(a.federated))
	for _, b := range a.federated {
		others = append(others, b)
	}
	a.mu.Unlock()
	for _, b := range others {
		federated = append(federated, b.Bundle())
	}
	return own, federated, changed
}

// notify wakes everybody who waits for a change, here and at the authorities that follow this one.
func (a *Authority) notify() {
	for _, each := range append(a.followersNow(), a) {
		each.mu.Lock()
		close(each.changed)
		each.changed = make(chan struct{})
		each.mu.Unlock()
	}
}

func (a *Authority) followersNow() []*Authority {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*Authority, 0, len(a.followers)+1)
	for f := range a.followers {
		all = append(all, f)
	}
	return all
}

// Close ends all endpoints and rotations. It may be called more than once.
func (a *Authority) Close() error {
	a.mu.Lock()
	select {
	case <-a.closed:
		a.mu.Unlock()
		return nil
	default:
	}
	close(a.closed)
	for _, w := range a.workloads {
		w.stop()
	}
	open := make([]*Endpoint, 0, len(a.endpoints))
	for e := range a.endpoints {
		open = append(open, e)
	}
	a.mu.Unlock()
	var errs []error
	for _, e := range open {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
