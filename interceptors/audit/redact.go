package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// minKey is the shortest key that a Redactor takes, in bytes.
const minKey = 32

// Redactor stands in for values that records must not hold. The same value has the same stand-in wherever it appears, so that records
// can be matched; only who has the key can tell what it is of. It is safe for concurrent use.
type Redactor struct {
	key    []byte
	prefix string
}

// NewRedactor returns a Redactor whose HMAC-SHA-256 (RFC 2104) is keyed with key: 32 random bytes or more.
func NewRedactor(key []byte) (*Redactor, error) {
	if len(key) < minKey {
		return nil, fmt.Errorf("audit: the key for sensitive fields has %d bytes, and needs %d", len(key), minKey)
	}
	r := &Redactor{key: append([]byte(nil), key...)}
	// The name of the key is an HMAC like those of values, of something that is no value.
	r.prefix = "hmac:" + hex.EncodeToString(r.sum("key\x00", ""))[:8] + ":"
	return r, nil
}

// Text returns what stands for a value: "hmac:", 8 hexadecimal digits that name the key, ":", and the HMAC in hexadecimal. Of an empty
// value it is empty.
func (r *Redactor) Text(value string) string {
	if value == "" {
		return ""
	}
	return r.prefix + hex.EncodeToString(r.sum("value\x00", value))
}

func (r *Redactor) sum(of, value string) []byte {
	h := hmac.New(sha256.New, r.key)
	h.Write([]byte(of))
	h.Write([]byte(value))
	return h.Sum(nil)
}
