/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the program in the kernel and the agent both read and write: the only definition of it. The agent uses the types
 * that are generated from here.
 *
 *   addresses  address          -> slot ---+
 *   interfaces ifindex          -> slot ---+
 *   networks   family, prefix   -> slot ---+--> slots[slot]: what the address means, in two versions
 *   admissions policy, identity -> port set, or a rule that admits everything
 *   ports      port set, protocol, port            -> rule
 *   ranges     port set, protocol, prefix of ports -> rule
 *   counters   rule, policy or reason -> packets, bytes (per CPU)
 *   control    the generation that packets read once, at their start
 *   events     dropped packets, and accepted ones on request
 *
 * A slot is changed in place, because the kernel hands out elements of hash maps again as soon as they are replaced: a
 * program that still reads one would see another key's value. `slots` and `control` are mapped into the agent's memory.
 */
#pragma once

/* Raised when a type or its meaning changes: an agent shares pinned maps only with agents of the same layout. */
enum layout {
	LAYOUT = 2,
};

/* Sizes when nothing else is asked for. */
#define MAX_ADDRESSES 262144 /* 100,000 pods of two families, and some */
#define MAX_NETWORKS 16384
#define MAX_INTERFACES 4096
#define MAX_SLOTS (MAX_ADDRESSES + MAX_NETWORKS + MAX_INTERFACES + 1) /* one for finding out that a map is full */
#define MAX_ADMISSIONS 262144
#define MAX_PORTS 65536
#define MAX_RANGES 16384
#define MAX_COUNTERS 65536
#define EVENTS_BYTES (1 << 20)

/* An IPv4 address is written as ::ffff:a.b.c.d; network order. */
struct address {
	__u8 bytes[16];
};

/* The family comes first, or ::/0 would hold all of IPv4. prefixlen counts the family's 8 bits. */
struct network {
	__u32 prefixlen;
	__u8 family; /* 4 or 6 */
	__u8 bytes[16]; /* IPv4: the first four */
	__u8 pad[3];
};

enum means {
	MEANS_NOTHING = 0,
	MEANS_LOCAL = 1, /* a pod of this node: it is judged here. An interface: an address is bound to it */
	MEANS_CLOSED = 2, /* in a pod range of this node, but no pod that is known: nothing passes */
};

/*
 * The bit of a policy's id that is in audit: what it does not admit passes, and is counted by the id without the bit.
 * (PolicyId::AUDIT)
 */
#define AUDIT (1u << 31)

/*
 * What an address is; and what is behind an interface that addresses are bound to, where identity and ifindex mean
 * nothing.
 */
struct meaning {
	__u32 identity; /* 0 = no peer of any policy tells it apart */
	__u32 ingress; /* policy that isolates it, 0 = none; local addresses only */
	__u32 egress;
	enum means flags;
	__u32 ifindex; /* interface that the address is bound to on this node, 0 = none */
};

/*
 * Two versions of a meaning. `holds` = generation << 1 | index: from that generation on version[index] holds, before it
 * the other one. The version that no packet reads is written first, then `holds` by one store; nothing is undone but by
 * storing the old word again.
 */
struct slot {
	__u64 holds;
	struct meaning version[2];
};

struct admission_key {
	__u32 policy;
	__u32 identity; /* 0 = anybody */
};

enum admits {
	ADMITS_NOTHING = 0,
	ADMITS_PORTS = 1, /* the port set has entries in `ports` */
	ADMITS_RANGES = 2, /* and in `ranges` */
};

struct admission {
	__u32 port_set;
	__u32 any; /* the rule that admits every protocol and port, 0 = none */
	enum admits flags;
};

struct port_key {
	__u32 port_set;
	__u16 port; /* network order */
	__u8 protocol;
	__u8 pad;
};

/* prefixlen = 40 + the length of the prefix of the port, 0 (every port) to 15 */
struct range_key {
	__u32 prefixlen;
	__u8 port_set[4]; /* as the CPU orders a __u32 */
	__u8 protocol;
	__u8 port[2]; /* network order */
	__u8 pad;
};

/*
 * Ids of policies and rules are places in `counters`. The first ones are for packets that no policy was asked about.
 * The agent never gives an id below FIRST_ID away.
 */
enum reason {
	REASON_POLICY = 0, /* a policy isolates and none of its rules admits; not counted here */
	REASON_MALFORMED = 1, /* headers that can not be read */
	REASON_FRAGMENT = 2, /* a fragment that was not put together before the hook */
	REASON_CLOSED = 3, /* an address of this node's pod ranges that is no known pod */
	REASON_REDIRECT = 4, /* a router advertisement or redirect that a pod sent */
	REASON_NODE = 5, /* accepted: sent by the node itself */
	REASON_NEIGHBOUR = 6, /* accepted: neighbour discovery, multicast listener reports */
	REASON_OPEN = 7, /* accepted: neither end is isolated here */
	REASON_SELF = 8, /* accepted: a pod to itself */
	REASON_SPOOFED = 9, /* it came in by an interface that its source is not bound to */
	REASON_ASTRAY = 10, /* it would leave by an interface that its destination is not bound to */
	REASON_TAGGED = 11, /* a VLAN tag keeps it from the hook; whoever gets it may take it as if it had none */
	FIRST_ID = 16,
};

struct counter {
	__u64 packets;
	__u64 bytes;
	__u32 window; /* the second that `events` counts in */
	__u32 events;
	__u64 unreported; /* events that were too many for their second, or found no room */
};

enum report {
	REPORT_DROPS = 0,
	REPORT_ACCEPTS = 1, /* also send an event for each accepted new connection */
};

struct control {
	__u64 generation;
	enum report report;
	enum layout layout;
};

enum verdict {
	VERDICT_DROP = 0,
	VERDICT_ACCEPT = 1,
	VERDICT_AUDIT = 2, /* it passes, and would not if the policy were enforced */
};

enum side {
	SIDE_NONE = 0,
	SIDE_INGRESS = 1,
	SIDE_EGRESS = 2,
};

/*
 * Source and destination are those of the connection's first packet: a reply is reported as what it answers, an ICMP
 * error as the packet that it is about.
 */
struct event {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u64 generation;
	struct address source;
	struct address destination;
	__u16 source_port; /* host order; ICMP: type */
	__u16 destination_port; /* ICMP: code */
	__u8 protocol;
	__u8 family; /* 4 or 6; 0 = the headers could not be read */
	__u8 reply; /* the packet was a reply */
	__u8 pad;
	enum verdict verdict;
	enum reason reason;
	enum side side; /* the one that decided */
	__u32 id; /* the policy that isolates or would do, or the rule that admitted; 0 = none */
	__u32 length; /* of the packet */
	__u32 ifindex; /* that it came in by: the port, where that is one of a bridge */
};

/* What the test run of a program does not set: the tests do. */
struct trial {
	__u64 conntrack;
	__u32 ifindex;
	__u32 port; /* of a bridge, that it came in by; 0 = of none */
	__u32 out; /* interface that it leaves by, 0 = not known */
	__u32 out_port; /* port of a bridge that it leaves by, 0 = not known */
	__u32 scattered; /* nothing of the packet is in the linear part */
	__u32 doubts; /* what is remembered is found once more, */
	__u32 mistaken; /* and so often it was something else */
	__u32 pad;
	struct event generated[0]; /* no map has this type, and only what can be reached from one is generated */
};

_Static_assert(sizeof(struct network) == 24, "network");
_Static_assert(sizeof(struct slot) == 48, "slot");
_Static_assert(sizeof(struct admission) == 12, "admission");
_Static_assert(sizeof(struct port_key) == 8, "port_key");
_Static_assert(sizeof(struct range_key) == 12, "range_key");
_Static_assert(sizeof(struct event) == 80, "event");
