/*
 * pbjson.h -- protobuf messages as JSON and back, by protobuf-c's descriptors.
 *
 * Names are those of the .proto files.  bytes are lower-case hex (a UUID's
 * dashes are accepted on input), enums their value names, Timestamp RFC 3339
 * text, Duration integer nanoseconds, 64-bit integers numbers, maps objects.
 * Unset sub-messages and members of a oneof are left out; all else is there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_PBJSON_H
#define WIRE_PBJSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#define PBJSON_MAX_DEPTH 32

/* A new reference, or NULL (no memory, or text that is not UTF-8). */
json_t *pbjson_from_message(const ProtobufCMessage *message);

/*
 * A new message (free with protobuf_c_message_free_unpacked(message, NULL)), or
 * NULL with the reason in error (of error_size bytes).  Members of the object
 * that the message does not have are ignored; null stands for unset.
 */
ProtobufCMessage *pbjson_to_message(const ProtobufCMessageDescriptor *descriptor,
									const json_t *object,
									char *error,
									size_t error_size);

/* The same from and to bytes on the wire: unpack, convert; *size of the malloc'ed result. */
json_t *pbjson_decode(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size);
uint8_t *pbjson_encode(const ProtobufCMessageDescriptor *descriptor,
					   const json_t *object,
					   size_t *size,
					   char *error,
					   size_t error_size);

#endif
