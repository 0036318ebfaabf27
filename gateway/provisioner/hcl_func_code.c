/*
 * hcl_func_code.c -- functions that encode and digest, of times, and of the template's files
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_func.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* -- encodings ----------------------------------------------------------- */

static HclValue *
f_jsonencode(HclCall *c)
{
	HclBuf out = {0};

	if (!hcl_is_known(c->args[0]))
		return hcl_unknown(c->ctx);
	hcl_append_json(c, &out, c->args[0]);
	return hcl_buf_string(c->ctx, &out);
}

typedef struct JsonDecode
{
	HclCall *c;
	json_t *j;
	HclValue *out;
} JsonDecode;

static void
json_decode(void *arg)
{
	JsonDecode *d = arg;

	d->out = hcl_from_json(d->c->ctx, d->j);
}

static HclValue *
f_jsondecode(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	json_error_t error;
	JsonDecode d = {c, json_loadb(s->u.str.data, s->u.str.len, JSON_DECODE_ANY, &error), NULL};
	bool ok;

	if (d.j == NULL)
		hcl_bad_call(c, error.text);
	ok = hcl_guard(c->ctx, json_decode, &d);
	json_decref(d.j);
	if (!ok)
		hcl_rethrow(c->ctx);
	return d.out;
}

static HclValue *
base64_of(HclCall *c, const void *data, size_t len)
{
	char *out = hcl_alloc(c->ctx, len / 3 * 4 + 8);
	const int n = EVP_EncodeBlock((unsigned char *) out, data, (int) len);

	return hcl_stringn(c->ctx, out, (size_t) n);
}

static HclValue *
f_base64encode(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);

	return base64_of(c, s->u.str.data, s->u.str.len);
}

static HclValue *
f_base64decode(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	unsigned char *out = hcl_alloc(c->ctx, s->u.str.len + 4);
	const int n = EVP_DecodeBlock(out, (const unsigned char *) s->u.str.data, (int) s->u.str.len);
	size_t pad = 0;

	if (n < 0 || s->u.str.len % 4 != 0)
		hcl_bad_call(c, "not base64");
	while (pad < 2 && pad < s->u.str.len && s->u.str.data[s->u.str.len - 1 - pad] == '=')
		pad++;
	if (!hcl_is_utf8((char *) out, (size_t) n - pad))
		hcl_bad_call(c, "the result is not UTF-8 text");
	return hcl_stringn(c->ctx, (char *) out, (size_t) n - pad);
}

static size_t
digest(HclCall *c, const HclValue *s, const char *algorithm, unsigned char *out)
{
	unsigned int n = 0;

	if (EVP_Digest(s->u.str.data, s->u.str.len, out, &n, EVP_get_digestbyname(algorithm), NULL) !=
		1)
		hcl_bad_call(c, "the digest is not available");
	return n;
}

/* md5, sha1, sha256, sha512, base64sha256, base64sha512 and their file forms: by name. */
static HclValue *
digest_of(HclCall *c, const HclValue *s)
{
	const char *name = c->e->name;
	unsigned char sum[EVP_MAX_MD_SIZE];
	char hex[EVP_MAX_MD_SIZE * 2 + 1];
	bool base64;
	size_t n;
	size_t i;

	if (strncmp(name, "file", 4) == 0)
		name += 4;
	base64 = strncmp(name, "base64", 6) == 0;
	n = digest(c, s, base64 ? name + 6 : name, sum);
	if (base64)
		return base64_of(c, sum, n);
	for (i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	return hcl_answer_text(c, hex);
}

static HclValue *
f_digest(HclCall *c)
{
	return digest_of(c, hcl_arg_text(c, 0));
}

static HclValue *
f_urlencode(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	HclBuf out = {0};
	size_t i;

	for (i = 0; i < s->u.str.len; i++)
	{
		const unsigned char ch = (unsigned char) s->u.str.data[i];
		char hex[4];

		if (isalnum(ch) || hcl_in_cutset((char) ch, "-_.~"))
			hcl_append(c->ctx, &out, s->u.str.data + i, 1);
		else if (ch == ' ')
			hcl_append(c->ctx, &out, "+", 1);
		else
		{
			snprintf(hex, sizeof(hex), "%%%02X", ch);
			hcl_append(c->ctx, &out, hex, 3);
		}
	}
	return hcl_buf_string(c->ctx, &out);
}

const char *
hcl_uuid(HclCtx *ctx)
{
	unsigned char r[16];
	char hex[33];

	if (RAND_bytes(r, sizeof(r)) != 1)
		return NULL;
	r[6] = (unsigned char) ((r[6] & 0x0f) | 0x40);
	r[8] = (unsigned char) ((r[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof(r); i++)
		snprintf(hex + 2 * i, 3, "%02x", r[i]);
	return hcl_printf(
		ctx, "%.8s-%.4s-%.4s-%.4s-%s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static HclValue *
f_uuid(HclCall *c)
{
	const char *id = hcl_uuid(c->ctx);

	if (id == NULL)
		hcl_bad_call(c, "no randomness");
	return hcl_answer_text(c, id);
}

/* -- times --------------------------------------------------------------- */

static HclValue *
f_timestamp(HclCall *c)
{
	char out[32];
	struct tm tm;

	gmtime_r(&c->ctx->now.tv_sec, &tm);
	strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return hcl_answer_text(c, out);
}

static time_t
parse_time(HclCall *c, size_t i)
{
	const HclValue *s = hcl_arg_text(c, i);
	struct tm tm = {0};
	const char *rest = strptime(s->u.str.data, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours;
	int minutes;
	long offset = 0;

	if (rest == NULL)
		hcl_bad_call(c, "not a time of RFC 3339");
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2)
		offset = (hours * 60L + minutes) * (*rest == '-' ? -60 : 60);
	else if (strcmp(rest, "Z") != 0)
		hcl_bad_call(c, "not a time of RFC 3339");
	return timegm(&tm) - offset;
}

static HclValue *
f_timecmp(HclCall *c)
{
	const time_t a = parse_time(c, 0);
	const time_t b = parse_time(c, 1);

	return hcl_number(c->ctx, (a > b) - (a < b));
}

static HclValue *
f_timeadd(HclCall *c)
{
	const char *s = hcl_arg_text(c, 1)->u.str.data;
	double seconds = 0;
	double sign = 1;
	char out[32];
	struct tm tm;
	time_t t;

	if (*s == '-' || *s == '+')
		sign = *s++ == '-' ? -1 : 1;
	if (*s == '\0')
		hcl_bad_call(c, "not a duration");
	while (*s != '\0')
	{
		char *end;
		const double n = isdigit((unsigned char) *s) ? strtod(s, &end) : -1;

		if (n < 0 || n > 1e9)
			hcl_bad_call(c, "not a duration");
		s = end;
		if (strncmp(s, "ms", 2) == 0)
			seconds += n / 1000, s += 2;
		else if (*s == 'h')
			seconds += n * 3600, s++;
		else if (*s == 'm')
			seconds += n * 60, s++;
		else if (*s == 's')
			seconds += n, s++;
		else
			hcl_bad_call(c, "not a duration");
	}
	t = parse_time(c, 0) + (time_t) (sign * seconds);
	gmtime_r(&t, &tm);
	strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return hcl_answer_text(c, out);
}

/* -- files of the template ----------------------------------------------- */

static bool
find_file(HclCall *c, const char **data, size_t *len)
{
	const char *path = hcl_arg_text(c, 0)->u.str.data;

	while (strncmp(path, "./", 2) == 0)
		path += 2;
	return c->ctx->file != NULL && c->ctx->file(c->ctx->file_arg, path, data, len);
}

static HclValue *
read_file(HclCall *c)
{
	const char *data;
	size_t len;

	if (!find_file(c, &data, &len))
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): the template has no file \"%.200s\"",
				  c->e->name,
				  hcl_arg_text(c, 0)->u.str.data);
	return hcl_stringn(c->ctx, data, len);
}

static HclValue *
f_file(HclCall *c)
{
	HclValue *s = read_file(c);

	if (!hcl_is_utf8(s->u.str.data, s->u.str.len))
		hcl_bad_call(c, "the file is not UTF-8 text");
	return s;
}

static HclValue *
f_fileexists(HclCall *c)
{
	const char *data;
	size_t len;

	return hcl_bool(c->ctx, find_file(c, &data, &len));
}

static HclValue *
f_filebase64(HclCall *c)
{
	const HclValue *s = read_file(c);

	return base64_of(c, s->u.str.data, s->u.str.len);
}

static HclValue *
f_filedigest(HclCall *c)
{
	return digest_of(c, read_file(c));
}

static HclValue *
f_templatefile(HclCall *c)
{
	const HclValue *s = f_file(c);
	const HclValue *vars = hcl_arg_object(c, 1);
	HclScope *scope = NULL;
	size_t i;

	for (i = 0; i < vars->u.map.n; i++)
	{
		HclScope *inner = hcl_alloc(c->ctx, sizeof(*inner));

		*inner = (HclScope){
			.parent = scope, .name = vars->u.map.items[i].key, .value = vars->u.map.items[i].value};
		scope = inner;
	}
	return hcl_eval(
		c->ctx,
		hcl_parse_template(c->ctx, hcl_arg_text(c, 0)->u.str.data, 1, s->u.str.data, s->u.str.len),
		scope);
}

static HclValue *
f_basename(HclCall *c)
{
	const char *s = hcl_arg_text(c, 0)->u.str.data;
	const char *slash = strrchr(s, '/');

	return hcl_answer_text(c, slash != NULL ? slash + 1 : s);
}

static HclValue *
f_dirname(HclCall *c)
{
	const char *s = hcl_arg_text(c, 0)->u.str.data;
	const char *slash = strrchr(s, '/');

	if (slash == NULL)
		return hcl_answer_text(c, ".");
	return slash == s ? hcl_answer_text(c, "/") : hcl_stringn(c->ctx, s, (size_t) (slash - s));
}

static HclValue *
f_abspath(HclCall *c)
{
	const char *s = hcl_arg_text(c, 0)->u.str.data;

	return s[0] == '/' ? hcl_arg_text(c, 0) : hcl_answer_text(c, hcl_printf(c->ctx, "/%s", s));
}

static HclValue *
f_pathexpand(HclCall *c)
{
	if (hcl_arg_text(c, 0)->u.str.data[0] == '~')
		hcl_bad_call(c, "there is no home folder here");
	return hcl_arg_text(c, 0);
}

/* -- table --------------------------------------------------------------- */

static const HclFunction functions[] = {
	{"abspath", f_abspath, 1, 1, false, false},
	{"base64decode", f_base64decode, 1, 1, false, false},
	{"base64encode", f_base64encode, 1, 1, false, false},
	{"base64sha256", f_digest, 1, 1, false, false},
	{"base64sha512", f_digest, 1, 1, false, false},
	{"basename", f_basename, 1, 1, false, false},
	{"dirname", f_dirname, 1, 1, false, false},
	{"file", f_file, 1, 1, false, false},
	{"filebase64", f_filebase64, 1, 1, false, false},
	{"filebase64sha256", f_filedigest, 1, 1, false, false},
	{"filebase64sha512", f_filedigest, 1, 1, false, false},
	{"fileexists", f_fileexists, 1, 1, false, false},
	{"filemd5", f_filedigest, 1, 1, false, false},
	{"filesha1", f_filedigest, 1, 1, false, false},
	{"filesha256", f_filedigest, 1, 1, false, false},
	{"filesha512", f_filedigest, 1, 1, false, false},
	{"jsondecode", f_jsondecode, 1, 1, false, false},
	{"jsonencode", f_jsonencode, 1, 1, true, false},
	{"md5", f_digest, 1, 1, false, false},
	{"pathexpand", f_pathexpand, 1, 1, false, false},
	{"sha1", f_digest, 1, 1, false, false},
	{"sha256", f_digest, 1, 1, false, false},
	{"sha512", f_digest, 1, 1, false, false},
	{"templatefile", f_templatefile, 2, 2, false, false},
	{"timeadd", f_timeadd, 2, 2, false, false},
	{"timecmp", f_timecmp, 2, 2, false, false},
	{"timestamp", f_timestamp, 0, 0, false, false},
	{"urlencode", f_urlencode, 1, 1, false, false},
	{"uuid", f_uuid, 0, 0, false, false},
};

const HclFunctions hcl_code_functions = HCL_FUNCTIONS(functions);
