package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
)

// minRedactorKey is the length of a key below which a guess could find it.
const minRedactorKey = 32

// Redactor makes keyed HMACs of sensitive values, for records. It is safe for concurrent use.
type Redactor struct {
	prefix string
	macs   sync.Pool
}

// NewRedactor returns a Redactor with a key of at least 32 bytes, which should be random.
func NewRedactor(key []byte) (*Redactor, error) {
	if len(key) < minRedactorKey {
		return nil, fmt.Errorf("a key for sensitive values has at least %d bytes, and this one has %d", minRedactorKey, len(key))
	}
	key = slices.Clone(key)
	r := &Redactor{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
	// The name is a MAC of something that no value is: values have a prefix. It tests a guess at the key as any record of a value that is
	// known does, and with fewer bits.
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, "name")
	r.prefix = "hmac:" + hex.EncodeToString(mac.Sum(nil)[:4]) + ":"
	return r, nil
}

// Text returns what a record has in place of value: "hmac:", 8 hexadecimal digits that name the key, a colon, and the HMAC-SHA-256 of
// "value:" and the value in hexadecimal. Equal values have equal texts, whatever field they are in. What is absent stays so: the text
// of "" is "".
func (r *Redactor) Text(value string) string {
	if value == "" {
		return ""
	}
	mac, ok := r.macs.Get().(hash.Hash)
	if !ok {
		panic("audit: the pool holds only hashes")
	}
	mac.Reset()
	_, _ = io.WriteString(mac, "value:")
	_, _ = io.WriteString(mac, value)
	var sum [sha256.Size]byte
	text := hex.AppendEncode([]byte(r.prefix), mac.Sum(sum[:0]))
	r.macs.Put(mac)
	return string(text)
}
