package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// resolved is an entry with the patterns that it stands for.
type resolved struct {
	written

	bindings []binding
	name     bool // the entry is a name, bound in the policy file
}

// resolve looks up names and parses patterns, and notes what is wrong with either.
func (c *compiler) resolve(list []written) []resolved {
	given := make(map[string]bool)
	out := make([]resolved, 0, len(list))
	for _, w := range list {
		r := resolved{written: w}
		if strings.Contains(w.text, "/") || strings.Contains(w.text, "*") {
			p, err := ParsePattern(w.text)
			if err != nil {
				c.found.addf(w.at, "%v", err)
				continue
			}
			r.bindings = []binding{{p, w.at}}
		} else {
			r.name = true
			r.bindings = c.names[w.text]
			if r.bindings == nil {
				c.found.addf(w.at, "the name %q is not bound in %s%s", w.text, c.file.name, suggestion(w.text, slices.Sorted(maps.Keys(c.names))))
				continue
			}
		}
		// Rules of service and method may both deny a caller; within one list a second entry is a slip.
		if key := w.at.listKey() + w.text; given[key] {
			c.found.addf(w.at, "%q is given twice", w.text)
		} else {
			given[key] = true
		}
		out = append(out, r)
	}
	return out
}

// listKey names the list that an entry is in.
func (p place) listKey() string {
	return p.File + "\x00" + p.Subject + "\x00" + p.Option[:strings.LastIndexByte(p.Option, '[')+1]
}

// refuseUnreachable notes callers that are denied again by the same rule. The deny list is not looked at: it is for the day when
// somebody who is allowed must not be.
func (c *compiler) refuseUnreachable(callers, denied []resolved) {
	for _, caller := range callers {
		var by *place
		for _, b := range caller.bindings {
			by = coveredBy(b.pattern, denied)
			if by == nil {
				break
			}
		}
		if by != nil {
			c.found.addf(caller.at, "%q can never be allowed: %s denies it", caller.text, by)
		}
	}
}

func coveredBy(p Pattern, denied []resolved) *place {
	for i := range denied {
		for _, b := range denied[i].bindings {
			if b.pattern.covers(p) {
				return &denied[i].at
			}
		}
	}
	return nil
}

// share returns the access that callers and denied make, the same one for all methods that declare them in the same places. A
// place is compared in all its parts: methods that share what they did not both declare would let each other's callers in.
func (c *compiler) share(m merged, callers, denied []resolved) *access {
	a := &access{denyList: c.denyList}
	a.otherwise = &Decision{Reason: ReasonCallerNotListed, Rule: m.declaredAt().String()}
	if m.closed != nil {
		a.otherwise.Reason = ReasonMethodClosed
	}
	places := []string{m.declaredAt().key()}
	for _, d := range denied {
		places = append(places, d.at.key())
	}
	key := strings.Join(places, "\x00")
	if shared := c.shared[key]; shared != nil {
		return shared
	}
	a.noIdentity = &Decision{Reason: ReasonNoIdentity, Rule: a.otherwise.Rule}
	a.denied.addAll(denied, ReasonCallerDenied)
	a.callers.addAll(callers, ReasonCallerAllowed)
	c.shared[key] = a
	return a
}

func (s *callerSet) addAll(list []resolved, reason Reason) {
	for _, r := range list {
		for _, b := range r.bindings {
			rule := fmt.Sprintf("%s %q", r.at, r.text)
			if r.name {
				rule += fmt.Sprintf(" = %s (%s)", b.pattern, position(b.at))
			}
			s.add(b.pattern, &Decision{Allowed: reason == ReasonCallerAllowed, Reason: reason, Rule: rule})
		}
	}
}

func position(p place) string { return fmt.Sprintf("%s:%d", p.File, p.Line) }
