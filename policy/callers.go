package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// callerSet finds the entry that names a caller. IDs are found in a map, patterns one after the other.
type callerSet struct {
	ids      map[spiffeid.ID]*Decision
	patterns []patternDecision
}

type patternDecision struct {
	pattern  Pattern
	decision *Decision
}

// add puts a pattern into the set, unless an earlier entry names the same.
func (s *callerSet) add(p Pattern, d *Decision) {
	id, exact := p.ID()
	if !exact {
		s.patterns = append(s.patterns, patternDecision{p, d})
		return
	}
	if s.ids == nil {
		s.ids = make(map[spiffeid.ID]*Decision)
	}
	if s.ids[id] == nil {
		s.ids[id] = d
	}
}

func (s *callerSet) find(id spiffeid.ID) *Decision {
	if d := s.ids[id]; d != nil {
		return d
	}
	for i := range s.patterns {
		if s.patterns[i].pattern.Match(id) {
			return s.patterns[i].decision
		}
	}
	return nil
}

// denyList is the policy file's, which holds for every method.
type denyList struct {
	callers callerSet
	serials map[string]*Decision
}

func (l *denyList) find(s Subject) *Decision {
	if d := l.callers.find(s.ID); d != nil {
		return d
	}
	return l.serials[s.Serial]
}
