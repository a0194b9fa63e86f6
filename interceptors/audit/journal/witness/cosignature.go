package witness

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// cosignatureV1 is the algorithm of C2SP tlog-cosignature: Ed25519 over a line that says so, the time, and the checkpoint.
const cosignatureV1 = 4

type cosignature struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// NewVerifier reads the key of a witness, "name+hash+base64" with the algorithm cosignature/v1.
func NewVerifier(vkey string) (note.Verifier, error) { //nolint:ireturn // as note.NewVerifier does
	name, rest, _ := strings.Cut(vkey, "+")
	hash, encoded, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || name == "" || strings.ContainsAny(name, " \n\t") || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignatureV1 {
		return nil, fmt.Errorf("witness: %q is no key of a cosignature/v1", vkey)
	}
	v := cosignature{name: name, hash: keyHash(name, key), key: key[1:]}
	if given, err := strconv.ParseUint(hash, 16, 32); err != nil || len(hash) != 8 || uint32(given) != v.hash {
		return nil, fmt.Errorf("witness: the key %q should have the hash %08x", vkey, v.hash)
	}
	return v, nil
}

func keyHash(name string, key []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return binary.BigEndian.Uint32(sum[:])
}

func (c cosignature) Name() string    { return c.name }
func (c cosignature) KeyHash() uint32 { return c.hash }

// Verify checks a cosignature over a checkpoint's text: eight bytes of time, and the signature.
func (c cosignature) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(signature)
	return at <= 1<<63-1 && ed25519.Verify(c.key, cosigned(at, text), signature[8:])
}

func cosigned(at uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}
