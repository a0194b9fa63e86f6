package redisbreaker

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
)

// A message is "1 SHARER NUMBER NAME": the version of this format, who publishes, which of its openings this is, and the name of
// the breaker. The value of a key is the same without the name. Sharer and number together name an opening, by which a breaker
// knows one that it has heard of already.

const (
	version = "1 "
	// idSize is how many random bytes tell sharers apart.
	idSize = 16
	// maxName bounds names: a SPIFFE ID is at most 2048 bytes, a full method little in practice.
	maxName = 4096
	// maxValue bounds what may stand before a name.
	maxValue = len(version) + 2*idSize + len(" 18446744073709551615")
)

func newID() string {
	var id [idSize]byte
	_, _ = rand.Read(id[:]) // It does not fail; it would end the process.
	return hex.EncodeToString(id[:])
}

// valueOf returns the value that an opening's key has.
func valueOf(id string, number uint64) string {
	return version + id + " " + strconv.FormatUint(number, 10)
}

func messageOf(value, name string) string { return value + " " + name }

// parseMessage reads a message, which may be anybody's.
func parseMessage(s string) (value, name string, ok bool) {
	if len(s) > maxValue+1+maxName {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(s, version)
	if !ok {
		return "", "", false
	}
	id, rest, _ := strings.Cut(rest, " ")
	number, name, ok := strings.Cut(rest, " ")
	value = version + id + " " + number
	return value, name, ok && isValue(value) && isName(name)
}

// isValue says whether s is what [valueOf] makes: nothing else is taken for it, so that one opening has one form.
func isValue(s string) bool {
	if len(s) > maxValue {
		return false
	}
	rest, ok := strings.CutPrefix(s, version)
	if !ok {
		return false
	}
	id, number, ok := strings.Cut(rest, " ")
	if !ok || len(id) != 2*idSize || strings.Trim(id, "0123456789abcdef") != "" {
		return false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return err == nil && strconv.FormatUint(n, 10) == number
}

func isName(s string) bool { return s != "" && len(s) <= maxName }
