/*
 * test_plan.c -- plan and state JSON with a graph, mapped to resources and agents
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "provisioner/plan.c"

static const char dot[] =
	"digraph {\n"
	"\tcompound = \"true\"\n"
	"\tsubgraph \"root\" {\n"
	"\t\t\"[root] coder_agent.main (expand)\" [label = \"coder_agent.main\", shape = \"box\"]\n"
	"\t\t\"[root] coder_app.web (expand)\" [label = \"coder_app.web\", shape = \"box\"]\n"
	"\t\t\"[root] coder_metadata.m (expand)\" [label = \"coder_metadata.m\", shape = \"box\"]\n"
	"\t\t\"[root] docker_container.ws (expand)\" [label = \"docker_container.ws\", shape = \"box\"]\n"
	"\t\t\"[root] docker_volume.home (expand)\" [label = \"docker_volume.home\", shape = \"box\"]\n"
	"\t\t\"[root] provider[\\\"registry.terraform.io/coder/coder\\\"]\" [label = \"provider\", shape = \"diamond\"]\n"
	"\t\t\"[root] coder_app.web (expand)\" -> \"[root] coder_agent.main (expand)\"\n"
	"\t\t\"[root] docker_container.ws (expand)\" -> \"[root] coder_agent.main (expand)\"\n"
	"\t\t\"[root] docker_container.ws (expand)\" -> \"[root] docker_volume.home (expand)\"\n"
	"\t\t\"[root] coder_metadata.m (expand)\" -> \"[root] docker_container.ws (expand)\"\n"
	"\t}\n}\n";

#define RES(type, name, values)                                                                    \
	"{\"address\":\"" type "." name "\",\"mode\":\"managed\",\"type\":\"" type                     \
	"\",\"name\":\"" name "\",\"values\":" values "}"
#define AGENT(ids)                                                                                 \
	RES("coder_agent", "main", "{\"os\":\"linux\",\"arch\":\"amd64\",\"auth\":\"token\"" ids "}")
#define WS                                                                                         \
	"{\"address\":\"docker_container.ws[0]\",\"mode\":\"managed\",\"type\":\"docker_container\",\"name\":\"ws\",\"index\":0,\"values\":{}}"

static json_t *
map(const char *resources, const char *graph_text, char **error)
{
	json_t *list = json_loads(resources, 0, NULL);
	Graph *graph = graph_parse(graph_text, strlen(graph_text));
	json_t *out;

	assert_non_null(list);
	*error = NULL;
	out = plan_map(list, graph, error);
	graph_free(graph);
	json_decref(list);
	return out;
}

static const json_t *
resource(const json_t *mapped, const char *name)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(mapped, "resources"),
					   i,
					   item) if (strcmp(plan_str(item, "name"), name) == 0) return item;
	return NULL;
}

/* At plan time nobody has an id: edges of the graph decide. */
static void
test_plan_time(void **state)
{
	char *error;
	json_t *m = map(
		"[" AGENT(
			"") "," WS
				"," RES("docker_volume", "home", "{}") "," RES("coder_app", "web", "{\"slug\":\"web\",\"share\":\"public\",\"open_in\":\"tab\"}") "," RES(
					"coder_metadata",
					"m",
					"{\"daily_cost\":7,\"icon\":\"/i\",\"item\":[{\"key\":\"k\",\"value\":\"v\"}]}") "]",
		dot,
		&error);
	const json_t *ws = resource(m, "ws");
	const json_t *agent = json_array_get(json_object_get(ws, "agents"), 0);
	const json_t *app = json_array_get(json_object_get(agent, "apps"), 0);

	(void) state;
	assert_null(error);
	assert_int_equal(json_array_size(json_object_get(m, "resources")), 2);
	assert_string_equal(plan_str(agent, "name"), "main");
	assert_string_equal(plan_str(app, "sharing_level"), "PUBLIC");
	assert_string_equal(plan_str(app, "open_in"), "TAB");
	assert_string_equal(plan_str(app, "display_name"), "web");
	assert_int_equal(plan_num(ws, "daily_cost"), 7);
	assert_string_equal(plan_str(json_array_get(json_object_get(ws, "metadata"), 0), "key"), "k");
	assert_int_equal(json_array_size(json_object_get(resource(m, "home"), "agents")), 0);
	json_decref(m);
}

/* After apply the ids decide: an app of another agent does not belong here. */
static void
test_apply_time(void **state)
{
	char *error;
	json_t *m = map(
		"[" AGENT(",\"id\":\"A\",\"token\":\"T\",\"startup_script\":\"x\"") "," WS "," RES(
			"coder_app",
			"web",
			"{\"slug\":\"web\",\"agent_id\":\"B\"}") "," RES("coder_script",
															 "s",
															 "{\"agent_id\":\"A\",\"script\":\"y\",\"run_on_start\":true}") "]",
		dot,
		&error);
	const json_t *agent = json_array_get(json_object_get(resource(m, "ws"), "agents"), 0);

	(void) state;
	assert_string_equal(plan_str(agent, "token"), "T");
	assert_int_equal(json_array_size(json_object_get(agent, "apps")), 0);
	assert_int_equal(json_array_size(json_object_get(agent, "scripts")), 2);
	json_decref(m);
}

static void
fails(const char *resources, const char *graph_text, const char *because)
{
	char *error;
	json_t *m = map(resources, graph_text, &error);

	assert_null(m);
	assert_non_null(error);
	if (strstr(error, because) == NULL)
		fail_msg("got \"%s\", want \"%s\"", error, because);
	free(error);
}

static void
test_errors(void **state)
{
	(void) state;
	fails("[" RES("coder_agent", "a_b", "{}") "]", dot, "underscore");
	fails("[" AGENT("") "," RES("coder_app", "x", "{\"slug\":\"A b\"}") "]", dot, "slug");
	fails("[" AGENT("") "," RES("coder_app", "x", "{\"slug\":\"s\"}") "," RES(
			  "coder_app", "y", "{\"slug\":\"s\"}") "]",
		  dot,
		  "two apps");
	fails("[" AGENT("") "]", "digraph {}", "not in the graph");
	fails(
		"[{\"mode\":\"data\",\"type\":\"coder_parameter\",\"address\":\"a\",\"values\":{\"name\":\"p\"}},"
		"{\"mode\":\"data\",\"type\":\"coder_parameter\",\"address\":\"b\",\"values\":{\"name\":\"p\"}}]",
		dot,
		"two parameters");
}

static void
test_parameters(void **state)
{
	char *error;
	json_t *m = map(
		"[{\"mode\":\"data\",\"type\":\"coder_parameter\",\"address\":\"a\",\"values\":{\"name\":\"p\",\"type\":\"number\","
		"\"optional\":true,\"default\":\"2\",\"form_type\":\"slider\",\"validation\":[{\"min\":1,\"max\":9,"
		"\"min_disabled\":false,\"max_disabled\":true,\"regex\":\"\"}]}}]",
		dot,
		&error);
	const json_t *p = json_array_get(json_object_get(m, "parameters"), 0);

	(void) state;
	assert_string_equal(plan_str(p, "form_type"), "SLIDER");
	assert_false(plan_flag(p, "required"));
	assert_int_equal(plan_num(p, "validation_min"), 1);
	assert_null(json_object_get(p, "validation_max"));
	json_decref(m);
}

/* Any prefix of a graph is a graph. */
static void
test_truncated_graph(void **state)
{
	size_t n;

	(void) state;
	for (n = 0; n < sizeof(dot); n++)
	{
		char *cut = malloc(n + 1);

		memcpy(cut, dot, n);
		graph_free(graph_parse(cut, n));
		free(cut);
	}
}

static void
test_module_path(void **state)
{
	char *path = module_path("module.a[\"x.y\"].module.b.docker_container.ws[0]");

	(void) state;
	assert_string_equal(path, "module.a[\"x.y\"].module.b");
	free(path);
	path = module_path("docker_container.ws");
	assert_string_equal(path, "");
	free(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan_time),
		cmocka_unit_test(test_apply_time),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_truncated_graph),
		cmocka_unit_test(test_module_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
