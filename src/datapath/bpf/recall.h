/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What was judged before. In one generation the answer depends on nothing but the question, so it is found once, and
 * recalled for the packets that ask the same: most of a connection's, and of the next connection's between the same ends.
 * Nothing has to be taken away: another generation is another question.
 */
#pragma once

#include "maps.h"

/* All that a verdict on TCP, UDP and SCTP depends on. */
struct question {
	struct address source; /* as it is in the packet */
	struct address destination;
	__u64 generation;
	__u32 in; /* as in struct way */
	__u32 out;
	__u16 port; /* the destination's, of the connection's first packet */
	__u8 protocol; /* 0 = asked at a port, where only `destination` and `out` count */
	__u8 flags;
	__u32 pad;
};

enum {
	ASKS_BRIDGED = 1, /* `out` is a port */
	ASKS_REPLY = 2, /* the packet goes the other way than the connection's first one */
};

/* Always one that accepts: what is told of others needs more than an outcome. */
struct answer {
	struct question question;
	struct outcome outcome;
	__u32 turn; /* odd: it is being written */
};

#define ANSWERS_BITS 11

/* By a hash of the question, and nobody looks for a second place: who is forgotten is judged again. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << ANSWERS_BITS);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

#define WORDS (sizeof(struct question) / sizeof(__u64))

static __always_inline struct answer *answer_to(const struct question *question)
{
	const __u64 *words = (const __u64 *)question;
	__u64 mixed = 0;
	__u32 place;

	for (int i = 0; i < WORDS; i++) {
		mixed = (mixed ^ words[i]) * 0x9e3779b97f4a7c15ull;
		/* A product only carries upwards: else the last byte of an address would hardly count. */
		mixed ^= mixed >> 32;
	}
	place = mixed & ((1 << ANSWERS_BITS) - 1);
	return bpf_map_lookup_elem(&answers, &place);
}

/*
 * Only this CPU writes here: packets that came in are judged with softirqs off, but for a few (netfilter's queue, multicast
 * routing), which stay on their CPU all the same in kernels since August 2025. Between any two steps an interrupt may write,
 * so what is read counts if nobody has written meanwhile, and who finds somebody else writing leaves it.
 */
static __always_inline bool recall(const struct answer *answer, const struct question *question,
				   struct outcome *outcome)
{
	const __u64 *asked = (const __u64 *)question, *known = (const __u64 *)&answer->question;
	__u32 turn = *(volatile __u32 *)&answer->turn;
	__u64 differ = turn & 1;

	barrier();
	for (int i = 0; i < WORDS; i++)
		differ |= asked[i] ^ known[i];
	if (differ)
		return false;
	*outcome = answer->outcome;
	barrier();
	return *(volatile __u32 *)&answer->turn == turn;
}

static __always_inline void remember(struct answer *answer, const struct question *question,
				     const struct outcome *outcome)
{
	__u32 turn = *(volatile __u32 *)&answer->turn;

	if (turn & 1 || __sync_val_compare_and_swap(&answer->turn, turn, turn + 1) != turn)
		return;
	answer->question = *question;
	answer->outcome = *outcome;
	/* A store that comes after the others on every kind of CPU. */
	__sync_lock_test_and_set(&answer->turn, turn + 2);
}
