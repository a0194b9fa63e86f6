package validate

import (
	"regexp/syntax"
	"unicode/utf8"
)

// pattern is a regular expression that is anchored at both ends and of which at most one part is of more than one length, like
// ^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$: the start and the end of a text can be compared without trying, and the middle is what lies between. All
// its characters are ASCII.
type pattern struct {
	head, tail []*class
	middle     *class // nil: nothing
	least      int
	most       int // -1: any
}

// class is the characters that may stand in one place.
type class [utf8.RuneSelf]bool

// maxPlaces is the most places that a pattern can have at its ends.
const maxPlaces = 256

func (p *pattern) match(s string) bool {
	n := len(s) - len(p.head) - len(p.tail)
	if n < p.least || p.most >= 0 && n > p.most {
		return false
	}
	for i, c := range p.head {
		if !c.has(s[i]) {
			return false
		}
	}
	for i, c := range p.tail {
		if !c.has(s[len(p.head)+n+i]) {
			return false
		}
	}
	for i := len(p.head); i < len(p.head)+n; i++ {
		if !p.middle.has(s[i]) {
			return false
		}
	}
	return true
}

func (c *class) has(b byte) bool { return b < utf8.RuneSelf && c[b] }

// parsePattern returns source as a pattern; false if it is not as simple as that.
func parsePattern(source string) (*pattern, bool) {
	re, err := syntax.Parse(source, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) < 2 {
		return nil, false
	}
	first, last := re.Sub[0], re.Sub[len(re.Sub)-1]
	if first.Op != syntax.OpBeginText || last.Op != syntax.OpEndText {
		return nil, false
	}
	p := &pattern{}
	for _, part := range re.Sub[1 : len(re.Sub)-1] {
		if !p.add(part) || len(p.head)+len(p.tail) > maxPlaces {
			return nil, false
		}
	}
	return p, true
}

func (p *pattern) add(part *syntax.Regexp) bool {
	least, most, one := 1, 1, part
	switch part.Op {
	case syntax.OpRepeat:
		least, most, one = part.Min, part.Max, part.Sub[0]
	case syntax.OpStar:
		least, most, one = 0, -1, part.Sub[0]
	case syntax.OpPlus:
		least, most, one = 1, -1, part.Sub[0]
	case syntax.OpQuest:
		least, most, one = 0, 1, part.Sub[0]
	default: // it stands there once
	}
	places, is := classes(one)
	switch {
	case !is:
		return false
	case least != most:
		if p.middle != nil || len(places) != 1 {
			return false
		}
		p.middle, p.least, p.most = places[0], least, most
		return true
	case least*len(places) > maxPlaces:
		return false
	}
	for range least {
		if p.middle == nil {
			p.head = append(p.head, places...)
		} else {
			p.tail = append(p.tail, places...)
		}
	}
	return true
}

// classes returns the places of a literal or of a single character; false for anything else, and for what is not ASCII.
func classes(re *syntax.Regexp) ([]*class, bool) {
	if re.Flags&syntax.FoldCase != 0 && re.Op == syntax.OpLiteral {
		return nil, false
	}
	switch re.Op {
	case syntax.OpLiteral:
		places := make([]*class, len(re.Rune))
		for i, r := range re.Rune {
			if r >= utf8.RuneSelf {
				return nil, false
			}
			places[i] = &class{}
			places[i][r] = true
		}
		return places, true
	case syntax.OpCharClass:
		c := &class{}
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i+1] >= utf8.RuneSelf {
				return nil, false
			}
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				c[r] = true
			}
		}
		return []*class{c}, true
	default:
		return nil, false
	}
}
