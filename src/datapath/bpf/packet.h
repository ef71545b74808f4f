/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a packet says: addresses, protocol, ports, and what kind of ICMP it is. Whatever can not be read for certain
 * has a reason to be dropped instead.
 */
#pragma once

#include "kernel.h"
#include "ringfence.h"

/* A test run sets neither interface nor conntrack word: `trial` has them then. */
const volatile __u32 testing = 0;
struct trial trial;

#define ICMP 1
#define TCP 6
#define UDP 17
#define ICMPV6 58
#define SCTP 132

/* What can stand between an IPv6 header and the header of a protocol. */
#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define AUTHENTICATION 51
#define DESTINATION 60
#define MAX_EXTENSIONS 12

#define IPV4_OFFSET 0x1fff
#define IPV4_MORE 0x2000
#define IPV6_OFFSET 0xfff8
#define IPV6_MORE 0x0001

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_HEADER 8

#define ICMPV6_LAST_ERROR 4
#define MLD_QUERY 130
#define MLD_REPORT 131
#define MLD_DONE 132
#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_REDIRECT 137
#define MLD2_REPORT 143

/* Low bits of skb->_nfct; the others are the entry's address. */
#define CT_INFO 7ul
#define CT_RELATED 1
#define CT_NEW 2
#define CT_REPLY 3
#define CT_RELATED_REPLY 4

struct flow {
	struct address source;
	struct address destination;
	__u16 source_port; /* host order; ICMP: type */
	__u16 destination_port; /* ICMP: code */
	__u8 protocol;
	__u8 family;
	__u8 hop_limit;
	bool reply; /* the packet went the other way; set after the addresses are those of the first packet */
	__u32 upper; /* where the protocol's header begins */
};

static __always_inline __u32 ifindex_of(struct sk_buff *skb)
{
	return testing ? trial.ifindex : (__u32)skb->skb_iif;
}

/* NULL: no bridge has seen the packet, or none that calls netfilter. */
static __always_inline struct nf_bridge_info *bridge_of(struct sk_buff *skb)
{
	__u32 number = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_BRIDGE_NF);
	struct skb_ext *extensions;

	if (!bpf_core_type_exists(struct nf_bridge_info) || !(skb->active_extensions & 1 << number))
		return NULL;
	extensions = skb->extensions;
	if (!extensions)
		return NULL;
	/* The only extension that is looked at is the first one. */
	return bpf_rdonly_cast((void *)extensions + ((__u32)extensions->offset[0] << 3),
			       bpf_core_type_id_kernel(struct nf_bridge_info));
}

/* Where a packet comes from and goes to, as far as that is settled in the hook. */
struct way {
	__u32 in; /* interface that it came in by: the port, where that is one of a bridge */
	__u32 out; /* interface that it leaves by: the port likewise; 0 = not known */
	bool bridged; /* `out` is a port. Else what `out` does with it is not known */
};

static __always_inline struct way way_of(struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	struct nf_bridge_info *bridge;
	struct net_device *out, *port;
	struct way way;

	out = ctx->state->out;
	way = (struct way){ .in = skb->skb_iif, .out = out ? out->ifindex : 0 };
	bridge = bridge_of(skb);
	/* Here, so that it costs what it costs. */
	if (testing)
		return (struct way){
			.in = trial.port ? trial.port : trial.ifindex,
			.out = trial.out_port ? trial.out_port : trial.out,
			.bridged = trial.out_port,
		};
	if (!bridge)
		return way;
	if (bpf_core_field_exists(bridge->physinif)) {
		if (bridge->physinif)
			way.in = bridge->physinif;
	} else {
		struct nf_bridge_info___with_device *before = bpf_rdonly_cast(
			bridge, bpf_core_type_id_kernel(struct nf_bridge_info___with_device));

		if (before->physindev)
			way.in = before->physindev->ifindex;
	}
	port = bridge->physoutdev;
	if (port) {
		way.out = port->ifindex;
		way.bridged = true;
	}
	return way;
}

static __always_inline __u64 conntrack_of(struct sk_buff *skb)
{
	return testing ? trial.conntrack : skb->_nfct;
}

/* Bytes from the network header on that can be read in place. */
static __always_inline __u32 linear_of(struct sk_buff *skb)
{
	if ((testing && trial.scattered) || skb->tail <= skb->network_header)
		return 0;
	return skb->tail - skb->network_header;
}

static __always_inline unsigned char *data_of(struct sk_buff *skb)
{
	return skb->head + skb->network_header;
}

/* What is not in the linear part: where it is, or `to` and a copy in it. NULL: it is not all there. */
static __always_inline void *sliced(struct sk_buff *skb, __u32 offset, void *to, __u32 size)
{
	struct bpf_dynptr content;

	return bpf_dynptr_from_skb(skb, 0, &content) ? NULL : bpf_dynptr_slice(&content, offset, to, size);
}

/*
 * Functions that are not static are verified once and alone, for whatever they may be called with: without them the
 * verifier follows every path through the headers for every path through the rest.
 */

/* Two 16 bit words in host order, the first one above: ports, or type and code, or the head of an extension. */
#define UNREADABLE (1ull << 32)
__noinline __u64 words_at(struct bpf_nf_ctx *ctx, __u32 offset)
{
	struct sk_buff *skb = ctx->skb;
	__be16 copy[2], *words;

	if (offset > 0xffff)
		return UNREADABLE;
	if (offset + sizeof(copy) <= linear_of(skb)) {
		struct udphdr *header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct udphdr));

		return (__u64)bpf_ntohs(header->source) << 16 | bpf_ntohs(header->dest);
	}
	words = sliced(skb, offset, copy, sizeof(copy));
	if (!words)
		return UNREADABLE;
	return (__u64)bpf_ntohs(words[0]) << 16 | bpf_ntohs(words[1]);
}

static __always_inline void set_ipv4(struct address *address, __be32 ipv4)
{
	__u32 *words = (__u32 *)address->bytes;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ipv4;
}

static __always_inline bool is_ipv4(const struct address *address)
{
	const __u32 *words = (const __u32 *)address->bytes;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_same(const struct address *a, const struct address *b)
{
	const __u64 *x = (const __u64 *)a->bytes, *y = (const __u64 *)b->bytes;

	return x[0] == y[0] && x[1] == y[1];
}

/* The fixed part of an IPv4 header as it is on the wire. */
struct ipv4_wire {
	__u8 version_ihl, tos;
	__be16 length, id, frag_off;
	__u8 ttl, protocol;
	__be16 check;
	__be32 source, destination;
};

struct ipv6_wire {
	__u8 version_class, rest[3];
	__be16 length;
	__u8 next, hop_limit;
	struct address source, destination;
};

/* What is read of a header, in place. Whether it is all there; without, somebody else has to copy it. */
static __always_inline bool ipv4_in_place(struct sk_buff *skb, __u32 offset, struct ipv4_wire *to)
{
	struct iphdr *header;

	if (offset + sizeof(*to) > linear_of(skb))
		return false;
	header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct iphdr));
	to->version_ihl = BPF_CORE_READ_BITFIELD(header, version) << 4 | BPF_CORE_READ_BITFIELD(header, ihl);
	to->frag_off = header->frag_off;
	to->ttl = header->ttl;
	to->protocol = header->protocol;
	to->source = header->saddr;
	to->destination = header->daddr;
	return true;
}

static __always_inline bool ipv6_in_place(struct sk_buff *skb, __u32 offset, struct ipv6_wire *to)
{
	__u32 *source = (__u32 *)to->source.bytes, *destination = (__u32 *)to->destination.bytes;
	struct ipv6hdr *header;

	if (offset + sizeof(*to) > linear_of(skb))
		return false;
	header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct ipv6hdr));
	to->version_class = BPF_CORE_READ_BITFIELD(header, version) << 4;
	to->next = header->nexthdr;
	to->hop_limit = header->hop_limit;
	for (int i = 0; i < 4; i++) {
		source[i] = header->saddr.in6_u.u6_addr32[i];
		destination[i] = header->daddr.in6_u.u6_addr32[i];
	}
	return true;
}

/* 0, or why it can not be read. `quoted`: inside an ICMP error, where a first fragment has the ports of its flow. */
static __always_inline int read_ipv4(struct sk_buff *skb, __u32 offset, bool quoted, struct ipv4_wire *header,
				     struct flow *flow)
{
	__u32 header_length;
	__u16 fragment;

	if (!ipv4_in_place(skb, offset, header)) {
		struct ipv4_wire *there = sliced(skb, offset, header, sizeof(*header));

		if (!there)
			return REASON_MALFORMED;
		*header = *there;
	}
	header_length = (header->version_ihl & 15) * 4;
	fragment = bpf_ntohs(header->frag_off);
	flow->protocol = header->protocol;
	flow->hop_limit = header->ttl;
	set_ipv4(&flow->source, header->source);
	set_ipv4(&flow->destination, header->destination);
	flow->family = 4;
	if (header->version_ihl >> 4 != 4 || header_length < sizeof(*header))
		return REASON_MALFORMED;
	if (fragment & (quoted ? IPV4_OFFSET : IPV4_OFFSET | IPV4_MORE))
		return REASON_FRAGMENT;
	flow->upper = offset + header_length;
	return 0;
}

static __always_inline int read_ipv6(struct bpf_nf_ctx *ctx, __u32 offset, bool quoted, struct ipv6_wire *header,
				     struct flow *flow)
{
	__u8 next;

	if (!ipv6_in_place(ctx->skb, offset, header)) {
		struct ipv6_wire *there = sliced(ctx->skb, offset, header, sizeof(*header));

		if (!there)
			return REASON_MALFORMED;
		*header = *there;
	}
	next = header->next;
	flow->hop_limit = header->hop_limit;
	flow->source = header->source;
	flow->destination = header->destination;
	flow->family = 6;
	/* An IPv4 address in IPv6's clothes is nobody's on the wire, and would be looked up as the IPv4 one. */
	if (header->version_class >> 4 != 6 || is_ipv4(&flow->source) || is_ipv4(&flow->destination))
		return REASON_MALFORMED;

	offset += sizeof(struct ipv6_wire);
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		__u64 words;
		__u16 head, fragment;

		if (next != HOP_BY_HOP && next != ROUTING && next != FRAGMENT && next != AUTHENTICATION &&
		    next != DESTINATION) {
			flow->protocol = next;
			flow->upper = offset;
			return 0;
		}
		words = words_at(ctx, offset);
		if (words & UNREADABLE)
			return REASON_MALFORMED;
		head = words >> 16;
		fragment = words;
		if (next == FRAGMENT) {
			/* Neither bit set: a whole packet that only has the header. */
			if (fragment & (quoted ? IPV6_OFFSET : IPV6_OFFSET | IPV6_MORE))
				return REASON_FRAGMENT;
			offset += 8;
		} else if (next == AUTHENTICATION) {
			offset += ((head & 0xff) + 2) * 4;
		} else {
			offset += ((head & 0xff) + 1) * 8;
		}
		next = head >> 8;
	}
	return REASON_MALFORMED;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == TCP || protocol == UDP || protocol == SCTP;
}

/* 0, or why the packet (or what an ICMP error quotes at `offset`) can not be read. */
__noinline int read_flow(struct bpf_nf_ctx *ctx, __u32 offset, bool quoted, struct flow *flow)
{
	union {
		struct ipv4_wire ipv4;
		struct ipv6_wire ipv6;
	} header = {};
	bool ipv4 = ctx->state->pf == NFPROTO_IPV4;
	int unreadable;

	/* The verifier does not know that it never is. */
	if (!flow || offset > 0xffff)
		return REASON_MALFORMED;
	unreadable = ipv4 ? read_ipv4(ctx->skb, offset, quoted, &header.ipv4, flow) :
			    read_ipv6(ctx, offset, quoted, &header.ipv6, flow);
	if (unreadable)
		return unreadable;
	if (has_ports(flow->protocol) || flow->protocol == (ipv4 ? ICMP : ICMPV6)) {
		__u64 words = words_at(ctx, flow->upper);

		if (words & UNREADABLE)
			return REASON_MALFORMED;
		if (has_ports(flow->protocol)) {
			flow->source_port = words >> 16;
			flow->destination_port = words;
		} else {
			flow->source_port = words >> 24 & 0xff;
			flow->destination_port = words >> 16 & 0xff;
		}
	}
	return 0;
}

static __always_inline bool is_icmp(const struct flow *flow)
{
	return flow->protocol == (flow->family == 4 ? ICMP : ICMPV6);
}

static __always_inline bool is_icmp_error(const struct flow *flow)
{
	__u16 type = flow->source_port;

	if (!is_icmp(flow))
		return false;
	if (flow->family == 6)
		return type <= ICMPV6_LAST_ERROR;
	return type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_EXCEEDED || type == ICMP_PARAMETER;
}

/* What only a router may say. Nothing that is seen here was sent by the node, and a pod is no router. */
static __always_inline bool is_redirect(const struct flow *flow)
{
	__u16 type = flow->source_port;

	if (!is_icmp(flow))
		return false;
	return flow->family == 4 ? type == ICMP_REDIRECT : type == ND_ROUTER_ADVERTISEMENT || type == ND_REDIRECT;
}

/* The two sources that neighbours use beside their own addresses: link-local ones, and none at all. */
static __always_inline bool is_link_local_or_none(const struct address *address)
{
	const __u64 *words = (const __u64 *)address->bytes;

	if (!words[0] && !words[1])
		return true;
	return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

/* Neighbour discovery and multicast listener reports: the hop limit shows that no router passed them on. */
static __always_inline bool is_neighbour(const struct flow *flow)
{
	__u16 type = flow->source_port;

	if (flow->family != 6 || flow->protocol != ICMPV6)
		return false;
	if (flow->hop_limit == 255)
		return type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT;
	return flow->hop_limit == 1 &&
	       (type == MLD_QUERY || type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT);
}
