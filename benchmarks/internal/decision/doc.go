// Package decision measures what it costs to decide whether a caller may call a method: grpcguard's policy beside the engines that
// others would take, with the same rules and the same questions.
package decision
