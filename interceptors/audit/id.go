package audit

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
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
	id, ok := parseID(text)
	if !ok {
		return ID{}, fmt.Errorf("audit: %q is no record ID", text)
	}
	return id, nil
}

// parseID reads an ID without making anything of it that has to be collected.
func parseID[T string | []byte](text T) (id ID, ok bool) {
	if len(text) < callDigits+2 || text[callDigits] != '.' {
		return ID{}, false
	}
	for i := range callDigits {
		digit := uint64(text[i] - '0')
		if digit > 9 {
			if text[i] < 'a' || text[i] > 'f' {
				return ID{}, false
			}
			digit = uint64(text[i]-'a') + 10
		}
		id.Guard, id.Call = id.Guard<<4|id.Call>>60, id.Call<<4|digit
	}
	number := text[callDigits+1:]
	if len(number) > 1 && number[0] == '0' {
		return ID{}, false
	}
	for i := range len(number) {
		digit := uint64(number[i] - '0')
		if digit > 9 || id.Number > (math.MaxUint64-digit)/10 {
			return ID{}, false
		}
		id.Number = id.Number*10 + digit
	}
	return id, true
}
