/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Judges every packet that leaves through POST_ROUTING: behind DNAT and before SNAT, so with the addresses of the pods
 * themselves. `Table::lookup` in src/policy/table.rs is the same in Rust, and the tests hold one against the other.
 */
#include "packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Events of one counter, CPU and second. */
const volatile __u32 events_per_second = 16;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} interfaces SEC(".maps");

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

/* What is behind an interface. NULL: no address is bound to it. */
static __always_inline const struct meaning *behind(__u32 ifindex, __u64 generation)
{
	__u32 *slot = bpf_map_lookup_elem(&interfaces, &ifindex);
	const struct meaning *meaning = slot ? meaning_at(*slot, generation) : NULL;

	return meaning && meaning->flags & MEANS_LOCAL ? meaning : NULL;
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
	__u32 id; /* policy that denied or would; or rule that admitted, at the destination or else at the source */
	__u32 other; /* what the other end said */
};

static __always_inline void report(struct counter *counter, struct sk_buff *skb, const struct flow *flow,
				   const struct outcome *outcome, __u32 came_by, __u64 generation)
{
	__u64 now = bpf_ktime_get_ns();
	struct event *event;

	if (counter->window != (__u32)(now >> 30)) {
		counter->window = now >> 30;
		counter->events = 0;
	}
	if (counter->events >= events_per_second) {
		counter->unreported++;
		return;
	}
	counter->events++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		counter->unreported++;
		return;
	}
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
		.ifindex = came_by,
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
static __always_inline struct outcome judge(const struct flow *flow, const struct meaning *from,
					   const struct meaning *to)
{
	struct outcome outcome = accept(REASON_OPEN);

	if (is_closed(from) || is_closed(to))
		return drop(REASON_CLOSED);
	if (from && from->flags & MEANS_LOCAL && is_same(&flow->source, &flow->destination))
		return accept(REASON_SELF);
	if (from && from->egress) {
		__u32 rule = rule_that_admits(from->egress, to ? to->identity : 0, flow);

		outcome.reason = REASON_POLICY;
		outcome.side = SIDE_EGRESS;
		outcome.id = rule ? rule : from->egress & ~AUDIT;
		if (!rule)
			outcome.verdict = from->egress & AUDIT ? VERDICT_AUDIT : VERDICT_DROP;
		if (outcome.verdict == VERDICT_DROP)
			return outcome;
	}
	if (to && to->ingress) {
		__u32 rule = rule_that_admits(to->ingress, from ? from->identity : 0, flow);
		__u32 id = rule ? rule : to->ingress & ~AUDIT;
		bool passes = rule || to->ingress & AUDIT;

		if (passes && outcome.verdict == VERDICT_AUDIT) {
			/* The source's end would have denied it before. */
			outcome.other = id;
			return outcome;
		}
		outcome.reason = REASON_POLICY;
		outcome.side = SIDE_INGRESS;
		outcome.other = outcome.id;
		outcome.id = id;
		if (!rule)
			outcome.verdict = passes ? VERDICT_AUDIT : VERDICT_DROP;
	}
	return outcome;
}

/* Whether a source is not one of those that are bound to the interface. */
static __always_inline bool is_spoofed(const struct meaning *from, __u32 ifindex, __u64 generation)
{
	if (from && from->ifindex)
		return from->ifindex != ifindex;
	return behind(ifindex, generation);
}

/*
 * The order, and why:
 *   routers' messages    for nobody
 *   spoofed sources      before anything believes an address
 *   neighbour discovery  works for everybody, or there is no network at all
 *   astray               before it is asked what the destination admits: it is not there
 *   multicast and such   what leaves by the interface of a pod is for that pod, whatever its destination says
 *   closed, self         by the packet's own addresses, whatever connection it claims to belong to
 *   direction            conntrack says which end began, and nothing else: taking a rule away cuts live connections,
 *                        too. Without an entry (conntrack is off, or finds the packet invalid) it is never a reply.
 *   egress, ingress      of the first packet of the connection
 */
static __always_inline struct outcome verdict(struct bpf_nf_ctx *ctx, struct flow *flow, __u32 *came_by,
					     __u64 generation)
{
	int unreadable = read_flow(ctx, 0, false, flow);
	const struct meaning *from, *to;
	struct meaning there;
	struct way way = way_of(ctx);
	bool neighbour;
	__u64 conntrack;
	__u32 info;

	*came_by = way.in;
	if (unreadable)
		return drop(unreadable);
	if (is_redirect(flow))
		return drop(REASON_REDIRECT);

	from = meaning_of(&flow->source, flow->family, generation);
	to = meaning_of(&flow->destination, flow->family, generation);
	neighbour = is_neighbour(flow);
	if (is_spoofed(from, way.in, generation) && !(neighbour && is_link_local_or_none(&flow->source)))
		return drop(REASON_SPOOFED);
	if (neighbour)
		return accept(REASON_NEIGHBOUR);

	if (to && to->ifindex) {
		/* Above a bridge nobody knows the port yet, and there may be other devices in between. */
		if (to->ifindex != way.out && (way.bridged || behind(way.out, generation)))
			return drop(REASON_ASTRAY);
	} else {
		const struct meaning *port = behind(way.out, generation);

		if (port) {
			there = *port;
			there.identity = to ? to->identity : 0;
			if (is_closed(to))
				there.flags |= MEANS_CLOSED;
			to = &there;
		}
	}
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
	__u32 came_by = 0;
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

	outcome = verdict(ctx, &flow, &came_by, generation);

	counter = count(outcome.id ? outcome.id : outcome.reason, skb);
	if (outcome.verdict == VERDICT_DROP) {
		if (counter)
			report(counter, skb, &flow, &outcome, came_by, generation);
		return NF_DROP;
	}
	if (outcome.other && outcome.other != outcome.id)
		count(outcome.other, skb);
	/* Neighbours are no connections: the kernel tracks none of them. */
	if ((outcome.verdict == VERDICT_AUDIT ||
	     (state->report == REPORT_ACCEPTS && outcome.reason != REASON_NEIGHBOUR)) && counter && begins(skb))
		report(counter, skb, &flow, &outcome, came_by, generation);
	return NF_ACCEPT;
}
