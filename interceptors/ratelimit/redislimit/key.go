package redislimit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// encoding is a part of every key, and must change when what is stored under it does.
const encoding = 1

// digest stands for a limit and a key of it. It is long enough that nobody finds two that are alike, whatever keys he can invent.
type digest [24]byte

// appendHead writes what a limit is counted by: its name and its numbers. The numbers are in because what is stored is counted in
// ticks, which are others if they change: a time written with the old numbers means nothing with the new ones.
func appendHead(b []byte, name string, permits, per, burst uint64) []byte {
	b = append(b, encoding)
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint64(b, permits)
	b = binary.BigEndian.AppendUint64(b, per)
	return binary.BigEndian.AppendUint64(b, burst)
}

// appendKey ends what appendHead began. Of what comes before, everything has a known length, so no key reaches into it.
func appendKey(head []byte, key ratelimit.Key) []byte {
	return append(binary.AppendUvarint(head, uint64(len(key))), key...)
}

func (p *plan) digest(key ratelimit.Key) digest {
	var room [256]byte
	sum := sha256.Sum256(appendKey(append(room[:0], p.head...), key))
	return digest(sum[:len(digest{})])
}

// redisKey is the name that d has in Redis.
func (s *Store) redisKey(d *digest) string {
	const length = (len(digest{})*8 + 5) / 6
	b := make([]byte, len(s.prefix), len(s.prefix)+length)
	copy(b, s.prefix)
	return string(base64.RawURLEncoding.AppendEncode(b, d[:]))
}
