package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a network namespace of the cluster: a pod's, or a machine's.
type place struct {
	name      string
	namespace string // its file
	addresses []netip.Addr
}

// find looks for NAMESPACE/POD in what the CNI plugins of the nodes wrote down, or for a machine (cp, n1, n2).
func find(state, name string) (place, error) {
	if !strings.Contains(name, "/") {
		id, err := machine(state, name)
		return place{name: name, namespace: "/proc/" + id + "/ns/net"}, err
	}
	var found place
	var newest int64
	files, _ := filepath.Glob(filepath.Join(state, "n[0-9]*/root/var/lib/cni/results/cbr0-*"))
	for _, file := range files {
		node := strings.Split(strings.TrimPrefix(file, state+"/"), "/")[0]
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the pod has just gone
		}
		var cached struct {
			Netns   string
			CniArgs [][2]string
			Result  struct{ Ips []struct{ Address string } }
		}
		if err := json.Unmarshal(text, &cached); err != nil {
			continue // it is just being written
		}
		args := map[string]string{}
		for _, arg := range cached.CniArgs {
			args[arg[0]] = arg[1]
		}
		info, err := os.Stat(file)
		if err != nil || args["K8S_POD_NAMESPACE"]+"/"+args["K8S_POD_NAME"] != name || info.ModTime().UnixNano() < newest {
			continue
		}
		id, err := machine(state, node)
		if err != nil {
			return place{}, err
		}
		newest = info.ModTime().UnixNano()
		found = place{name: name, namespace: "/proc/" + id + "/root" + cached.Netns}
		for _, ip := range cached.Result.Ips {
			prefix, err := netip.ParsePrefix(ip.Address)
			if err != nil {
				return place{}, fmt.Errorf("%s: %w", file, err)
			}
			found.addresses = append(found.addresses, prefix.Addr())
		}
	}
	if newest == 0 {
		return place{}, fmt.Errorf("no node has a pod %s", name)
	}
	return found, nil
}

func machine(state, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(state, "machines", name))
	if err != nil {
		return "", fmt.Errorf("no machine %s: %w", name, err)
	}
	return strings.Fields(string(text))[0], nil
}

// inside calls f on a thread that is in the place's network namespace for good: it ends with f.
func (p place) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, so nobody else gets the thread
		file, err := os.Open(p.namespace)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			_ = file.Close()
		}
		if err != nil {
			done <- fmt.Errorf("the network namespace of %s: %w", p.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// speak sends one datagram from a source port that the kernel chooses.
func speak(to netip.AddrPort, payload []byte) error {
	family, address := unix.AF_INET, unix.Sockaddr(nil)
	if to.Addr().Is4() {
		address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	socket, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return unix.Sendto(socket, payload, unix.MSG_DONTWAIT, address)
}

// listen hands every datagram for the port of the place to got, until the process ends.
func (p place) listen(port uint16, got func([]byte)) error {
	return p.inside(func() error {
		socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil { // a pod without IPv6
			socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		}
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		_ = unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		if err := unix.Bind(socket, &unix.SockaddrInet6{Port: int(port)}); err != nil {
			if err := unix.Bind(socket, &unix.SockaddrInet4{Port: int(port)}); err != nil {
				return fmt.Errorf("port %d of %s: %w", port, p.name, err)
			}
		}
		go func() {
			buffer := make([]byte, 256)
			for {
				n, _, err := unix.Recvfrom(socket, buffer, 0)
				if err == nil {
					got(buffer[:n])
				}
			}
		}()
		return nil
	})
}

// where prints the file of a place's network namespace.
func where(arguments []string) error {
	set := flags("place")
	state := set.String("state", "", "the cluster's directory")
	_ = set.Parse(arguments)
	p, err := find(*state, set.Arg(0))
	if err == nil {
		fmt.Println(p.namespace)
	}
	return err
}
