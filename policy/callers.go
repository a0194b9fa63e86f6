package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// callerSet finds the entry that names a caller. IDs are found in a map, patterns one after the other. The map's keys are the
// IDs' texts: an ID is its text and nothing else, and maps of strings are the fastest that there are.
type callerSet struct {
	ids      map[string]*Decision
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
		s.ids = make(map[string]*Decision)
	}
	if text := id.String(); s.ids[text] == nil {
		s.ids[text] = d
	}
}

// find returns nil if no entry names id. It is split from lookUp so that sets that are empty, as most deny lists are, cost no call.
func (s *callerSet) find(id spiffeid.ID) *Decision {
	if len(s.ids) == 0 && len(s.patterns) == 0 {
		return nil
	}
	return s.lookUp(id)
}

func (s *callerSet) lookUp(id spiffeid.ID) *Decision {
	if d := s.ids[id.String()]; d != nil {
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
	if len(l.serials) == 0 {
		return nil
	}
	return l.serials[s.Serial]
}
