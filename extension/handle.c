/*
 * handle.c -- coder.handle(): from a request to the bytes of its answer.
 *
 * Routes are kept per backend by id, with their function's call information, and
 * dropped when coder.routes or a function changes.  The way: the route, the
 * subject as its auth says, the request as a composite value, the function, and
 * its coder.response as bytes (docs/ARCHITECTURE.md section 2).
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "audit.h"
#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"
#include "packed.h"
#include "request.h"
#include "stat.h"

#define ANSWER_HEADER 8 /* u16 status, u16 zero, u32 size of the header block */
#define MAX_PARAMS 16
#define FETCHED "fetched:" /* begins the cursor of a call with fetched answers */

typedef enum RouteAuth
{
	AUTH_SESSION,
	AUTH_NONE,
	AUTH_OPTIONAL,
	AUTH_AGENT,
	AUTH_SESSION_OR_AGENT
} RouteAuth;

typedef struct Route
{
	int32 id;
	bool loaded; /* false while its entry is being filled */
	char *pattern;
	char *function;
	RouteAuth auth;
	bool raw_body;
	bool needs_access; /* to this action on this type */
	int access_type;
	int access_action;
	int nparams;
	char *param_names[MAX_PARAMS];
	CoderFastHandler fast;
	FmgrInfo call;
} Route;

/* Handlers in C of routes that must be fast, by function name. */
static const struct
{
	const char *function;
	CoderFastHandler handler;
} fast_handlers[] = {{"user_get", coder_user_get_fast},
					 {"workspace_list", coder_workspace_list_fast},
					 {"chat_create", coder_chat_create_fast}};

static HTAB *routes;
static MemoryContext routes_context;
static Oid routes_relid;
static bool routes_stale = true;
static int depth; /* calls of handle within one another */
static TupleDesc request_desc;

PG_FUNCTION_INFO_V1(coder_handle);
PG_FUNCTION_INFO_V1(coder_handle_packed);
PG_FUNCTION_INFO_V1(coder_audit_refused);
PG_FUNCTION_INFO_V1(coder_handle_session);
PG_FUNCTION_INFO_V1(coder_routes_changed);

Oid
coder_namespace(void)
{
	return get_namespace_oid("coder", true);
}

static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == routes_relid)
		routes_stale = true;
}

static void
on_proc_invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	routes_stale = true;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		depth = 0;
}

void
coder_handle_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_proc_invalidate, (Datum) 0);
	RegisterXactCallback(on_xact_end, NULL);
}

/* coder.routes_changed() RETURNS trigger: on coder.routes; all backends read it anew. */
Datum
coder_routes_changed(PG_FUNCTION_ARGS)
{
	Oid relid = get_relname_relid("routes", coder_namespace());

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
	PG_RETURN_POINTER(NULL);
}

static void
reset_routes(void)
{
	HASHCTL ctl = {0};
	Oid type;

	routes_relid = get_relname_relid("routes", coder_namespace());
	if (routes_context != NULL && depth == 0)
		MemoryContextDelete(routes_context);
	routes_context =
		AllocSetContextCreate(TopMemoryContext, "coder routes", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(Route);
	ctl.hcxt = routes_context;
	routes = hash_create("coder routes", 512, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	routes_stale = false;
	type = GetSysCacheOid2(TYPENAMENSP,
						   Anum_pg_type_oid,
						   CStringGetDatum("request"),
						   ObjectIdGetDatum(coder_namespace()));
	if (!OidIsValid(type))
		elog(ERROR, "type coder.request does not exist");
	{
		MemoryContext old = MemoryContextSwitchTo(routes_context);
		TupleDesc desc = lookup_rowtype_tupdesc(type, -1);

		request_desc = CreateTupleDescCopy(desc);
		ReleaseTupleDesc(desc);
		MemoryContextSwitchTo(old);
	}
}

static RouteAuth
parse_auth(const char *auth)
{
	static const char *const names[] = {"session", "none", "optional", "agent", "session_or_agent"};

	for (int i = 0; i < (int) lengthof(names); i++)
		if (strcmp(auth, names[i]) == 0)
			return (RouteAuth) i;
	elog(ERROR, "unknown kind of authentication \"%s\" of a route", auth);
}

/* The {name}s of a pattern, in order. */
static void
parse_params(Route *route)
{
	const char *p = route->pattern;

	while ((p = strchr(p, '{')) != NULL && route->nparams < MAX_PARAMS)
	{
		const char *end = strchr(p, '}');
		int len;

		if (end == NULL)
			break;
		len = (int) (end - p) - 1;
		if (len > 3 && strncmp(end - 3, "...", 3) == 0)
			len -= 3;
		route->param_names[route->nparams++] = pnstrdup(p + 1, len);
		p = end;
	}
}

static const Oid route_args[] = {INT4OID};

static CoderPlan route_plan = {
	"SELECT r.pattern, r.function, r.auth, r.raw_body, r.access FROM coder.routes r"
	" WHERE r.id OPERATOR(pg_catalog.=) $1",
	1,
	route_args,
	NULL};

static Oid
function_oid(const char *name)
{
	Oid request = request_desc->tdtypeid;
	oidvector *types = buildoidvector(&request, 1);

	return GetSysCacheOid3(PROCNAMEARGSNSP,
						   Anum_pg_proc_oid,
						   CStringGetDatum(name),
						   PointerGetDatum(types),
						   ObjectIdGetDatum(coder_namespace()));
}

/* "type:action", which the table's constraint has checked. */
static void
parse_access(Route *route, const char *access)
{
	const char *colon = strchr(access, ':');

	route->needs_access = true;
	route->access_type = rbac_type(access, (int) (colon - access));
	route->access_action = rbac_action(colon + 1, (int) strlen(colon + 1));
}

static void
fill_route(Route *route)
{
	bool isnull;
	Datum arg = Int32GetDatum(route->id);
	HeapTuple row;
	TupleDesc desc;
	MemoryContext old;
	Datum access;
	Oid oid;

	SPI_connect();
	coder_execute(&route_plan, &arg, NULL, true, 1);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_CODER_NOT_FOUND), errmsg("Route not found.")));
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	old = MemoryContextSwitchTo(routes_context);
	route->pattern = TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull));
	route->function = TextDatumGetCString(SPI_getbinval(row, desc, 2, &isnull));
	route->auth = parse_auth(TextDatumGetCString(SPI_getbinval(row, desc, 3, &isnull)));
	route->raw_body = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
	access = SPI_getbinval(row, desc, 5, &isnull);
	if (!isnull)
		parse_access(route, TextDatumGetCString(access));
	parse_params(route);
	MemoryContextSwitchTo(old);
	SPI_finish();

	oid = function_oid(route->function);
	if (!OidIsValid(oid))
		elog(ERROR, "function coder.%s(coder.request) of a route does not exist", route->function);
	fmgr_info_cxt(oid, &route->call, routes_context);
	for (int i = 0; i < (int) lengthof(fast_handlers); i++)
		if (strcmp(fast_handlers[i].function, route->function) == 0)
			route->fast = fast_handlers[i].handler;
	route->loaded = true;
}

static Route *
find_route(int32 id)
{
	Route *route;
	bool found;

	if (routes_stale)
		reset_routes();
	route = hash_search(routes, &id, HASH_ENTER, &found);
	if (!found || !route->loaded)
	{
		memset(route, 0, sizeof(*route));
		route->id = id;
		fill_route(route);
	}
	return route;
}

static bool
uuid_shaped(const char *s, int len)
{
	if (len != 36)
		return false;
	for (int i = 0; i < len; i++)
	{
		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (s[i] != '-')
				return false;
		}
		else if (!isxdigit((unsigned char) s[i]))
			return false;
	}
	return true;
}

static CoderSubject *
agent_subject(const char *token, int len)
{
	pg_uuid_t *auth;

	if (!uuid_shaped(token, len))
		return NULL;
	auth = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(pnstrdup(token, len))));
	return coder_subject_of_agent(auth);
}

static void
raise_agent_token(void)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_CODER_UNAUTHENTICATED),
		 errmsg("Workspace agent not authorized."),
		 errdetail(
			 "The agent cannot authenticate until the workspace provision job has been completed. If the job is no longer running, this agent is invalid.")));
}

/*
 * The subject of a token where none is needed: a token of nobody is nobody, but
 * a user who is not active is refused even here.
 */
static CoderSubject *
optional_subject(const char *token, int len, const char *remote)
{
	CoderSubject *volatile subject = NULL;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		subject = coder_subject_of_token(token, len, remote);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_CODER_UNAUTHENTICATED ||
			strcmp(error->message, CODER_MSG_SIGN_IN) != 0)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		subject = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return subject;
}

/* Who asks, as the route's auth says; NULL for nobody. */
static CoderSubject *
authenticate(RouteAuth auth, const char *token, int len, const char *remote)
{
	CoderSubject *subject = NULL;

	if (auth == AUTH_NONE)
		return NULL;
	if (token == NULL || len == 0)
	{
		if (auth == AUTH_OPTIONAL)
			return NULL;
		if (auth == AUTH_AGENT)
			ereport(ERROR,
					(errcode(ERRCODE_CODER_UNAUTHENTICATED),
					 errmsg("Cookie \"coder_session_token\" must be provided.")));
		ereport(ERROR,
				(errcode(ERRCODE_CODER_UNAUTHENTICATED),
				 errmsg("%s", CODER_MSG_SIGN_IN),
				 errdetail("Cookie \"coder_session_token\" or query parameter must be provided.")));
	}
	if (auth == AUTH_AGENT || (auth == AUTH_SESSION_OR_AGENT && uuid_shaped(token, len)))
	{
		subject = agent_subject(token, len);
		if (subject == NULL)
			raise_agent_token();
		return subject;
	}
	if (auth != AUTH_OPTIONAL)
		return coder_subject_of_token(token, len, remote);
	return optional_subject(token, len, remote);
}

/* Writes the answer's first bytes and headers; the body is appended after. */
static void
begin_answer(StringInfo buf, int status, const char *headers, int len)
{
	uint16 status_be = pg_hton16((uint16) status);
	uint16 zero = 0;
	uint32 len_be = pg_hton32((uint32) len);

	appendBinaryStringInfo(buf, (char *) &status_be, 2);
	appendBinaryStringInfo(buf, (char *) &zero, 2);
	appendBinaryStringInfo(buf, (char *) &len_be, 4);
	appendBinaryStringInfo(buf, headers, len);
}

/* A bytea whose bytes are written behind its own length word. */
static void
init_answer(StringInfo buf)
{
	initStringInfo(buf);
	enlargeStringInfo(buf, 1024);
	buf->len = VARHDRSZ;
}

static Datum
finish_answer(StringInfo buf)
{
	SET_VARSIZE(buf->data, buf->len);
	return PointerGetDatum(buf->data);
}

/* Appends the body of a coder.response and a line feed behind JSON. */
static void
append_body(StringInfo buf, Datum *values, bool *nulls, bool json)
{
	struct varlena *body;

	if (!nulls[3])
		body = PG_DETOAST_DATUM_PACKED(values[3]);
	else if (!nulls[1])
		body = PG_DETOAST_DATUM_PACKED(values[1]);
	else
		return;
	appendBinaryStringInfo(buf, VARDATA_ANY(body), (int) VARSIZE_ANY_EXHDR(body));
	if (json && nulls[3] && VARSIZE_ANY_EXHDR(body) > 0 && buf->data[buf->len - 1] != '\n')
		appendStringInfoChar(buf, '\n');
}

static Datum
answer_of_response(Datum response)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(response);
	TupleDesc desc =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;
	Datum values[4];
	bool nulls[4];
	StringInfoData buf;
	struct varlena *headers = NULL;
	int status;

	Assert(desc->natts == 4);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);

	status = nulls[0] ? 200 : DatumGetInt32(values[0]);
	if (!nulls[2])
		headers = PG_DETOAST_DATUM_PACKED(values[2]);
	init_answer(&buf);
	begin_answer(&buf,
				 status,
				 headers != NULL ? VARDATA_ANY(headers) : "",
				 headers != NULL ? (int) VARSIZE_ANY_EXHDR(headers) : 0);
	append_body(&buf,
				values,
				nulls,
				headers == NULL ||
					strstr(text_to_cstring((text *) headers), "Content-Type") == NULL);
	return finish_answer(&buf);
}

/* Calls the C handler of a hot route; (Datum) 0 where it declines. */
static Datum
call_fast(Route *route, CoderRequest *request)
{
	StringInfoData buf;
	uint16 status_be;
	int status;

	init_answer(&buf);
	begin_answer(&buf, 200, "", 0);
	status = route->fast(request, &buf);
	if (status == 0)
		return (Datum) 0;
	status_be = pg_hton16((uint16) status);
	memcpy(buf.data + VARHDRSZ, &status_be, 2);
	appendStringInfoChar(&buf, '\n');
	return finish_answer(&buf);
}

/*
 * A cursor "fetched:<name>\n<json>" of a gateway goes to coder.<name>, which has
 * the JSON as its cursor.  False: the cursor is the route's own.
 */
static bool
find_continuation(CoderRequest *request, FmgrInfo *call)
{
	const char *cursor = request->cursor != NULL ? VARDATA_ANY(request->cursor) : "";
	size_t len = request->cursor != NULL ? VARSIZE_ANY_EXHDR(request->cursor) : 0;
	const char *end = memchr(cursor, '\n', len);
	size_t prefix = strlen(FETCHED);
	char *name;
	Oid oid;

	if (end == NULL || len < prefix || memcmp(cursor, FETCHED, prefix) != 0)
		return false;
	name = pnstrdup(cursor + prefix, end - cursor - prefix);
	oid = function_oid(name);
	if (!OidIsValid(oid))
		elog(ERROR, "function coder.%s(coder.request), which goes on with fetched answers, does not exist", name);
	fmgr_info(oid, call);
	request->cursor = cstring_to_text_with_len(end + 1, (int) (cursor + len - end - 1));
	return true;
}

static Datum
invoke(Route *route, CoderRequest *request, FmgrInfo *function, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum response;

	InitFunctionCallInfoData(*fcinfo, function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = coder_request_datum(request, request_desc, route->raw_body);
	fcinfo->args[0].isnull = false;
	response = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return response;
}

static Datum
call_function(Route *route, CoderRequest *request, FmgrInfo *function)
{
	bool isnull;
	Datum response = invoke(route, request, function, &isnull);

	if (isnull)
		elog(ERROR, "function coder.%s answered nothing", route->function);
	return answer_of_response(response);
}

/*
 * A session lives as long as the token of the provider who signed its user in:
 * one that is over is renewed first.  The answer that has it fetched, or 0.
 */
static Datum
renew_upstream(Route *route, CoderRequest *request)
{
	FmgrInfo function;
	bool isnull;
	Datum response;

	fmgr_info(function_oid("oauth_renew"), &function);
	response = invoke(route, request, &function, &isnull);
	return isnull ? (Datum) 0 : answer_of_response(response);
}

/* The answer of a function that goes on with what was fetched, of a handler in C, or of the route's function. */
static Datum
call_route(Route *route, CoderRequest *request)
{
	FmgrInfo function;
	bool isnull;
	Datum answer = (Datum) 0;

	if (request->cursor != NULL && find_continuation(request, &function))
	{
		if (function.fn_oid != function_oid("oauth_renewed"))
			return call_function(route, request, &function);
		invoke(route, request, &function, &isnull);
		request->cursor = NULL; /* then it is as if it had just come */
	}
	else if (request->cursor == NULL && coder_current_subject != NULL && route->auth != AUTH_OPTIONAL &&
			 coder_subject_upstream_over(coder_current_subject))
	{
		answer = renew_upstream(route, request);
		if (answer != (Datum) 0)
			return answer;
	}
	if (route->fast != NULL)
		answer = call_fast(route, request);
	return answer != (Datum) 0 ? answer : call_function(route, request, &route->call);
}

static void
read_params(CoderRequest *request, Route *route, FunctionCallInfo fcinfo)
{
	Datum *elems;
	bool *nulls;
	int n = 0;

	if (!PG_ARGISNULL(3))
		deconstruct_array(
			PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	request->nparams = Min(n, route->nparams);
	request->param_names = route->param_names;
	request->params = palloc(sizeof(char *) * (n + 1));
	for (int i = 0; i < request->nparams; i++)
		request->params[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(elems[i]);
}

static void
read_request(CoderRequest *request, Route *route, FunctionCallInfo fcinfo)
{
	memset(request, 0, sizeof(*request));
	request->route = route->id;
	request->pattern = route->pattern;
	request->method = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	request->path = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	request->query = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	request->headers = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	request->body = PG_ARGISNULL(6) ? NULL : PG_GETARG_BYTEA_PP(6);
	request->remote = PG_ARGISNULL(8) ? NULL : PG_GETARG_TEXT_PP(8);
	request->request_id = PG_ARGISNULL(9) ? NULL : PG_GETARG_UUID_P(9);
	request->cursor = PG_ARGISNULL(10) ? NULL : PG_GETARG_TEXT_PP(10);
	read_params(request, route, fcinfo);
}

static int
answer_status(Datum answer)
{
	uint16 status_be;

	memcpy(&status_be, VARDATA_ANY(DatumGetPointer(answer)), 2);
	return pg_ntoh16(status_be);
}

static void
leave_request(CoderSubject *outer)
{
	coder_current_subject = outer;
	coder_current_request = NULL;
	depth--;
}

/* 403 unless who asks has the route's access to all of its type. */
static void
check_access(const Route *route)
{
	RbacObject object = {.type = route->access_type};
	const char *why;

	if (coder_current_subject == NULL ||
		!rbac_decide(&coder_current_subject->rbac, route->access_action, &object, &why))
		coder_raise_forbidden();
}

/*
 * The subject is set around the function's call only, whatever way it ends.  It is the token's,
 * or given where the token is not what says who asks.
 */
/* The header by which the gateway counts no requests is the owners'. */
static void
check_bypass(const CoderRequest *request)
{
	static const char header[] = "\nx-coder-bypass-ratelimit: true\n";

	if (request->headers == NULL || coder_current_subject == NULL ||
		memmem(VARDATA_ANY(request->headers),
			   VARSIZE_ANY_EXHDR(request->headers),
			   header,
			   sizeof(header) - 1) == NULL ||
		strstr(coder_current_subject->roles_json, "\"name\":\"owner\"") != NULL)
		return;
	ereport(ERROR,
			(errcode(coder_errcode_of_status(428)),
			 errmsg("\"X-Coder-Bypass-Ratelimit\" provided but user is not owner")));
}

static Datum
serve(Route *route, CoderRequest *request, const char *token, int token_len, CoderSubject *given)
{
	CoderSubject *outer = coder_current_subject;
	char *remote = request->remote != NULL ? text_to_cstring(request->remote) : NULL;
	Datum answer = (Datum) 0;

	depth++;
	coder_stat_flush_sometimes();
	coder_audit_begin();
	PG_TRY();
	{
		coder_current_subject =
			given != NULL ? given : authenticate(route->auth, token, token_len, remote);
		coder_current_request = request;
		check_bypass(request);
		if (route->needs_access)
			check_access(route);
		answer = call_route(route, request);
		coder_audit_end(answer_status(answer));
	}
	PG_CATCH();
	{
		leave_request(outer);
		coder_audit_cancel();
		PG_RE_THROW();
	}
	PG_END_TRY();
	leave_request(outer);
	return answer;
}

/*
 * coder.handle(route, method, path, params, query, headers, body, token, remote,
 *              request_id, cursor) RETURNS bytea
 *
 * One request.
 */
Datum
coder_handle(PG_FUNCTION_ARGS)
{
	CoderRequest request;
	Route *route;
	text *token = PG_ARGISNULL(7) ? NULL : PG_GETARG_TEXT_PP(7);

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("route must not be null")));
	route = find_route(PG_GETARG_INT32(0));
	read_request(&request, route, fcinfo);
	return serve(route,
				 &request,
				 token != NULL ? VARDATA_ANY(token) : NULL,
				 token != NULL ? (int) VARSIZE_ANY_EXHDR(token) : 0,
				 NULL);
}

/*
 * coder.handle_session(as handle) RETURNS bytea
 *
 * The same for a person at an SQL prompt, as whoever the session is signed in as: coder.api.
 * Only routes that need a session, since others find out by themselves who asks.
 */
Datum
coder_handle_session(PG_FUNCTION_ARGS)
{
	CoderSubject *subject = coder_session_subject();
	CoderRequest request;
	Route *route;

	if (PG_ARGISNULL(0) || subject == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION), errmsg("nobody is signed in")));
	route = find_route(PG_GETARG_INT32(0));
	if (route->auth != AUTH_SESSION && route->auth != AUTH_SESSION_OR_AGENT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("route %s is not for a session", route->pattern)));
	read_request(&request, route, fcinfo);
	return serve(route, &request, NULL, 0, subject);
}

/* A field as text in the database's encoding; NULL for NULL. */
static text *
packed_text(const PackedSlice *slice)
{
	if (slice->bytes == NULL)
		return NULL;
	pg_verifymbstr(slice->bytes, slice->len, false);
	return cstring_to_text_with_len(slice->bytes, slice->len);
}

static void
unpack_request(CoderRequest *request, Route *route, const PackedRequest *packed)
{
	const PackedSlice *fields = packed->fields;

	memset(request, 0, sizeof(*request));
	request->route = route->id;
	request->pattern = route->pattern;
	request->method = packed_text(&fields[PACKED_METHOD]);
	request->path = packed_text(&fields[PACKED_PATH]);
	request->query = packed_text(&fields[PACKED_QUERY]);
	request->headers = packed_text(&fields[PACKED_HEADERS]);
	if (fields[PACKED_BODY].bytes != NULL)
		request->body =
			cstring_to_text_with_len(fields[PACKED_BODY].bytes, fields[PACKED_BODY].len);
	request->remote = packed_text(&fields[PACKED_REMOTE]);
	request->request_id =
		unconstify(pg_uuid_t *, (const pg_uuid_t *) fields[PACKED_REQUEST_ID].bytes);
	request->cursor = packed_text(&fields[PACKED_CURSOR]);
	request->nparams = Min(packed->nparams, route->nparams);
	request->param_names = route->param_names;
	request->params = palloc(sizeof(char *) * (request->nparams + 1));
	for (int i = 0; i < request->nparams; i++)
	{
		pg_verifymbstr(packed->params[i].bytes, packed->params[i].len, false);
		request->params[i] = pnstrdup(packed->params[i].bytes, packed->params[i].len);
	}
}

/* Reads a packed request and finds its route; 22P03 where the bytes are none. */
static Route *
read_packed(CoderRequest *request, PackedRequest *packed, const char *bytes, size_t len)
{
	PackedSlice *token = &packed->fields[PACKED_TOKEN];
	Route *route;

	if (!packed_read(bytes, len, packed))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("malformed request")));
	if (token->bytes != NULL)
		pg_verifymbstr(token->bytes, token->len, false);
	route = find_route(packed->route);
	unpack_request(request, route, packed);
	return route;
}

/* Calls coder.audit_refusal(request, status) as the current subject. */
static void
tell_refusal(Route *route, CoderRequest *request, int status)
{
	Oid types[2] = {request_desc->tdtypeid, INT4OID};
	Datum values[2] = {coder_request_datum(request, request_desc, route->raw_body),
					   Int32GetDatum(status)};

	SPI_connect();
	SPI_execute_with_args(
		"SELECT coder.audit_refusal($1, $2)", 2, types, values, NULL, false, 1);
	SPI_finish();
}

/*
 * coder.audit_refused(request bytea) RETURNS void
 *
 * A request that was refused, for the audit log: its status in four bytes, then
 * the request.
 */
Datum
coder_audit_refused(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	CoderSubject *outer = coder_current_subject;
	PackedRequest packed;
	CoderRequest request;
	Route *route;
	uint32 status;

	if (VARSIZE_ANY_EXHDR(bytes) < 4)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("malformed request")));
	memcpy(&status, VARDATA_ANY(bytes), 4);
	route = read_packed(
		&request, &packed, VARDATA_ANY(bytes) + 4, VARSIZE_ANY_EXHDR(bytes) - 4);
	depth++;
	PG_TRY();
	{
		PackedSlice *token = &packed.fields[PACKED_TOKEN];

		if (token->bytes != NULL && route->auth != AUTH_NONE && route->auth != AUTH_AGENT)
			coder_current_subject = optional_subject(token->bytes, token->len, NULL);
		coder_current_request = &request;
		tell_refusal(route, &request, (int) pg_ntoh32(status));
	}
	PG_FINALLY();
	{
		leave_request(outer);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/*
 * coder.handle(request bytea) RETURNS bytea
 *
 * The same request in one value (packed.h); 22P03 where it is none.
 */
Datum
coder_handle_packed(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	PackedRequest packed;
	PackedSlice *token = &packed.fields[PACKED_TOKEN];
	CoderRequest request;
	Route *route;

	route = read_packed(&request, &packed, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	return serve(route, &request, token->bytes, token->len, NULL);
}
