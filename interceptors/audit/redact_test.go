package audit_test

import (
	"bytes"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// The text was made with openssl dgst -sha256 -mac HMAC.
func TestRedactedTexts(t *testing.T) {
	t.Parallel()
	r, err := audit.NewRedactor(bytes.Repeat([]byte("a"), 32))
	if err != nil {
		t.Fatal(err)
	}
	const want = "hmac:760b2e83:4d2b917b9ab31e307b6dfaa4a46bf64b4431175181c29f81ba6960ed580b41d8"
	if got := r.Text("acc-alice"); got != want {
		t.Errorf("got %s", got)
	}
	if r.Text("acc-bob") == want || r.Text("") != "" {
		t.Error("another value has the same text, or none has one")
	}
	other, err := audit.NewRedactor(bytes.Repeat([]byte("b"), 32))
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Text("acc-alice"); got[:14] == want[:14] || got[14:] == want[14:] {
		t.Errorf("another key makes %s", got)
	}
	if _, err := audit.NewRedactor(make([]byte, 31)); err == nil || err.Error() != "a key for sensitive values has at least 32 bytes, and this one has 31" {
		t.Errorf("got %v", err)
	}
}
