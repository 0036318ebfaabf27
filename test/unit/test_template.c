/*
 * test_template.c -- the HCL evaluator and what a template says
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "provisioner/template.c"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STARTER "../../gateway/provisioner/starter/main.tf"

static Archive
one_file(const char *path, const char *text)
{
	Archive a = {.files = calloc(1, sizeof(ArchiveFile)), .n = 1, .cap = 1};

	a.files[0] = (ArchiveFile){strdup(path), strdup(text), strlen(text), 0644};
	return a;
}

static char *
slurp(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *text = calloc(1, 65536);
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, 65535, f);
	fclose(f);
	assert_true(n > 0);
	return text;
}

typedef struct EvalArg
{
	HclCtx *ctx;
	const char *src;
	size_t len;
	HclValue *out;
} EvalArg;

static void
eval_arg(void *p)
{
	EvalArg *a = p;

	a->out = hcl_eval(a->ctx, hcl_parse_expr(a->ctx, "t", a->src, a->len), NULL);
}

/* The value of an expression as JSON text, or "! message". */
static char *
eval(const char *src)
{
	EvalArg a = {hcl_create(), src, strlen(src), NULL};
	char *text;
	json_t *j;

	if (!hcl_guard(a.ctx, eval_arg, &a))
	{
		if (asprintf(&text, "! %s", a.ctx->error.message) < 0)
			text = NULL;
	}
	else
	{
		j = hcl_to_json(a.out);
		text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
		json_decref(j);
	}
	hcl_destroy(a.ctx);
	return text;
}

static void
test_expressions(void **state)
{
	static const char *const cases[][2] = {
		{"1 + 2 * 3", "7"},
		{"(1 + 2) * 3", "9"},
		{"-2 - -3", "1"},
		{"7 % 3 == 1 && !false", "true"},
		{"\"a${1 + 1}b\"", "\"a2b\""},
		{"\"$${x} %%{y}\"", "\"${x} %{y}\""},
		{"\"\\u00e4\\n\\\"\"", "\"\xc3\xa4\\n\\\"\""},
		{"true ? \"y\" : \"n\"", "\"y\""},
		{"[1, 2, 3][1]", "2"},
		{"{a = 1, \"b\" : 2, (\"c\") = 3}", "{\"a\":1,\"b\":2,\"c\":3}"},
		{"[for x in [1, 2, 3] : x * 2 if x != 2]", "[2,6]"},
		{"{for k, v in {a = 1, b = 2} : v => k}", "{\"1\":\"a\",\"2\":\"b\"}"},
		{"{for x in [\"aa\", \"ab\", \"b\"] : substr(x, 0, 1) => x...}",
		 "{\"a\":[\"aa\",\"ab\"],\"b\":[\"b\"]}"},
		{"[{a = 1}, {a = 2}][*].a", "[1,2]"},
		{"[{a = 1}, {a = 2}].*.a", "[1,2]"},
		{"[{a = [5]}][*].a[0]", "[5]"},
		{"\"%{ if true }yes%{ else }no%{ endif }\"", "\"yes\""},
		{"\"%{ for x in [1, 2] }${x},%{ endfor }\"", "\"1,2,\""},
		{"\"a ${~ 1 ~} b\"", "\"a1b\""},
		{"try({}.x, \"d\")", "\"d\""},
		{"can({}.x)", "false"},
		{"max([1, 5, 3]...)", "5"},
		{"format(\"%03d-%s-%v\", 7, \"x\", [1])", "\"007-x-[1]\""},
		{"join(\",\", sort([\"b\", \"a\"]))", "\"a,b\""},
		{"replace(\"hello\", \"/l+/\", \"L\")", "\"heLo\""},
		{"regex(\"^(?P<a>[a-z]+)-([0-9]+)$\", \"ab-12\")", "{\"a\":\"ab\"}"},
		{"split(\",\", \"a,b,\")", "[\"a\",\"b\",\"\"]"},
		{"lower(\"ABC\") == \"abc\"", "true"},
		{"base64decode(base64encode(\"hallo\"))", "\"hallo\""},
		{"sha256(\"\")", "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""},
		{"jsonencode({a = [1, true, null]})", "\"{\\\"a\\\":[1,true,null]}\""},
		{"jsondecode(\"[1.5]\")", "[1.5]"},
		{"\"x${0.1 + 0.2}\"", "\"x0.3\""},
		{"merge({a = 1}, {a = 2, b = 3})", "{\"a\":2,\"b\":3}"},
		{"length(\"\xc3\xa4\xc3\xb6\")", "2"},
		{"range(3)", "[0,1,2]"},
		{"timeadd(\"2024-01-01T00:00:00Z\", \"25h\")", "\"2024-01-02T01:00:00Z\""},
		{"coalesce(\"\", null, \"x\")", "\"x\""},
		{"\"<<-\"", "\"<<-\""},
		{"<<-EOT\n    a\n      b\n    EOT\n", "\"a\\n  b\\n\""},
		{"1 / 0", "! division by zero"},
		{"[1][3]", "! index 3 is outside of the list of 1 elements"},
		{"nothing(1)", "! there is no function \"nothing\""},
		{"\"${[1]} x\"", "! a list cannot be part of a string"},
		{"1 +", "! expected a value, found the end of the file"},
		{"\"abc", "! string is not closed on its line"},
	};
	size_t i;

	(void) state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char *got = eval(cases[i][0]);

		if (strcmp(got, cases[i][1]) != 0)
			fail_msg("%s: got %s, want %s", cases[i][0], got, cases[i][1]);
		free(got);
	}
}

/* Deep nesting, endless growth and long loops end with an error, not with the process. */
static void
test_limits(void **state)
{
	char *deep = malloc(20001);
	char *got;

	(void) state;
	memset(deep, '(', 20000);
	deep[20000] = '\0';
	got = eval(deep);
	assert_non_null(strstr(got, "nested more than"));
	free(got);
	memset(deep, '-', 20000);
	got = eval(deep);
	assert_non_null(strstr(got, "nested more than"));
	free(got);
	free(deep);
	got = eval("setproduct(range(1000), range(1000))");
	assert_non_null(strstr(got, "more than 100000"));
	free(got);
	got = eval("[for a in range(3000) : [for b in range(3000) : 1]]");
	assert_true(strstr(got, "steps") != NULL || strstr(got, "memory") != NULL);
	free(got);
	got = eval("regex(\"^(a+)+$\", \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\")");
	assert_int_equal(got[0], '!');
	free(got);
}

static TplInput
build_input(json_t **meta)
{
	*meta = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}",
					  "coder_url",
					  "http://127.0.0.1:7080",
					  "workspace_transition",
					  "START",
					  "workspace_name",
					  "dev",
					  "workspace_owner",
					  "ada",
					  "workspace_owner_name",
					  "Ada L.",
					  "workspace_id",
					  "11111111-2222-4333-8444-555555555555");
	return (TplInput){.metadata = *meta};
}

/* Every prefix of the starter template parses or gives an error with its place. */
static void
test_truncated(void **state)
{
	char *text = slurp(STARTER);
	const size_t len = strlen(text);
	size_t n;

	(void) state;
	for (n = 1; n < len; n += 3)
	{
		char *cut = malloc(n + 1); /* of exact size, for the sanitizer */
		Archive a = {.files = calloc(1, sizeof(ArchiveFile)), .n = 1, .cap = 1};
		TplInput in = {0};
		char *error;
		Tpl *tpl;

		memcpy(cut, text, n);
		cut[n] = '\0';
		a.files[0] = (ArchiveFile){strdup("main.tf"), cut, n, 0};
		tpl = tpl_open(&a, &in, &error);
		if (tpl == NULL)
			assert_ptr_equal(strstr(error, "main.tf:"), error);
		free(error);
		tpl_close(tpl);
		arc_free(&a);
	}
	free(text);
}

static void
test_starter_state(void **state)
{
	char *text = slurp(STARTER);
	Archive a = one_file("main.tf", text);
	json_t *meta;
	TplInput in = build_input(&meta);
	char *error = NULL;
	Tpl *tpl = tpl_open(&a, &in, &error);
	json_t *edges;
	json_t *values;
	json_t *item;
	int sandboxes = 0;
	size_t i;

	(void) state;
	assert_null(error);
	assert_null(tpl_needs_terraform(tpl));
	values = tpl_state(tpl, &edges, &error);
	if (values == NULL)
		fail_msg("%s", error);
	json_array_foreach(
		json_object_get(json_object_get(json_object_get(values, "values"), "root_module"),
						"resources"),
		i,
		item)
	{
		if (strcmp(json_string_value(json_object_get(item, "address")),
				   "sandbox_process.workspace[0]") != 0)
			continue;
		sandboxes++;
		assert_int_equal(strlen(json_string_value(
							 json_object_get(json_object_get(item, "values"), "agent_token"))),
						 36);
	}
	assert_int_equal(sandboxes, 1);
	json_decref(values);
	json_decref(edges);
	json_decref(meta);
	tpl_close(tpl);
	arc_free(&a);
	free(text);
}

static const char form_source[] =
	"data \"coder_parameter\" \"n\" {\n  name = \"cpus\"\n  type = \"number\"\n  default = 2\n"
	"  validation {\n    min = 1\n    max = 8\n  }\n}\n"
	"data \"coder_parameter\" \"list\" {\n  name = \"pick\"\n  dynamic \"option\" {\n    for_each = range(data.coder_parameter.n.value)\n"
	"    content {\n      name = \"o${option.value}\"\n      value = \"v${option.value}\"\n    }\n  }\n}\n";

static json_t *
form_of(const char *source, json_t *inputs)
{
	Archive a = one_file("main.tf", source);
	TplInput in = {.parameters = inputs, .dynamic = true};
	char *error = NULL;
	Tpl *tpl = tpl_open(&a, &in, &error);
	json_t *out;

	assert_non_null(tpl);
	out = tpl_parameters(tpl, &error);
	assert_non_null(out);
	tpl_close(tpl);
	arc_free(&a);
	json_decref(inputs);
	return out;
}

static const json_t *
param(const json_t *form, const char *name)
{
	const json_t *list = json_object_get(form, "parameters");
	size_t i;

	for (i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "name")), name) == 0)
			return json_array_get(list, i);
	return NULL;
}

static void
test_form(void **state)
{
	json_t *form = form_of(form_source, json_pack("{s:s}", "cpus", "3"));
	const json_t *pick = param(form, "pick");

	(void) state;
	assert_int_equal(json_array_size(json_object_get(pick, "options")), 3);
	assert_string_equal(json_string_value(json_object_get(pick, "form_type")), "radio");
	assert_int_equal(json_array_size(json_object_get(pick, "diagnostics")), 1); /* required */
	assert_true(json_is_false(json_object_get(json_object_get(pick, "value"), "valid")));
	assert_int_equal(json_array_size(json_object_get(param(form, "cpus"), "diagnostics")), 0);
	json_decref(form);

	form = form_of(form_source, json_pack("{s:s, s:s}", "cpus", "9", "pick", "v7"));
	assert_int_equal(json_array_size(json_object_get(param(form, "cpus"), "diagnostics")), 1);
	assert_int_equal(json_array_size(json_object_get(param(form, "pick"), "diagnostics")), 0);
	json_decref(form);
}

/* Terraform is needed for what is not the coder provider's. */
static void
test_engine(void **state)
{
	Archive a = one_file("main.tf", "resource \"terraform_data\" \"x\" {}\n");
	Archive b = one_file("main.tf", "module \"m\" {\n  source = \"./m\"\n}\n");
	TplInput in = {0};
	char *error;
	Tpl *tpl = tpl_open(&a, &in, &error);

	(void) state;
	assert_non_null(strstr(tpl_needs_terraform(tpl), "terraform_data"));
	tpl_close(tpl);
	tpl = tpl_open(&b, &in, &error);
	assert_non_null(tpl_needs_terraform(tpl));
	tpl_close(tpl);
	arc_free(&a);
	arc_free(&b);
}

static void
test_circle(void **state)
{
	Archive a = one_file(
		"main.tf",
		"locals {\n  a = local.b\n  b = local.a\n}\ndata \"coder_workspace_tags\" \"t\" {\n  tags = { x = local.a }\n}\n");
	TplInput in = {0};
	char *error;
	Tpl *tpl = tpl_open(&a, &in, &error);

	json_t *problems = json_array();

	(void) state;
	assert_null(tpl_eval_tags(tpl, problems, &error));
	assert_non_null(strstr(error, "refers to itself"));
	free(error);
	json_decref(problems);
	tpl_close(tpl);
	arc_free(&a);
}

static void
test_json_syntax(void **state)
{
	Archive a = one_file(
		"main.tf.json",
		"{\"data\":{\"coder_parameter\":{\"p\":{\"name\":\"p\",\"default\":\"${1+1}\",\"option\":"
		"[{\"name\":\"a\",\"value\":\"2\"}]}}}}");
	TplInput in = {.dynamic = true};
	char *error = NULL;
	Tpl *tpl = tpl_open(&a, &in, &error);
	json_t *form;

	(void) state;
	assert_non_null(tpl);
	form = tpl_parameters(tpl, &error);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(param(form, "p"), "value"), "value")),
		"2");
	assert_int_equal(json_array_size(json_object_get(param(form, "p"), "diagnostics")), 0);
	json_decref(form);
	tpl_close(tpl);
	arc_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expressions),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_starter_state),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_engine),
		cmocka_unit_test(test_circle),
		cmocka_unit_test(test_json_syntax),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
