/*
 * tail.h -- events that carry what follows in a stream (docs/ARCHITECTURE.md section 3): "tail BEFORE LAST FRAME".
 *
 * A stream that has had all up to BEFORE has with FRAME all up to LAST.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_STREAM_TAIL_H
#define GATEWAY_STREAM_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAIL_MAX_KEPT 64

typedef struct TailPiece
{
	int64_t before;
	int64_t last;
	const char *frame; /* of the payload */
	size_t len;
} TailPiece;

/* Is this event's payload such a piece? */
bool tail_parse(const char *payload, size_t len, TailPiece *piece);

typedef enum TailStep
{
	TAIL_HAD,	/* the stream has had it */
	TAIL_NEXT,	/* it is what follows */
	TAIL_BEHIND /* something is missing before it */
} TailStep;

typedef struct Tail
{
	int64_t at; /* what the stream has had; -1: it takes no pieces */
	char *kept[TAIL_MAX_KEPT]; /* payloads of pieces, in order */
	size_t kept_len[TAIL_MAX_KEPT];
	int n_kept;
} Tail;

/* What a piece is for the stream. */
TailStep tail_step(const Tail *tail, const TailPiece *piece);

/* Keeps a copy of a piece's payload.  False: there is no room. */
bool tail_keep(Tail *tail, const char *payload, size_t len);

void tail_drop_kept(Tail *tail);

#endif
