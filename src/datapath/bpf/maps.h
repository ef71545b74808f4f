/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the agent says and what it is told: the maps, and how both programs read and write them.
 */
#pragma once

#include "packet.h"

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

/* ---- what the agent is told ---- */

struct outcome {
	enum verdict verdict;
	enum reason reason;
	enum side side;
	__u32 id; /* policy that denied or would; or rule that admitted, at the destination or else at the source */
	__u32 other; /* what the other end said */
};

static __always_inline void report(struct counter *counter, __u32 length, const struct flow *flow,
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
		.length = length,
		.ifindex = came_by,
	};
	bpf_ringbuf_submit(event, 0);
}

static __always_inline struct counter *count(__u32 id, __u32 length)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, &id);

	if (counter) {
		counter->packets++;
		counter->bytes += length;
	}
	return counter;
}
