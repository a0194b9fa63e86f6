package ratelimit

import (
	"encoding/binary"
	"unsafe"
)

// Key is what permits are counted by: one part or several, in an encoded form. Each part is preceded by its kind and, where that
// varies, its length, so that no two lists of parts make the same key whatever callers put into them. The zero Key has no parts
// and is a key too: the one of a limit that counts everybody together.
//
// Like append, its methods return the longer key. A Key that is built in an array on the stack costs no allocation:
//
//	var room [128]byte
//	key := ratelimit.Key(room[:0]).Text(caller).Text(account)
type Key []byte

// TextKey is the key of a limit that counts by one text alone. It takes no room and no time to make, since it is the text itself; it is
// another key than Key{}.Text(s) is, so that a limit must have either the one or the other. It must not be changed.
func TextKey(s string) Key {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // Nobody writes to a Key, and appending to this one copies it.
}

const (
	partText byte = 1 + iota
	partInt
	partUint
)

// Text adds a part that is text.
func (k Key) Text(s string) Key {
	k = binary.AppendUvarint(append(k, partText), uint64(len(s)))
	return append(k, s...)
}

// Bytes adds a part that is bytes; it is the same part as the text of these bytes.
func (k Key) Bytes(b []byte) Key {
	k = binary.AppendUvarint(append(k, partText), uint64(len(b)))
	return append(k, b...)
}

// Int adds a part that is a signed number.
func (k Key) Int(n int64) Key { return binary.BigEndian.AppendUint64(append(k, partInt), uint64(n)) }

// Uint adds a part that is an unsigned number.
func (k Key) Uint(n uint64) Key { return binary.BigEndian.AppendUint64(append(k, partUint), n) }
