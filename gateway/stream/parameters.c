/*
 * parameters.c -- dynamic parameters: a form that the evaluator answers anew
 *
 * The plan names the template's archive, its owner and variables.  The archive
 * is loaded once; each message of the client is one evaluation.  The first
 * response, id -1, is for a form without inputs.  An archive that cannot be
 * evaluated falls back to what the import stored.  A plan with a "request" is
 * no stream: that one evaluation is the answer, with id 0.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../db.h"
#include "../provisioner/template.h"
#include "../reply.h"
#include "../websocket.h"
#include "stream.h"

#define LIFETIME_MS (30 * 60 * 1000)
#define MAX_WAITING 16

static const char NIL_UUID[] = "00000000-0000-0000-0000-000000000000";

typedef struct Form
{
	GwWs *ws;		/* NULL: one evaluation, … */
	h2o_req_t *req; /* … which answers this */
	GwQuery *query;
	GwTimer lifetime;
	Archive archive;
	bool loaded;
	json_t *plan;
	json_t *metadata;			  /* the owner, as the evaluator wants it */
	json_t *variables;			  /* name -> text */
	json_t *waiting[MAX_WAITING]; /* requests that came before the archive */
	int n_waiting;
} Form;

static const GwStatement load_file = {
	"parameters_file",
	"SELECT f.data FROM coder.files f WHERE f.id = $1::pg_catalog.uuid",
	1,
	NULL};

/* The plan's owner under the names of provisioner.Metadata. */
static json_t *
owner_metadata(const json_t *owner)
{
	static const char *const names[][2] = {{"id", "workspace_owner_id"},
										   {"name", "workspace_owner"},
										   {"full_name", "workspace_owner_name"},
										   {"email", "workspace_owner_email"},
										   {"login_type", "workspace_owner_login_type"},
										   {"ssh_public_key", "workspace_owner_ssh_public_key"},
										   {"groups", "workspace_owner_groups"},
										   {"rbac_roles", "workspace_owner_rbac_roles"}};
	json_t *out = json_object();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (json_object_get(owner, names[i][0]) != NULL)
			json_object_set(out, names[i][1], json_object_get(owner, names[i][0]));
	return out;
}

static json_t *
variable_texts(const json_t *list)
{
	json_t *out = json_object();
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));
		json_t *value = json_object_get(item, "value");

		if (name != NULL && json_is_string(value) && json_string_length(value) > 0)
			json_object_set(out, name, value);
	}
	return out;
}

static void
send_json(Form *form, json_t *answer, json_int_t id)
{
	char *text;

	json_object_set_new(answer, "id", json_integer(form->ws != NULL ? id : 0));
	text = json_dumps(answer, JSON_COMPACT);
	if (text != NULL && form->ws == NULL)
	{
		h2o_iovec_t body = h2o_strdup(&form->req->pool, text, SIZE_MAX);

		gw_reply_body(form->req, 200, "application/json; charset=utf-8", body.base, body.len);
	}
	else if (text != NULL)
		gw_ws_send(form->ws, GW_WS_TEXT, text, strlen(text));
	free(text);
	json_decref(answer);
}

static json_t *
owner_not_found(void)
{
	return json_pack("{s:[{s:s, s:s, s:s, s:{s:s}}], s:n}",
					 "diagnostics",
					 "severity",
					 "error",
					 "summary",
					 "Failed to fetch workspace owner",
					 "detail",
					 "Please check your permissions or the user may not exist.",
					 "extra",
					 "code",
					 "owner_not_found",
					 "parameters");
}

/* What the import stored, with a warning that it is not computed anew. */
static json_t *
fallback(const Form *form, const char *why)
{
	json_t *answer = json_deep_copy(json_object_get(form->plan, "static"));
	json_t *list;

	if (!json_is_object(answer))
	{
		json_decref(answer);
		answer = json_pack("{s:n}", "parameters");
	}
	list = json_array();
	json_array_append_new(
		list,
		json_pack(
			"{s:s, s:s, s:s, s:{s:s}}",
			"severity",
			"warning",
			"summary",
			"This template version is missing required metadata to support dynamic parameters.",
			"detail",
			why,
			"extra",
			"code",
			""));
	json_object_set_new(answer, "diagnostics", list);
	return answer;
}

static bool
has_parameter(const json_t *list, const char *name)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *other = json_string_value(json_object_get(item, "name"));

		if (other != NULL && strcmp(other, name) == 0)
			return true;
	}
	return false;
}

/* Parameters of modules, which are not evaluated here: as the import stored them, with the client's
 * values. */
static void
add_stored(const Form *form, json_t *answer, const json_t *inputs)
{
	const json_t *stored = json_object_get(json_object_get(form->plan, "static"), "parameters");
	json_t *list = json_object_get(answer, "parameters");
	json_t *item;
	size_t i;

	json_array_foreach(stored, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));
		json_t *copy;

		if (name == NULL || has_parameter(list, name))
			continue;
		copy = json_deep_copy(item);
		if (json_is_string(json_object_get(inputs, name)))
		{
			json_object_set_new(
				copy,
				"value",
				json_pack("{s:O, s:b}", "value", json_object_get(inputs, name), "valid", 1));
			json_object_set_new(copy, "diagnostics", json_array());
		}
		json_array_append_new(list, copy);
	}
}

static bool
has_modules(const json_t *answer)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(answer, "diagnostics"), i, item)
	{
		const char *code =
			json_string_value(json_object_get(json_object_get(item, "extra"), "code"));

		if (code != NULL && strcmp(code, "module_not_loaded") == 0)
			return true;
	}
	return false;
}

static json_t *
evaluate(const Form *form, const json_t *inputs)
{
	TplInput in = {.metadata = form->metadata,
				   .variables = form->variables,
				   .parameters = inputs,
				   .dynamic = true};
	char *error = NULL;
	json_t *answer = NULL;
	Tpl *tpl;

	clock_gettime(CLOCK_REALTIME, &in.now);
	tpl = tpl_open(&form->archive, &in, &error);
	if (tpl != NULL)
		answer = tpl_parameters(tpl, &error);
	if (answer != NULL && has_modules(answer))
		add_stored(form, answer, inputs);
	if (answer == NULL)
		answer = fallback(form, error != NULL ? error : "The template could not be evaluated.");
	tpl_close(tpl);
	free(error);
	return answer;
}

static void
answer_request(Form *form, const json_t *request)
{
	const char *owner = json_string_value(json_object_get(request, "owner_id"));
	const char *ours = json_string_value(json_object_get(form->plan, "owner_id"));
	const json_int_t id = json_integer_value(json_object_get(request, "id"));

	if (!json_is_object(json_object_get(form->plan, "owner")) ||
		(owner != NULL && owner[0] != '\0' && strcmp(owner, NIL_UUID) != 0 &&
		 (ours == NULL || strcmp(owner, ours) != 0)))
		send_json(form, owner_not_found(), id);
	else if (form->archive.n == 0)
		send_json(form, fallback(form, "The template's archive is gone."), id);
	else
		send_json(form, evaluate(form, json_object_get(request, "inputs")), id);
}

/* The archive from the answer's only column, a bytea in its text form. */
static void
read_archive(Form *form, const PGresult *result)
{
	size_t len = 0;
	unsigned char *data = PQunescapeBytea((const unsigned char *) PQgetvalue(result, 0, 0), &len);
	char *error = NULL;

	if (data == NULL || !arc_read(&form->archive, data, len, &error))
		gw_log(GW_WARN, "dynamic parameters: %s", error != NULL ? error : "out of memory");
	free(error);
	PQfreemem(data);
}

static void
on_file(void *arg, GwDbStatus status, PGresult *result)
{
	Form *form = arg;
	json_t *first = json_pack("{s:i}", "id", -1);

	form->query = NULL;
	form->loaded = true;
	if (status == GW_DB_OK && PQntuples(result) == 1)
		read_archive(form, result);
	PQclear(result);
	answer_request(form, form->ws != NULL ? first : json_object_get(form->plan, "request"));
	json_decref(first);
	for (int i = 0; i < form->n_waiting; i++)
	{
		answer_request(form, form->waiting[i]);
		json_decref(form->waiting[i]);
	}
	form->n_waiting = 0;
}

static void
on_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	Form *form = arg;
	json_t *request = opcode == GW_WS_TEXT ? json_loadb((const char *) data, len, 0, NULL) : NULL;

	if (!json_is_object(request))
		gw_ws_close(ws, 1008, "a message must be a JSON object");
	else if (form->loaded)
		answer_request(form, request);
	else if (form->n_waiting < MAX_WAITING)
		form->waiting[form->n_waiting++] = json_incref(request);
	json_decref(request);
}

static void
free_form(Form *form)
{
	if (form->query != NULL)
		gw_db_detach(form->query);
	gw_timer_stop(&form->lifetime);
	for (int i = 0; i < form->n_waiting; i++)
		json_decref(form->waiting[i]);
	arc_free(&form->archive);
	json_decref(form->plan);
	json_decref(form->metadata);
	json_decref(form->variables);
	free(form);
}

static void
on_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	(void) ws;
	(void) code;
	(void) reason;
	(void) len;
	free_form(arg);
}

static void
on_dispose(void *arg)
{
	free_form(*(Form **) arg);
}

static void
on_lifetime(void *arg)
{
	Form *form = arg;

	gw_ws_close(form->ws, 1001, "");
}

void
gw_stream_parameters(h2o_req_t *req, json_t *plan)
{
	static const GwWsHandlers handlers = {.on_message = on_message, .on_close = on_close};
	const GwWsOptions options = {.max_message = 256 * 1024};
	GwLoop *loop = gw_loop_of(req);
	Form *form = calloc(1, sizeof(*form));
	const char *file = json_string_value(json_object_get(plan, "file_id"));

	if (form == NULL)
		abort();
	form->plan = json_incref(plan);
	form->metadata = owner_metadata(json_object_get(plan, "owner"));
	form->variables = variable_texts(json_object_get(plan, "variables"));
	if (json_is_object(json_object_get(plan, "request")))
	{
		form->req = req;
		*(Form **) h2o_mem_alloc_shared(&req->pool, sizeof(form), on_dispose) = form;
	}
	else if ((form->ws = gw_ws_upgrade(req, &options, &handlers, form)) == NULL)
	{
		free_form(form);
		return;
	}
	else
		gw_timer_start(&form->lifetime, loop, LIFETIME_MS, on_lifetime, form);
	form->query = gw_db_send_copy(loop->db, GW_DB_SLOW, &load_file, 1, &file, true, on_file, form);
}
