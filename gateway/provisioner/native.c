/*
 * native.c -- builds without Terraform
 *
 * The template is evaluated, and its result goes through the same mapping as
 * Terraform's.  The only real thing it can make is a sandbox_process.  The
 * build's state is JSON:
 *
 *	 {"engine": "native", "version": 1, "host": …, "workspace": …,
 *	  "sandboxes": [{"address", "hostname", "env": {…}, "command": […]}]}
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/job.h"
#include "provisioner/plan.h"
#include "provisioner/template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREPARE_MS 15000
#define STOP_MS 20000

static const char *
str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

/* Our state, or NULL where it is empty or Terraform's. */
json_t *
native_state_parse(const uint8_t *state, size_t len)
{
	json_t *j = len > 0 ? json_loadb((const char *) state, len, 0, NULL) : NULL;

	if (strcmp(str(j, "engine"), "native") == 0)
		return j;
	json_decref(j);
	return NULL;
}

static TplInput
input_of(const Job *job)
{
	TplInput in = {.metadata = job->metadata,
				   .parameters = job->parameters,
				   .previous = job->previous,
				   .variables = job->variables,
				   .external_auth = job->external_auth};

	clock_gettime(CLOCK_REALTIME, &in.now);
	return in;
}

/* Resources of the evaluated template, and their graph. */
static json_t *
evaluate(Job *job, Graph **graph)
{
	const TplInput in = input_of(job);
	char *error = NULL;
	Tpl *tpl = tpl_open(&job->archive, &in, &error);
	json_t *edges = NULL;
	json_t *state = NULL;
	json_t *resources = NULL;
	const json_t *edge;
	size_t i;

	if (tpl != NULL)
		state = tpl_state(tpl, &edges, &error);
	tpl_close(tpl);
	if (state == NULL)
	{
		job_fail(job, "%s", error != NULL ? error : "could not evaluate the template");
		free(error);
		return NULL;
	}
	*graph = graph_create();
	json_array_foreach(edges, i, edge) if (json_is_null(json_array_get(edge, 1)))
		graph_node(*graph, json_string_value(json_array_get(edge, 0)));
	else graph_edge(*graph,
					json_string_value(json_array_get(edge, 0)),
					json_string_value(json_array_get(edge, 1)));
	resources = plan_resources(state);
	json_decref(edges);
	json_decref(state);
	return resources;
}

/* provisioner.GraphComplete of the template for a transition. */
static json_t *
plan(Job *job, const char *transition, json_t **resources)
{
	Graph *graph = NULL;
	json_t *mapped = NULL;
	char *error = NULL;

	json_object_set_new(job->metadata, "workspace_transition", json_string(transition));
	*resources = evaluate(job, &graph);
	if (*resources != NULL)
	{
		mapped = plan_map(*resources, graph, &error);
		if (mapped == NULL)
			job_fail(job, "%s", error != NULL ? error : "could not map the template");
		free(error);
	}
	graph_free(graph);
	return mapped;
}

static json_t *
take(json_t *mapped, const char *key)
{
	json_t *v = json_object_get(mapped, key);

	return v != NULL ? json_incref(v) : json_array();
}

static bool
run_import(Job *job, json_t **completed)
{
	json_t *resources = NULL;
	json_t *start;
	json_t *stop;

	job->stage = "Detecting persistent resources";
	start = plan(job, "START", &resources);
	json_decref(resources);
	if (start == NULL)
		return false;
	job->stage = "Detecting ephemeral resources";
	stop = plan(job, "STOP", &resources);
	json_decref(resources);
	if (stop == NULL)
	{
		json_decref(start);
		return false;
	}
	*completed = json_pack("{s:o, s:o, s:o, s:o, s:o, s:[], s:s, s:O, s:O}",
						   "start_resources",
						   take(start, "resources"),
						   "stop_resources",
						   take(stop, "resources"),
						   "rich_parameters",
						   take(start, "parameters"),
						   "external_auth_providers",
						   take(start, "external_auth_providers"),
						   "presets",
						   take(start, "presets"),
						   "start_modules",
						   "plan",
						   "7b7d",
						   "has_ai_tasks",
						   json_object_get(start, "has_ai_tasks"),
						   "has_external_agents",
						   json_object_get(start, "has_external_agents"));
	json_decref(start);
	json_decref(stop);
	return true;
}

static bool
run_dry(Job *job, json_t **completed)
{
	json_t *resources = NULL;
	json_t *mapped;

	job->stage = "Detecting persistent resources";
	mapped = plan(job, "START", &resources);
	json_decref(resources);
	if (mapped == NULL)
		return false;
	*completed = json_pack("{s:o, s:[]}", "resources", take(mapped, "resources"), "modules");
	json_decref(mapped);
	return true;
}

/* What the supervisor needs to start one sandbox_process. */
static json_t *
sandbox_spec(const Job *job, const json_t *resource)
{
	const json_t *v = json_object_get(resource, "values");
	static const char *const addresses[] = {"CODER_AGENT_PROMETHEUS_ADDRESS", "CODER_AGENT_DEBUG_ADDRESS"};
	json_t *env = json_object();
	const json_t *value;
	const char *key;

	json_object_foreach(json_object_get(v, "env"), key, value) if (json_is_string(value))
		json_object_set(env, key, (json_t *) (uintptr_t) value);
	json_object_set_new(env, "CODER_AGENT_URL", json_string(str(job->metadata, "coder_url")));
	json_object_set_new(env, "CODER_AGENT_AUTH", json_string("token"));
	json_object_set_new(env, "CODER_AGENT_TOKEN", json_string(str(v, "agent_token")));
	json_object_set_new(env, "CODER_AGENT_LOG_DIR", json_string("/tmp"));
	/* Sandboxes share the machine's loopback, where others' agents, and the server itself, have these addresses. */
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		if (json_object_get(env, addresses[i]) == NULL)
			json_object_set_new(env, addresses[i], json_string(""));
	return json_pack("{s:s, s:s, s:o, s:O*}",
					 "address",
					 str(resource, "address"),
					 "hostname",
					 str(job->metadata, "workspace_name"),
					 "env",
					 env,
					 "command",
					 json_is_array(json_object_get(v, "command")) ? json_object_get(v, "command")
																  : NULL);
}

static json_t *
sandbox_specs(const Job *job, const json_t *resources)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(resources, i, item) if (strcmp(str(item, "type"), "sandbox_process") == 0)
		json_array_append_new(out, sandbox_spec(job, item));
	return out;
}

static bool
ask(Job *job, const char *op, json_t *sandboxes, int timeout_ms)
{
	json_t *request = json_pack("{s:s, s:s, s:o*}",
								"op",
								op,
								"workspace",
								str(job->metadata, "workspace_id"),
								"sandboxes",
								sandboxes);
	json_t *answer = sandbox_request(job->worker->sandbox_fd, request, timeout_ms);
	bool ok = json_is_true(json_object_get(answer, "ok"));

	if (!ok)
		job_fail(job,
				 "%s",
				 answer != NULL ? str(answer, "error")
								: "the supervisor of sandboxes does not answer");
	json_decref(request);
	json_decref(answer);
	return ok;
}

static void
set_state(Job *job, json_t *sandboxes)
{
	json_t *state = json_pack("{s:s, s:i, s:s, s:s, s:o}",
							  "engine",
							  "native",
							  "version",
							  1,
							  "host",
							  job->worker->options->host_id,
							  "workspace",
							  str(job->metadata, "workspace_id"),
							  "sandboxes",
							  sandboxes);

	job->new_state = (uint8_t *) json_dumps(state, JSON_COMPACT);
	job->new_state_len = strlen((char *) job->new_state);
	job->have_new_state = true;
	json_decref(state);
}

/* A sandbox lives on the machine that made it, where its home is. */
static bool
check_host(Job *job)
{
	json_t *state = native_state_parse(job->state, job->state_len);
	const bool ours = state == NULL || json_array_size(json_object_get(state, "sandboxes")) == 0 ||
					  strcmp(str(state, "host"), job->worker->options->host_id) == 0;

	if (!ours)
		job_fail(
			job, "the workspace's sandbox and home are on the machine \"%s\"", str(state, "host"));
	json_decref(state);
	return ours;
}

static bool
apply(Job *job, const char *transition, json_t *resources)
{
	json_t *specs = sandbox_specs(job, resources);
	const size_t n = json_array_size(specs);
	const bool destroy = strcmp(transition, "DESTROY") == 0;

	if (destroy || n == 0)
	{
		json_decref(specs);
		if (!ask(job, destroy ? "delete" : "stop", NULL, STOP_MS))
			return false;
		job_log(job,
				"PROVISIONER",
				"INFO",
				destroy ? "The sandbox and its home folder are removed."
						: "The sandbox is stopped.");
		set_state(job, json_array());
		return true;
	}
	if (!ask(job, "prepare", json_incref(specs), PREPARE_MS))
	{
		json_decref(specs);
		return false;
	}
	job_log(job, "PROVISIONER", "INFO", "%zu sandbox%s ready.", n, n == 1 ? " is" : "es are");
	set_state(job, specs);
	return true;
}

static const char *
apply_stage(const char *transition)
{
	if (strcmp(transition, "STOP") == 0)
		return "Stopping workspace";
	return strcmp(transition, "DESTROY") == 0 ? "Destroying workspace" : "Starting workspace";
}

static bool
run_build(Job *job, json_t **completed)
{
	char transition[16];
	json_t *resources = NULL;
	json_t *mapped;
	int64_t start = wall_ms();
	bool ok;

	snprintf(transition, sizeof(transition), "%s", str(job->metadata, "workspace_transition"));
	if (!check_host(job))
		return false;
	job->stage = "Planning Infrastructure";
	mapped = plan(job, transition[0] != '\0' ? transition : "START", &resources);
	job_timing(job, "plan", start, wall_ms(), mapped != NULL);
	if (mapped == NULL || (strcmp(transition, "DESTROY") != 0 &&
						   !job_commit_quota(job, json_object_get(mapped, "resources"))))
	{
		json_decref(resources);
		json_decref(mapped);
		return false;
	}
	start = wall_ms();
	job->stage = apply_stage(transition);
	job_log(job, "PROVISIONER_DAEMON", "INFO", "%s", "");
	ok = apply(job, transition, resources);
	job_timing(job, "apply", start, wall_ms(), ok);
	if (ok)
		*completed =
			json_pack("{s:o, s:[], s:[], s:o}",
					  "resources",
					  strcmp(transition, "DESTROY") == 0 ? json_array() : take(mapped, "resources"),
					  "modules",
					  "resource_replacements",
					  "ai_tasks",
					  take(mapped, "ai_tasks"));
	json_decref(resources);
	json_decref(mapped);
	return ok;
}

bool
native_run(Job *job, json_t **completed)
{
	switch (job->kind)
	{
		case JOB_IMPORT:
			return run_import(job, completed);
		case JOB_DRY_RUN:
			return run_dry(job, completed);
		case JOB_BUILD:
			return run_build(job, completed);
	}
	return false;
}

/* The prepared sandboxes run once the database knows their agents' tokens. */
void
native_released(Job *job, bool stored)
{
	if (job->kind == JOB_BUILD && job->have_new_state &&
		strcmp(str(job->metadata, "workspace_transition"), "START") == 0)
		ask(job, stored ? "go" : "abort", NULL, 5000);
}
