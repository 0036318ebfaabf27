/*
 * drpc.h -- DRPC frames: reading them into packets, and writing them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_DRPC_H
#define WIRE_DRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRPC_MAX_PACKET (4u << 20)
#define DRPC_SPLIT 65536u
#define DRPC_MAX_FRAME_HEADER 31 /* control byte and three varints */

typedef enum DrpcKind
{
	DRPC_INVOKE = 1,
	DRPC_MESSAGE = 2,
	DRPC_ERROR = 3,
	DRPC_CANCEL = 4,
	DRPC_CLOSE = 5,
	DRPC_CLOSE_SEND = 6,
	DRPC_METADATA = 7
} DrpcKind;

/* A whole packet; data points into the reader and is valid during the call. */
typedef struct DrpcPacket
{
	DrpcKind kind;
	uint64_t stream;
	uint64_t message;
	const uint8_t *data;
	size_t size;
} DrpcPacket;

typedef struct DrpcReader
{
	uint8_t *buffer; /* bytes of a frame that is not complete yet */
	size_t used;
	size_t room;
	uint8_t *packet; /* frames of a packet that is not complete yet */
	size_t packet_used;
	size_t packet_room;
	uint64_t stream;
	uint64_t message;
	uint8_t kind; /* of the incomplete packet; 0: none */
} DrpcReader;

void drpc_reader_init(DrpcReader *reader);
void drpc_reader_free(DrpcReader *reader);

/*
 * Takes bytes; calls on_packet for each whole packet until it answers false
 * (then nothing of the reader is touched any more).  NULL, or what is wrong
 * with the input.
 */
const char *drpc_read(DrpcReader *reader,
					  const uint8_t *data,
					  size_t size,
					  bool (*on_packet)(void *arg, const DrpcPacket *packet),
					  void *arg);

/* Size of a packet on the wire, frames and all. */
size_t drpc_packet_size(uint64_t stream, uint64_t message, size_t size);

/* Writes a packet of data, split into frames; returns the size written. */
size_t drpc_put_packet(uint8_t *dst, DrpcKind kind, uint64_t stream, uint64_t message, const void *data, size_t size);

#endif
