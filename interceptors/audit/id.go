package audit

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// ID names a record. The records of one call share Guard and Call.
type ID struct {
	// Guard is a random number that a guard draws when it is made.
	Guard uint64
	// Call counts a guard's calls, and its events.
	Call uint64
	// Number counts the records of one call.
	Number uint64
}

const callDigits = 32

// String returns the ID as records have it: 32 hexadecimal digits, a dot and the number.
func (id ID) String() string { return string(id.append(make([]byte, 0, callDigits+4))) }

// CallID returns the part that all records of one call share.
func (id ID) CallID() string { return string(id.append(make([]byte, 0, callDigits+4))[:callDigits]) }

func (id ID) append(b []byte) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], id.Guard)
	binary.BigEndian.PutUint64(raw[8:], id.Call)
	b = hex.AppendEncode(b, raw[:])
	b = append(b, '.')
	return strconv.AppendUint(b, id.Number, 10)
}

// ParseID reads an ID in the form that String returns, and no other.
func ParseID(text string) (ID, error) {
	call, number, found := strings.Cut(text, ".")
	if !found || len(call) != callDigits {
		return ID{}, fmt.Errorf("audit: %q is no record ID", text)
	}
	var raw [16]byte
	_, err := hex.Decode(raw[:], []byte(call))
	n, numErr := strconv.ParseUint(number, 10, 64)
	id := ID{Guard: binary.BigEndian.Uint64(raw[:8]), Call: binary.BigEndian.Uint64(raw[8:]), Number: n}
	if err != nil || numErr != nil || id.String() != text {
		return ID{}, fmt.Errorf("audit: %q is no record ID", text)
	}
	return id, nil
}
