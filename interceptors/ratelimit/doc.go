// Package ratelimit counts permits: how many calls, messages or cents there are in a period for each key, be it a caller, an
// account or whatever else a [Key] is made of. [Limiter] counts in this process, a [Store] for many processes together.
//
// All of it is exact. Permits are whole numbers and so is time; nothing is rounded in favour of who asks. What cannot be counted
// exactly is refused by [Limit.Validate], at start-up.
package ratelimit
