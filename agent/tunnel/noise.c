/*
 * noise.c -- the cryptography of WireGuard's handshake.
 *
 * Names at the steps (e, es, s, ss …) are those of the Noise pattern IKpsk2:
 * <- s ... -> e, es, s, ss  <- e, ee, se, psk.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/noise.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdlib.h>

#define HASH_LEN 32
#define TAG_LEN WIRE_WG_TAG_LEN

static const char construction[] = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
static const char identifier[] = "WireGuard v1 zx2c4 Jason@zx2c4.com";
static const uint8_t zero_nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

/* BLAKE2s of a then b.  The library fails only without memory, and then nothing is safe. */
static void
hash_two(uint8_t out[static HASH_LEN], const void *a, size_t na, const void *b, size_t nb)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (ctx == NULL || !EVP_DigestInit_ex(ctx, EVP_blake2s256(), NULL) ||
		!EVP_DigestUpdate(ctx, a, na) || (nb > 0 && !EVP_DigestUpdate(ctx, b, nb)) ||
		!EVP_DigestFinal_ex(ctx, out, NULL))
		abort();
	EVP_MD_CTX_free(ctx);
}

/* Keyed BLAKE2s with 16 bytes of output. */
static void
mac(uint8_t out[static WIRE_WG_MAC_LEN], const uint8_t *key, size_t nkey, const void *in, size_t n)
{
	static EVP_MAC *algorithm;
	size_t size = WIRE_WG_MAC_LEN;
	OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
						   OSSL_PARAM_construct_end()};
	EVP_MAC_CTX *ctx;

	if (algorithm == NULL)
		algorithm = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL);
	ctx = EVP_MAC_CTX_new(algorithm);
	if (ctx == NULL || !EVP_MAC_init(ctx, key, nkey, params) || !EVP_MAC_update(ctx, in, n) ||
		!EVP_MAC_final(ctx, out, &size, WIRE_WG_MAC_LEN))
		abort();
	EVP_MAC_CTX_free(ctx);
}

static void
hmac(uint8_t out[static HASH_LEN], const uint8_t key[static HASH_LEN], const void *in, size_t n)
{
	unsigned int size = HASH_LEN;

	if (HMAC(EVP_blake2s256(), key, HASH_LEN, in, n, out, &size) == NULL)
		abort();
}

/* HKDF as Noise has it: n outputs from the chaining key and input; out[i] may be NULL. */
static void
kdf(uint8_t *const out[], int n, const uint8_t chain[static HASH_LEN], const void *in, size_t nin)
{
	uint8_t prk[HASH_LEN];
	uint8_t block[HASH_LEN + 1];

	hmac(prk, chain, in, nin);
	for (int i = 0; i < n; i++)
	{
		uint8_t result[HASH_LEN];

		block[i == 0 ? 0 : HASH_LEN] = (uint8_t) (i + 1);
		hmac(result, prk, block, i == 0 ? 1 : sizeof(block));
		memcpy(block, result, HASH_LEN);
		memcpy(out[i], result, HASH_LEN);
		sodium_memzero(result, sizeof(result));
	}
	sodium_memzero(prk, sizeof(prk));
	sodium_memzero(block, sizeof(block));
}

static void
mix_hash(NoiseHandshake *hs, const void *in, size_t n)
{
	hash_two(hs->hash, hs->hash, HASH_LEN, in, n);
}

/* Mixes a secret into the chain; key, if not NULL, is what comes out for sealing. */
static void
mix_key(NoiseHandshake *hs, uint8_t *key, const void *in, size_t n)
{
	uint8_t next[HASH_LEN];
	uint8_t unused[HASH_LEN];
	uint8_t *const out[] = {next, key != NULL ? key : unused};

	kdf(out, key != NULL ? 2 : 1, hs->chain, in, n);
	memcpy(hs->chain, next, HASH_LEN);
	sodium_memzero(next, sizeof(next));
}

/* X25519 into the chain; false if the result is no secret. */
static bool
mix_dh(NoiseHandshake *hs, uint8_t *key, const uint8_t *private_key, const uint8_t *public_key)
{
	uint8_t shared[NOISE_KEY_LEN];
	bool ok = crypto_scalarmult(shared, private_key, public_key) == 0;

	if (ok)
		mix_key(hs, key, shared, sizeof(shared));
	sodium_memzero(shared, sizeof(shared));
	return ok;
}

/* Seals n bytes to out (n + tag) and mixes what goes on the wire into the hash. */
static void
seal(NoiseHandshake *hs, const uint8_t *key, uint8_t *out, const uint8_t *in, size_t n)
{
	crypto_aead_chacha20poly1305_ietf_encrypt(
		out, NULL, in, n, hs->hash, HASH_LEN, NULL, zero_nonce, key);
	mix_hash(hs, out, n + TAG_LEN);
}

static bool
unseal(NoiseHandshake *hs, const uint8_t *key, uint8_t *out, const uint8_t *in, size_t n)
{
	if (crypto_aead_chacha20poly1305_ietf_decrypt(
			out, NULL, NULL, in, n + TAG_LEN, hs->hash, HASH_LEN, zero_nonce, key) != 0)
		return false;
	mix_hash(hs, in, n + TAG_LEN);
	return true;
}

static void
clamp(uint8_t key[static NOISE_KEY_LEN])
{
	key[0] &= 0xf8;
	key[31] = (uint8_t) ((key[31] & 0x7f) | 0x40);
}

static void
label_keys(uint8_t mac1_key[static HASH_LEN], uint8_t cookie_key[static HASH_LEN],
		   const uint8_t public_key[static NOISE_KEY_LEN])
{
	hash_two(mac1_key, "mac1----", 8, public_key, NOISE_KEY_LEN);
	hash_two(cookie_key, "cookie--", 8, public_key, NOISE_KEY_LEN);
}

void
noise_identity_init(NoiseIdentity *self, const uint8_t private_key[static NOISE_KEY_LEN])
{
	memcpy(self->private_key, private_key, NOISE_KEY_LEN);
	clamp(self->private_key);
	crypto_scalarmult_base(self->public_key, self->private_key);
	label_keys(self->mac1_key, self->cookie_key, self->public_key);
}

bool
noise_peer_init(NoisePeer *peer, const NoiseIdentity *self,
				const uint8_t public_key[static NOISE_KEY_LEN])
{
	memcpy(peer->public_key, public_key, NOISE_KEY_LEN);
	label_keys(peer->mac1_key, peer->cookie_key, public_key);
	return crypto_scalarmult(peer->static_static, self->private_key, public_key) == 0;
}

/* The state before the first message; responder is the responder's static key. */
static void
begin(NoiseHandshake *hs, const uint8_t responder[static NOISE_KEY_LEN])
{
	hash_two(hs->chain, construction, sizeof(construction) - 1, NULL, 0);
	hash_two(hs->hash, hs->chain, HASH_LEN, identifier, sizeof(identifier) - 1);
	mix_hash(hs, responder, NOISE_KEY_LEN);
}

static void
make_ephemeral(NoiseHandshake *hs, uint8_t public_key[static NOISE_KEY_LEN])
{
	randombytes_buf(hs->ephemeral, NOISE_KEY_LEN);
	clamp(hs->ephemeral);
	crypto_scalarmult_base(public_key, hs->ephemeral);
}

bool
noise_put_initiation(NoiseHandshake *hs, const NoiseIdentity *self, const NoisePeer *peer,
					 const uint8_t timestamp[static WIRE_WG_TIMESTAMP_LEN],
					 uint8_t out[static WIRE_WG_INITIATION_LEN])
{
	uint8_t ephemeral[NOISE_KEY_LEN];
	uint8_t key[HASH_LEN];
	WireWgMessage m = {
		.type = WIRE_WG_INITIATION, .sender = hs->local_index, .ephemeral = ephemeral};
	bool ok;

	begin(hs, peer->public_key);
	make_ephemeral(hs, ephemeral); /* e */
	mix_key(hs, NULL, ephemeral, NOISE_KEY_LEN);
	mix_hash(hs, ephemeral, NOISE_KEY_LEN);
	wire_wg_put(out, WIRE_WG_INITIATION_LEN, &m);
	ok = mix_dh(hs, key, hs->ephemeral, peer->public_key); /* es */
	seal(hs, key, out + 40, self->public_key, NOISE_KEY_LEN); /* s */
	mix_key(hs, key, peer->static_static, NOISE_KEY_LEN); /* ss */
	seal(hs, key, out + 88, timestamp, WIRE_WG_TIMESTAMP_LEN);
	sodium_memzero(key, sizeof(key));
	return ok;
}

bool
noise_get_initiation_static(NoiseHandshake *hs, const NoiseIdentity *self, const WireWgMessage *in,
							uint8_t public_key[static NOISE_KEY_LEN])
{
	uint8_t key[HASH_LEN];
	bool ok;

	begin(hs, self->public_key);
	memcpy(hs->remote_ephemeral, in->ephemeral, NOISE_KEY_LEN); /* e */
	hs->remote_index = in->sender;
	mix_key(hs, NULL, in->ephemeral, NOISE_KEY_LEN);
	mix_hash(hs, in->ephemeral, NOISE_KEY_LEN);
	ok = mix_dh(hs, key, self->private_key, in->ephemeral) && /* es */
		 unseal(hs, key, public_key, in->sealed_static, NOISE_KEY_LEN); /* s */
	sodium_memzero(key, sizeof(key));
	return ok;
}

bool
noise_get_initiation_timestamp(NoiseHandshake *hs, const NoisePeer *peer, const WireWgMessage *in,
							   uint8_t timestamp[static WIRE_WG_TIMESTAMP_LEN])
{
	uint8_t key[HASH_LEN];
	bool ok;

	mix_key(hs, key, peer->static_static, NOISE_KEY_LEN); /* ss */
	ok = unseal(hs, key, timestamp, in->sealed_timestamp, WIRE_WG_TIMESTAMP_LEN);
	sodium_memzero(key, sizeof(key));
	return ok;
}

/* The last step of both: the pre-shared key, here zero; key seals the empty payload. */
static void
mix_psk(NoiseHandshake *hs, uint8_t key[static HASH_LEN])
{
	static const uint8_t psk[NOISE_KEY_LEN];
	uint8_t next[HASH_LEN];
	uint8_t tau[HASH_LEN];
	uint8_t *const out[] = {next, tau, key};

	kdf(out, 3, hs->chain, psk, sizeof(psk));
	memcpy(hs->chain, next, HASH_LEN);
	mix_hash(hs, tau, HASH_LEN);
	sodium_memzero(next, sizeof(next));
	sodium_memzero(tau, sizeof(tau));
}

bool
noise_put_response(NoiseHandshake *hs, const NoisePeer *peer,
				   uint8_t out[static WIRE_WG_RESPONSE_LEN])
{
	uint8_t ephemeral[NOISE_KEY_LEN];
	uint8_t key[HASH_LEN];
	WireWgMessage m = {.type = WIRE_WG_RESPONSE,
					   .sender = hs->local_index,
					   .receiver = hs->remote_index,
					   .ephemeral = ephemeral};

	make_ephemeral(hs, ephemeral); /* e */
	mix_key(hs, NULL, ephemeral, NOISE_KEY_LEN);
	mix_hash(hs, ephemeral, NOISE_KEY_LEN);
	wire_wg_put(out, WIRE_WG_RESPONSE_LEN, &m);
	if (!mix_dh(hs, NULL, hs->ephemeral, hs->remote_ephemeral) || /* ee */
		!mix_dh(hs, NULL, hs->ephemeral, peer->public_key)) /* se */
		return false;
	mix_psk(hs, key);
	seal(hs, key, out + 44, NULL, 0);
	sodium_memzero(key, sizeof(key));
	return true;
}

bool
noise_get_response(NoiseHandshake *hs, const NoiseIdentity *self, const WireWgMessage *in)
{
	uint8_t key[HASH_LEN];
	bool ok;

	memcpy(hs->remote_ephemeral, in->ephemeral, NOISE_KEY_LEN);
	hs->remote_index = in->sender;
	mix_key(hs, NULL, in->ephemeral, NOISE_KEY_LEN);
	mix_hash(hs, in->ephemeral, NOISE_KEY_LEN);
	if (!mix_dh(hs, NULL, hs->ephemeral, in->ephemeral) ||
		!mix_dh(hs, NULL, self->private_key, in->ephemeral))
		return false;
	mix_psk(hs, key);
	ok = unseal(hs, key, NULL, in->sealed_nothing, 0);
	sodium_memzero(key, sizeof(key));
	return ok;
}

void
noise_split(NoiseHandshake *hs, bool initiator, uint8_t send[static NOISE_KEY_LEN],
			uint8_t recv[static NOISE_KEY_LEN])
{
	uint8_t *const out[] = {initiator ? send : recv, initiator ? recv : send};

	kdf(out, 2, hs->chain, NULL, 0);
	sodium_memzero(hs, sizeof(*hs));
}

void
noise_put_macs(uint8_t *message, size_t n, const uint8_t mac1_key[static NOISE_KEY_LEN],
			   const uint8_t *cookie)
{
	uint8_t *mac1 = message + n - 2 * WIRE_WG_MAC_LEN;

	mac(mac1, mac1_key, NOISE_KEY_LEN, message, (size_t) (mac1 - message));
	if (cookie != NULL)
		mac(mac1 + WIRE_WG_MAC_LEN, cookie, NOISE_COOKIE_LEN, message, n - WIRE_WG_MAC_LEN);
}

bool
noise_check_mac1(const NoiseIdentity *self, const uint8_t *message, size_t n)
{
	uint8_t want[WIRE_WG_MAC_LEN];
	size_t covered = n - 2 * WIRE_WG_MAC_LEN;

	mac(want, self->mac1_key, NOISE_KEY_LEN, message, covered);
	return sodium_memcmp(want, message + covered, sizeof(want)) == 0;
}

bool
noise_check_mac2(const uint8_t cookie[static NOISE_COOKIE_LEN], const uint8_t *message, size_t n)
{
	uint8_t want[WIRE_WG_MAC_LEN];
	size_t covered = n - WIRE_WG_MAC_LEN;

	mac(want, cookie, NOISE_COOKIE_LEN, message, covered);
	return sodium_memcmp(want, message + covered, sizeof(want)) == 0;
}

void
noise_cookie(uint8_t cookie[static NOISE_COOKIE_LEN], const uint8_t secret[static NOISE_KEY_LEN],
			 const uint8_t *source, size_t n)
{
	mac(cookie, secret, NOISE_KEY_LEN, source, n);
}

void
noise_put_cookie(uint8_t out[static WIRE_WG_COOKIE_LEN], const NoiseIdentity *self,
				 uint32_t receiver, const uint8_t *mac1,
				 const uint8_t cookie[static NOISE_COOKIE_LEN])
{
	uint8_t nonce[WIRE_WG_COOKIE_NONCE_LEN];
	WireWgMessage m = {.type = WIRE_WG_COOKIE, .receiver = receiver, .nonce = nonce};

	randombytes_buf(nonce, sizeof(nonce));
	wire_wg_put(out, WIRE_WG_COOKIE_LEN, &m);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + 32,
											   NULL,
											   cookie,
											   NOISE_COOKIE_LEN,
											   mac1,
											   WIRE_WG_MAC_LEN,
											   NULL,
											   nonce,
											   self->cookie_key);
}

bool
noise_get_cookie(uint8_t cookie[static NOISE_COOKIE_LEN], const NoisePeer *peer,
				 const WireWgMessage *in, const uint8_t *mac1)
{
	return crypto_aead_xchacha20poly1305_ietf_decrypt(cookie,
													  NULL,
													  NULL,
													  in->sealed_cookie,
													  NOISE_COOKIE_LEN + TAG_LEN,
													  mac1,
													  WIRE_WG_MAC_LEN,
													  in->nonce,
													  peer->cookie_key) == 0;
}

void
noise_timestamp(uint8_t out[static WIRE_WG_TIMESTAMP_LEN], int64_t unix_ns)
{
	uint64_t seconds = (uint64_t) (unix_ns / 1000000000);
	uint32_t ns = (uint32_t) (unix_ns % 1000000000);

	wire_put32be(wire_put64be(out, 0x400000000000000aULL + seconds), ns & ~0xffffffu);
}
