// Package policy decides who may call what. It compiles proto descriptors, whose annotations hold the rules, and a policy file,
// which binds them to one environment, into an immutable [Policy]; everything that can be found wrong is found then, and named
// with its file, line, method and option. A decision afterwards is a pure function of the caller and the method: no I/O, no
// clock, no locks, no allocation, and the same answer every time.
//
// Absent means denied: a method without a rule, a caller that no entry names, an identity that is missing. Deny wins over
// allow.
package policy
