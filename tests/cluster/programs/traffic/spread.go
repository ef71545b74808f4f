package main

import (
	"fmt"
	"slices"
)

// What many measurements say, in the unit that they came in.
type spread []float64

// at is the value that share of all do not exceed.
func (s spread) at(share float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %.1f  p90 %.1f  p99 %.1f  max %.1f ms  (%d)", s.at(0.5), s.at(0.9), s.at(0.99), s.at(1), len(s))
}
