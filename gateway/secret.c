/*
 * secret.c -- keys and clients' secrets, handed to each session of the database as it connects.
 *
 * They go in the options of the connection (extension/seal.c has coder.secrets),
 * which no log and no table of the server shows.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "secret.h"

#define KEY_LEN 32
#define MAX_FILE 65536
#define MAX_OPTION 9000 /* a startup packet has 10,000 bytes */
#define KEYS "CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
#define CLIENT_KEY "CODER_OIDC_CLIENT_KEY_FILE"
#define CLIENT_CERT "CODER_OIDC_CLIENT_CERT_FILE"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *current;

static bool
ends_with(const char *text, const char *end)
{
	size_t n = strlen(text);
	size_t m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

bool
gw_is_secret(const char *name)
{
	return ends_with(name, "client_secret") || strcmp(name, "provisioner_daemon_key") == 0 || strncmp(name, "external_token_encryption_keys", 30) == 0;
}

/* The text of a small file that a variable names, malloc'ed; NULL after a message. */
static char *
read_file(const char *variable, const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = file != NULL ? calloc(1, MAX_FILE) : NULL;

	if (text != NULL)
		(void) !fread(text, 1, MAX_FILE - 1, file);
	else
		fprintf(stderr, "coder-server: %s cannot be read\n", variable);
	if (file != NULL)
		fclose(file);
	return text;
}

/* Keys between commas, blanks and line ends; false after a message, which tells nothing of them. */
static bool
add_keys(json_t *keys, const char *text)
{
	static const char between[] = ", \t\r\n";

	while (*(text += strspn(text, between)) != '\0')
	{
		size_t len = strcspn(text, between);
		unsigned char bytes[KEY_LEN];
		size_t n;
		bool good = sodium_base642bin(bytes, sizeof(bytes), text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
					n == KEY_LEN;

		sodium_memzero(bytes, sizeof(bytes));
		if (!good)
		{
			fprintf(stderr, "coder-server: key %zu of " KEYS " is not %d bytes in base64\n", json_array_size(keys) + 1, KEY_LEN);
			return false;
		}
		json_array_append_new(keys, json_stringn(text, len));
		text += len;
	}
	return true;
}

/* A key of 2048 bits at least that RS256 can sign with; NULL otherwise. */
static EVP_PKEY *
read_rsa(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *) "") : NULL;

	BIO_free(bio);
	if (key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= 2048)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

static X509 *
read_cert(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	return cert;
}

/* The key as PEM, and the name by which providers know its certificate; false after a message. */
static bool
add_pair(json_t *secrets, const char *key_pem, const char *cert_pem)
{
	EVP_PKEY *key = read_rsa(key_pem);
	X509 *cert = read_cert(cert_pem);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	char name[64];
	bool good = false;

	if (key == NULL)
		fprintf(stderr, "coder-server: " CLIENT_KEY " holds no RSA key of 2048 bits or more, in PEM and without a passphrase\n");
	else if (cert == NULL)
		fprintf(stderr, "coder-server: " CLIENT_CERT " holds no certificate in PEM\n");
	else if (X509_check_private_key(cert, key) != 1)
		fprintf(stderr, "coder-server: " CLIENT_CERT " is not the certificate of " CLIENT_KEY "\n");
	else if (X509_digest(cert, EVP_sha1(), digest, &n) == 1)
	{
		sodium_bin2base64(name, sizeof(name), digest, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
		json_object_set_new(secrets, "oidc_client_key", json_string(key_pem));
		json_object_set_new(secrets, "oidc_client_x5t", json_string(name));
		good = true;
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return good;
}

/* What this server proves itself with at the OpenID Connect provider, instead of a secret; false after a message. */
static bool
add_client_key(json_t *secrets)
{
	const char *key_path = getenv(CLIENT_KEY);
	const char *cert_path = getenv(CLIENT_CERT);
	char *key;
	char *cert;
	bool good;

	if (key_path == NULL || *key_path == '\0')
		return true;
	if (json_object_get(secrets, "oidc_client_secret") != NULL || cert_path == NULL || *cert_path == '\0')
	{
		fprintf(stderr, "coder-server: " CLIENT_KEY " goes with " CLIENT_CERT ", and without CODER_OIDC_CLIENT_SECRET\n");
		return false;
	}
	key = read_file(CLIENT_KEY, key_path);
	cert = key != NULL ? read_file(CLIENT_CERT, cert_path) : NULL;
	good = cert != NULL && add_pair(secrets, key, cert);
	if (key != NULL)
		sodium_memzero(key, MAX_FILE);
	free(key);
	free(cert);
	return good;
}

/* {"keys": ..., "secrets": ...}; NULL after a message. */
static json_t *
collect(void)
{
	json_t *keys = json_array();
	json_t *secrets = json_object();
	const char *path = getenv(KEYS "_FILE");
	const char *list = getenv(KEYS);
	char *text = path != NULL && *path != '\0' ? read_file(KEYS "_FILE", path) : NULL;
	bool good = path == NULL || *path == '\0' || text != NULL;

	good = good && add_keys(keys, text != NULL ? text : list != NULL ? list : "");
	free(text);
	for (char **env = environ; *env != NULL; env++)
	{
		const char *eq = strchr(*env, '=');
		char name[64];
		size_t n = 0;

		if (strncmp(*env, "CODER_", 6) != 0 || eq == NULL || eq - *env > 60 || eq[1] == '\0')
			continue;
		for (const char *p = *env + 6; p < eq; p++)
			name[n++] = (char) tolower((unsigned char) *p);
		name[n] = '\0';
		if (gw_is_secret(name) && ends_with(name, "client_secret"))
			json_object_set_new(secrets, name, json_string(eq + 1));
	}
	if (good && add_client_key(secrets))
		return json_pack("{s:o,s:o}", "keys", keys, "secrets", secrets);
	json_decref(keys);
	json_decref(secrets);
	return NULL;
}

char *
gw_secrets_read(void)
{
	json_t *all = collect();
	static const char prefix[] = " -c coder.secrets=";
	char *json;
	char *option = NULL;
	size_t len;
	size_t cap;

	if (all == NULL)
		return NULL;
	if (json_array_size(json_object_get(all, "keys")) == 0 && json_object_size(json_object_get(all, "secrets")) == 0)
	{
		json_decref(all);
		return strdup("");
	}
	json = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	len = json != NULL ? strlen(json) : 0;
	cap = sodium_base64_encoded_len(len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	if (json == NULL || cap > MAX_OPTION)
		fprintf(stderr, "coder-server: keys and secrets are too long together, or no text\n");
	else if ((option = malloc(sizeof(prefix) + cap)) != NULL)
	{
		strcpy(option, prefix);
		sodium_bin2base64(option + sizeof(prefix) - 1, cap, (unsigned char *) json, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	}
	if (json != NULL)
		sodium_memzero(json, len);
	free(json);
	return option;
}

char *
gw_secrets_option(void)
{
	char *copy;

	pthread_mutex_lock(&lock);
	copy = strdup(current != NULL ? current : "");
	pthread_mutex_unlock(&lock);
	return copy;
}

void
gw_secrets_use(char *option)
{
	pthread_mutex_lock(&lock);
	free(current);
	current = option;
	pthread_mutex_unlock(&lock);
}
