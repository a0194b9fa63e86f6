package ratelimit

import (
	"testing"
	"time"
)

// tableWith returns a table of one bucket, in which key 100+i has tats[i].
func tableWith(tats ...int64) *table {
	t := &table{buckets: make([]bucket, 1)}
	for i, tat := range tats {
		t.slot(i).hash.Store(100 + uint64(i))
		t.slot(i).tat.Store(tat)
	}
	return t
}

// Which slot a new key gets, and what is known afterwards of those that lost theirs.
func TestClaim(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tats, lowered []int64
		now           int64
		want          int // the slot, -1 for none
		floor, reused int64
	}{
		"an empty one first":                       {[]int64{5, 7, empty, empty}, nil, 10, 2, 0, 0},
		"then the one that was idle first":         {[]int64{9, 7, 8, 11}, nil, 10, 1, 7, 7},
		"none that is in use":                      {[]int64{11, 20, 1 << 60, 12}, nil, 10, -1, 0, 0},
		"none whose permits are back only now":     {[]int64{10, 10, 10, 10}, nil, 10, -1, 0, 0},
		"none that was lowered from a later time":  {[]int64{9, 7, 8, 9}, []int64{10, 11, 12, 13}, 10, -1, 0, 0},
		"one that was lowered from a time gone by": {[]int64{9, 4, 8, 9}, []int64{0, 9, 12, 13}, 10, 0, 9, 9},
		"and the times before it was lowered":      {[]int64{11, 4, 11, 11}, []int64{0, 9, 0, 0}, 10, 1, 4, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, sh := tableWith(tt.tats...), new(shard)
			table.lowered = tt.lowered
			got := -1
			if s := sh.claim(table, 1, tt.now); s != nil {
				for i := range bucketSlots {
					if s == table.slot(i) {
						got = i
					}
				}
				if s.tat.Load() != claimed {
					t.Errorf("its time is %d and can be swapped", s.tat.Load())
				}
			}
			if got != tt.want || sh.floor != tt.floor || sh.reused != tt.reused {
				t.Errorf("slot %d, floor %d, reused %d; want %d, %d, %d", got, sh.floor, sh.reused, tt.want, tt.floor, tt.reused)
			}
			if got >= 0 && table.lowered != nil && table.lowered[got] != 0 {
				t.Error("the new key has the old one's history")
			}
		})
	}
	if new(shard).claim(noTable, 1, 10) != nil {
		t.Error("a slot of the table that all limiters share was claimed")
	}
}

// To what a slot's time is lowered when permits are returned, and that the one before is remembered.
func TestLower(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tat, cost, now, reused int64
		want, lowered          int64
	}{
		"by the cost":                          {100, 30, 50, 0, 70, 100},
		"not beyond now":                       {100, 60, 50, 0, 50, 100},
		"not if all is back":                   {100, 30, 100, 0, 100, 0},
		"not if all was back long ago":         {100, 30, 500, 0, 100, 0},
		"not to a time of an earlier key":      {100, 30, 50, 75, 76, 100},
		"not if an earlier key's time is next": {100, 30, 50, 99, 100, 0},
		"not to no time at all":                {100, 1 << 59, 0, 0, 1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, sh := tableWith(tt.tat), &shard{reused: tt.reused}
			sh.lower(table, 0, request{cost: tt.cost, now: tt.now})
			lowered := int64(0)
			if table.lowered != nil {
				lowered = table.lowered[0]
			}
			if got := table.slot(0).tat.Load(); got != tt.want || lowered != tt.lowered {
				t.Errorf("%d, lowered from %d; want %d, %d", got, lowered, tt.want, tt.lowered)
			}
		})
	}
}

// Who still has the old table after it was doubled can take nothing there, and finds everything in the new one.
func TestDoubledTablesAreFrozen(t *testing.T) {
	t.Parallel()
	old := tableWith(5, 6, 7)
	d := old.doubled()
	for i, tat := range []int64{5, 6, 7} {
		hash := 100 + uint64(i)
		if old.slot(i).take(hash, 0, 1, 1<<40) || old.slot(i).tat.Load() != frozen {
			t.Errorf("key %d: permits were taken from a slot that has moved", i)
		}
		if at := d.find(hash); at < 0 || d.slot(at).tat.Load() != tat {
			t.Errorf("key %d is not in the new table as it was", i)
		}
	}
	if d.slots() != 8 {
		t.Errorf("%d slots", d.slots())
	}
	if old.slot(3).tat.Load() != empty {
		t.Error("an empty slot was moved")
	}
}

// A slot that went to another key, or is about to, answers nothing.
func TestSlotsOfOthers(t *testing.T) {
	t.Parallel()
	l, err := New(Limit{Permits: 1, Per: time.Nanosecond, Burst: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, tat := range []int64{empty, claimed, frozen, 5, 1000} {
		hash := uint64(1)
		if tat <= empty {
			hash = 100
		}
		s := tableWith(tat).slot(0)
		if _, ok := l.charge(s, request{hash: hash, now: 3, cost: 2}); ok || s.tat.Load() != tat {
			t.Errorf("charge answers from a slot with the time %d", tat)
		}
		if s.take(hash, 3, 2, 10) || s.tat.Load() != tat {
			t.Errorf("take answers from a slot with the time %d", tat)
		}
	}
}

// Two that miss a key at the same time do not get it two slots.
func TestTheSecondMissFindsTheSlotOfTheFirst(t *testing.T) {
	t.Parallel()
	l, err := New(Limit{Permits: 1, Per: time.Nanosecond, Burst: 10})
	if err != nil {
		t.Fatal(err)
	}
	r := request{hash: 12345, now: 1000, cost: 6}
	if got := l.miss(r); !got.Allowed {
		t.Errorf("%+v", got)
	}
	if got := l.miss(r); got.Allowed {
		t.Errorf("%+v", got)
	}
}

// The hash that empty slots seem to have is one like others.
func TestHashZero(t *testing.T) {
	t.Parallel()
	l, err := New(Limit{Permits: 1, Per: time.Hour, Burst: 10})
	if err != nil {
		t.Fatal(err)
	}
	r := request{hash: 0, now: 1000, cost: l.full}
	if got := l.miss(r); !got.Allowed {
		t.Errorf("%+v", got)
	}
	for range 2 {
		if got := l.search(l.tables[0].Load(), r); got.Allowed {
			t.Errorf("%+v", got)
		}
	}
	if at := l.tables[0].Load().find(0); at < 0 {
		t.Error("it is not found")
	}
}
