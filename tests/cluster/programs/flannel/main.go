// flannel's VXLAN backend on one node, with its own subnet manager for Kubernetes and its own nftables rules.
//
// flannel's main package links every backend, one of them needs a module of a cloud provider that cannot be had, so this one
// links only what a node here uses.
package main

import (
	"context"
	"flag"
	"log"
	"sync"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
)

// Seconds between two looks at the rules.
const resync = 5

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	netConf := flag.String("net-conf", "", "flannel's net-conf.json")
	subnetFile := flag.String("subnet-file", "/run/flannel/subnet.env", "where to say what this node's subnet is")
	iface := flag.String("iface", "eth0", "the interface to other nodes")
	flag.Parse()
	if err := run(context.Background(), *kubeconfig, *netConf, *subnetFile, *iface); err != nil {
		log.Fatal(err)
	}
}

// The node is the one that NODE_NAME names; it must have a podCIDR already.
func run(ctx context.Context, kubeconfig, netConf, subnetFile, iface string) error {
	subnets, err := kube.NewSubnetManager(ctx, "", kubeconfig, "flannel.alpha.coreos.com", netConf, false)
	if err != nil {
		return err
	}
	config, err := subnets.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	families, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return err
	}
	external, err := ipmatch.LookupExtIface(iface, "", "", families, ipmatch.PublicIPOpts{})
	if err != nil {
		return err
	}
	vxlan, err := backend.NewManager(ctx, subnets, external).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	network, err := vxlan.RegisterNetwork(ctx, &running, config)
	if err != nil {
		return err
	}
	lease := network.Lease()

	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	err = rules.SetupAndEnsureMasqRules(ctx, config.Network, ip.IP4Net{}, ip.IP4Net{}, config.IPv6Network, ip.IP6Net{}, ip.IP6Net{}, lease, resync, false)
	if err != nil {
		return err
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)

	if err := subnets.HandleSubnetFile(subnetFile, config, true, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return err
	}
	if err := subnets.CompleteLease(ctx, lease, &running); err != nil {
		return err
	}
	network.Run(ctx)
	running.Wait()
	return nil
}
