package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connections opens one TCP connection after the other for a while and prints how many a second.
func connections(arguments []string) error {
	set := flags("connections")
	state := set.String("state", "", "the cluster's directory")
	from := set.String("from", "", "NAMESPACE/POD")
	to := set.String("to", "", "NAMESPACE/POD")
	length := set.Duration("for", 2*time.Second, "how long")
	port := set.Uint("port", 6000, "where")
	_ = set.Parse(arguments)
	client, err := find(*state, *from)
	if err != nil {
		return err
	}
	server, err := find(*state, *to)
	if err != nil {
		return err
	}
	if err := server.accept(uint16(*port)); err != nil {
		return err
	}
	target := netip.AddrPortFrom(server.addresses[0], uint16(*port))
	opened := 0
	begin := time.Now()
	if err := client.inside(func() error {
		for time.Since(begin) < *length {
			if err := connect(target); err != nil {
				return fmt.Errorf("connection %d to %v: %w", opened, target, err)
			}
			opened++
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Printf("%.0f\n", float64(opened)/time.Since(begin).Seconds())
	return nil
}

// connect opens a connection and resets it: no port waits afterwards.
func connect(to netip.AddrPort) error {
	family, address := unix.AF_INET, unix.Sockaddr(nil)
	if to.Addr().Is4() {
		address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	socket, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	_ = unix.SetsockoptLinger(socket, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	// Not a timeout of the socket: with one, the signals of Go's scheduler interrupt connect.
	_ = unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 3)
	return unix.Connect(socket, address)
}

func (p place) accept(port uint16) error {
	return p.inside(func() error {
		family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(port)})
		if !p.addresses[0].Is4() {
			family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port)}
		}
		socket, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(socket, address); err != nil {
			return fmt.Errorf("port %d of %s: %w", port, p.name, err)
		}
		if err := unix.Listen(socket, 1024); err != nil {
			return err
		}
		go func() {
			for {
				if connection, _, err := unix.Accept4(socket, unix.SOCK_CLOEXEC); err == nil {
					_ = unix.Close(connection)
				}
			}
		}()
		return nil
	})
}
