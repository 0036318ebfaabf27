/*
 * meshframe.h -- what one gateway tells another: its peers, and packets.
 *
 * Frames fill binary WebSocket messages of one direction, from the gateway that
 * dialled; a frame does not cross a message.  Numbers are big-endian.
 *
 *	 0      1              5
 *	+------+--------------+--------------- - -
 *	| type | size (4)     | size bytes
 *	+------+--------------+--------------- - -
 *
 *	MESH_JOIN     id [16]                             a stream of this peer is open there
 *	MESH_REQUEST  id [16], CoordinateRequest          what it has said (protobuf)
 *	MESH_LEAVE    id [16], 0 said goodbye | 1 lost    its stream has ended
 *	MESH_KEY      key [32]                            the relay there reaches this key
 *	MESH_NO_KEY   key [32]                            no longer
 *	MESH_PACKET   source [32], destination [32], data for a key that was told of the other way
 *
 * No I/O here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_MESHFRAME_H
#define STREAM_MESHFRAME_H

#include <stddef.h>
#include <stdint.h>

#define MESH_HEADER 5
#define MESH_ID 16
#define MESH_KEY_SIZE 32
#define MESH_MAX_FRAME (1u << 20) /* bytes behind the header */

typedef enum MeshType
{
	MESH_JOIN = 1,
	MESH_REQUEST,
	MESH_LEAVE,
	MESH_KEY,
	MESH_NO_KEY,
	MESH_PACKET
} MeshType;

typedef struct MeshFrame
{
	MeshType type;
	const uint8_t *id;	 /* JOIN, REQUEST, LEAVE: [16]; else the first key [32] */
	const uint8_t *data; /* REQUEST: the message; LEAVE: its byte; PACKET: destination and data */
	size_t size;
} MeshFrame;

/*
 * The frame at in[0..n), which it points into.  Its whole size, or 0 where the
 * bytes are none: cut short, of a size that its type cannot have, too large.  A
 * type that is not known has type 0 and is to be passed over.
 */
size_t mesh_get(MeshFrame *frame, const uint8_t *in, size_t n);

/*
 * Writes a frame of the three parts (any may be empty) to out, which has room
 * for MESH_HEADER and all of them.  Its size.
 */
size_t mesh_put(uint8_t *out, MeshType type, const uint8_t *first, size_t first_size, const uint8_t *second,
				size_t second_size, const void *data, size_t size);

#endif
