package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"google.golang.org/grpc"
)

// machine is what a reader must know of where a report was made. What cannot be found out is "unknown".
type machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	GOMAXPROCS  int    `json:"gomaxprocs"`
	Memory      string `json:"memory"`
	Kernel      string `json:"kernel"`
	System      string `json:"system"`
	Go          string `json:"go"`
	GRPC        string `json:"grpc"`
	Disk        string `json:"disk"`
	LoadAtStart string `json:"load_at_start"`
	LoadAtEnd   string `json:"load_at_end"`
}

const unknown = "unknown"

// thisMachine has the load of now as that of the start. The disk is the file system that records are written to.
func thisMachine(disk string) machine {
	return machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		Memory: memory(field("/proc/meminfo", "MemTotal")), Kernel: content("/proc/sys/kernel/osrelease"), System: runtime.GOOS + "/" + runtime.GOARCH,
		Go: runtime.Version(), GRPC: grpc.Version, Disk: disk, LoadAtStart: load(), LoadAtEnd: unknown,
	}
}

// load is the load averages of 1, 5 and 15 minutes.
func load() string {
	f := strings.Fields(content("/proc/loadavg"))
	if len(f) < 3 {
		return unknown
	}
	return strings.Join(f[:3], " ")
}

func content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	return strings.TrimSpace(string(text))
}

// field returns the first value of a key in a file of "key : value" lines.
func field(path, key string) string {
	for l := range strings.Lines(content(path)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return unknown
}

// memory writes kilobytes, as the kernel has them, in GiB.
func memory(text string) string {
	kb, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return unknown
	}
	return strconv.FormatFloat(kb/(1<<20), 'f', 1, 64) + " GiB"
}
