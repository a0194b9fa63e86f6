// Package openloop makes calls at times that are fixed before the first of them, and takes the latency of each from the time that it was
// meant to start. A server that stands still is then seen by all the calls that would have come meanwhile, and not by those alone that it
// kept waiting, as it is when a caller makes its next call once the last has been answered.
package openloop
