package main

import (
	"fmt"
	"os"
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

// keep adds the values to a file, one a line.
func (s spread) keep(path string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, value := range s {
		fmt.Fprintf(file, "%.3f\n", value)
	}
	return file.Close()
}

// spreads reads numbers from standard input and says how they spread: as milliseconds, or with two digits and no unit.
func spreads(arguments []string) error {
	set := flags("spread")
	ratios := set.Bool("ratios", false, "they are ratios")
	_ = set.Parse(arguments)
	var all spread
	for {
		var value float64
		if n, _ := fmt.Scan(&value); n != 1 {
			break
		}
		all = append(all, value)
	}
	if len(all) == 0 {
		return fmt.Errorf("no numbers on standard input")
	}
	if *ratios {
		fmt.Printf("median %.2f  (%.2f to %.2f, %d pairs)\n", all.at(0.5), all.at(0), all.at(1), len(all))
	} else {
		fmt.Println(all)
	}
	return nil
}
