package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// startsFile says, for each guard that writes to the journal, which record is of its last start. It lies beside the journal's own files, and
// is a hint that is trusted by nobody: what the record says counts.
const (
	startsFile = "starts"
	maxStarts  = 1 << 20
)

// start is a guard's last start, and the policy that it had.
type start struct {
	Index uint64 `json:"index"`

	hash, revision string
}

func guardOf(r *audit.Record) string { return string(r.Side) + " " + r.Service }

// readPolicies returns the policies that guards started with last. They are lost where there are records and the hint is of no use.
func readPolicies(j *journal.Journal) (last map[string]start, lost bool) {
	path := filepath.Join(j.Dir(), startsFile)
	// Nothing that somebody put in its place is waited for, or read to its end.
	info, err := os.Lstat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxStarts) {
		err = fs.ErrInvalid
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil || json.Unmarshal(data, &last) != nil || last == nil {
		return make(map[string]start), j.Size() > 0
	}
	for guard, hint := range last {
		r, ok := startAt(j, hint.Index)
		if !ok || guardOf(&r) != guard {
			delete(last, guard)
			lost = true
			continue
		}
		last[guard] = start{hint.Index, r.PolicyHash, r.PolicyRevision}
	}
	return last, lost
}

func startAt(j *journal.Journal, index uint64) (audit.Record, bool) {
	for r, err := range journal.Records(j.Dir(), index, min(index+1, j.Size())) {
		if err != nil {
			return audit.Record{}, false
		}
		record, err := audit.ParseRecord(r.Data)
		return record, err == nil && record.Event == audit.EventStarted
	}
	return audit.Record{}, false
}

// started keeps the record of a guard's start, and one before it where the policy is another than that of its last start.
func (s *Sink) started(ctx context.Context, r *audit.Record) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	guard := guardOf(r)
	before, known := s.policies[guard]
	changed := *r
	switch {
	case known && before.hash != r.PolicyHash:
		changed.Detail = fmt.Sprintf("before, it was %s (revision %q)", before.hash, before.revision)
	case !known && s.lost:
		changed.Detail = "no earlier start of this guard is known"
	}
	if changed.Detail != r.Detail {
		changed.ID, changed.Event, changed.Subject = s.id(), audit.EventPolicyChanged, r.PolicyHash
		if _, err := s.keep(ctx, &changed); err != nil {
			return err
		}
	}
	index, err := s.keep(ctx, r)
	if err != nil {
		return err
	}
	s.policies[guard] = start{index, r.PolicyHash, r.PolicyRevision}
	data, err := json.Marshal(s.policies)
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return s.remember(data)
}

// remember writes the hint, and not through what lies in its place. A crash in between leaves the one before, which is as good: the policy
// was the same, or the change is told again.
func (s *Sink) remember(data []byte) error {
	path := filepath.Join(s.journal.Dir(), startsFile)
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("durable: %w", err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return nil
}
