package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// A segment is a header, then blocks. A block is what one commit wrote: its header and a frame for each record. All numbers are
// little-endian.
//
//	header  magic[8] journal[16] first:8 created:8 zero[20] crc:4
//	block   magic[4] bytes:4 count:4 first:8 crc:4
//	frame   length:4 crc:4 0x00 record[length]
//
// The sums are CRC-32C. A block's is seeded with the journal's random name, so that a record cannot be made to look like a block by
// who does not know the name; a frame's covers the record's index as well, so that a frame cannot stand in another's place. The zero
// before a record is the one that RFC 6962 puts before a leaf: a leaf is hashed as it lies.
//
// The last block of a finished segment is its seal, which has no frames; first is then the index of the next segment's first record. In
// the segment that is written to, zeros follow the last block: no block begins with them.
const (
	headerSize = 64
	blockSize  = 24
	frameSize  = 9

	// MaxRecord is the size of the largest record in bytes: what an entry bundle of tlog-tiles can hold.
	MaxRecord = 1<<16 - 1

	// maxBody bounds what one block can hold, so that no length read from disk is believed beyond it.
	maxBody = 16<<20 + frameSize + MaxRecord
)

var (
	headerMagic = []byte("gguardj1")
	blockMagic  = []byte("GJb1")
	sealMagic   = []byte("GJs1")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type journalID [16]byte

// header says what a segment is part of, and from where on.
type header struct {
	id      journalID
	first   uint64
	created time.Time
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	copy(b[8:], h.id[:])
	binary.LittleEndian.PutUint64(b[24:], h.first)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.created.UnixNano()))
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func decodeHeader(b []byte) (header, error) {
	switch {
	case len(b) < headerSize:
		return header{}, fmt.Errorf("the header has %d of %d bytes", len(b), headerSize)
	case !bytes.Equal(b[:8], headerMagic):
		return header{}, fmt.Errorf("this is no segment of a journal")
	case binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli):
		return header{}, fmt.Errorf("the header fails its checksum")
	case !bytes.Equal(b[40:60], make([]byte, 20)):
		return header{}, fmt.Errorf("the header is of a later version")
	}
	h := header{first: binary.LittleEndian.Uint64(b[24:]), created: time.Unix(0, int64(binary.LittleEndian.Uint64(b[32:])))}
	copy(h.id[:], b[8:24])
	return h, nil
}

// block is the header of a block, or a seal.
type block struct {
	seal  bool
	body  int
	count int
	first uint64
}

func (b block) next() uint64 { return b.first + uint64(b.count) }

func (b block) encode(to []byte, id journalID) {
	copy(to, blockMagic)
	if b.seal {
		copy(to, sealMagic)
	}
	binary.LittleEndian.PutUint32(to[4:], uint32(b.body))
	binary.LittleEndian.PutUint32(to[8:], uint32(b.count))
	binary.LittleEndian.PutUint64(to[12:], b.first)
	binary.LittleEndian.PutUint32(to[20:], blockSum(to[:20], id))
}

func blockSum(b []byte, id journalID) uint32 {
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, b)
}

// decodeBlock reads a block's header. It is not ok if b is anything else.
func decodeBlock(b []byte, id journalID) (h block, ok bool) {
	if len(b) < blockSize {
		return block{}, false
	}
	h.seal = bytes.Equal(b[:4], sealMagic)
	if !h.seal && !bytes.Equal(b[:4], blockMagic) {
		return block{}, false
	}
	if binary.LittleEndian.Uint32(b[20:]) != blockSum(b[:20], id) {
		return block{}, false
	}
	// Compared before they are ints, which may have 32 bits and then be negative.
	size, count := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if size > maxBody || count > size/frameSize {
		return block{}, false
	}
	h.body, h.count = int(size), int(count)
	h.first = binary.LittleEndian.Uint64(b[12:])
	if h.seal {
		return h, size == 0 && count == 0
	}
	return h, size > 0 && count > 0
}

// appendFrame appends the frame of a record. Its checksum follows when the index is known, from sumFrames.
func appendFrame(to, record []byte) []byte {
	to = binary.LittleEndian.AppendUint32(to, uint32(len(record)))
	to = append(to, 0, 0, 0, 0, 0)
	return append(to, record...)
}

// sumFrames writes the checksums of the frames in body, the first of which is of record first.
func sumFrames(body []byte, first uint64) {
	for len(body) > 0 {
		end := frameSize + int(binary.LittleEndian.Uint32(body))
		binary.LittleEndian.PutUint32(body[4:], frameSum(body[:end], first))
		body = body[end:]
		first++
	}
}

// frameSum begins the sum with the index, which is not in the frame: the same bytes have another sum in another place.
func frameSum(frame []byte, index uint64) uint32 {
	sum := crc32.Update(uint32(index)^uint32(index>>32)*0x9e3779b1, castagnoli, frame[:4])
	return crc32.Update(sum, castagnoli, frame[frameSize-1:])
}

// nextLeaf returns the leaf of the first frame in body, which was checked before: 0x00 and the record.
func nextLeaf(body []byte) (leaf, rest []byte) {
	end := frameSize + int(binary.LittleEndian.Uint32(body))
	return body[frameSize-1 : end], body[end:]
}

// checkFrames checks every frame of a block. It returns the index and the offset of the first that is bad, and why.
func checkFrames(body []byte, h block) (index uint64, offset int, reason string) {
	index = h.first
	for offset < len(body) {
		rest := body[offset:]
		switch {
		case index == h.next():
			return index, offset, "the block holds more than its records"
		case len(rest) < frameSize:
			return index, offset, "the record's frame is cut short"
		}
		length := binary.LittleEndian.Uint32(rest)
		if length > MaxRecord || frameSize+int(length) > len(rest) {
			return index, offset, "the record's length is impossible"
		}
		end := frameSize + int(length)
		if rest[8] != 0 || binary.LittleEndian.Uint32(rest[4:]) != frameSum(rest[:end], index) {
			return index, offset, "the record fails its checksum"
		}
		offset += end
		index++
	}
	if index != h.next() {
		return index, offset, "the block holds fewer than its records"
	}
	return index, offset, ""
}
