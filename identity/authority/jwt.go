package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

type jwtSigner struct {
	key   *ecdsa.PrivateKey
	keyID string
}

func newJWTSigner() (*jwtSigner, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return &jwtSigner{key: key, keyID: rand.Text()}, nil
}

// MintJWTSVID mints a JWT-SVID for id (JWT-SVID specification, sections 2 and 3), signed with ES256. It needs an audience.
func (a *Authority) MintJWTSVID(id spiffeid.ID, audience ...string) (string, error) {
	if err := a.serves(id); err != nil {
		return "", err
	}
	if len(audience) == 0 {
		return "", errors.New("authority: a JWT-SVID needs an audience")
	}
	a.mu.Lock()
	with := a.jwt
	a.mu.Unlock()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: with.key, KeyID: with.keyID}},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return "", fmt.Errorf("authority: %w", err)
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Subject:  id.String(),
		Audience: audience,
		Expiry:   jwt.NewNumericDate(now.Add(a.jwtTTL)),
		IssuedAt: jwt.NewNumericDate(now),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("authority: %w", err)
	}
	return token, nil
}

// validateJWT checks a token against the bundles that a's workloads trust.
func (a *Authority) validateJWT(token, audience string) (*jwtsvid.SVID, error) {
	own, federated, _ := a.bundles()
	set := jwtbundle.NewSet(own.JWTBundle())
	for _, b := range federated {
		set.Add(b.JWTBundle())
	}
	return jwtsvid.ParseAndValidate(token, set, []string{audience})
}
