package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The time that all processes of a machine share.
func clock() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano())
}

// hail speaks to ADDRESS:PORT... from its first moment on: a datagram every millisecond for three seconds, each from a fresh
// source port, then ever more rarely. It says who it is, when it began, and how often it has spoken.
func hail(arguments []string) error {
	begun := clock()
	name, _ := os.Hostname()
	var targets []netip.AddrPort
	for _, argument := range arguments {
		target, err := netip.ParseAddrPort(argument)
		if err != nil {
			return err
		}
		targets = append(targets, target)
	}
	pause := time.Millisecond
	for sequence := 0; ; sequence++ {
		for _, target := range targets {
			// Refused as long as there is no route: tried again.
			_ = speak(target, fmt.Appendf(nil, "%s %d %d", name, begun, sequence))
		}
		if sequence > 3000 {
			pause = 100 * time.Millisecond
		}
		time.Sleep(pause)
	}
}

// hear listens in a pod for those that hail, and says how long after its start each was heard for the first time.
func hear(arguments []string) error {
	set := flags("hear")
	state := set.String("state", "", "the cluster's directory")
	at := set.String("at", "", "NAMESPACE/POD")
	port := set.Uint("port", 7000, "where")
	expect := set.Int("expect", 0, "how many are to be heard")
	length := set.Duration("for", time.Minute, "how long to wait for them")
	silent := set.Bool("silent", false, "nobody may be heard, for all of the time, or until it is told to end")
	count := set.Bool("count", false, "only count until it is told to end")
	values := set.String("times", "", "a file to which the milliseconds of each pod are added")
	label := set.String("label", "heard", "how to begin the line")
	_ = set.Parse(arguments)
	pod, err := find(*state, *at)
	if err != nil {
		return err
	}
	var mutex sync.Mutex
	first := map[string]float64{}
	var lost, heard int
	var from, until time.Duration
	if err := pod.listen(uint16(*port), func(b []byte) {
		now := clock()
		var name string
		var begun, sequence int64
		if n, _ := fmt.Sscanf(string(b), "%s %d %d", &name, &begun, &sequence); n != 3 {
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		if heard++; heard == 1 {
			from = now
		}
		until = now
		if _, known := first[name]; !known {
			first[name] = float64(now-time.Duration(begun)) / 1e6
			if sequence > 0 {
				lost++
			}
		}
	}); err != nil {
		return err
	}
	fmt.Println("listening")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	for end, stopped := time.Now().Add(*length), false; time.Now().Before(end) && !stopped; {
		select {
		case <-stop:
			stopped = true
		case <-time.After(100 * time.Millisecond):
			mutex.Lock()
			pods := len(first)
			mutex.Unlock()
			stopped = !*count && (*silent && pods > 0 || !*silent && pods >= *expect)
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	var times spread
	var names []string
	for name, after := range first {
		times = append(times, after)
		names = append(names, name)
	}
	if *count {
		fmt.Printf("%s: %d packets in %.1f s\n", *label, heard, (until - from).Seconds())
		return nil
	}
	if *silent {
		fmt.Printf("%s: %d got something through\n", *label, len(first))
		if len(first) > 0 {
			return fmt.Errorf("heard %s", strings.Join(names, " "))
		}
		return nil
	}
	if *values != "" {
		if err := times.keep(*values); err != nil {
			return err
		}
	}
	fmt.Printf("%s: first packet after %v; %d whose very first was lost\n", *label, times, lost)
	if len(first) < *expect {
		return fmt.Errorf("only %d of %d were heard in %v", len(first), *expect, *length)
	}
	return nil
}
