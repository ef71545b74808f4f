/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Judges every packet that leaves through POST_ROUTING: behind DNAT and before SNAT, so with the addresses of the pods
 * themselves. `Table::lookup` in src/policy/table.rs is the same in Rust, and the tests hold one against the other.
 */
#include "recall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/* An error about a packet of another connection, which it quotes. */
static __always_inline bool is_about_another(const struct flow *flow, __u32 info)
{
	return (info == CT_RELATED || info == CT_RELATED_REPLY) && is_icmp_error(flow);
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
static __always_inline struct outcome found(struct flow *flow, const struct flow *quoted, struct way way, __u32 info,
					   __u64 generation)
{
	const struct meaning *from, *to;
	struct meaning there;
	bool neighbour;

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

	if (is_about_another(flow, info)) {
		/*
		 * It travels to the sender of the packet that it quotes, so against that packet's direction: where the
		 * error counts as a reply, the quoted packet went the way of the first one. (nf_conntrack_inet_error)
		 */
		if (!quoted->family || !is_same(&quoted->source, &flow->destination))
			return drop(REASON_MALFORMED);
		*flow = *quoted;
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

/* Verified once and alone, as those in packet.h. */
__noinline int find(struct flow *flow, const struct flow *quoted, const struct question *question, __u32 info,
		    struct outcome *outcome)
{
	struct way way;

	/* The verifier does not know that none of them ever is. */
	if (!flow || !quoted || !question || !outcome)
		return 0;
	way = (struct way){ .in = question->in, .out = question->out, .bridged = question->flags & ASKS_BRIDGED };
	*outcome = found(flow, quoted, way, info, question->generation);
	return 0;
}

static __always_inline void doubt(const struct outcome *known, const struct outcome *outcome)
{
	if (known->verdict != outcome->verdict || known->reason != outcome->reason || known->side != outcome->side ||
	    known->id != outcome->id || known->other != outcome->other)
		trial.mistaken++;
}

static __always_inline struct outcome verdict(struct bpf_nf_ctx *ctx, struct flow *flow, __u32 *came_by,
					     __u64 generation)
{
	int unreadable = read_flow(ctx, 0, false, flow);
	struct way way = way_of(ctx);
	/* The pointer first: with conntrack off the word is 0, which would read as an established connection. */
	__u64 conntrack = conntrack_of(ctx->skb);
	__u32 info = conntrack & ~CT_INFO ? conntrack & CT_INFO : CT_NEW;
	bool reply = info == CT_REPLY || info == CT_RELATED_REPLY, known = false;
	struct question question = {
		.source = flow->source,
		.destination = flow->destination,
		.generation = generation,
		.in = way.in,
		.out = way.out,
		.port = reply ? flow->source_port : flow->destination_port,
		.protocol = flow->protocol,
		.flags = (way.bridged ? ASKS_BRIDGED : 0) | (reply ? ASKS_REPLY : 0),
	};
	struct outcome outcome = drop(REASON_MALFORMED);
	struct answer *answer = NULL;
	struct flow quoted = {};

	*came_by = way.in;
	if (unreadable)
		return drop(unreadable);
	if (has_ports(flow->protocol))
		answer = answer_to(&question);
	else if (is_about_another(flow, info) && read_flow(ctx, flow->upper + ICMP_HEADER, true, &quoted))
		quoted.family = 0;
	if (answer)
		known = recall(answer, &question, &outcome);
	if (known && !(testing && trial.doubts))
		return outcome;
	find(flow, &quoted, &question, info, &outcome);
	if (known)
		doubt(&answer->outcome, &outcome);
	else if (answer && outcome.verdict == VERDICT_ACCEPT)
		remember(answer, &question, &outcome);
	return outcome;
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
		count(REASON_NODE, skb->len);
		return NF_ACCEPT;
	}
	state = bpf_map_lookup_elem(&control, &first);
	if (!state)
		return NF_DROP;
	/* Once, and before anything else that changes: the packet sees the whole state of one generation. */
	generation = *(volatile __u64 *)&state->generation;

	outcome = verdict(ctx, &flow, &came_by, generation);

	counter = count(outcome.id ? outcome.id : outcome.reason, skb->len);
	if (outcome.verdict == VERDICT_DROP) {
		if (counter)
			report(counter, skb->len, &flow, &outcome, came_by, generation);
		return NF_DROP;
	}
	if (outcome.other && outcome.other != outcome.id)
		count(outcome.other, skb->len);
	/* Neighbours are no connections: the kernel tracks none of them. */
	if ((outcome.verdict == VERDICT_AUDIT ||
	     (state->report == REPORT_ACCEPTS && outcome.reason != REASON_NEIGHBOUR)) && counter && begins(skb))
		report(counter, skb->len, &flow, &outcome, came_by, generation);
	return NF_ACCEPT;
}

/* ---- the port ---- */

/* Link, IPv6 header and ports, and some tags: as much of a frame as is ever read. */
#define LONGEST_HEAD 128

/* Of a frame, from its IP header on. Seldom not in the linear part: only then it is made so. */
static __always_inline bool load(struct __sk_buff *skb, __u32 offset, void *to, __u32 size)
{
	if (!(testing && trial.scattered) && !bpf_skb_load_bytes_relative(skb, offset, to, size, BPF_HDR_START_NET))
		return true;
	if (bpf_skb_pull_data(skb, skb->len < LONGEST_HEAD ? skb->len : LONGEST_HEAD))
		return false;
	return !bpf_skb_load_bytes_relative(skb, offset, to, size, BPF_HDR_START_NET);
}

/* Both ends, and where ports would be, 0 = not looked for. Whether it can be read. */
static __always_inline bool read_ends(struct __sk_buff *skb, struct flow *flow)
{
	struct sk_buff *itself = bpf_cast_to_kern_ctx(skb);

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_wire header;

		if (!ipv4_in_place(itself, 0, &header) && !load(skb, 0, &header, sizeof(header)))
			return false;
		if (header.version_ihl >> 4 != 4)
			return false;
		flow->family = 4;
		flow->protocol = header.protocol;
		set_ipv4(&flow->source, header.source);
		set_ipv4(&flow->destination, header.destination);
		flow->upper = header.frag_off & bpf_htons(IPV4_OFFSET) ? 0 : (header.version_ihl & 15) * 4;
	} else {
		struct ipv6_wire header;

		if (!ipv6_in_place(itself, 0, &header) && !load(skb, 0, &header, sizeof(header)))
			return false;
		if (header.version_class >> 4 != 6)
			return false;
		flow->family = 6;
		flow->protocol = header.next;
		flow->source = header.source;
		flow->destination = header.destination;
		flow->upper = sizeof(header);
		if (is_ipv4(&flow->destination))
			return false;
	}
	return true;
}

static __always_inline bool is_ip(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || skb->protocol == bpf_htons(ETH_P_IPV6);
}

/* A tag that the kernel has taken off already, or another one behind it. */
static __always_inline bool is_tagged(struct __sk_buff *skb)
{
	return skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	       skb->protocol == bpf_htons(ETH_P_8021AD);
}

/* Not a word of it is believed: it goes nowhere, and that is told. */
static __always_inline int turn_away(struct __sk_buff *skb, struct flow *flow, enum reason reason, __u64 generation)
{
	struct outcome outcome = drop(reason);
	__u32 length = skb->len - ETH_HLEN;
	struct counter *counter = count(reason, length);
	__be16 words[2] = {};

	if (!counter)
		return TCX_DROP;
	/* For people only: type and code of ICMP are left out. */
	if (has_ports(flow->protocol) && flow->upper && load(skb, flow->upper, words, sizeof(words))) {
		flow->source_port = bpf_ntohs(words[0]);
		flow->destination_port = bpf_ntohs(words[1]);
	}
	report(counter, length, flow, &outcome, skb->ingress_ifindex, generation);
	return TCX_DROP;
}

/*
 * What leaves by an interface that addresses are bound to, when everybody else has chosen it: of a packet that is routed
 * onto a bridge, or sent by the node, the bridge chooses the port after the hook, by what pods make others believe.
 */
SEC("tcx/egress")
int leaves(struct __sk_buff *skb)
{
	/* Or clang chooses between two addresses, and a context has only one. */
	__u32 leaves_by = *(volatile __u32 *)&skb->ifindex;
	struct question question = {};
	struct outcome outcome;
	const struct meaning *to;
	struct flow flow = {};
	struct control *state;
	struct answer *answer;
	__u64 generation;
	__u32 first = 0;
	bool known;

	if (!is_ip(skb) && !is_tagged(skb))
		return TCX_NEXT;
	if (testing)
		leaves_by = trial.out_port;
	state = bpf_map_lookup_elem(&control, &first);
	if (!state)
		return TCX_DROP;
	generation = *(volatile __u64 *)&state->generation;

	if (is_ip(skb) && !read_ends(skb, &flow))
		return turn_away(skb, &flow, REASON_MALFORMED, generation);
	if (is_tagged(skb))
		return turn_away(skb, &flow, REASON_TAGGED, generation);
	question.destination = flow.destination;
	question.generation = generation;
	question.out = leaves_by;
	answer = answer_to(&question);
	known = answer && recall(answer, &question, &outcome);
	if (known && !(testing && trial.doubts))
		return TCX_NEXT;
	to = meaning_of(&flow.destination, flow.family, generation);
	if (to && to->ifindex && to->ifindex != leaves_by) {
		outcome = drop(REASON_ASTRAY);
		if (known)
			doubt(&answer->outcome, &outcome);
		return turn_away(skb, &flow, REASON_ASTRAY, generation);
	}
	outcome = accept(REASON_OPEN);
	if (answer && !known)
		remember(answer, &question, &outcome);
	return TCX_NEXT;
}

/*
 * What enters by an interface that addresses are bound to. Only a tag matters here: with one a bridge tells the hook
 * neither of the packet nor of the port, and its source could be anybody's who is not of this node.
 */
SEC("tcx/ingress")
int enters(struct __sk_buff *skb)
{
	struct flow flow = {};
	struct control *state;
	__u32 first = 0;

	if (!is_tagged(skb))
		return TCX_NEXT;
	state = bpf_map_lookup_elem(&control, &first);
	if (!state)
		return TCX_DROP;
	if (is_ip(skb))
		read_ends(skb, &flow);
	return turn_away(skb, &flow, REASON_TAGGED, *(volatile __u64 *)&state->generation);
}

/* ---- nothing, for those who measure: only a trial loads it ---- */

SEC("?netfilter")
int accepts(struct bpf_nf_ctx *ctx)
{
	return NF_ACCEPT;
}

SEC("?tcx/egress")
int passes(struct __sk_buff *skb)
{
	return TCX_NEXT;
}
