//go:build unix

package redislimit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// Keys that read alike when they are written one after the other are counted apart.
func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client(t))
	limit := func(name string, permits uint64, per time.Duration, burst uint64) *ratelimit.Shared {
		return &ratelimit.Shared{Name: name, Limit: ratelimit.Limit{Permits: permits, Per: per, Burst: burst}}
	}
	const year = 365 * 24 * time.Hour
	demands := []ratelimit.Demand{
		demand(limit("l", 1, year, 1), key("a", "bc"), 1),
		demand(limit("l", 1, year, 1), key("ab", "c"), 1),
		demand(limit("l", 1, year, 1), key("abc"), 1),
		demand(limit("l", 1, year, 1), key("abc", ""), 1),
		demand(limit("l", 1, year, 1), key("", "abc"), 1),
		demand(limit("l", 1, year, 1), key(), 1),
		demand(limit("l", 1, year, 1), key(""), 1),
		demand(limit("l", 1, year, 1), ratelimit.Key(nil).Int(1), 1),
		demand(limit("l", 1, year, 1), ratelimit.Key(nil).Uint(1), 1),
		demand(limit("l", 1, year, 1), ratelimit.Key("raw"), 1),
		demand(limit("la", 1, year, 1), key("bc"), 1),
		demand(limit("l\x01\x02", 1, year, 1), key("abc"), 1),
		demand(limit("l", 1, year-1, 1), key("abc"), 1),
		demand(limit("l", 1, year, 2), key("abc"), 2),
		demand(limit("l", 2, 2*year, 1), key("abc"), 1),
		demand(limit("l", 1, year, 1), key("abc\r\nFLUSHALL\r\n"), 1),
		demand(limit("l", 1, year, 1), key("grpcguard:*"), 1),
		demand(limit("l", 1, year, 1), key(strings.Repeat("long", 10_000)), 1),
	}
	for i, d := range demands {
		if r, _ := take(t, s, d); !r.Allowed {
			t.Errorf("demand %d was counted together with one before it", i)
		}
	}
	for i, d := range demands {
		if r, _ := take(t, s, d); r.Allowed {
			t.Errorf("demand %d was not counted", i)
		}
	}
	if n := server.Client(t).DBSize(t.Context()).Val(); n != int64(len(demands)) {
		t.Errorf("%d keys in Redis, want %d", n, len(demands))
	}
}

// A burst of 0 is a burst of Permits, and a lease is each process's own affair.
func TestSameLimitInOtherWords(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client(t))
	for i, l := range []*ratelimit.Shared{
		{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: time.Hour}},
		{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: time.Hour, Burst: 1}},
		{Name: "l", Limit: ratelimit.Limit{Permits: 1, Per: time.Hour}, Lease: 1},
	} {
		if r, _ := take(t, s, demand(l, key("a"), 1)); r.Allowed != (i == 0) {
			t.Errorf("%d: allowed %v", i, r.Allowed)
		}
	}
}

// What callers send cannot be read in Redis.
func TestNothingReadableInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := newStore(t, client, WithPrefix("bank:"))
	const account, name = "DE89370400440532013000", "purchases"
	take(t, s, demand(slow(name, 5, 0), key("spiffe://bank.example/teller", account), 1))
	keys := client.Keys(t.Context(), "*").Val()
	if len(keys) != 1 || !strings.HasPrefix(keys[0], "bank:") || len(keys[0]) != len("bank:")+32 {
		t.Fatalf("keys %q", keys)
	}
	value := client.Get(t.Context(), keys[0]).Val()
	for _, secret := range []string{account, name, "teller"} {
		if strings.Contains(keys[0]+value, secret) {
			t.Errorf("%q is in %q or %q", secret, keys[0], value)
		}
	}
}

// decode is the reverse of appendKey. That it exists is why no two lists of parts are encoded alike.
func decode(b []byte) (name string, permits, per, burst uint64, k ratelimit.Key, err error) {
	bad := errors.New("not an encoding")
	if len(b) == 0 || b[0] != encoding {
		return "", 0, 0, 0, nil, bad
	}
	b = b[1:]
	n, size := binary.Uvarint(b)
	if size <= 0 || uint64(len(b)-size) < n+24 {
		return "", 0, 0, 0, nil, bad
	}
	name, b = string(b[size:size+int(n)]), b[size+int(n):]
	permits, per, burst = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	b = b[24:]
	n, size = binary.Uvarint(b)
	if size <= 0 || uint64(len(b)-size) != n {
		return "", 0, 0, 0, nil, bad
	}
	return name, permits, per, burst, ratelimit.Key(b[size:]), nil
}

func FuzzKey(f *testing.F) {
	f.Add("a", uint64(1), uint64(2), uint64(3), []byte("bc"))
	f.Add("ab", uint64(1), uint64(2), uint64(3), []byte("c"))
	f.Add("", uint64(0), uint64(0), uint64(0), []byte{})
	f.Add(strings.Repeat("n", 300), uint64(1<<63), uint64(1), uint64(1), bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, name string, permits, per, burst uint64, k []byte) {
		gotName, gotPermits, gotPer, gotBurst, gotKey, err := decode(appendKey(appendHead(nil, name, permits, per, burst), k))
		if err != nil || gotName != name || gotPermits != permits || gotPer != per || gotBurst != burst || !bytes.Equal(gotKey, k) {
			t.Errorf("%q %d %d %d %q were read back as %q %d %d %d %q, %v", name, permits, per, burst, k, gotName, gotPermits, gotPer, gotBurst, gotKey, err)
		}
	})
}
