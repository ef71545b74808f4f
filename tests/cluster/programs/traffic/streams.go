package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// One flow: everything that it sends has to arrive, or nothing.
type flow struct {
	name     string
	allowed  bool
	from, to place
	address  netip.AddrPort
	port     uint16 // where it arrives

	sent    atomic.Uint32
	mutex   sync.Mutex
	arrived map[uint32]time.Duration
}

// streams reads flows from standard input, one a line: NAME allow|deny FROM TO [ADDRESS:PORT [PORT AT THE POD]], where
// FROM and TO are NAMESPACE/POD, or a machine. Without an address it is the pod's own.
func streams(arguments []string) error {
	set := flags("streams")
	state := set.String("state", "", "the cluster's directory")
	every := set.Duration("every", 5*time.Millisecond, "between two packets of a flow")
	length := set.Duration("for", time.Hour, "how long; an interrupt ends it, too")
	port := set.Uint("port", 5000, "where no other is given")
	settle := set.Duration("settle", 0, "wait up to this long until all is as it should be for a second, before anything counts")
	_ = set.Parse(arguments)

	var flows []*flow
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		f, err := parse(*state, words, uint16(*port))
		if err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		flows = append(flows, f)
	}
	if len(flows) == 0 {
		return fmt.Errorf("no flows on standard input")
	}
	start := time.Now()
	listening := map[string]bool{}
	for _, f := range flows {
		key := fmt.Sprintf("%s %d", f.to.namespace, f.port)
		if listening[key] {
			continue
		}
		listening[key] = true
		if err := f.to.listen(f.port, func(b []byte) {
			if len(b) == 8 && binary.BigEndian.Uint32(b) < uint32(len(flows)) {
				flows[binary.BigEndian.Uint32(b)].got(binary.BigEndian.Uint32(b[4:]), time.Since(start))
			}
		}); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	var running sync.WaitGroup
	done := make(chan struct{})
	failures := make(chan error, len(flows))
	for number, f := range flows {
		running.Go(func() {
			if err := f.from.inside(func() error { return f.send(uint32(number), *every, done) }); err != nil {
				failures <- err
			}
		})
	}
	begin, unsettled := settled(flows, *settle, *every, stop)
	if unsettled == "" {
		fmt.Println("streams run")
		select {
		case <-stop:
		case <-time.After(*length):
		}
	}
	close(done)
	running.Wait()
	close(failures)
	if err := <-failures; err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // what is still under way
	if unsettled != "" {
		return fmt.Errorf("not as it should be after %v: %s", *settle, unsettled)
	}
	bad := 0
	for number, f := range flows {
		if !f.report(begin[number]) {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d flows are not as they should be", bad, len(flows))
	}
	return nil
}

// settled waits until every flow is what it should be; returns the first number of each that counts, or who is not.
func settled(flows []*flow, limit, every time.Duration, stop <-chan os.Signal) (begin []uint32, who string) {
	begin = make([]uint32, len(flows))
	if limit == 0 {
		return begin, ""
	}
	window := uint32(max(5, time.Second/every))
	end := time.Now().Add(limit)
	for {
		who = ""
		for number, f := range flows {
			sent := f.sent.Load()
			// The last ones may still be under way.
			begin[number] = sent
			from := sent - min(sent, window)
			if good, bad := f.count(from, sent-min(sent, 10)); sent < window || bad > 0 {
				who += fmt.Sprintf(" %s (%d as it should be, %d not)", f.name, good, bad)
			}
		}
		if who == "" || time.Now().After(end) {
			return begin, who
		}
		select {
		case <-stop:
			return begin, who
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func parse(state string, words []string, port uint16) (*flow, error) {
	if len(words) < 4 || len(words) > 6 || (words[1] != "allow" && words[1] != "deny") {
		return nil, fmt.Errorf("NAME allow|deny FROM TO [ADDRESS:PORT [PORT AT THE POD]]")
	}
	f := &flow{name: words[0], allowed: words[1] == "allow", port: port, arrived: map[uint32]time.Duration{}}
	var err error
	if f.from, err = find(state, words[2]); err != nil {
		return nil, err
	}
	if f.to, err = find(state, words[3]); err != nil {
		return nil, err
	}
	if len(words) > 4 {
		if f.address, err = netip.ParseAddrPort(words[4]); err != nil {
			return nil, err
		}
		f.port = f.address.Port()
	} else if len(f.to.addresses) > 0 {
		f.address = netip.AddrPortFrom(f.to.addresses[0], port)
	} else {
		return nil, fmt.Errorf("a machine needs an address")
	}
	if len(words) > 5 {
		number, err := strconv.ParseUint(words[5], 10, 16)
		if err != nil {
			return nil, err
		}
		f.port = uint16(number)
	}
	return f, nil
}

func (f *flow) send(number uint32, every time.Duration, done <-chan struct{}) error {
	payload := make([]byte, 8)
	binary.BigEndian.PutUint32(payload, number)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		binary.BigEndian.PutUint32(payload[4:], f.sent.Load())
		_ = speak(f.address, payload) // what is not sent does not arrive
		f.sent.Add(1)
		select {
		case <-done:
			return nil
		case <-tick.C:
		}
	}
}

func (f *flow) got(sequence uint32, at time.Duration) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.arrived[sequence] = at
}

// count says how many of these packets went as they should, and how many did not.
func (f *flow) count(from, to uint32) (good, bad int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for sequence := from; sequence < to; sequence++ {
		if _, arrived := f.arrived[sequence]; arrived == f.allowed {
			good++
		} else {
			bad++
		}
	}
	return good, bad
}

func (f *flow) report(from uint32) bool {
	good, bad := f.count(from, f.sent.Load())
	verb := map[bool]string{true: "lost", false: "leaked"}[f.allowed]
	mark := "ok "
	if bad > 0 || good == 0 {
		mark = "BAD"
	}
	fmt.Printf("%s %-34s %-5s %6d sent, %d %s\n", mark, f.name, map[bool]string{true: "allow", false: "deny"}[f.allowed],
		good+bad, bad, verb)
	return mark == "ok "
}
