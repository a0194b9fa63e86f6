package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// callerSet finds the entry that names a caller. A few IDs, as most rules have, are compared one after the other; many are found in a map;
// patterns are tried one after the other. IDs are kept as their texts: an ID is its text and nothing else.
type callerSet struct {
	few      []idDecision
	many     map[string]*Decision // nil as long as few are enough
	patterns []patternDecision
}

// fewIDs is how many IDs are compared faster than a map finds one, and in a fifth of its memory.
const fewIDs = 8

type idDecision struct {
	id       string
	decision *Decision
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
	text := id.String()
	switch {
	case s.named(text) != nil:
	case s.many != nil:
		s.many[text] = d
	case len(s.few) < fewIDs:
		s.few = append(s.few, idDecision{text, d})
	default:
		s.many = map[string]*Decision{text: d}
		for _, e := range s.few {
			s.many[e.id] = e.decision
		}
		s.few = nil
	}
}

// named returns the decision on the ID with this text, nil if there is none.
func (s *callerSet) named(text string) *Decision {
	for i := range s.few {
		if s.few[i].id == text {
			return s.few[i].decision
		}
	}
	return s.many[text]
}

// find returns nil if no entry names id. It is split from lookUp so that sets that are empty, as most deny lists are, cost no call.
func (s *callerSet) find(id spiffeid.ID) *Decision {
	if len(s.few) == 0 && len(s.many) == 0 && len(s.patterns) == 0 {
		return nil
	}
	return s.lookUp(id)
}

func (s *callerSet) lookUp(id spiffeid.ID) *Decision {
	if d := s.named(id.String()); d != nil {
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
