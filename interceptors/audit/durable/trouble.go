package durable

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// trouble is what the journal complained of last. The same trouble is recorded once a minute: the journal tries again every second, and
// a record of it would be one more checkpoint that a witness does not take.
type trouble struct {
	mu   sync.Mutex
	last string
	at   time.Time
}

const sameTrouble = time.Minute

func (t *trouble) isNew(text string, now time.Time) bool {
	// That a later checkpoint or another tile is what there is no room for is no news.
	text = strings.Map(func(c rune) rune {
		if unicode.IsDigit(c) {
			return -1
		}
		return c
	}, text)
	t.mu.Lock()
	defer t.mu.Unlock()
	if text == t.last && now.Sub(t.at) < sameTrouble {
		return false
	}
	t.last, t.at = text, now
	return true
}

// troubles has the journal's trouble recorded, once there is a sink in what it returns.
func (s *Sink) troubles(opts *journal.Options) *atomic.Pointer[Sink] {
	var sink atomic.Pointer[Sink]
	told := opts.Trouble
	opts.Trouble = func(err error) {
		if told != nil {
			told(err)
		}
		if s := sink.Load(); s != nil && s.trouble.isNew(err.Error(), time.Now()) {
			s.offer(&audit.Record{
				ID: s.id(), Type: audit.TypeEvent, Event: audit.EventJournalTrouble, Time: time.Now(), Subject: s.journal.Dir(), Detail: err.Error(),
			})
		}
	}
	return &sink
}
