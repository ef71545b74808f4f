/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Judges every packet that leaves through POST_ROUTING: behind DNAT and before SNAT, so with the addresses of the pods
 * themselves. `Table::lookup` in src/policy/table.rs is the same in Rust, and the tests hold one against the other.
 */
#include "kernel.h"
#include "ringfence.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Events of one counter, CPU and second. */
const volatile __u32 events_per_second = 16;

/* A test run sets neither interface nor conntrack word: `trial` has them then. */
const volatile __u32 testing = 0;
struct trial trial;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_NETWORKS);
	__type(key, struct network);
	__type(value, __u32);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ADMISSIONS);
	__type(key, struct admission_key);
	__type(value, struct admission);
} admissions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PORTS);
	__type(key, struct port_key);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_RANGES);
	__type(key, struct range_key);
	__type(value, __u32);
} ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_COUNTERS);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

/* ---- the packet ---- */

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

static __always_inline __u64 conntrack_of(struct sk_buff *skb)
{
	return testing ? trial.conntrack : skb->_nfct;
}

/* Bytes from the network header on that can be read in place. */
static __always_inline __u32 linear_of(struct sk_buff *skb)
{
	return testing && trial.scattered ? 0 : skb->len - skb->data_len;
}

static __always_inline unsigned char *data_of(struct sk_buff *skb)
{
	return skb->head + skb->network_header;
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
	struct bpf_dynptr content;
	__be16 copy[2], *words;

	if (offset > 0xffff)
		return UNREADABLE;
	if (offset + sizeof(copy) <= linear_of(skb)) {
		struct udphdr *header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct udphdr));

		return (__u64)bpf_ntohs(header->source) << 16 | bpf_ntohs(header->dest);
	}
	if (bpf_dynptr_from_skb(skb, 0, &content))
		return UNREADABLE;
	words = bpf_dynptr_slice(&content, offset, copy, sizeof(copy));
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

/* The fixed part of an IPv4 header as it is on the wire, for where it can not be read in place. */
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

/* 0, or why it can not be read. `quoted`: inside an ICMP error, where a first fragment has the ports of its flow. */
static __always_inline int read_ipv4(struct bpf_nf_ctx *ctx, __u32 offset, bool quoted, struct flow *flow)
{
	struct sk_buff *skb = ctx->skb;
	__u32 version, header_length;
	__u16 fragment;

	if (offset + sizeof(struct ipv4_wire) <= linear_of(skb)) {
		struct iphdr *header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct iphdr));

		version = BPF_CORE_READ_BITFIELD(header, version);
		header_length = BPF_CORE_READ_BITFIELD(header, ihl) * 4;
		fragment = bpf_ntohs(header->frag_off);
		flow->protocol = header->protocol;
		flow->hop_limit = header->ttl;
		set_ipv4(&flow->source, header->saddr);
		set_ipv4(&flow->destination, header->daddr);
	} else {
		struct ipv4_wire copy, *header;
		struct bpf_dynptr content;

		if (bpf_dynptr_from_skb(skb, 0, &content))
			return REASON_MALFORMED;
		header = bpf_dynptr_slice(&content, offset, &copy, sizeof(copy));
		if (!header)
			return REASON_MALFORMED;
		version = header->version_ihl >> 4;
		header_length = (header->version_ihl & 15) * 4;
		fragment = bpf_ntohs(header->frag_off);
		flow->protocol = header->protocol;
		flow->hop_limit = header->ttl;
		set_ipv4(&flow->source, header->source);
		set_ipv4(&flow->destination, header->destination);
	}
	flow->family = 4;
	if (version != 4 || header_length < sizeof(struct ipv4_wire))
		return REASON_MALFORMED;
	if (fragment & (quoted ? IPV4_OFFSET : IPV4_OFFSET | IPV4_MORE))
		return REASON_FRAGMENT;
	flow->upper = offset + header_length;
	return 0;
}

static __always_inline int read_ipv6(struct bpf_nf_ctx *ctx, __u32 offset, bool quoted, struct flow *flow)
{
	struct sk_buff *skb = ctx->skb;
	__u8 next, version;

	if (offset + sizeof(struct ipv6_wire) <= linear_of(skb)) {
		struct ipv6hdr *header = bpf_rdonly_cast(data_of(skb) + offset, bpf_core_type_id_kernel(struct ipv6hdr));
		__u32 *source = (__u32 *)flow->source.bytes, *destination = (__u32 *)flow->destination.bytes;

		version = BPF_CORE_READ_BITFIELD(header, version);
		next = header->nexthdr;
		flow->hop_limit = header->hop_limit;
		source[0] = header->saddr.in6_u.u6_addr32[0];
		source[1] = header->saddr.in6_u.u6_addr32[1];
		source[2] = header->saddr.in6_u.u6_addr32[2];
		source[3] = header->saddr.in6_u.u6_addr32[3];
		destination[0] = header->daddr.in6_u.u6_addr32[0];
		destination[1] = header->daddr.in6_u.u6_addr32[1];
		destination[2] = header->daddr.in6_u.u6_addr32[2];
		destination[3] = header->daddr.in6_u.u6_addr32[3];
	} else {
		struct ipv6_wire copy, *header;
		struct bpf_dynptr content;

		if (bpf_dynptr_from_skb(skb, 0, &content))
			return REASON_MALFORMED;
		header = bpf_dynptr_slice(&content, offset, &copy, sizeof(copy));
		if (!header)
			return REASON_MALFORMED;
		version = header->version_class >> 4;
		next = header->next;
		flow->hop_limit = header->hop_limit;
		flow->source = header->source;
		flow->destination = header->destination;
	}
	flow->family = 6;
	/* An IPv4 address in IPv6's clothes is nobody's on the wire, and would be looked up as the IPv4 one. */
	if (version != 6 || is_ipv4(&flow->source) || is_ipv4(&flow->destination))
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
	bool ipv4 = ctx->state->pf == NFPROTO_IPV4;
	int unreadable;

	/* The verifier does not know that it never is. */
	if (!flow || offset > 0xffff)
		return REASON_MALFORMED;
	unreadable = ipv4 ? read_ipv4(ctx, offset, quoted, flow) : read_ipv6(ctx, offset, quoted, flow);
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

/* ---- what the agent says ---- */

static __always_inline const struct meaning *meaning_at(__u32 index, __u64 generation)
{
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	__u64 holds;

	if (!slot)
		return NULL;
	holds = *(volatile __u64 *)&slot->holds;
	if (generation >= holds >> 1)
		return holds & 1 ? &slot->version[1] : &slot->version[0];
	return holds & 1 ? &slot->version[0] : &slot->version[1];
}

/* The slot of an address, or else of the longest prefix that holds it; one too high where nothing is said. */
#define NO_SLOT 0xffffffffu
__noinline __u32 slot_of(const struct address *address, __u8 family)
{
	__u32 *slot;

	if (!address)
		return NO_SLOT;
	slot = bpf_map_lookup_elem(&addresses, address);
	if (!slot) {
		struct network key = { .prefixlen = 8 + (family == 4 ? 32 : 128), .family = family };

		if (family == 4)
			__builtin_memcpy(key.bytes, address->bytes + 12, 4);
		else
			__builtin_memcpy(key.bytes, address->bytes, 16);
		slot = bpf_map_lookup_elem(&networks, &key);
	}
	return slot ? *slot : NO_SLOT;
}

/* NULL: nothing is said of the address. */
static __always_inline const struct meaning *meaning_of(const struct address *address, __u8 family, __u64 generation)
{
	return meaning_at(slot_of(address, family), generation);
}

/*
 * The rule that admits, 0 = none. The entry for the peer's own identity says everything about it, anybody's rules
 * included; an identity without one is anybody. Longest prefix first among ports: a single port is the longest.
 */
__noinline __u32 rule_that_admits(__u32 policy, __u32 identity, const struct flow *flow)
{
	struct admission_key key = { .policy = policy, .identity = identity };
	struct admission *admission = bpf_map_lookup_elem(&admissions, &key);
	__u32 *rule;

	if (!flow)
		return 0;
	if (!admission && identity) {
		key.identity = 0;
		admission = bpf_map_lookup_elem(&admissions, &key);
	}
	if (!admission)
		return 0;
	if (admission->any)
		return admission->any;
	if (!has_ports(flow->protocol))
		return 0;
	if (admission->flags & ADMITS_PORTS) {
		struct port_key port = {
			.port_set = admission->port_set,
			.port = bpf_htons(flow->destination_port),
			.protocol = flow->protocol,
		};

		rule = bpf_map_lookup_elem(&ports, &port);
		if (rule)
			return *rule;
	}
	if (admission->flags & ADMITS_RANGES) {
		struct range_key range = {
			.prefixlen = 56,
			.protocol = flow->protocol,
			.port = { flow->destination_port >> 8, flow->destination_port & 0xff },
		};

		__builtin_memcpy(range.port_set, &admission->port_set, sizeof(range.port_set));
		rule = bpf_map_lookup_elem(&ranges, &range);
		if (rule)
			return *rule;
	}
	return 0;
}

/* ---- what the agent is told ---- */

struct outcome {
	enum verdict verdict;
	enum reason reason;
	enum side side;
	__u32 id; /* policy that denied; rule that admitted at the destination, or else at the source */
	__u32 egress_rule;
};

static __always_inline void report(struct counter *counter, struct sk_buff *skb, const struct flow *flow,
				   const struct outcome *outcome, __u64 generation)
{
	__u64 now = bpf_ktime_get_ns();
	struct event *event;

	if (counter->window != now >> 30) {
		counter->window = now >> 30;
		counter->events = 0;
	}
	if (counter->events >= events_per_second)
		return;
	counter->events++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	*event = (struct event){
		.time = now,
		.generation = generation,
		.source = flow->source,
		.destination = flow->destination,
		.source_port = flow->source_port,
		.destination_port = flow->destination_port,
		.protocol = flow->protocol,
		.family = flow->family,
		.reply = flow->reply,
		.verdict = outcome->verdict,
		.reason = outcome->reason,
		.side = outcome->side,
		.id = outcome->id,
		.length = skb->len,
		.ifindex = ifindex_of(skb),
	};
	bpf_ringbuf_submit(event, 0);
}

static __always_inline struct counter *count(__u32 id, struct sk_buff *skb)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, &id);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
	return counter;
}

/* ---- the verdict ---- */

static __always_inline struct outcome drop(enum reason reason)
{
	return (struct outcome){ .verdict = VERDICT_DROP, .reason = reason };
}

static __always_inline struct outcome accept(enum reason reason)
{
	return (struct outcome){ .verdict = VERDICT_ACCEPT, .reason = reason };
}

static __always_inline void reverse(struct flow *flow)
{
	struct address source = flow->source;
	__u16 port = flow->source_port;

	flow->source = flow->destination;
	flow->destination = source;
	if (has_ports(flow->protocol)) {
		flow->source_port = flow->destination_port;
		flow->destination_port = port;
	}
	flow->reply = true;
}

static __always_inline bool is_closed(const struct meaning *meaning)
{
	return meaning && meaning->flags & MEANS_CLOSED;
}

/* Both ends must admit. Mirrors Table::lookup. */
static __always_inline struct outcome judge(const struct flow *flow, const struct meaning *from, const struct meaning *to)
{
	struct outcome outcome = accept(REASON_OPEN);

	if (is_closed(from) || is_closed(to))
		return drop(REASON_CLOSED);
	if (from && from->flags & MEANS_LOCAL && is_same(&flow->source, &flow->destination))
		return accept(REASON_SELF);
	if (from && from->egress) {
		outcome.egress_rule = rule_that_admits(from->egress, to ? to->identity : 0, flow);
		outcome.reason = REASON_POLICY;
		outcome.side = SIDE_EGRESS;
		if (!outcome.egress_rule) {
			outcome.verdict = VERDICT_DROP;
			outcome.id = from->egress;
			return outcome;
		}
		outcome.id = outcome.egress_rule;
	}
	if (to && to->ingress) {
		outcome.id = rule_that_admits(to->ingress, from ? from->identity : 0, flow);
		outcome.reason = REASON_POLICY;
		outcome.side = SIDE_INGRESS;
		if (!outcome.id) {
			outcome.verdict = VERDICT_DROP;
			outcome.id = to->ingress;
		}
	}
	return outcome;
}

/*
 * The order, and why:
 *   neighbour discovery  works for everybody, or there is no network at all; routers' messages for nobody
 *   (spoofed sources)    to come: before anything believes an address
 *   closed, self         by the packet's own addresses, whatever connection it claims to belong to
 *   direction            conntrack says which end began, and nothing else: taking a rule away cuts live connections, too.
 *                        Without an entry (conntrack is off, or finds the packet invalid) it is never a reply.
 *   egress, ingress      of the first packet of the connection
 */
static __always_inline struct outcome verdict(struct bpf_nf_ctx *ctx, struct flow *flow, __u64 generation)
{
	int unreadable = read_flow(ctx, 0, false, flow);
	const struct meaning *from, *to;
	__u64 conntrack;
	__u32 info;

	if (unreadable)
		return drop(unreadable);
	if (is_redirect(flow))
		return drop(REASON_REDIRECT);
	if (is_neighbour(flow))
		return accept(REASON_NEIGHBOUR);

	from = meaning_of(&flow->source, flow->family, generation);
	to = meaning_of(&flow->destination, flow->family, generation);
	if (is_closed(from) || is_closed(to))
		return drop(REASON_CLOSED);

	/* The pointer first: with conntrack off the word is 0, which would read as an established connection. */
	conntrack = conntrack_of(ctx->skb);
	info = conntrack & ~CT_INFO ? conntrack & CT_INFO : CT_NEW;
	if ((info == CT_RELATED || info == CT_RELATED_REPLY) && is_icmp_error(flow)) {
		/*
		 * It travels to the sender of the packet that it quotes, so against that packet's direction: where the
		 * error counts as a reply, the quoted packet went the way of the first one. (nf_conntrack_inet_error)
		 */
		struct flow quoted = {};

		unreadable = read_flow(ctx, flow->upper + ICMP_HEADER, true, &quoted);
		if (unreadable || !is_same(&quoted.source, &flow->destination))
			return drop(REASON_MALFORMED);
		*flow = quoted;
		if (info == CT_RELATED)
			reverse(flow);
		else
			flow->reply = true;
		from = meaning_of(&flow->source, flow->family, generation);
		to = meaning_of(&flow->destination, flow->family, generation);
	} else if (info == CT_REPLY || info == CT_RELATED_REPLY) {
		const struct meaning *swapped = from;

		reverse(flow);
		from = to;
		to = swapped;
	}
	return judge(flow, from, to);
}

static __always_inline bool begins(struct sk_buff *skb)
{
	__u64 conntrack = conntrack_of(skb);

	return !(conntrack & ~CT_INFO) || (conntrack & CT_INFO) == CT_NEW;
}

SEC("netfilter")
int ringfence(struct bpf_nf_ctx *ctx)
{
	struct sk_buff *skb = ctx->skb;
	struct flow flow = {};
	struct outcome outcome;
	struct counter *counter;
	struct control *state;
	__u64 generation;
	__u32 first = 0;

	/* Whatever the node itself sends, probes among it. Not the socket: an outer VXLAN packet has none. */
	if (!ifindex_of(skb)) {
		count(REASON_NODE, skb);
		return NF_ACCEPT;
	}
	state = bpf_map_lookup_elem(&control, &first);
	if (!state)
		return NF_DROP;
	/* Once, and before anything else that changes: the packet sees the whole state of one generation. */
	generation = *(volatile __u64 *)&state->generation;

	outcome = verdict(ctx, &flow, generation);

	counter = count(outcome.id ? outcome.id : outcome.reason, skb);
	if (outcome.verdict == VERDICT_ACCEPT) {
		if (outcome.egress_rule && outcome.egress_rule != outcome.id)
			count(outcome.egress_rule, skb);
		if (state->report == REPORT_ACCEPTS && counter && begins(skb))
			report(counter, skb, &flow, &outcome, generation);
		return NF_ACCEPT;
	}
	if (counter)
		report(counter, skb, &flow, &outcome, generation);
	return NF_DROP;
}
