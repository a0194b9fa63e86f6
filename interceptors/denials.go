package interceptors

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// denials keeps a flood of refused calls from becoming a flood of records. Of the calls of one caller, or to one callee, that are refused
// alike, the first of each second have records of their own; the others are counted, and the count is a record. A call that was refused
// when its handler had seen a message is none of them: much may have happened until then. Nothing that a caller can choose freely, such
// as the name of a method that does not exist, tells two of them apart.
type denials struct {
	*recorder

	alone int // how many have records of their own

	flushing chan struct{} // holds one value, which whoever writes counts has

	mu     sync.Mutex
	groups map[denied]*group
	// strangers counts the groups of addresses: whoever has many of them must not use up the room for callers who have proved who they are.
	strangers int
	timer     *time.Timer // nil while there are no groups
}

// denied is what refused calls have in common that are counted together.
type denied struct {
	who, method, stage, reason string
	event                      audit.EventName
	code                       codes.Code
}

// group is what was refused alike in one second.
type group struct {
	alone       int
	counted     uint64
	first, last time.Time
	record      audit.Record // of the first that was counted
}

const (
	defaultDenials = 100
	// maxGroups bounds how many callers and methods are told apart, and maxStrangers how many of them are addresses.
	maxGroups    = 4096
	maxStrangers = maxGroups / 2
	countEvery   = time.Second
)

func newDenials(r *recorder, alone int) *denials {
	d := &denials{recorder: r, alone: alone, groups: make(map[denied]*group), flushing: make(chan struct{}, 1)}
	d.flushing <- struct{}{}
	return d
}

// counts reports whether a refused call is only counted, and so gets no record of its own.
func (d *denials) counts(r *audit.Record, known bool) bool {
	key := denied{who: r.Caller, stage: r.Stage, reason: r.Reason, event: r.Event, code: r.Code}
	stranger := false
	switch {
	case r.Side == audit.SideClient:
		key.who = r.Callee
	case r.Caller == "" || r.Event != "": // The caller of a refused handshake is who it says.
		key.who, stranger = host(r.Address), true
	}
	if known {
		key.method = r.Method
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.groups[key]
	if g == nil {
		if len(d.groups) >= maxGroups || stranger && d.strangers >= maxStrangers {
			key.who, key.method, stranger = "", "", false
			g = d.groups[key]
		}
		if g == nil {
			g = &group{}
			d.groups[key] = g
			if stranger {
				d.strangers++
			}
		}
		if d.timer == nil {
			d.timer = time.AfterFunc(countEvery, d.flush)
		}
	}
	if g.alone < d.alone {
		g.alone++
		return false
	}
	at := r.Time.Add(r.Duration)
	if g.counted == 0 {
		g.first, g.record = at, *r
	}
	g.counted++
	g.last = at
	return true
}

// flush writes what was counted. When it returns, what was counted before is with the sink, whoever wrote it; while a sink stands still, those
// that come are counted on, and nothing else of them is held.
func (d *denials) flush() {
	<-d.flushing
	defer func() { d.flushing <- struct{}{} }()
	d.mu.Lock()
	groups := d.groups
	d.groups, d.strangers = make(map[denied]*group), 0
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.mu.Unlock()
	for key, g := range groups {
		if g.counted == 0 {
			continue
		}
		r := &g.record
		r.ID, r.Type, r.Class, r.Time, r.Duration, r.Count = d.next(), audit.TypeDenials, audit.BestEffort, g.first, g.last.Sub(g.first), g.counted
		r.TraceID, r.SpanID, r.RequestID, r.Detail = "", "", "", ""
		r.Transaction, r.Messages = audit.Transaction{}, 0 // They were the first one's.
		if r.Event != "" {
			r.Caller = "" // It was what the first one claimed.
		}
		r.Received, r.Sent, r.ReceivedBytes, r.SentBytes = 0, 0, 0, 0
		if r.Caller != "" {
			r.Address, r.CallerSerial = "", "" // The same caller can call from anywhere.
		}
		if key.method == "" {
			r.Method = ""
		}
		if key.who == "" {
			r.Caller, r.CallerSerial, r.TrustDomain, r.Address, r.Callee = "", "", "", "", ""
			r.Detail = "of more callers than are told apart"
		}
		d.try(context.Background(), r)
	}
}

// host returns an address without its port.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
