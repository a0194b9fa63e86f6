package durable

import (
	"context"
	"errors"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

const reportEvery = time.Second

// drop counts records that are lost, because there was no room in memory for them or none on the disk, and has the count reported.
func (s *Sink) drop(n uint64) {
	s.dropped.Add(n)
	s.drops.Add(context.Background(), int64(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reportSoon()
}

// reportSoon is called under mu.
func (s *Sink) reportSoon() {
	if s.reporting == nil && !s.closing {
		s.since = time.Now()
		s.reporting = time.AfterFunc(reportEvery, s.report)
	}
}

// report writes how many records were dropped, and waits until that is durable, since a count that is lost is a silent loss. What cannot
// be written is tried again later.
func (s *Sink) report() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	since := s.since
	s.reporting = nil
	s.mu.Unlock()
	n := s.dropped.Swap(0)
	if n == 0 {
		return
	}
	event := audit.Record{ID: s.id(), Type: audit.TypeEvent, Event: audit.EventDropped, Time: since, Duration: time.Since(since), Count: n}
	if from := s.from.Load(); from != nil {
		event.Side, event.Service, event.PolicyRevision, event.PolicyHash = from.Side, from.Service, from.PolicyRevision, from.PolicyHash
	}
	if _, err := s.keep(context.Background(), &event); err != nil {
		s.dropped.Add(n)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.journal.Err() == nil && !errors.Is(err, journal.ErrClosed) {
			s.reportSoon()
		}
	}
}
