package scale

import "syscall"

// filesLeft is what the process has open beside connections.
const filesLeft = 200

// room returns how many connections fit into this process, of which it has both ends; n at most. It raises the limit on open files as far
// as it may.
func room(n int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return n
	}
	need := uint64(2*n + filesLeft)
	if limit.Cur < need {
		// Who may raise the hard limit raises it; everybody else gets what there is.
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(limit.Max, need)}) == nil {
			return n
		}
		limit.Cur = min(need, limit.Max)
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur < 2+filesLeft {
			return 1
		}
	}
	return min(n, int(limit.Cur-filesLeft)/2)
}
