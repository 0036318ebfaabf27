/*
 * provider.c -- attributes that the coder provider computes, without Terraform
 *
 * Data sources read the job's metadata; resources get identifiers and, for an
 * agent, its token and init script; parameters are resolved and checked.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/template_int.h"

#include "provisioner/initscript.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static const char NIL_UUID[] = "00000000-0000-0000-0000-000000000000";

static const char *
new_uuid(HclCtx *ctx)
{
	const char *id = hcl_uuid(ctx);

	if (id == NULL)
		hcl_raise(ctx, (HclPos){0}, "no randomness");
	return id;
}

/* A text of the metadata, or def where it is missing or empty. */
static const char *
meta(const Tpl *tpl, const char *key, const char *def)
{
	const char *s = json_string_value(json_object_get(tpl->input.metadata, key));

	return s != NULL && s[0] != '\0' ? s : def;
}

static HclValue *
set_string(Tpl *tpl, HclValue *v, const char *key, const char *s)
{
	return hcl_with(tpl->ctx, v, key, s != NULL ? hcl_string(tpl->ctx, s) : hcl_null(tpl->ctx));
}

/* Sets key where the template does not, or says null. */
static HclValue *
set_default(Tpl *tpl, HclValue *v, const char *key, HclValue *def)
{
	const HclValue *old = hcl_get(v, key);

	return old == NULL || old->kind == HCL_NULL ? hcl_with(tpl->ctx, v, key, def) : v;
}

static HclValue *
set_secret(Tpl *tpl, HclValue *v, const char *key, const char *s)
{
	HclValue *text = hcl_string(tpl->ctx, s);

	text->sensitive = true;
	return hcl_with(tpl->ctx, v, key, text);
}

static const char *
transition_of(const Tpl *tpl)
{
	const char *t = meta(tpl, "workspace_transition", "START");

	return strcmp(t, "STOP") == 0 ? "stop" : strcmp(t, "DESTROY") == 0 ? "destroy" : "start";
}

/* -- data sources -------------------------------------------------------- */

static HclValue *
data_workspace(Tpl *tpl, Item *item, HclValue *v)
{
	const char *url = meta(tpl, "coder_url", "https://mydeployment.coder.com");
	const char *host = strstr(url, "://");
	const char *colon = host != NULL ? strrchr(host + 3, ':') : NULL;
	const char *stage = meta(tpl, "prebuilt_workspace_build_stage", "NONE");
	const bool prebuild = strcmp(stage, "CREATE") == 0;
	const char *transition = transition_of(tpl);

	if (tpl->input.dynamic)
	{
		v = hcl_with(tpl->ctx, v, "access_url", hcl_unknown(tpl->ctx));
		v->open = true;
		return v;
	}
	(void) item;
	v = set_string(tpl, v, "transition", transition);
	v = hcl_with(
		tpl->ctx, v, "start_count", hcl_number(tpl->ctx, strcmp(transition, "start") == 0));
	v = hcl_with(tpl->ctx, v, "is_prebuild", hcl_bool(tpl->ctx, prebuild));
	v = hcl_with(tpl->ctx, v, "prebuild_count", hcl_number(tpl->ctx, prebuild));
	v = hcl_with(tpl->ctx, v, "is_prebuild_claim", hcl_bool(tpl->ctx, strcmp(stage, "CLAIM") == 0));
	v = set_string(tpl, v, "name", meta(tpl, "workspace_name", "default"));
	v = set_string(tpl, v, "id", meta(tpl, "workspace_id", new_uuid(tpl->ctx)));
	v = set_string(tpl, v, "template_id", meta(tpl, "template_id", ""));
	v = set_string(tpl, v, "template_name", meta(tpl, "template_name", ""));
	v = set_string(tpl, v, "template_version", meta(tpl, "template_version", ""));
	v = set_string(tpl, v, "access_url", url);
	return hcl_with(tpl->ctx,
					v,
					"access_port",
					hcl_number(tpl->ctx,
							   colon != NULL && isdigit((unsigned char) colon[1])
								   ? strtold(colon + 1, NULL)
							   : strncmp(url, "https", 5) == 0 ? 443
															   : 80));
}

static HclValue *
data_owner(Tpl *tpl, Item *item, HclValue *v)
{
	const json_t *groups = json_object_get(tpl->input.metadata, "workspace_owner_groups");
	const json_t *roles = json_object_get(tpl->input.metadata, "workspace_owner_rbac_roles");
	HclValue *none = hcl_list(tpl->ctx, NULL, 0);

	(void) item;
	v = set_string(tpl, v, "id", meta(tpl, "workspace_owner_id", new_uuid(tpl->ctx)));
	v = set_string(tpl, v, "name", meta(tpl, "workspace_owner", "default"));
	v = set_string(tpl, v, "full_name", meta(tpl, "workspace_owner_name", "default"));
	v = set_string(tpl, v, "email", meta(tpl, "workspace_owner_email", "default@example.com"));
	v = set_string(tpl, v, "ssh_public_key", meta(tpl, "workspace_owner_ssh_public_key", ""));
	v = set_secret(tpl, v, "ssh_private_key", meta(tpl, "workspace_owner_ssh_private_key", ""));
	v = set_secret(tpl, v, "session_token", meta(tpl, "workspace_owner_session_token", ""));
	v = set_secret(tpl, v, "oidc_access_token", meta(tpl, "workspace_owner_oidc_access_token", ""));
	v = set_string(tpl, v, "login_type", meta(tpl, "workspace_owner_login_type", NULL));
	v = hcl_with(
		tpl->ctx, v, "groups", json_is_array(groups) ? hcl_from_json(tpl->ctx, groups) : none);
	return hcl_with(
		tpl->ctx, v, "rbac_roles", json_is_array(roles) ? hcl_from_json(tpl->ctx, roles) : none);
}

const char *
provider_arch(void)
{
	struct utsname name;

	if (uname(&name) != 0 || strcmp(name.machine, "x86_64") == 0)
		return "amd64";
	return strcmp(name.machine, "aarch64") == 0 ? "arm64" : "armv7";
}

static HclValue *
data_provisioner(Tpl *tpl, Item *item, HclValue *v)
{
	(void) item;
	v = set_string(tpl, v, "os", "linux");
	v = set_string(tpl, v, "arch", provider_arch());
	return set_string(tpl, v, "id", new_uuid(tpl->ctx));
}

static HclValue *
data_task(Tpl *tpl, Item *item, HclValue *v)
{
	const char *id = meta(tpl, "task_id", NIL_UUID);
	const bool enabled = strcmp(id, NIL_UUID) != 0;

	(void) item;
	v = set_string(tpl, v, "id", enabled ? id : new_uuid(tpl->ctx));
	v = hcl_with(tpl->ctx, v, "enabled", hcl_bool(tpl->ctx, enabled));
	return set_string(tpl, v, "prompt", meta(tpl, "task_prompt", ""));
}

static HclValue *
data_external_auth(Tpl *tpl, Item *item, HclValue *v)
{
	const char *id = hcl_get_string(tpl->ctx, v, "id");
	const char *token =
		id != NULL ? json_string_value(json_object_get(tpl->input.external_auth, id)) : NULL;

	if (id == NULL && !tpl->input.dynamic)
		hcl_raise(tpl->ctx, item->pos, "coder_external_auth needs \"id\"");
	return set_secret(tpl, v, "access_token", token != NULL ? token : "");
}

static HclValue *
data_preset(Tpl *tpl, Item *item, HclValue *v)
{
	const char *name = hcl_get_string(tpl->ctx, v, "name");

	if (name == NULL || name[0] == '\0')
		hcl_raise(tpl->ctx, item->pos, "coder_workspace_preset needs \"name\"");
	v = set_default(tpl, v, "default", hcl_bool(tpl->ctx, false));
	return set_string(tpl, v, "id", name);
}

/* -- parameters ---------------------------------------------------------- */

/* A parameter while it is being checked. */
typedef struct Param
{
	Tpl *tpl;
	Item *item;
	Instance *inst;
	HclValue *config;
	const char *name;
	const char *type;
	const char *form_type;
	const HclValue *options;
	const HclValue *validation;
	bool failed;
} Param;

static void problem(Param *p, const char *code, const char *summary, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Raises, or notes the problem where a form is made. */
static void
problem(Param *p, const char *code, const char *summary, const char *fmt, ...)
{
	va_list ap;
	char *detail = NULL;

	va_start(ap, fmt);
	if (vasprintf(&detail, fmt, ap) < 0)
		detail = NULL;
	va_end(ap);
	p->failed = true;
	if (p->tpl->input.dynamic)
	{
		tpl_diagnostic(p->tpl, p->inst->diagnostics, "error", summary, detail, code);
		return;
	}
	{
		const char *copy = hcl_printf(p->tpl->ctx, "%s", detail != NULL ? detail : "");

		free(detail);
		hcl_raise(p->tpl->ctx,
				  p->item->pos,
				  "%s%s: parameter \"%s\": %s",
				  strcmp(code, "required") == 0 ? "missing parameter: " : "",
				  summary,
				  p->name,
				  copy);
	}
}

static bool
one_of(const char *s, const char *list)
{
	const size_t n = strlen(s);
	const char *hit = list;

	while ((hit = strstr(hit, s)) != NULL)
	{
		if ((hit == list || hit[-1] == ' ') && (hit[n] == ' ' || hit[n] == '\0'))
			return true;
		hit += n;
	}
	return false;
}

/* Step 3 of the provider's checks: which widgets go with the type; the first is the default. */
static const char *
allowed_forms(const char *type, bool options)
{
	if (strcmp(type, "number") == 0)
		return options ? "radio dropdown" : "input slider";
	if (strcmp(type, "bool") == 0)
		return options ? "radio dropdown" : "checkbox switch";
	if (strcmp(type, "list(string)") == 0)
		return options ? "radio multi-select" : "tag-select";
	return options ? "radio dropdown" : "input textarea";
}

static void
resolve_form(Param *p)
{
	const char *allowed;
	const char *given = hcl_get_string(p->tpl->ctx, p->config, "form_type");

	if (!one_of(p->type, "string number bool list(string)"))
		problem(p,
				"",
				"Invalid parameter type",
				"the type \"%s\" is not string, number, bool or list(string)",
				p->type);
	allowed = allowed_forms(p->type, p->options != NULL);
	if (given == NULL || given[0] == '\0')
		p->form_type = hcl_strndup(p->tpl->ctx, allowed, strcspn(allowed, " "));
	else
	{
		p->form_type = given;
		if (strcmp(given, "error") != 0 && !one_of(given, allowed))
			problem(p,
					"",
					"Invalid form_type",
					"form_type \"%s\" does not go with type \"%s\" %s options; valid: %s",
					given,
					p->type,
					p->options != NULL ? "with" : "without",
					allowed);
	}
}

static bool
is_string_list(const char *s)
{
	json_t *j = json_loads(s, 0, NULL);
	bool ok = json_is_array(j);
	json_t *item;
	size_t i;

	json_array_foreach(j, i, item) ok = ok && json_is_string(item);
	json_decref(j);
	return ok;
}

static bool
value_has_type(const char *s, const char *type)
{
	char *end;

	if (strcmp(type, "number") == 0)
	{
		strtod(s, &end);
		return *s != '\0' && *end == '\0' && !isspace((unsigned char) *s);
	}
	if (strcmp(type, "bool") == 0)
		return one_of(s, "1 t T TRUE true True 0 f F FALSE false False") &&
			   strchr(s, ' ') == NULL && *s != '\0';
	if (strcmp(type, "list(string)") == 0)
		return is_string_list(s);
	return true;
}

static void
check_options(Param *p)
{
	const char *option_type = strcmp(p->form_type, "multi-select") == 0 ? "string" : p->type;
	size_t i;
	size_t j;

	for (i = 0; p->options != NULL && i < p->options->u.list.n; i++)
	{
		const char *name = hcl_get_string(p->tpl->ctx, p->options->u.list.items[i], "name");
		const char *value = hcl_get_string(p->tpl->ctx, p->options->u.list.items[i], "value");

		if (name == NULL || value == NULL)
		{
			if (!p->tpl->input.dynamic || hcl_is_known(p->options->u.list.items[i]))
				problem(p, "", "Invalid option", "option %zu needs a name and a value", i + 1);
			continue;
		}
		if (!value_has_type(value, option_type))
			problem(p,
					"",
					"Invalid option",
					"the value \"%s\" of option \"%s\" is not a %s",
					value,
					name,
					option_type);
		for (j = 0; j < i; j++)
		{
			const char *other = hcl_get_string(p->tpl->ctx, p->options->u.list.items[j], "name");
			const char *other_value =
				hcl_get_string(p->tpl->ctx, p->options->u.list.items[j], "value");

			if (other != NULL && strcmp(other, name) == 0)
				problem(p, "", "Invalid option", "two options have the name \"%s\"", name);
			if (other_value != NULL && strcmp(other_value, value) == 0)
				problem(p, "", "Invalid option", "two options have the value \"%s\"", value);
		}
	}
}

static bool
is_option(Param *p, const char *value)
{
	size_t i;

	for (i = 0; i < p->options->u.list.n; i++)
	{
		const char *v = hcl_get_string(p->tpl->ctx, p->options->u.list.items[i], "value");

		if (v != NULL && strcmp(v, value) == 0)
			return true;
	}
	return false;
}

static void
check_choice(Param *p, const char *value)
{
	json_t *list;
	json_t *item;
	size_t i;

	if (strcmp(p->form_type, "multi-select") != 0)
	{
		if (!is_option(p, value))
			problem(p, "", "Value is not an option", "\"%s\" is none of the options", value);
		return;
	}
	if (!is_string_list(value))
	{
		problem(p, "", "Value is not a list", "\"%s\" must be a JSON array of strings", value);
		return;
	}
	list = json_loads(value, 0, NULL);
	json_array_foreach(list, i, item) if (!is_option(p, json_string_value(item)))
	{
		const char *copy = hcl_printf(p->tpl->ctx, "%s", json_string_value(item));

		json_decref(list);
		problem(p, "", "Value is not an option", "\"%s\" is none of the options", copy);
		return;
	}
	json_decref(list);
}

/* The template's own message, with {min}, {max} and {value} filled in; or ours. */
static const char *
custom_error(Param *p, const char *ours, const char *value)
{
	const char *text = hcl_get_string(p->tpl->ctx, p->validation, "error");
	const char *min = hcl_get_string(p->tpl->ctx, p->validation, "min");
	const char *max = hcl_get_string(p->tpl->ctx, p->validation, "max");
	HclBuf out = {0};

	if (text == NULL || text[0] == '\0')
		return ours;
	while (*text != '\0')
	{
		const char *with = NULL;
		size_t skip = 5;

		if (strncmp(text, "{min}", 5) == 0)
			with = min != NULL ? min : "";
		else if (strncmp(text, "{max}", 5) == 0)
			with = max != NULL ? max : "";
		else if (strncmp(text, "{value}", 7) == 0)
			with = value, skip = 7;
		if (with != NULL)
		{
			hcl_append(p->tpl->ctx, &out, with, strlen(with));
			text += skip;
		}
		else
			hcl_append(p->tpl->ctx, &out, text++, 1);
	}
	return hcl_buf_string(p->tpl->ctx, &out)->u.str.data;
}

static bool
whole_number(const char *s, long long *n)
{
	char *end;

	if (*s == '\0' || isspace((unsigned char) *s))
		return false;
	*n = strtoll(s, &end, 10);
	return *end == '\0';
}

static void
check_monotonic(Param *p, const char *value, long long n)
{
	const char *rule = hcl_get_string(p->tpl->ctx, p->validation, "monotonic");
	const char *before = json_string_value(json_object_get(p->tpl->input.previous, p->name));
	long long old;

	if (rule == NULL || rule[0] == '\0')
		return;
	if (!one_of(rule, "increasing decreasing"))
		problem(p, "", "Invalid validation", "monotonic must be increasing or decreasing");
	else if (before != NULL && whole_number(before, &old) && (rule[0] == 'i' ? n < old : n > old))
		problem(p, "", "Value breaks its rule", "%s must be %s: it was %lld", value, rule, old);
}

static void
check_number(Param *p, const char *value)
{
	const HclValue *min = hcl_get(p->validation, "min");
	const HclValue *max = hcl_get(p->validation, "max");
	long long n;

	if (!whole_number(value, &n))
	{
		problem(
			p,
			"",
			"Value is not valid",
			"%s",
			custom_error(p, hcl_printf(p->tpl->ctx, "\"%s\" is not a whole number", value), value));
		return;
	}
	if (min != NULL && min->kind == HCL_NUMBER && (long double) n < min->u.number)
		problem(
			p,
			"",
			"Value is not valid",
			"%s",
			custom_error(
				p,
				hcl_printf(p->tpl->ctx, "%lld is less than the minimum %.0Lf", n, min->u.number),
				value));
	if (max != NULL && max->kind == HCL_NUMBER && (long double) n > max->u.number)
		problem(
			p,
			"",
			"Value is not valid",
			"%s",
			custom_error(
				p,
				hcl_printf(p->tpl->ctx, "%lld is more than the maximum %.0Lf", n, max->u.number),
				value));
	check_monotonic(p, value, n);
}

typedef struct RegexCheck
{
	Param *p;
	const char *pattern;
	const char *value;
	bool matches;
} RegexCheck;

static void
match_regex(void *arg)
{
	RegexCheck *rc = arg;
	HclCtx *ctx = rc->p->tpl->ctx;
	HclExpr call = {.kind = HX_CALL, .pos = rc->p->item->pos, .name = "regexall"};
	HclValue *args[2] = {hcl_string(ctx, rc->pattern), hcl_string(ctx, rc->value)};

	rc->matches = hcl_call(ctx, &call, args, 2)->u.list.n > 0;
}

static void
check_regex(Param *p, const char *value, const char *pattern)
{
	const char *text = hcl_get_string(p->tpl->ctx, p->validation, "error");
	RegexCheck rc = {p, pattern, value, false};

	if (text == NULL || text[0] == '\0')
		problem(p, "", "Invalid validation", "a regex needs an error text");
	else if (!hcl_guard(p->tpl->ctx, match_regex, &rc))
		problem(p, "", "Invalid validation", "%s", p->tpl->ctx->error.message);
	else if (!rc.matches)
		problem(p,
				"",
				"Value is not valid",
				"%s (value \"%s\" does not match \"%s\")",
				text,
				value,
				pattern);
}

/* Step 7: the validation block; a missing value is the empty text. */
static void
check_validation(Param *p, const char *value)
{
	const char *regex = hcl_get_string(p->tpl->ctx, p->validation, "regex");
	const HclValue *min = hcl_get(p->validation, "min");
	const HclValue *max = hcl_get(p->validation, "max");
	const char *monotonic = hcl_get_string(p->tpl->ctx, p->validation, "monotonic");
	const bool number = strcmp(p->type, "number") == 0;

	if (!number &&
		((min != NULL && min->kind != HCL_NULL) || (max != NULL && max->kind != HCL_NULL) ||
		 (monotonic != NULL && monotonic[0] != '\0')))
		problem(p, "", "Invalid validation", "min, max and monotonic are for numbers");
	if (regex != NULL && regex[0] != '\0' && strcmp(p->type, "string") != 0)
		problem(p, "", "Invalid validation", "regex is for text");
	else if (regex != NULL && regex[0] != '\0')
		check_regex(p, value, regex);
	if (number)
		check_number(p, value);
	else if (strcmp(p->type, "bool") == 0 && strcmp(value, "true") != 0 &&
			 strcmp(value, "false") != 0)
		problem(p, "", "Value is not valid", "\"%s\" is neither true nor false", value);
	else if (strcmp(p->type, "list(string)") == 0 && !is_string_list(value))
		problem(p, "", "Value is not valid", "\"%s\" must be a JSON array of strings", value);
}

static const HclValue *
first_block(const HclValue *config, const char *name)
{
	const HclValue *list = hcl_get(config, name);

	return list != NULL && list->kind == HCL_LIST && list->u.list.n > 0 ? list->u.list.items[0]
																		: NULL;
}

static HclValue *
data_parameter(Tpl *tpl, Item *item, Instance *inst, HclValue *config)
{
	Param p = {.tpl = tpl, .item = item, .inst = inst, .config = config};
	HclValue *def = hcl_get(config, "default");
	const HclValue *options = hcl_get(config, "option");
	const char *value;
	HclValue *v;

	if (item->diagnostics == NULL)
		item->diagnostics = json_array();
	inst->diagnostics = json_array();
	json_array_append_new(item->diagnostics, inst->diagnostics);
	p.name = hcl_get_string(tpl->ctx, config, "name");
	if (p.name == NULL)
		hcl_raise(tpl->ctx, item->pos, "a parameter needs a name that is known");
	p.type = hcl_get_string(tpl->ctx, config, "type");
	p.type = p.type != NULL ? p.type : "string";
	p.options =
		options != NULL && options->kind == HCL_LIST && options->u.list.n > 0 ? options : NULL;
	p.validation = first_block(config, "validation");
	if (hcl_get_bool(config, "ephemeral", false) && !hcl_get_bool(config, "mutable", false))
		problem(&p, "", "Invalid parameter", "an ephemeral parameter must be mutable");
	if (hcl_get_bool(config, "ephemeral", false) && (def == NULL || def->kind == HCL_NULL))
		problem(&p, "", "Invalid parameter", "an ephemeral parameter needs a default");
	if (def != NULL && def->kind != HCL_UNKNOWN && (def = hcl_to_string(tpl->ctx, def)) == NULL)
		problem(&p,
				"",
				"Invalid default",
				"the default must be text, a number or a bool; lists need jsonencode()");
	resolve_form(&p);
	check_options(&p);
	value = json_string_value(json_object_get(tpl->input.parameters, p.name));
	if (value == NULL && def != NULL && def->kind == HCL_STRING)
		value = def->u.str.data;
	if (value == NULL && tpl->input.dynamic)
	{
		if (def == NULL)
			problem(&p,
					"required",
					"Required parameter not provided",
					"parameter \"%s\" has no value",
					p.name);
	}
	else if (value != NULL || p.validation != NULL)
	{
		const char *text = value != NULL ? value : "";

		if (p.options != NULL)
			check_choice(&p, text);
		if (p.validation != NULL)
			check_validation(&p, text);
		else if (!value_has_type(text, p.type))
			problem(&p, "", "Value is not valid", "\"%s\" is not a %s", text, p.type);
	}
	inst->bad = p.failed;
	v = hcl_with(tpl->ctx,
				 config,
				 "value",
				 value != NULL		  ? hcl_string(tpl->ctx, value)
				 : tpl->input.dynamic ? hcl_unknown(tpl->ctx)
									  : hcl_string(tpl->ctx, ""));
	v = hcl_with(tpl->ctx, v, "optional", hcl_bool(tpl->ctx, def != NULL && def->kind != HCL_NULL));
	if (def != NULL)
		v = hcl_with(tpl->ctx, v, "default", def);
	v = set_string(tpl, v, "type", p.type);
	v = set_string(tpl, v, "form_type", p.form_type);
	v = set_default(tpl, v, "mutable", hcl_bool(tpl->ctx, false));
	v = set_default(tpl, v, "ephemeral", hcl_bool(tpl->ctx, false));
	return set_string(tpl, v, "id", new_uuid(tpl->ctx));
}

/* {"value": text, "valid": known} */
static json_t *
text_value(Tpl *tpl, const HclValue *object, const char *key)
{
	const char *s = hcl_get_string(tpl->ctx, object, key);

	return json_pack("{s:s, s:b}", "value", s != NULL ? s : "", "valid", s != NULL);
}

static const char *
text_or_empty(Tpl *tpl, const HclValue *object, const char *key)
{
	const char *s = hcl_get_string(tpl->ctx, object, key);

	return s != NULL ? s : "";
}

static json_t *
form_options(Tpl *tpl, const HclValue *v)
{
	const HclValue *options = hcl_get(v, "option");
	json_t *out = json_array();
	size_t i;

	for (i = 0; options != NULL && options->kind == HCL_LIST && i < options->u.list.n; i++)
	{
		const HclValue *option = options->u.list.items[i];

		json_array_append_new(out,
							  json_pack("{s:s, s:s, s:o, s:s}",
										"name",
										text_or_empty(tpl, option, "name"),
										"description",
										text_or_empty(tpl, option, "description"),
										"value",
										text_value(tpl, option, "value"),
										"icon",
										text_or_empty(tpl, option, "icon")));
	}
	return out;
}

static json_t *
known_or_null(const HclValue *object, const char *key)
{
	const HclValue *v = hcl_get(object, key);

	return v != NULL && v->kind != HCL_UNKNOWN ? hcl_to_json(v) : json_null();
}

static json_t *
form_validations(Tpl *tpl, const HclValue *v)
{
	const HclValue *list = hcl_get(v, "validation");
	json_t *out = json_array();
	size_t i;

	for (i = 0; list != NULL && list->kind == HCL_LIST && i < list->u.list.n; i++)
	{
		const HclValue *rule = list->u.list.items[i];

		json_array_append_new(out,
							  json_pack("{s:s, s:o, s:o, s:o, s:o}",
										"validation_error",
										text_or_empty(tpl, rule, "error"),
										"validation_regex",
										known_or_null(rule, "regex"),
										"validation_min",
										known_or_null(rule, "min"),
										"validation_max",
										known_or_null(rule, "max"),
										"validation_monotonic",
										known_or_null(rule, "monotonic")));
	}
	return out;
}

static json_t *
form_styling(Tpl *tpl, const HclValue *v)
{
	static const char *const keys[] = {"placeholder", "disabled", "label", "mask_input"};
	const char *text = hcl_get_string(tpl->ctx, v, "styling");
	json_t *given = text != NULL ? json_loads(text, 0, NULL) : NULL;
	json_t *out = json_object();
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(given, keys[i]) != NULL)
			json_object_set(out, keys[i], json_object_get(given, keys[i]));
	json_decref(given);
	return out;
}

/* One element of "parameters" in a form. */
json_t *
provider_parameter_form(Tpl *tpl, const Instance *inst)
{
	const HclValue *v = inst->value;
	const HclValue *order = hcl_get(v, "order");
	const char *name = text_or_empty(tpl, v, "name");
	const HclValue *display = hcl_get(v, "display_name");
	json_t *out = json_object();

	json_object_set_new(out, "name", json_string(name));
	json_object_set_new(out,
						"display_name",
						json_string(display != NULL ? text_or_empty(tpl, v, "display_name") : ""));
	json_object_set_new(out, "description", json_string(text_or_empty(tpl, v, "description")));
	json_object_set_new(out, "type", json_string(text_or_empty(tpl, v, "type")));
	json_object_set_new(out, "form_type", json_string(text_or_empty(tpl, v, "form_type")));
	json_object_set_new(out, "styling", form_styling(tpl, v));
	json_object_set_new(out, "mutable", json_boolean(hcl_get_bool(v, "mutable", false)));
	json_object_set_new(out, "default_value", text_value(tpl, v, "default"));
	json_object_set_new(out, "icon", json_string(text_or_empty(tpl, v, "icon")));
	json_object_set_new(out, "options", form_options(tpl, v));
	json_object_set_new(out, "validations", form_validations(tpl, v));
	json_object_set_new(out, "required", json_boolean(hcl_get(v, "default") == NULL));
	json_object_set_new(out,
						"order",
						json_integer(order != NULL && order->kind == HCL_NUMBER
										 ? (json_int_t) order->u.number
										 : 0));
	json_object_set_new(out, "ephemeral", json_boolean(hcl_get_bool(v, "ephemeral", false)));
	json_object_set_new(out, "value", text_value(tpl, v, "value"));
	json_object_set(out, "diagnostics", inst->diagnostics);
	return out;
}

/* -- resources ----------------------------------------------------------- */

static const char *
need_string(Tpl *tpl, const Item *item, const HclValue *v, const char *key)
{
	const HclValue *found = hcl_get(v, key);
	const char *s = hcl_get_string(tpl->ctx, v, key);

	if (s == NULL && !(found != NULL && found->kind == HCL_UNKNOWN))
		hcl_raise(tpl->ctx, item->pos, "%s \"%s\" needs \"%s\"", item->type, item->name, key);
	return s;
}

static void
need_one_of(Tpl *tpl, const Item *item, const HclValue *v, const char *key, const char *allowed)
{
	const char *s = hcl_get_string(tpl->ctx, v, key);

	if (s != NULL && !one_of(s, allowed))
		hcl_raise(tpl->ctx,
				  item->pos,
				  "%s \"%s\": %s is \"%s\", not one of: %s",
				  item->type,
				  item->name,
				  key,
				  s,
				  allowed);
}

static HclValue *
resource_agent(Tpl *tpl, Item *item, HclValue *v)
{
	const char *os = need_string(tpl, item, v, "os");
	const char *arch = need_string(tpl, item, v, "arch");
	const json_t *running = json_object_get(tpl->input.metadata, "running_agent_auth_tokens");
	const char *token =
		json_array_size(running) == 1
			? json_string_value(json_object_get(json_array_get(running, 0), "token"))
			: NULL;
	const char *auth;

	v = set_default(tpl, v, "auth", hcl_string(tpl->ctx, "token"));
	v = set_default(tpl, v, "startup_script_behavior", hcl_string(tpl->ctx, "non-blocking"));
	v = set_default(tpl, v, "connection_timeout", hcl_number(tpl->ctx, 120));
	v = set_default(tpl, v, "api_key_scope", hcl_string(tpl->ctx, "all"));
	need_one_of(tpl, item, v, "os", "linux darwin windows");
	need_one_of(tpl, item, v, "arch", "amd64 armv7 arm64");
	need_one_of(tpl,
				item,
				v,
				"auth",
				"token google-instance-identity aws-instance-identity azure-instance-identity");
	need_one_of(tpl, item, v, "startup_script_behavior", "blocking non-blocking");
	need_one_of(tpl, item, v, "api_key_scope", "all no_user_data");
	auth = hcl_get_string(tpl->ctx, v, "auth");
	v = set_string(tpl, v, "id", new_uuid(tpl->ctx));
	v = set_secret(tpl, v, "token", token != NULL ? token : new_uuid(tpl->ctx));
	{
		char *script =
			os != NULL && arch != NULL
				? initscript_render(
					  os, arch, meta(tpl, "coder_url", "https://mydeployment.coder.com"), auth)
				: NULL;

		v = set_string(tpl, v, "init_script", script != NULL ? script : "");
		free(script);
	}
	return v;
}

static HclValue *
resource_app(Tpl *tpl, Item *item, HclValue *v)
{
	const HclValue *command = hcl_get(v, "command");
	const bool has_command = command != NULL && command->kind != HCL_NULL;

	need_string(tpl, item, v, "agent_id");
	need_string(tpl, item, v, "slug");
	need_one_of(tpl, item, v, "share", "owner authenticated public");
	need_one_of(tpl, item, v, "open_in", "tab slim-window");
	if (has_command && (hcl_get(v, "url") != NULL || hcl_get(v, "subdomain") != NULL ||
						hcl_get(v, "healthcheck") != NULL))
		hcl_raise(tpl->ctx,
				  item->pos,
				  "coder_app \"%s\": command does not go with url, subdomain or healthcheck",
				  item->name);
	v = set_default(tpl, v, "share", hcl_string(tpl->ctx, "owner"));
	v = set_default(tpl, v, "open_in", hcl_string(tpl->ctx, "slim-window"));
	v = set_default(tpl, v, "external", hcl_bool(tpl->ctx, false));
	return set_default(tpl, v, "hidden", hcl_bool(tpl->ctx, false));
}

static HclValue *
resource_script(Tpl *tpl, Item *item, HclValue *v)
{
	need_string(tpl, item, v, "agent_id");
	need_string(tpl, item, v, "display_name");
	need_string(tpl, item, v, "script");
	if (!hcl_get_bool(v, "run_on_start", false) && !hcl_get_bool(v, "run_on_stop", false) &&
		hcl_get(v, "cron") == NULL)
		hcl_raise(tpl->ctx,
				  item->pos,
				  "coder_script \"%s\" needs run_on_start, run_on_stop or cron",
				  item->name);
	if (hcl_get_bool(v, "start_blocks_login", false) && !hcl_get_bool(v, "run_on_start", false))
		hcl_raise(tpl->ctx,
				  item->pos,
				  "coder_script \"%s\": start_blocks_login needs run_on_start",
				  item->name);
	v = set_default(tpl, v, "run_on_start", hcl_bool(tpl->ctx, false));
	v = set_default(tpl, v, "run_on_stop", hcl_bool(tpl->ctx, false));
	v = set_default(tpl, v, "start_blocks_login", hcl_bool(tpl->ctx, false));
	return set_default(tpl, v, "timeout", hcl_number(tpl->ctx, 0));
}

/* A null value of an item shows as is_null. */
static HclValue *
resource_metadata(Tpl *tpl, Item *item, HclValue *v)
{
	const HclValue *items = hcl_get(v, "item");
	HclValue **out;
	size_t i;

	need_string(tpl, item, v, "resource_id");
	if (items == NULL || items->kind != HCL_LIST)
		return v;
	out = hcl_alloc(tpl->ctx, (items->u.list.n + 1) * sizeof(*out));
	for (i = 0; i < items->u.list.n; i++)
	{
		const HclValue *value = hcl_get(items->u.list.items[i], "value");
		const bool is_null = value == NULL || value->kind == HCL_NULL;

		out[i] = hcl_with(tpl->ctx, items->u.list.items[i], "is_null", hcl_bool(tpl->ctx, is_null));
		if (is_null)
			out[i] = set_string(tpl, out[i], "value", "");
		out[i] = set_default(tpl, out[i], "sensitive", hcl_bool(tpl->ctx, false));
	}
	return hcl_with(tpl->ctx, v, "item", hcl_list(tpl->ctx, out, items->u.list.n));
}

static HclValue *
resource_env(Tpl *tpl, Item *item, HclValue *v)
{
	const char *name = need_string(tpl, item, v, "name");
	size_t i;

	need_string(tpl, item, v, "agent_id");
	need_one_of(tpl, item, v, "merge_strategy", "replace append prepend error");
	for (i = 0; name != NULL && name[i] != '\0'; i++)
		if (!(isalpha((unsigned char) name[i]) || name[i] == '_' ||
			  (i > 0 && isdigit((unsigned char) name[i]))))
			hcl_raise(tpl->ctx,
					  item->pos,
					  "coder_env \"%s\": \"%s\" is not a variable's name",
					  item->name,
					  name);
	return set_default(tpl, v, "merge_strategy", hcl_string(tpl->ctx, "replace"));
}

static HclValue *
resource_sandbox(Tpl *tpl, Item *item, HclValue *v)
{
	need_string(tpl, item, v, "agent_token");
	v = set_default(tpl, v, "home", hcl_string(tpl->ctx, "home"));
	return v;
}

HclValue *
provider_compute(Tpl *tpl, Item *item, Instance *inst, HclValue *v)
{
	const char *type = item->type;

	if (item->kind == ITEM_DATA)
	{
		if (strcmp(type, "coder_parameter") == 0)
			return data_parameter(tpl, item, inst, v);
		if (strcmp(type, "coder_workspace") == 0)
			return data_workspace(tpl, item, v);
		if (strcmp(type, "coder_workspace_owner") == 0)
			return data_owner(tpl, item, v);
		if (strcmp(type, "coder_provisioner") == 0)
			return data_provisioner(tpl, item, v);
		if (strcmp(type, "coder_task") == 0)
			return data_task(tpl, item, v);
		if (strcmp(type, "coder_external_auth") == 0 || strcmp(type, "coder_git_auth") == 0)
			return data_external_auth(tpl, item, v);
		if (strcmp(type, "coder_workspace_preset") == 0)
			return data_preset(tpl, item, v);
		if (strcmp(type, "coder_workspace_tags") == 0)
			return set_string(tpl, v, "id", new_uuid(tpl->ctx));
	}
	if (tpl->input.dynamic) /* nothing is created for a form */
	{
		v = hcl_with(tpl->ctx, v, "id", hcl_unknown(tpl->ctx));
		v->open = true;
		return v;
	}
	if (item->kind == ITEM_DATA)
		hcl_raise(tpl->ctx, item->pos, "data source \"%s\" needs Terraform", type);
	if (strcmp(type, "coder_agent") == 0)
		return resource_agent(tpl, item, v);
	if (strcmp(type, "coder_app") == 0)
		v = resource_app(tpl, item, v);
	else if (strcmp(type, "coder_script") == 0)
		v = resource_script(tpl, item, v);
	else if (strcmp(type, "coder_metadata") == 0)
		v = resource_metadata(tpl, item, v);
	else if (strcmp(type, "coder_env") == 0)
		v = resource_env(tpl, item, v);
	else if (strcmp(type, "sandbox_process") == 0)
		v = resource_sandbox(tpl, item, v);
	else if (strcmp(type, "coder_devcontainer") == 0)
		v = set_string(tpl, v, "subagent_id", new_uuid(tpl->ctx));
	return set_string(tpl, v, "id", new_uuid(tpl->ctx));
}
