/*
 * noise.h -- the cryptography of WireGuard's handshake: Noise_IKpsk2 with
 * X25519, ChaCha20-Poly1305 and BLAKE2s, the pre-shared key being zero.
 *
 * Pure: no clock, no I/O.  A failed read leaves the handshake unusable.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_NOISE_H
#define TUNNEL_NOISE_H

#include "wire/wg.h"

#define NOISE_KEY_LEN 32
#define NOISE_COOKIE_LEN 16

typedef struct NoiseIdentity
{
	uint8_t private_key[NOISE_KEY_LEN];
	uint8_t public_key[NOISE_KEY_LEN];
	uint8_t mac1_key[NOISE_KEY_LEN]; /* HASH("mac1----" public) */
	uint8_t cookie_key[NOISE_KEY_LEN]; /* HASH("cookie--" public) */
} NoiseIdentity;

/* What is known of the other side for good. */
typedef struct NoisePeer
{
	uint8_t public_key[NOISE_KEY_LEN];
	uint8_t static_static[NOISE_KEY_LEN];
	uint8_t mac1_key[NOISE_KEY_LEN];
	uint8_t cookie_key[NOISE_KEY_LEN];
} NoisePeer;

typedef struct NoiseHandshake
{
	uint8_t hash[NOISE_KEY_LEN];
	uint8_t chain[NOISE_KEY_LEN];
	uint8_t ephemeral[NOISE_KEY_LEN]; /* own, private */
	uint8_t remote_ephemeral[NOISE_KEY_LEN];
	uint32_t local_index;
	uint32_t remote_index;
} NoiseHandshake;

/* private_key is clamped. */
void noise_identity_init(NoiseIdentity *self, const uint8_t private_key[static NOISE_KEY_LEN]);

/* False for a public key that gives no secret (small order). */
bool noise_peer_init(NoisePeer *peer, const NoiseIdentity *self,
					 const uint8_t public_key[static NOISE_KEY_LEN]);

/* Messages without mac1 and mac2 (zero): noise_put_macs adds them. */
bool noise_put_initiation(NoiseHandshake *hs, const NoiseIdentity *self, const NoisePeer *peer,
						  const uint8_t timestamp[static WIRE_WG_TIMESTAMP_LEN],
						  uint8_t out[static WIRE_WG_INITIATION_LEN]);
bool noise_put_response(NoiseHandshake *hs, const NoisePeer *peer,
						uint8_t out[static WIRE_WG_RESPONSE_LEN]);

/* Reading an initiation: first who it is from, then, with what is known of that peer, the rest. */
bool noise_get_initiation_static(NoiseHandshake *hs, const NoiseIdentity *self,
								 const WireWgMessage *in,
								 uint8_t public_key[static NOISE_KEY_LEN]);
bool noise_get_initiation_timestamp(NoiseHandshake *hs, const NoisePeer *peer,
									const WireWgMessage *in,
									uint8_t timestamp[static WIRE_WG_TIMESTAMP_LEN]);
bool noise_get_response(NoiseHandshake *hs, const NoiseIdentity *self, const WireWgMessage *in);

/* The transport keys; wipes the handshake. */
void noise_split(NoiseHandshake *hs, bool initiator, uint8_t send[static NOISE_KEY_LEN],
				 uint8_t recv[static NOISE_KEY_LEN]);

/* mac1 with the receiver's key, and mac2 if cookie is not NULL; over message[0..n). */
void noise_put_macs(uint8_t *message, size_t n, const uint8_t mac1_key[static NOISE_KEY_LEN],
					const uint8_t *cookie);
bool noise_check_mac1(const NoiseIdentity *self, const uint8_t *message, size_t n);
bool noise_check_mac2(const uint8_t cookie[static NOISE_COOKIE_LEN], const uint8_t *message,
					  size_t n);

/* A cookie is MAC(secret, source). */
void noise_cookie(uint8_t cookie[static NOISE_COOKIE_LEN],
				  const uint8_t secret[static NOISE_KEY_LEN], const uint8_t *source, size_t n);
void noise_put_cookie(uint8_t out[static WIRE_WG_COOKIE_LEN], const NoiseIdentity *self,
					  uint32_t receiver, const uint8_t *mac1,
					  const uint8_t cookie[static NOISE_COOKIE_LEN]);
bool noise_get_cookie(uint8_t cookie[static NOISE_COOKIE_LEN], const NoisePeer *peer,
					  const WireWgMessage *in, const uint8_t *mac1);

/* TAI64N of a Unix time, nanoseconds rounded down so that it does not show the clock. */
void noise_timestamp(uint8_t out[static WIRE_WG_TIMESTAMP_LEN], int64_t unix_ns);

#endif
