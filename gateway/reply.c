/*
 * reply.c -- answers: bodies, the error envelope, an error of the server as an answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "reply.h"

static const struct
{
	int status;
	const char *reason;
} reasons[] = {
	{101, "Switching Protocols"}, {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
	{206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
	{304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"},
	{401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
	{409, "Conflict"}, {410, "Gone"}, {412, "Precondition Failed"}, {413, "Request Entity Too Large"},
	{414, "Request URI Too Long"}, {415, "Unsupported Media Type"}, {417, "Expectation Failed"},
	{422, "Unprocessable Entity"}, {424, "Failed Dependency"}, {426, "Upgrade Required"},
	{428, "Precondition Required"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"},
	{503, "Service Unavailable"}, {504, "Gateway Timeout"}, {507, "Insufficient Storage"},
};

const char *
gw_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

void
gw_add_header(h2o_req_t *req, const char *name, const char *value, size_t len)
{
	h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 1, NULL, value, len);
}

void
gw_reply_body(h2o_req_t *req, int status, const char *type, const char *body, size_t len)
{
	static h2o_generator_t generator = {NULL, NULL};
	h2o_iovec_t buf = h2o_iovec_init(body, len);
	bool head = req->method.len == 4 && memcmp(req->method.base, "HEAD", 4) == 0;

	req->res.status = status;
	req->res.reason = gw_reason(status);
	req->res.content_length = len;
	if (type != NULL)
		h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
	h2o_start_response(req, &generator);
	h2o_send(req, &buf, head || len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

void
gw_reply_empty(h2o_req_t *req, int status)
{
	gw_reply_body(req, status, NULL, "", 0);
}

h2o_iovec_t
gw_json_string(h2o_mem_pool_t *pool, const char *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	char *dst = h2o_mem_alloc_pool(pool, len * 6 + 3);
	char *p = dst;

	*p++ = '"';
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c == '"' || c == '\\')
		{
			*p++ = '\\';
			*p++ = (char) c;
		}
		else if (c == '\n' || c == '\t' || c == '\r')
		{
			*p++ = '\\';
			*p++ = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
		}
		else if (c < 0x20 || c == '<' || c == '>' || c == '&' || c == 0x7f)
		{
			memcpy(p, "\\u00", 4);
			p[4] = hex[c >> 4];
			p[5] = hex[c & 15];
			p += 6;
		}
		else
			*p++ = (char) c;
	}
	*p++ = '"';
	*p = '\0';
	return h2o_iovec_init(dst, (size_t) (p - dst));
}

void
gw_reply_envelope(h2o_req_t *req, int status, const char *message, const char *detail, const char *validations)
{
	h2o_iovec_t quoted = gw_json_string(&req->pool, message, strlen(message));
	h2o_iovec_t more = {NULL, 0};
	h2o_iovec_t body;

	if (detail != NULL && *detail != '\0')
		more = gw_json_string(&req->pool, detail, strlen(detail));
	body = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("{\"message\":")), quoted,
					  more.base != NULL ? h2o_iovec_init(H2O_STRLIT(",\"detail\":")) : more, more,
					  validations != NULL ? h2o_iovec_init(H2O_STRLIT(",\"validations\":")) : h2o_iovec_init("", 0),
					  validations != NULL ? h2o_iovec_init(validations, strlen(validations)) : h2o_iovec_init("", 0),
					  h2o_iovec_init(H2O_STRLIT("}\n")));
	gw_reply_body(req, status, "application/json; charset=utf-8", body.base, body.len);
}

void
gw_reply_error(h2o_req_t *req, int status, const char *message, const char *detail)
{
	gw_reply_envelope(req, status, message, detail, NULL);
}

/* The three digits behind ZC, if they are a status. */
static int
status_of(const char *sqlstate)
{
	int status = 0;

	for (int i = 2; i < 5; i++)
	{
		if (sqlstate[i] < '0' || sqlstate[i] > '9')
			return 500;
		status = status * 10 + (sqlstate[i] - '0');
	}
	return status >= 200 && status <= 599 ? status : 500;
}

void
gw_error_of_sqlstate(GwError *error, const char *sqlstate, const char *message, const char *detail,
					 const char *hint)
{
	*error = (GwError){500, "An internal server error occurred.", NULL, NULL};
	if (sqlstate == NULL || strlen(sqlstate) != 5)
		return;
	if (sqlstate[0] == 'Z' && sqlstate[1] == 'C')
	{
		error->status = status_of(sqlstate);
		error->message = message != NULL ? message : "";
		error->detail = detail;
		if (hint != NULL && hint[0] == '[')
			error->validations = hint;
	}
	else if (strcmp(sqlstate, "57014") == 0)
		*error = (GwError){504, "The request took too long.", "The database cancelled the statement at its time limit.", NULL};
	else if (strcmp(sqlstate, "53100") == 0)
		*error = (GwError){503, "The database's disk is full.", "Nothing was changed. Free some space, then try again.", NULL};
	else if (strncmp(sqlstate, "53", 2) == 0)
		*error = (GwError){503, "The database has run out of resources.", "Nothing was changed. Try again later.", NULL};
	else if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0)
		*error = (GwError){503, "The request met another one that changes the same rows.", "Nothing was changed. Try again.", NULL};
	else if (strcmp(sqlstate, "25006") == 0)
		*error = (GwError){503, "The database accepts no changes at the moment.", "It is a standby, or read-only.", NULL};
	else if (strncmp(sqlstate, "57P", 3) == 0)
		*error = (GwError){503, "The database is not available.", "It is starting or stopping. Try again.", NULL};
}

void
gw_reply_pg_error(h2o_req_t *req, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *query = memchr(req->path.base, '?', req->path.len);
	size_t path_len = query != NULL ? (size_t) (query - req->path.base) : req->path.len; /* a query may hold secrets */
	GwError error;

	gw_error_of_sqlstate(&error, sqlstate, message, PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
						 PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
	if (error.status >= 500 && (sqlstate == NULL || strncmp(sqlstate, "ZC", 2) != 0))
		gw_log(GW_WARN, "%.*s %.*s: database error %s: %s", (int) req->method.len, req->method.base,
			   (int) (path_len < 200 ? path_len : 200), req->path.base,
			   sqlstate != NULL ? sqlstate : "?", message != NULL ? message : "");
	gw_reply_envelope(req, error.status, error.message, error.detail, error.validations);
}
