// Package scale measures what a guard costs as things become many: methods, callers and connections. Memory is what lives on the
// heap, and on stacks where goroutines are counted, when garbage has been collected, beside the same without the guard.
package scale
