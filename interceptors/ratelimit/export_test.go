package ratelimit

// NewAt is New at a given time, from which it depends how far back time goes.
var NewAt = newLimiter
