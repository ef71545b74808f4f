package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// How many ports of the server the probes go round: with all source ports of a client that is longer than a flow is
// remembered, so no probe belongs to an earlier one.
const ports = 4

// probes: when each was sent, and whether it arrived. Times are in nanoseconds since the beginning.
type probes struct {
	begin   time.Time
	sent    []int64
	arrived []atomic.Bool
	next    atomic.Int64
	last    atomic.Int64 // the highest that arrived
}

// latency edits one policy again and again: the client is admitted, is not, is admitted again. The time is from the API
// server's answer to when the last probe that still got through was sent, or the first one that got through again.
func latency(arguments []string) error {
	set := flags("latency")
	state := set.String("state", "", "the cluster's directory")
	from := set.String("from", "", "NAMESPACE/POD")
	to := set.String("to", "", "NAMESPACE/POD")
	policy := set.String("policy", "", "NAMESPACE/NAME of the NetworkPolicy that admits the label app: client, and is edited")
	changes := set.Int("changes", 200, "how often it denies")
	rate := set.Int("rate", 3000, "probes a second")
	label := set.String("label", "", "how to begin the lines")
	_ = set.Parse(arguments)
	client, err := find(*state, *from)
	if err != nil {
		return err
	}
	server, err := find(*state, *to)
	if err != nil {
		return err
	}
	api, err := open(*state)
	if err != nil {
		return err
	}
	// At most two seconds for a change; see below.
	p := &probes{begin: time.Now(), sent: make([]int64, *rate*(60+*changes*4)), arrived: make([]atomic.Bool, *rate*(60+*changes*4))}
	for port := range ports {
		if err := server.listen(uint16(9000+port), p.got); err != nil {
			return err
		}
	}
	sending := make(chan error, 1)
	go func() {
		sending <- client.inside(func() error { return p.send(netip.AddrPortFrom(server.addresses[0], 9000), *rate) })
	}()
	var namespace, name string
	if _, err := fmt.Sscanf(split(*policy), "%s %s", &namespace, &name); err != nil {
		return fmt.Errorf("--policy %s: NAMESPACE/NAME", *policy)
	}
	edit := func(app string) (int64, error) {
		err := api.call(http.MethodPatch, "/apis/networking.k8s.io/v1/namespaces/"+namespace+"/networkpolicies/"+name,
			object{"spec": object{"ingress": []object{{"from": []object{{"podSelector": object{"matchLabels": object{"app": app}}}}}}}})
		return int64(time.Since(p.begin)), err
	}
	if _, err := edit("client"); err != nil {
		return err
	}
	if err := p.through(int64(time.Since(p.begin))); err != nil {
		return fmt.Errorf("before anything was changed: %w", err)
	}
	var denied, allowed spread
	for range *changes {
		// At no particular moment of whatever has a rhythm.
		time.Sleep(100*time.Millisecond + rand.N(100*time.Millisecond))
		answered, err := edit("nobody")
		if err != nil {
			return err
		}
		last, err := p.quiet()
		if err != nil {
			return err
		}
		denied = append(denied, float64(max(0, last-answered))/1e6)
		if answered, err = edit("client"); err != nil {
			return err
		}
		if err := p.through(answered); err != nil {
			return err
		}
		allowed = append(allowed, float64(max(0, p.first(last)-answered))/1e6)
		select {
		case err := <-sending:
			return fmt.Errorf("nothing is sent any more: %w", err)
		default:
		}
	}
	fmt.Printf("%s denied after  %v\n%s allowed after %v\n", *label, denied, *label, allowed)
	return nil
}

func split(name string) string {
	for i, c := range name {
		if c == '/' {
			return name[:i] + " " + name[i+1:]
		}
	}
	return name
}

func (p *probes) send(to netip.AddrPort, rate int) error {
	payload := make([]byte, 8)
	due := time.Now()
	for number := range len(p.sent) {
		due = due.Add(time.Second / time.Duration(rate))
		pause(time.Until(due))
		binary.BigEndian.PutUint64(payload, uint64(number))
		p.sent[number] = int64(time.Since(p.begin))
		p.next.Store(int64(number) + 1)
		_ = speak(netip.AddrPortFrom(to.Addr(), to.Port()+uint16(number%ports)), payload)
	}
	return fmt.Errorf("all %d probes are used up", len(p.sent))
}

// pause sleeps as long as it says. time.Sleep is woken by a poll that counts in milliseconds: probes would go out in bursts.
func pause(until time.Duration) {
	if until > 0 {
		remaining := syscall.NsecToTimespec(int64(until))
		_ = syscall.Nanosleep(&remaining, nil) // a signal cuts it short: then the probe is early
	}
}

func (p *probes) got(b []byte) {
	if len(b) != 8 {
		return
	}
	number := int64(binary.BigEndian.Uint64(b))
	p.arrived[number].Store(true)
	for last := p.last.Load(); last < number && !p.last.CompareAndSwap(last, number); last = p.last.Load() {
	}
}

// quiet waits until nothing has arrived of what was sent in the last 150 ms, and returns when the last that did was sent.
func (p *probes) quiet() (int64, error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		last := p.last.Load()
		if int64(time.Since(p.begin))-p.sent[last] > int64(150*time.Millisecond) {
			return p.sent[last], nil
		}
	}
	return 0, fmt.Errorf("20 s after a policy denies, probes still get through")
}

// through waits until something has arrived that was sent after this time.
func (p *probes) through(since int64) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p.sent[p.last.Load()] > since {
			return nil
		}
	}
	return fmt.Errorf("20 s after a policy admits, no probe gets through")
}

// first is when the first probe after that time was sent that arrived.
func (p *probes) first(after int64) int64 {
	first := p.sent[p.last.Load()]
	for number := p.last.Load(); number >= 0 && p.sent[number] > after; number-- {
		if p.arrived[number].Load() {
			first = p.sent[number]
		}
	}
	return first
}
