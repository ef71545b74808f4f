/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The few types of the kernel that the program reads. The loader relocates every access to the running kernel's own
 * layout, so members that are not read are left out and the order means nothing.
 */
#pragma once

/* <linux/bpf.h> first: it brings the fixed-width types that the helpers need. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define NF_DROP 0
#define NF_ACCEPT 1
#define NFPROTO_IPV4 2
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

/* Headers of the system may be older than these: on to whoever comes next, and nowhere. */
#define TCX_NEXT (-1)
#define TCX_DROP 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum skb_ext_id {
	SKB_EXT_BRIDGE_NF,
};

struct skb_ext {
	__u8 offset[1]; /* in units of 8 bytes, by skb_ext_id */
};

struct net_device {
	int ifindex;
};

/* What br_netfilter notes of a packet. */
struct nf_bridge_info {
	int physinif;
	struct net_device *physoutdev;
};

/* Before Linux 6.8. */
struct nf_bridge_info___with_device {
	struct net_device *physindev;
};

struct sk_buff {
	unsigned int len;
	unsigned int tail;
	int skb_iif;
	unsigned long _nfct;
	__u16 network_header;
	unsigned char *head;
	__u8 active_extensions;
	struct skb_ext *extensions;
};

struct nf_hook_state {
	__u8 pf;
	struct net_device *out;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

struct iphdr {
	__u8 ihl : 4, version : 4;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__be32 saddr;
	__be32 daddr;
};

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct ipv6hdr {
	__u8 priority : 4, version : 4;
	__u8 nexthdr;
	__u8 hop_limit;
	struct in6_addr saddr;
	struct in6_addr daddr;
};

struct udphdr {
	__be16 source;
	__be16 dest;
};

#pragma clang attribute pop

extern void *bpf_cast_to_kern_ctx(void *context) __ksym;
extern int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 buffer__szk) __ksym;
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym;
