package perf

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// onlineFile lists the CPUs that can run tasks, as in 0-3,6.
const onlineFile = "/sys/devices/system/cpu/online"

// maxCPU bounds CPU numbers: CONFIG_NR_CPUS is at most 8192.
const maxCPU = 1 << 13

// onlineCPUs returns the numbers of all CPUs that are online, whether or not a cpuset
// lets the traced tasks run there: that may change as they run.
func onlineCPUs() ([]int, error) {
	text, err := os.ReadFile(onlineFile)
	if err != nil {
		return nil, err
	}
	cpus, err := parseCPUs(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", onlineFile, err)
	}
	return cpus, nil
}

// parseCPUs reads a list like 0-3,6.
func parseCPUs(text string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %q is no number", text, first)
		}
		hi, err := strconv.ParseUint(last, 10, 16)
		if err != nil || hi < lo || hi >= maxCPU {
			return nil, fmt.Errorf("CPU list %q: %q ends no range of CPUs", text, last)
		}
		for cpu := lo; cpu <= hi; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}
