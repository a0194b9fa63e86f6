package journal

import (
	"encoding/binary"
	"testing"
)

// A block's header that counts what its body cannot hold is none, whatever its sum says, and whatever an int can hold.
func TestBlockSizes(t *testing.T) {
	t.Parallel()
	var id journalID
	for _, tt := range []struct {
		seal        bool
		body, count uint32
		want        bool
	}{
		{false, frameSize, 1, true},
		{false, maxBody, 1, true},
		{true, 0, 0, true},
		{false, 0, 0, false},
		{true, frameSize, 1, false},
		{false, frameSize, 0, false},
		{false, frameSize, 2, false},
		{false, maxBody + 1, 1, false},
		{false, 1<<32 - 1, 1, false},
		{false, frameSize, 1<<32 - 1, false},
	} {
		b := make([]byte, blockSize)
		block{seal: tt.seal, first: 7}.encode(b, id)
		binary.LittleEndian.PutUint32(b[4:], tt.body)
		binary.LittleEndian.PutUint32(b[8:], tt.count)
		binary.LittleEndian.PutUint32(b[20:], blockSum(b[:20], id))
		if h, ok := decodeBlock(b, id); ok != tt.want {
			t.Errorf("%+v: %t, %+v", tt, ok, h)
		}
	}
}
