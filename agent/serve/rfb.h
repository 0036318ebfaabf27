/*
 * rfb.h -- the client's end of RFB 3.8 (RFC 6143), without any I/O.
 *
 * What the server says is fed in, what is to be said gathers in out.  Pictures come raw and whole, when they are asked for;
 * there is no authentication: the socket is ours alone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_RFB_H
#define AGENT_SERVE_RFB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RFB_MAX_SIDE 8192
#define RFB_MAX_OUT ((size_t) 1 << 20)

#define RFB_LEFT 1u
#define RFB_MIDDLE 2u
#define RFB_RIGHT 4u
#define RFB_WHEEL_UP 8u
#define RFB_WHEEL_DOWN 16u
#define RFB_WHEEL_LEFT 32u
#define RFB_WHEEL_RIGHT 64u

typedef enum RfbState
{
	RFB_VERSION,
	RFB_SECURITY_COUNT,
	RFB_SECURITY_TYPES,
	RFB_SECURITY_RESULT,
	RFB_REASON_LENGTH,
	RFB_REASON,
	RFB_INIT,
	RFB_MESSAGE, /* the first of those in which it is ready */
	RFB_UPDATE,
	RFB_RECTANGLE,
	RFB_PIXELS,
	RFB_COLOURS,
	RFB_CUT_TEXT,
	RFB_SKIP,
	RFB_FAILED
} RfbState;

typedef struct Rfb
{
	RfbState state;
	uint8_t head[256];
	size_t have, want; /* of head */
	uint64_t skip;
	int width, height;
	int pointer_x, pointer_y; /* as we or the server have moved it last */
	unsigned rectangles; /* that are still to come */
	int x, y, w, h; /* of the one that comes */
	uint64_t at; /* bytes of it that have come */
	uint64_t seen; /* pixels since a picture was asked for */
	uint64_t wanted;
	bool pending; /* a picture is asked for */
	bool resized;
	uint8_t *pixels; /* width * height, four bytes each: blue, green, red, nothing; NULL: nobody wants them */
	uint8_t *out;
	size_t out_len, out_room;
	char error[128]; /* of RFB_FAILED */
} Rfb;

void rfb_init(Rfb *rfb);
void rfb_free(Rfb *rfb);

/* Takes all; false: it is no RFB, or refused (error). */
bool rfb_feed(Rfb *rfb, const uint8_t *data, size_t len);

/* Has the handshake ended? */
bool rfb_ready(const Rfb *rfb);

/* What is said; dropped where it cannot be kept. */
void rfb_key(Rfb *rfb, uint32_t keysym, bool down);
void rfb_pointer(Rfb *rfb, int x, int y, unsigned buttons);

/*
 * Asks for a picture, of one pixel unless it is to be kept: then pixels is the picture when pending is false again.  By the answer
 * the server has done all that was said before.  False: out of memory.
 */
bool rfb_ask(Rfb *rfb, bool keep);

#endif
