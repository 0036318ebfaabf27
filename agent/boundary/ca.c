/*
 * ca.c -- the certificates of a boundary, made by OpenSSL.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/ca.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CA_DAYS 30
#define LEAF_DAYS 7
#define BACKDATE (-24 * 3600L)
#define DAY (24 * 3600L)
#define KEPT 256 /* certificates of hosts; then they are made anew */

typedef struct Leaf
{
	char host[256];
	X509 *certificate;
} Leaf;

struct Ca
{
	EVP_PKEY *key;
	X509 *certificate;
	EVP_PKEY *leaf_key; /* of every host */
	SSL_CTX *context;
	pthread_mutex_t lock;
	Leaf leaves[KEPT];
	size_t next;
};

static bool
add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;
	bool ok;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	ok = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

static X509 *
new_certificate(const char *name, long days)
{
	X509 *certificate = X509_new();
	unsigned char serial[16];
	BIGNUM *number;
	bool ok;

	if (certificate == NULL || RAND_bytes(serial, sizeof(serial)) != 1)
		return certificate;
	serial[0] = (unsigned char) ((serial[0] & 0x7f) | 1);
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL && X509_set_version(certificate, X509_VERSION_3) == 1 &&
		X509_gmtime_adj(X509_getm_notBefore(certificate), BACKDATE) != NULL && X509_gmtime_adj(X509_getm_notAfter(certificate), days * DAY) != NULL &&
		X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0) == 1;
	BN_free(number);
	if (ok)
		return certificate;
	X509_free(certificate);
	return NULL;
}

static bool
make_authority(Ca *ca)
{
	ca->key = EVP_EC_gen("P-256");
	ca->leaf_key = EVP_EC_gen("P-256");
	ca->certificate = new_certificate("coder boundary", CA_DAYS);
	return ca->key != NULL && ca->leaf_key != NULL && ca->certificate != NULL &&
		X509_set_issuer_name(ca->certificate, X509_get_subject_name(ca->certificate)) == 1 && X509_set_pubkey(ca->certificate, ca->key) == 1 &&
		add_extension(ca->certificate, ca->certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
		add_extension(ca->certificate, ca->certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash") &&
		X509_sign(ca->certificate, ca->key, EVP_sha256()) > 0;
}

static bool
is_address(const char *host)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* Names are letters, digits, "-._" and, of addresses, colons only: nothing that the extension's text could mean otherwise. */
static bool
is_plain(const char *host)
{
	return *host != '\0' && strlen(host) < 254 && host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:")] == '\0';
}

static X509 *
make_leaf(Ca *ca, const char *host)
{
	char alternative[300], name[65];
	X509 *leaf;

	snprintf(name, sizeof(name), "%s", host);
	snprintf(alternative, sizeof(alternative), "%s:%s", is_address(host) ? "IP" : "DNS", host);
	leaf = new_certificate(name, LEAF_DAYS);
	if (leaf != NULL && X509_set_issuer_name(leaf, X509_get_subject_name(ca->certificate)) == 1 && X509_set_pubkey(leaf, ca->leaf_key) == 1 &&
		add_extension(leaf, ca->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
		add_extension(leaf, ca->certificate, NID_key_usage, "critical,digitalSignature") &&
		add_extension(leaf, ca->certificate, NID_ext_key_usage, "serverAuth") &&
		add_extension(leaf, ca->certificate, NID_authority_key_identifier, "keyid") &&
		add_extension(leaf, ca->certificate, NID_subject_alt_name, alternative) && X509_sign(leaf, ca->key, EVP_sha256()) > 0)
		return leaf;
	X509_free(leaf);
	return NULL;
}

/* The caller's to free. */
static X509 *
leaf_of(Ca *ca, const char *host)
{
	X509 *found = NULL;

	pthread_mutex_lock(&ca->lock);
	for (size_t i = 0; i < KEPT && found == NULL; i++)
		if (ca->leaves[i].certificate != NULL && strcmp(ca->leaves[i].host, host) == 0)
			found = ca->leaves[i].certificate;
	if (found == NULL && (found = make_leaf(ca, host)) != NULL)
	{
		Leaf *leaf = &ca->leaves[ca->next++ % KEPT];

		X509_free(leaf->certificate);
		leaf->certificate = found;
		snprintf(leaf->host, sizeof(leaf->host), "%s", host);
	}
	if (found != NULL)
		X509_up_ref(found);
	pthread_mutex_unlock(&ca->lock);
	return found;
}

static int
on_hello(SSL *ssl, void *arg)
{
	Ca *ca = arg;
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	X509 *leaf;
	bool ok;

	if (host == NULL)
		host = SSL_get_app_data(ssl);
	leaf = host != NULL && is_plain(host) ? leaf_of(ca, host) : NULL;
	ok = leaf != NULL && SSL_use_certificate(ssl, leaf) == 1 && SSL_use_PrivateKey(ssl, ca->leaf_key) == 1;
	X509_free(leaf);
	return ok;
}

static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *size, const unsigned char *in, unsigned int in_size, void *arg)
{
	static const unsigned char known[] = "\x08http/1.1";
	unsigned char *chosen;

	(void) ssl;
	(void) arg;
	if (SSL_select_next_proto(&chosen, size, known, sizeof(known) - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static bool
write_certificate(const Ca *ca, const char *path)
{
	FILE *file = fopen(path, "we");
	bool ok = file != NULL && PEM_write_X509(file, ca->certificate) == 1;

	return file != NULL && fclose(file) == 0 && ok;
}

Ca *
ca_create(const char *path, char *error, size_t error_size)
{
	Ca *ca = calloc(1, sizeof(*ca));

	if (ca == NULL || !make_authority(ca) || (ca->context = SSL_CTX_new(TLS_server_method())) == NULL)
	{
		snprintf(error, error_size, "could not make certificates: %s", ERR_reason_error_string(ERR_peek_error()));
		free(ca);
		return NULL;
	}
	if (!write_certificate(ca, path))
	{
		snprintf(error, error_size, "could not write %s", path);
		free(ca);
		return NULL;
	}
	pthread_mutex_init(&ca->lock, NULL);
	SSL_CTX_set_min_proto_version(ca->context, TLS1_2_VERSION);
	SSL_CTX_set_cert_cb(ca->context, on_hello, ca);
	SSL_CTX_set_alpn_select_cb(ca->context, on_alpn, NULL);
	SSL_CTX_set_session_cache_mode(ca->context, SSL_SESS_CACHE_OFF);
	return ca;
}

SSL *
ca_server(Ca *ca, const char *fallback)
{
	SSL *ssl = SSL_new(ca->context);

	if (ssl != NULL)
		SSL_set_app_data(ssl, (char *) (uintptr_t) fallback);
	return ssl;
}
