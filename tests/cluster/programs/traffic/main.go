// Traffic between the pods of the cluster, and what became of it.
//
// The program runs on the machine that holds the cluster and opens its sockets inside of the network namespaces of pods, so
// one process with one clock sees a packet leave and arrive. Only `hail` runs in a pod: it is there to speak first.
package main

import (
	"flag"
	"fmt"
	"os"
)

var commands = map[string]struct {
	does string
	run  func([]string) error
}{
	"streams":     {"many flows at once, from fresh source ports; says what leaked and what was lost", streams},
	"hail":        {"in a pod: speaks from its first moment on", hail},
	"hear":        {"who hailed, and how long after its start the first packet arrived", hear},
	"latency":     {"how long after the API server's answer a policy is in force", latency},
	"connections": {"TCP connections a second", connections},
	"spread":      {"numbers on standard input, as ratios or milliseconds: how they spread", spreads},
	"populate":    {"many pods on nodes that do not exist, and policies", populate},
	"place":       {"the file of the network namespace of a pod or a machine", where},
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]].run == nil {
		for name, command := range commands {
			fmt.Fprintf(os.Stderr, "traffic %-12s %s\n", name, command.does)
		}
		os.Exit(2)
	}
	if err := commands[os.Args[1]].run(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "traffic %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func flags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ExitOnError) }
