package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
)

// minted is an identity that the authority made once and does not rotate.
type minted struct {
	identity.Source

	svid *x509svid.SVID
}

func (m minted) GetX509SVID() (*x509svid.SVID, error) { return m.svid, nil }

// identities are callers who cannot prove who they are.
func (d *day) identities(ctx context.Context) error {
	teller := spiffeid.RequireFromString(domain + "teller")
	source, err := d.bank.source(ctx, "teller")
	if err != nil {
		return err
	}
	mint := func(a *authority.Authority, id string, opts ...authority.MintOption) minted {
		svid, mintErr := a.MintX509SVID(spiffeid.RequireFromString(id), opts...)
		err = errors.Join(err, mintErr)
		return minted{source, svid}
	}
	other, err := url.Parse(domain + "auditor")
	if err != nil {
		return err
	}
	const partner = "spiffe://partner.example/teller"
	forge, forgeErr := authority.New(spiffeid.RequireTrustDomainFromString("bank.example"))
	if forgeErr != nil {
		return forgeErr
	}
	defer forge.Close()
	const refused = "handshake refused"
	attempts := []attempt{
		{id: "nobody", creds: credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), what: "no certificate", want: refused, why: "didn't provide a certificate"},
		{id: "nobody", creds: insecure.NewCredentials(), what: "no TLS", want: refused, why: "does not look like a TLS handshake"},
		{id: "teller, TLS 1.2", creds: tls12(source), what: "a valid SVID over TLS 1.2", want: refused, why: "unsupported version"},
		{id: partner, source: mint(d.bank.partner, partner), what: "a foreign trust domain", want: refused, why: "could not get X509 bundle"},
		{id: "teller, forged", source: mint(forge, teller.String()), what: "an SVID of another authority for the same name", want: refused, why: "unknown authority"},
		{id: "teller, expired", source: mint(d.bank.authority, teller.String(), authority.WithNotAfter(time.Now().Add(-time.Minute))), what: "an SVID that has expired", want: refused, why: "has expired"},
		{id: "teller and auditor", source: mint(d.bank.authority, teller.String(), authority.WithTemplate(func(c *x509.Certificate) { c.URIs = append(c.URIs, other) })), what: "an SVID with two SPIFFE IDs", want: refused, why: "more than one URI SAN"},
		{id: "teller, signing", source: mint(d.bank.authority, teller.String(), authority.WithTemplate(func(c *x509.Certificate) { c.IsCA = true })), what: "an SVID that is a CA", want: refused, why: "CA flag"},
		{id: "bank.example", source: mint(d.bank.authority, teller.String(), authority.WithTemplate(func(c *x509.Certificate) { c.URIs = []*url.URL{teller.TrustDomain().ID().URL()} })), what: "a trust domain for a workload", want: refused, why: "not a workload"},
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range attempts {
		a.to, a.method, a.message = "payment", pay, order(1)
		errs = append(errs, d.call(ctx, a))
	}
	return errors.Join(append(errs, d.federated(ctx, mint(d.bank.partner, partner), partner), d.expiring(ctx, source, teller), d.wrongCallee(ctx))...)
}

// tls12 presents the teller's SVID in the old way.
func tls12(source identity.Source) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			svid, err := source.GetX509SVID()
			if err != nil {
				return nil, err
			}
			return &tls.Certificate{PrivateKey: svid.PrivateKey, Certificate: [][]byte{svid.Certificates[0].Raw}}, nil
		},
	})
}

// federated is a partner whose identity the bank accepts: it may connect, and still call nothing.
func (d *day) federated(ctx context.Context, source identity.Source, id string) error {
	if err := d.bank.authority.Federate(d.bank.partner); err != nil {
		return err
	}
	return d.call(ctx, attempt{
		id: id, source: source, to: "payment", method: pay, message: order(1), opts: []grpc.CallOption{grpc.WaitForReady(true)},
		what: "a federated trust domain: known, not allowed", want: "PermissionDenied", why: "caller-not-listed",
	})
}

// expiring is a connection that outlives the SVID that opened it.
func (d *day) expiring(ctx context.Context, source identity.Source, teller spiffeid.ID) error {
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	svid, err := d.bank.authority.MintX509SVID(teller, authority.WithNotAfter(end))
	if err != nil {
		return err
	}
	a := attempt{id: "teller, expiring", source: minted{source, svid}, to: "payment", method: pay}
	cc, err := d.connect(ctx, &a)
	if err != nil {
		return err
	}
	defer cc.Close()
	a.message, a.what, a.want, a.why = order(1), "pays while its SVID is valid", "OK", "caller-allowed"
	first := d.callOn(ctx, cc, a)
	select {
	case <-time.After(time.Until(end) + 10*time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	a.message, a.what, a.want, a.why = order(1), "pays again, on the same connection, when it is not", "Unauthenticated", "identity-expired"
	return errors.Join(first, d.callOn(ctx, cc, a))
}

// wrongCallee is a client that finds somebody else at the address: it is the one that refuses.
func (d *day) wrongCallee(ctx context.Context) error {
	source, err := d.bank.source(ctx, "payment")
	if err != nil {
		return err
	}
	ledger := spiffeid.MatchID(spiffeid.RequireFromString(domain + "ledger"))
	cc, err := grpc.NewClient("passthrough:///"+d.bank.processes["account"].addr, grpc.WithTransportCredentials(identity.NewClientCredentials(source, ledger)))
	if err != nil {
		return err
	}
	defer cc.Close()
	err = cc.Invoke(ctx, "/bank.v1.LedgerService/PostTransfer", order(1), order(1))
	got := status.Code(err).String()
	if status.Code(err) == codes.Unavailable {
		got = "handshake refused"
	}
	d.table.add(row{
		who: domain + "payment", what: "expects the ledger, finds the account service", want: "handshake refused", got: got,
		wantWhy: "unexpected ID", why: status.Convert(err).Message(),
	})
	return nil
}
