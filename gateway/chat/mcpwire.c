/*
 * mcpwire.c -- reads and writes messages of the Model Context Protocol.
 *
 * SPDX-License-Identifier: MIT
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mcpwire.h"

/* Messages ---------------------------------------------------------------------- */

bool
mcp_message(McpMessage *message, const json_t *value)
{
	const char *version = json_string_value(json_object_get(value, "jsonrpc"));
	const json_t *error = json_object_get(value, "error");

	memset(message, 0, sizeof(*message));
	if (version == NULL || strcmp(version, "2.0") != 0)
		return false;
	message->id = json_object_get(value, "id");
	if (message->id != NULL && !json_is_integer(message->id) && !json_is_string(message->id))
		message->id = NULL;
	message->method = json_string_value(json_object_get(value, "method"));
	message->params = json_object_get(value, "params");
	if (message->method != NULL)
	{
		message->kind = message->id != NULL ? MCP_REQUEST : MCP_NOTIFICATION;
		return true;
	}
	message->kind = MCP_RESPONSE;
	message->result = json_object_get(value, "result");
	if (json_is_object(error))
	{
		message->result = NULL;
		message->error = json_string_value(json_object_get(error, "message"));
		message->code = json_integer_value(json_object_get(error, "code"));
		if (message->error == NULL)
			message->error = "an error without a message";
	}
	return message->id != NULL && (message->result != NULL || message->error != NULL);
}

int64_t
mcp_message_for(const McpMessage *message)
{
	const json_t *id = message->kind == MCP_RESPONSE ? message->id : NULL;

	if (message->kind == MCP_NOTIFICATION && strcmp(message->method, "notifications/progress") == 0)
		id = json_object_get(message->params, "progressToken");
	return json_is_integer(id) && json_integer_value(id) >= 0 ? (int64_t) json_integer_value(id) : -1;
}

static char *
dump(json_t *value)
{
	char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	return text;
}

char *
mcp_request(int64_t id, const char *method, json_t *params)
{
	return dump(json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", (json_int_t) id, "method", method, "params", params));
}

char *
mcp_notification(const char *method, json_t *params)
{
	return dump(json_pack("{s:s, s:s, s:o*}", "jsonrpc", "2.0", "method", method, "params", params));
}

char *
mcp_reply(const McpMessage *request)
{
	if (strcmp(request->method, "ping") == 0)
		return dump(json_pack("{s:s, s:O, s:{}}", "jsonrpc", "2.0", "id", request->id, "result"));
	return dump(json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", request->id, "error", "code", -32601, "message",
						  "Method not found"));
}

json_t *
mcp_initialize_params(const char *version)
{
	return json_pack("{s:s, s:{}, s:{s:s, s:s}}", "protocolVersion", MCP_VERSION, "capabilities", "clientInfo", "name", "coder", "version",
					 version);
}

/* The older transport ------------------------------------------------------------- */

static char *
url_part(CURLU *url, CURLUPart part)
{
	char *text = NULL;

	return curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK ? text : NULL;
}

static bool
same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *x = url_part(a, part);
	char *y = url_part(b, part);
	bool same = x != NULL && y != NULL && strcasecmp(x, y) == 0;

	curl_free(x);
	curl_free(y);
	return same;
}

char *
mcp_endpoint(const char *base, const char *given)
{
	CURLU *from = curl_url();
	CURLU *to = curl_url();
	char *whole = NULL;
	char *copy = NULL;

	/* A name and a password in it would be sent. */
	if (from != NULL && to != NULL && curl_url_set(from, CURLUPART_URL, base, 0) == CURLUE_OK &&
		curl_url_set(to, CURLUPART_URL, base, 0) == CURLUE_OK && curl_url_set(to, CURLUPART_URL, given, CURLU_DISALLOW_USER) == CURLUE_OK &&
		same_part(from, to, CURLUPART_SCHEME) && same_part(from, to, CURLUPART_HOST) && same_part(from, to, CURLUPART_PORT) &&
		curl_url_get(to, CURLUPART_URL, &whole, 0) == CURLUE_OK)
		copy = strdup(whole);
	curl_free(whole);
	curl_url_cleanup(from);
	curl_url_cleanup(to);
	return copy;
}

/* Tools --------------------------------------------------------------------------- */

static bool
listed(const json_t *list, const char *name)
{
	size_t i;
	json_t *one;

	json_array_foreach(list, i, one)
	{
		if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
			return true;
	}
	return false;
}

static bool
is_allowed(const json_t *server, const char *name)
{
	const json_t *allow = json_object_get(server, "allow");

	return json_array_size(allow) > 0 ? listed(allow, name) : !listed(json_object_get(server, "deny"), name);
}

static size_t
put_name(char *buf, size_t at, const char *text)
{
	for (; *text != '\0' && at < MCP_MAX_NAME; text++)
		if (((unsigned char) *text & 0xc0) != 0x80)
			buf[at++] = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *text) != NULL ? *text : '_';
	buf[at] = '\0';
	return at;
}

/* What the model is told of the arguments: an object, whatever the server says. */
static json_t *
schema_of(const json_t *tool)
{
	const json_t *given = json_object_get(tool, "inputSchema");
	json_t *properties = json_object_get(given, "properties");
	json_t *schema = json_is_object(given) ? json_copy((json_t *) given) : json_object();

	json_object_set_new(schema, "type", json_string("object"));
	if (!json_is_object(properties))
		json_object_set_new(schema, "properties", json_object());
	if (!json_is_array(json_object_get(schema, "required")))
		json_object_del(schema, "required");
	return schema;
}

/* The model says why it calls the tool, which people are shown, beside the arguments. */
static json_t *
with_intent(json_t *schema)
{
	return json_pack("{s:s, s:{s:{s:s, s:s}, s:o}, s:[s, s]}", "type", "object", "properties", "model_intent", "type", "string", "description",
					 "What you are doing with this call, in a few plain words for the user to read, such as \"Looking for the open "
					 "bugs\". No names of tools, at most 100 characters.",
					 "properties", schema, "required", "model_intent", "properties");
}

static bool
is_small(const json_t *schema)
{
	return json_dumpb(schema, NULL, 0, JSON_COMPACT) <= MCP_MAX_SCHEMA;
}

static bool
has_name(const json_t *tools, const char *name)
{
	size_t i;
	json_t *tool;

	json_array_foreach(tools, i, tool)
	{
		if (strcmp(json_string_value(json_object_get(tool, "name")), name) == 0)
			return true;
	}
	return false;
}

static void
take_tool(json_t *tools, const json_t *server, const json_t *tool)
{
	const char *slug = json_string_value(json_object_get(server, "slug"));
	const char *own = json_string_value(json_object_get(tool, "name"));
	const char *description = json_string_value(json_object_get(tool, "description"));
	char name[MCP_MAX_NAME + 1];
	json_t *schema;
	size_t len = description != NULL ? strlen(description) : 0;

	if (own == NULL || *own == '\0' || slug == NULL || !is_allowed(server, own) || json_array_size(tools) >= MCP_MAX_TOOLS)
		return;
	put_name(name, put_name(name, put_name(name, 0, slug), "__"), own);
	if (len > MCP_MAX_DESCRIPTION)
		for (len = MCP_MAX_DESCRIPTION; len > 0 && ((unsigned char) description[len] & 0xc0) == 0x80;)
			len--;
	schema = schema_of(tool);
	if (has_name(tools, name) || !is_small(schema))
	{
		json_decref(schema);
		return;
	}
	if (json_is_true(json_object_get(server, "model_intent")))
		schema = with_intent(schema);
	json_array_append_new(tools, json_pack("{s:s, s:s, s:s%, s:o}", "tool", own, "name", name, "description",
										   description != NULL ? description : "", len, "input_schema", schema));
}

const char *
mcp_take_tools(json_t *tools, const json_t *server, const json_t *result)
{
	const char *cursor = json_string_value(json_object_get(result, "nextCursor"));
	size_t i;
	json_t *tool;

	json_array_foreach(json_object_get(result, "tools"), i, tool)
	{
		take_tool(tools, server, tool);
	}
	return cursor != NULL && *cursor != '\0' ? cursor : NULL;
}

json_t *
mcp_arguments(const json_t *server, const json_t *args)
{
	json_t *properties = json_object_get(args, "properties");
	json_t *plain;

	if (!json_is_true(json_object_get(server, "model_intent")))
		return json_incref((json_t *) args);
	if (json_is_object(properties))
		return json_incref(properties);
	/* Models forget the envelope. */
	plain = json_copy((json_t *) args);
	json_object_del(plain, "model_intent");
	return plain;
}

/* Results -------------------------------------------------------------------------- */

typedef struct Words
{
	char *bytes;
	size_t len;
	size_t all; /* with what was left out */
	bool any;
} Words;

static void
add_words(Words *words, const char *text, size_t len)
{
	size_t room = MCP_MAX_TEXT - words->len;
	char *grown;

	words->all += len;
	if (len > room)
		for (len = room; len > 0 && ((unsigned char) text[len] & 0xc0) == 0x80;)
			len--;
	grown = realloc(words->bytes, words->len + len + 1);
	if (grown == NULL)
		return;
	words->bytes = grown;
	memcpy(grown + words->len, text, len);
	words->len += len;
	grown[words->len] = '\0';
}

/* Another piece, on a line of its own. */
static void
add_piece(Words *words, const char *text)
{
	if (words->any)
		add_words(words, "\n", 1);
	words->any = true;
	add_words(words, text, strlen(text));
}

static void
add_link(Words *words, const json_t *item)
{
	const char *uri = json_string_value(json_object_get(item, "uri"));
	const char *name = json_string_value(json_object_get(item, "name"));
	json_t *text = json_sprintf("[resource: %s%s%s%s]", name != NULL ? name : "", name != NULL ? " (" : "", uri != NULL ? uri : "",
								name != NULL ? ")" : "");

	add_piece(words, text != NULL ? json_string_value(text) : "[resource]");
	json_decref(text);
}

static bool
is_base64(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");

	return n > 0 && strspn(text + n, "=") <= 2 && text[n + strspn(text + n, "=")] == '\0';
}

/* The first picture or sound is kept; of others there is a word. */
static void
take_media(Words *words, json_t **media, const char *data, const char *type)
{
	if (data == NULL || type == NULL || strlen(type) > 127 || !is_base64(data))
		add_piece(words, "[media that cannot be read]");
	else if (strlen(data) > MCP_MAX_MEDIA)
		add_piece(words, "[media that is too large]");
	else if (*media == NULL)
		*media = json_pack("{s:s, s:s, s:s}", "data", data, "mime_type", type, "text", "");
}

static void
take_item(Words *words, json_t **media, const json_t *item)
{
	const char *type = json_string_value(json_object_get(item, "type"));
	const char *text = json_string_value(json_object_get(item, "text"));
	const json_t *resource = json_object_get(item, "resource");

	if (type == NULL)
		return;
	if (strcmp(type, "text") == 0)
		add_piece(words, text != NULL ? text : "");
	else if (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0)
		take_media(words, media, json_string_value(json_object_get(item, "data")), json_string_value(json_object_get(item, "mimeType")));
	else if (strcmp(type, "resource_link") == 0)
		add_link(words, item);
	else if (json_is_string(json_object_get(resource, "text")))
		add_piece(words, json_string_value(json_object_get(resource, "text")));
	else if (json_is_string(json_object_get(resource, "blob")))
		take_media(words, media, json_string_value(json_object_get(resource, "blob")), json_string_value(json_object_get(resource, "mimeType")));
	else
		add_piece(words, "[content of an unknown kind]");
}

/* Words that are JSON stay what they are; others are wrapped. */
static json_t *
words_json(const Words *words, bool failed)
{
	const char *text = words->bytes != NULL ? words->bytes : "";
	json_t *value = NULL;

	if (failed)
		return json_pack("{s:s}", "error", text);
	if (words->all == words->len)
		value = json_loadb(text, words->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (value != NULL)
		return value;
	if (words->all == words->len)
		return json_pack("{s:s}", "output", text);
	return json_pack("{s:s, s:{s:I, s:I}}", "output", text, "truncated", "original_bytes", (json_int_t) words->all, "retained_bytes",
					 (json_int_t) words->len);
}

/* Servers repeat it as text for older clients: once is enough. */
static void
add_structured(Words *words, const json_t *structured)
{
	json_t *said = words->bytes != NULL && words->all == words->len ? json_loadb(words->bytes, words->len, 0, NULL) : NULL;
	char *text = json_equal(said, structured) ? NULL : json_dumps(structured, JSON_COMPACT);

	if (text != NULL)
		add_piece(words, text);
	free(text);
	json_decref(said);
}

json_t *
mcp_result(const json_t *result, unsigned *flags)
{
	const json_t *structured = json_object_get(result, "structuredContent");
	bool failed = json_is_true(json_object_get(result, "isError"));
	Words words = {0};
	json_t *media = NULL;
	json_t *kept;
	size_t i;
	json_t *item;

	*flags = failed ? MCP_FAILED : 0;
	json_array_foreach(json_object_get(result, "content"), i, item)
	{
		take_item(&words, &media, item);
	}
	if (json_is_object(structured))
		add_structured(&words, structured);
	if (media != NULL && !failed)
	{
		*flags |= MCP_MEDIA;
		json_object_set_new(media, "text", json_string(words.bytes != NULL ? words.bytes : ""));
		kept = json_incref(media);
	}
	else
		kept = words_json(&words, failed);
	json_decref(media);
	free(words.bytes);
	return kept;
}
