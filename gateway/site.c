/*
 * site.c -- what is served without the database: the web pages, the agent's program, health.
 *
 * The pages are read into memory at start: they are small, and a loop must not
 * wait for a disk.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "db.h"
#include "reply.h"
#include "request.h"

#define MAX_FILE (16 * 1024 * 1024)
#define CHUNK 65536

typedef struct SiteFile
{
	struct SiteFile *next;
	char *path; /* as in the URL */
	char *data;
	size_t len;
	char *packed; /* the .gz sibling */
	size_t packed_len;
	const char *type;
	bool immutable; /* its name has a hash of its content */
	char etag[48];
} SiteFile;

static SiteFile *files;
static SiteFile *index_file;

/* The program behind /bin, looked at again when it changes. */
static struct
{
	pthread_mutex_t lock;
	struct timespec mtime;
	off_t size;
	char etag[48];
} agent = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *
type_of(const char *path)
{
	static const char *const types[][2] = {
		{".html", "text/html; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"},
		{".css", "text/css; charset=utf-8"}, {".svg", "image/svg+xml"}, {".png", "image/png"},
		{".ico", "image/x-icon"}, {".json", "application/json; charset=utf-8"}, {".webmanifest", "application/manifest+json"}, {".woff2", "font/woff2"},
		{".txt", "text/plain; charset=utf-8"}, {".wasm", "application/wasm"}, {".map", "application/json"},
	};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(dot, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

static char *
read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	char *data = NULL;

	if (file == NULL)
		return NULL;
	if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= MAX_FILE)
	{
		data = malloc((size_t) st.st_size + 1);
		*len = data != NULL ? fread(data, 1, (size_t) st.st_size, file) : 0;
	}
	fclose(file);
	return data;
}

static void
hex_etag(char dst[static 48], const unsigned char *digest)
{
	dst[0] = '"';
	for (int i = 0; i < 20; i++)
		sprintf(dst + 1 + 2 * i, "%02x", digest[i]);
	strcpy(dst + 41, "\"");
}

static void
add_file(const char *disk, const char *url)
{
	SiteFile *file = calloc(1, sizeof(*file));
	unsigned char digest[EVP_MAX_MD_SIZE];
	char packed[PATH_MAX + 8];

	file->data = read_file(disk, &file->len);
	if (file->data == NULL)
	{
		free(file);
		return;
	}
	snprintf(packed, sizeof(packed), "%s.gz", disk);
	file->packed = read_file(packed, &file->packed_len);
	file->path = strdup(url);
	file->type = type_of(url);
	file->immutable = strncmp(url, "/assets/", 8) == 0 && strstr(url, "worker.js") == NULL;
	EVP_Digest(file->data, file->len, digest, NULL, EVP_sha1(), NULL);
	hex_etag(file->etag, digest);
	file->next = files;
	files = file;
	if (strcmp(url, "/index.html") == 0)
		index_file = file;
}

static void
read_folder(const char *disk, const char *url, int depth)
{
	DIR *dir = opendir(disk);
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		char path[4096];
		char name[4096];
		size_t len = strlen(entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' || (len > 3 && strcmp(entry->d_name + len - 3, ".gz") == 0) ||
			snprintf(path, sizeof(path), "%s/%s", disk, entry->d_name) >= (int) sizeof(path) ||
			snprintf(name, sizeof(name), "%s/%s", url, entry->d_name) >= (int) sizeof(name) || stat(path, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < 4)
			read_folder(path, name, depth + 1);
		else if (S_ISREG(st.st_mode))
			add_file(path, name);
	}
	closedir(dir);
}

void
gw_site_init(void)
{
	read_folder(gw_server.options.site_dir, "", 0);
	if (index_file == NULL)
		gw_log(GW_WARN, "there are no web pages in %s; the API works without them", gw_server.options.site_dir);
}

/* Pages ---------------------------------------------------------------------- */

/* The host that pages connect to by WebSocket: as the request names it, if it has the form of one. */
static h2o_iovec_t
page_host(h2o_req_t *req)
{
	h2o_iovec_t host = req->authority;

	for (size_t i = 0; i < host.len; i++)
		if (!isalnum((unsigned char) host.base[i]) && strchr(".-:[]", host.base[i]) == NULL)
			return h2o_iovec_init("", 0);
	return host.len < 256 ? host : h2o_iovec_init("", 0);
}

/* "/agents/{chat}/embed" and what is below it: pages for editors, which show them in a frame of a scheme of their own. */
static bool
is_embedded(h2o_iovec_t path)
{
	static const char before[] = "/agents/";
	static const char word[] = "/embed";
	h2o_iovec_t rest;
	const char *slash;

	if (!gw_starts_with(path, before))
		return false;
	rest = h2o_iovec_init(path.base + sizeof(before) - 1, path.len - sizeof(before) + 1);
	slash = memchr(rest.base, '/', rest.len);
	if (slash == NULL)
		return false;
	rest = h2o_iovec_init(slash, rest.len - (size_t) (slash - rest.base));
	return gw_starts_with(rest, word) && (rest.len == sizeof(word) - 1 || rest.base[sizeof(word) - 1] == '/');
}

static void
add_csp(h2o_req_t *req, bool embedded)
{
	static const char whole[] =
		"frame-ancestors 'none'; "
		"default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
		"img-src 'self' https: data:; media-src 'self' data:; font-src 'self' data:; frame-src 'self'; object-src 'none'; base-uri 'self'; "
		"form-action 'self'; report-uri /api/v2/csp/reports; connect-src 'self'";
	/* No source names an editor's scheme, not even "*": who may frame such a page is not said, unless by the setting. */
	const char *first = embedded ? whole + sizeof("frame-ancestors 'none'; ") - 1 : whole;
	const char *more = gw_server.options.additional_csp_policy;
	h2o_iovec_t host = page_host(req);
	size_t cap = sizeof(whole) + 2 * host.len + 32 + (more != NULL ? strlen(more) : 0);
	char *value = h2o_mem_alloc_pool(&req->pool, cap);
	int n = host.len == 0 ? snprintf(value, cap, "%s", first)
						  : snprintf(value,
									 cap,
									 "%s ws://%.*s wss://%.*s",
									 first,
									 (int) host.len,
									 host.base,
									 (int) host.len,
									 host.base);

	if (more != NULL)
		n += snprintf(value + n, cap - (size_t) n, "; %s", more);
	gw_add_header(req, "content-security-policy", value, (size_t) n);
}

/* The next word of a list; *rest is then behind it.  NULL at the end. */
static const char *
next_word(const char **rest)
{
	const char *word = *rest + strspn(*rest, ", ");

	*rest = word + strcspn(word, ", ");
	return *word != '\0' ? word : NULL;
}

static void
add_page_headers(h2o_req_t *req, bool embedded)
{
	const GwOptions *options = &gw_server.options;
	int age = options->strict_transport_security;

	add_csp(req, embedded);
	gw_add_header(req, "referrer-policy", H2O_STRLIT("no-referrer"));
	gw_add_header(req, "permissions-policy",
				  H2O_STRLIT("camera=(), microphone=(self), geolocation=(), payment=(), usb=(), clipboard-write=(self)"));
	if (age > 0)
	{
		const char *more = options->strict_transport_security_options != NULL ? options->strict_transport_security_options : "";
		char *value = h2o_mem_alloc_pool(&req->pool, 40 + 2 * strlen(more));
		int n = sprintf(value, "max-age=%d", age);

		/* Commas are between the setting's words, semicolons between the header's. */
		for (const char *c = next_word(&more); c != NULL; c = next_word(&more))
			n += sprintf(value + n, "; %.*s", (int) (more - c), c);
		gw_add_header(req, "strict-transport-security", value, (size_t) n);
	}
}

static bool
not_modified(h2o_req_t *req, const char *etag)
{
	h2o_iovec_t given = gw_header(req, "if-none-match");

	gw_add_header(req, "etag", etag, strlen(etag));
	if (given.base == NULL || memmem(given.base, given.len, etag, strlen(etag)) == NULL)
		return false;
	gw_reply_empty(req, 304);
	return true;
}

/* index.html with the CSRF token of this browser in its meta element. */
static void
serve_index(GwRequest *request)
{
	static const char mark[] = "{{ .CSRF.Token }}";
	h2o_req_t *req = request->req;
	const char *at;
	h2o_iovec_t body;
	char *token;

	if (index_file == NULL)
	{
		gw_reply_error(req, 404, "There are no web pages in this server.", "Build them with \"make\", or set CODER_SITE_DIR.");
		return;
	}
	add_page_headers(req, is_embedded(request->path));
	gw_add_header(req, "cache-control", H2O_STRLIT("no-cache"));
	at = memmem(index_file->data, index_file->len, mark, sizeof(mark) - 1);
	body = h2o_iovec_init(index_file->data, index_file->len);
	if (at != NULL)
	{
		size_t before = (size_t) (at - index_file->data);

		token = gw_csrf_masked(request);
		body = h2o_concat(&req->pool, h2o_iovec_init(index_file->data, before), h2o_iovec_init(token, strlen(token)),
						  h2o_iovec_init(at + sizeof(mark) - 1, index_file->len - before - sizeof(mark) + 1));
	}
	gw_reply_body(req, 200, index_file->type, body.base, body.len);
}

void
gw_site_serve(GwRequest *request)
{
	h2o_req_t *req = request->req;
	h2o_iovec_t encodings;

	if (!gw_iovec_is(req->method, "GET") && !gw_iovec_is(req->method, "HEAD"))
	{
		gw_reply_empty(req, 405);
		return;
	}
	for (SiteFile *file = files; file != NULL; file = file->next)
	{
		if (file == index_file || !gw_iovec_is(request->path, file->path))
			continue;
		if (file->immutable)
			gw_add_header(req, "cache-control", H2O_STRLIT("public, max-age=31536000, immutable"));
		add_page_headers(req, false);
		if (not_modified(req, file->etag))
			return;
		encodings = gw_header(req, "accept-encoding");
		if (file->packed != NULL)
			h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_VARY, NULL, H2O_STRLIT("Accept-Encoding"));
		if (file->packed != NULL && encodings.base != NULL && memmem(encodings.base, encodings.len, "gzip", 4) != NULL)
		{
			gw_add_header(req, "content-encoding", H2O_STRLIT("gzip"));
			gw_reply_body(req, 200, file->type, file->packed, file->packed_len);
		}
		else
			gw_reply_body(req, 200, file->type, file->data, file->len);
		return;
	}
	if (gw_starts_with(request->path, "/assets/"))
		gw_reply_error(req, 404, "There is no such file.", NULL);
	else
		serve_index(request);
}

/* The agent's program -------------------------------------------------------- */

typedef struct Download
{
	h2o_generator_t generator;
	int fd;
	off_t at;
	off_t size;
	char *buffer;
} Download;

static void
download_dispose(void *arg)
{
	Download *download = arg;

	if (download->fd >= 0)
		close(download->fd);
	free(download->buffer);
}

static void
download_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
	Download *download = H2O_STRUCT_FROM_MEMBER(Download, generator, generator);
	ssize_t n = pread(download->fd, download->buffer, CHUNK, download->at);
	h2o_iovec_t buf;

	if (n <= 0)
	{
		/* Shorter than it was: the client sees that the body is not whole. */
		h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
		return;
	}
	if (n > download->size - download->at)
		n = (ssize_t) (download->size - download->at);
	download->at += n;
	buf = h2o_iovec_init(download->buffer, (size_t) n);
	h2o_send(req, &buf, 1, download->at == download->size ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* SHA-1 of the program, computed anew when the file has changed. */
static bool
agent_etag(int fd, const struct stat *st, char dst[static 48])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char *buffer;
	off_t at = 0;
	ssize_t n;
	EVP_MD_CTX *md;

	pthread_mutex_lock(&agent.lock);
	if (agent.size != st->st_size || memcmp(&agent.mtime, &st->st_mtim, sizeof(agent.mtime)) != 0)
	{
		md = EVP_MD_CTX_new();
		buffer = malloc(CHUNK);
		EVP_DigestInit_ex(md, EVP_sha1(), NULL);
		while ((n = pread(fd, buffer, CHUNK, at)) > 0)
		{
			EVP_DigestUpdate(md, buffer, (size_t) n);
			at += n;
		}
		EVP_DigestFinal_ex(md, digest, NULL);
		EVP_MD_CTX_free(md);
		free(buffer);
		hex_etag(agent.etag, digest);
		agent.size = st->st_size;
		agent.mtime = st->st_mtim;
	}
	memcpy(dst, agent.etag, 48);
	pthread_mutex_unlock(&agent.lock);
	return true;
}

static void
serve_agent(GwRequest *request)
{
	h2o_req_t *req = request->req;
	Download *download = h2o_mem_alloc_shared(&req->pool, sizeof(*download), download_dispose);
	char *etag = h2o_mem_alloc_pool(&req->pool, 48);
	char *size = h2o_mem_alloc_pool(&req->pool, 24);
	struct stat st;

	memset(download, 0, sizeof(*download));
	download->fd = open(gw_server.options.agent_path, O_RDONLY | O_CLOEXEC);
	if (download->fd < 0 || fstat(download->fd, &st) != 0 || st.st_size == 0)
	{
		gw_reply_error(req, 404, "The agent's program is not installed on this server.", "Build it with \"make\", or set CODER_AGENT_BINARY.");
		return;
	}
	agent_etag(download->fd, &st, etag);
	gw_add_header(req, "x-original-content-length", size, (size_t) snprintf(size, 24, "%lld", (long long) st.st_size));
	if (not_modified(req, etag))
		return;
	download->size = st.st_size;
	download->generator.proceed = download_proceed;
	req->res.status = 200;
	req->res.reason = "OK";
	req->res.content_length = (size_t) st.st_size;
	gw_add_header(req, "content-type", H2O_STRLIT("application/octet-stream"));
	h2o_start_response(req, &download->generator);
	if (gw_iovec_is(req->method, "HEAD"))
	{
		h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
		return;
	}
	download->buffer = malloc(CHUNK);
	download_proceed(&download->generator, req);
}

/* "_" in a name is read as "-". */
static void
serve_bin(GwRequest *request)
{
	struct utsname os;
	const char *arch = "amd64";
	char wanted[64];
	char name[64];
	size_t len = request->path.len - 5;

	if (uname(&os) == 0 && strcmp(os.machine, "aarch64") == 0)
		arch = "arm64";
	snprintf(wanted, sizeof(wanted), "coder-linux-%s", arch);
	if (len >= sizeof(name))
		len = 0;
	memcpy(name, request->path.base + 5, len);
	name[len] = '\0';
	for (char *p = name; *p != '\0'; p++)
		if (*p == '_')
			*p = '-';
	if (strcmp(name, wanted) == 0)
		serve_agent(request);
	else
	{
		h2o_iovec_t body = h2o_concat(&request->req->pool, h2o_iovec_init(H2O_STRLIT("There is no such program on this server. It has ")),
									  h2o_iovec_init(wanted, strlen(wanted)), h2o_iovec_init(H2O_STRLIT(".\n")));

		gw_reply_body(request->req, 404, "text/plain; charset=utf-8", body.base, body.len);
	}
}

static void
serve_install(GwRequest *request)
{
	h2o_mem_pool_t *pool = &request->req->pool;
	const char *url = gw_server.options.access_url;
	h2o_iovec_t body = h2o_concat(
		pool,
		h2o_iovec_init(H2O_STRLIT("#!/bin/sh\n"
								  "# Installs the coder command from this server into ~/.local/bin, or $CODER_INSTALL_DIR.\n"
								  "set -eu\nurl='")),
		h2o_iovec_init(url, strlen(url)),
		h2o_iovec_init(H2O_STRLIT(
			"'\n"
			"case $(uname -s) in Linux) os=linux ;; *) echo \"There is no program for $(uname -s) on this server.\" >&2; exit 1 ;; esac\n"
			"case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac\n"
			"dir=${CODER_INSTALL_DIR:-$HOME/.local/bin}\n"
			"mkdir -p \"$dir\"\n"
			"new=$dir/.coder.$$\n"
			"trap 'rm -f \"$new\"' EXIT\n"
			"if command -v curl >/dev/null; then curl -fsSL -o \"$new\" \"$url/bin/coder-$os-$arch\"\n"
			"else wget -qO \"$new\" \"$url/bin/coder-$os-$arch\"; fi\n"
			"chmod 755 \"$new\"\n"
			"mv \"$new\" \"$dir/coder\"\n"
			"echo \"Installed $dir/coder. Sign in with: coder login $url\"\n")));

	gw_reply_body(request->req, 200, "text/x-shellscript; charset=utf-8", body.base, body.len);
}

bool
gw_site_serve_own(GwRequest *request)
{
	h2o_req_t *req = request->req;
	bool get = gw_iovec_is(req->method, "GET") || gw_iovec_is(req->method, "HEAD");

	if (!get)
		return false;
	if (gw_iovec_is(request->path, "/healthz"))
		gw_reply_body(req, 200, "text/plain; charset=utf-8", "OK", 2);
	else if (gw_iovec_is(request->path, "/latency-check"))
	{
		gw_add_header(req, "timing-allow-origin", H2O_STRLIT("*"));
		gw_add_header(req, "access-control-allow-origin", H2O_STRLIT("*"));
		gw_add_header(req, "access-control-allow-headers", H2O_STRLIT("*"));
		gw_add_header(req, "access-control-allow-methods", H2O_STRLIT("*"));
		gw_add_header(req, "access-control-allow-credentials", H2O_STRLIT("false"));
		gw_reply_body(req, 200, "text/plain; charset=utf-8", "OK", 2);
	}
	else if (gw_iovec_is(request->path, "/derp/latency-check"))
		gw_reply_empty(req, 200);
	else if (gw_iovec_is(request->path, "/metrics"))
		gw_metrics_serve(request);
	else if (gw_iovec_is(request->path, "/install.sh"))
		serve_install(request);
	else if (gw_starts_with(request->path, "/bin/"))
		serve_bin(request);
	else
		return false;
	return true;
}
