-- sql/schema/route.sql -- requests, answers, routes, and the helpers every function may use
--
-- In C: extension/handle.c, request.c, response.c, subject.c, can.c, crypto.c.

CREATE TYPE coder.request AS (
	route text,			-- the pattern
	method text,
	path text,
	params jsonb,		-- name -> text
	query jsonb,		-- name -> text; "name[]" -> array where a name is repeated
	headers jsonb,		-- lower-case name -> text
	body jsonb,			-- NULL: none, or no JSON
	raw bytea,			-- the body where it is not JSON
	remote text,
	request_id uuid,
	cursor text
);

CREATE TYPE coder.response AS (
	status int4,
	body text,
	headers text,		-- "Name: value\r\n" ...
	raw bytea			-- if not NULL, the body
);

CREATE TABLE coder.routes (
	id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	area text NOT NULL,
	method text NOT NULL CHECK (method IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', '*')),
	pattern text NOT NULL CHECK (pattern LIKE '/%'),
	function text NOT NULL,
	auth text NOT NULL DEFAULT 'session'
		CHECK (auth IN ('session', 'none', 'optional', 'agent', 'session_or_agent')),
	raw_body bool NOT NULL DEFAULT false,
	max_body int4 NOT NULL DEFAULT 10485760,
	pool text NOT NULL DEFAULT 'fast' CHECK (pool IN ('fast', 'slow')),
	rate text NOT NULL DEFAULT 'api' CHECK (rate IN ('api', 'login', 'files', 'none')),
	read_only bool NOT NULL DEFAULT false,
	access text CHECK (access IS NULL OR access ~ '^[a-z_]+:[a-z_]+$' AND auth <> 'none'),
	UNIQUE (method, pattern)
);
COMMENT ON TABLE coder.routes IS 'the HTTP API: each row is one endpoint and the function that answers it';
COMMENT ON COLUMN coder.routes.access IS 'resource type and action that who asks must be allowed on the whole of the type, else 403 before the function is called';

-- Trigger: backends read the table again at commit (extension/handle.c).
CREATE FUNCTION coder.routes_changed() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_routes_changed';

CREATE TRIGGER routes_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.routes
	FOR EACH STATEMENT EXECUTE FUNCTION coder.routes_changed();

-- Gateways read the table again.
CREATE FUNCTION coder.routes_notify() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_notify('routes', '');
	RETURN NULL;
END
$$;

CREATE TRIGGER routes_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.routes
	FOR EACH STATEMENT EXECUTE FUNCTION coder.routes_notify();

-- One request; see docs/ARCHITECTURE.md section 2.
CREATE FUNCTION coder.handle(route int4, method text, path text, params text[], query text,
	headers text, body bytea, token text, remote text, request_id uuid, cursor text)
RETURNS bytea LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_handle';

-- The same in one value, extension/packed.h; 22P03 where it is malformed.
CREATE FUNCTION coder.handle(request bytea)
RETURNS bytea LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_handle_packed';

-- Raises ZC<status> with the API's message, detail and validations.
CREATE FUNCTION coder.raise(status int4, message text, detail text DEFAULT NULL, validations jsonb DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_raise';

-- ZC404: missing, or not readable.
CREATE FUNCTION coder.raise_not_found()
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_raise_not_found_sql';

-- ZC403
CREATE FUNCTION coder.raise_forbidden()
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_raise_forbidden_sql';

-- RFC 3339 with Z, as on the wire.
CREATE FUNCTION coder.ts(timestamptz)
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_ts';

-- The same, year 1 for NULL.
CREATE FUNCTION coder.ts0(timestamptz)
RETURNS text LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_ts0';

-- JSON without blanks and with the API's escapes.
CREATE FUNCTION coder.compact(jsonb)
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_compact_jsonb';

-- The same of json, whose order of members stays.
CREATE FUNCTION coder.compact(json)
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_compact_json';

-- The user who asks; NULL where nobody.
CREATE FUNCTION coder.subject_id()
RETURNS uuid LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_subject_id';

-- The id of the API key that was used; NULL where none.
CREATE FUNCTION coder.subject_token_id()
RETURNS text LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_subject_token_id';

-- The workspace agent whose token was used; NULL where none.
CREATE FUNCTION coder.agent_id()
RETURNS uuid LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_agent_id';

-- Ask as this user from now on (NULL: nobody); for administrators and tests.
CREATE FUNCTION coder.set_subject(user_id uuid, scopes text[] DEFAULT '{coder:all}', allow_list text[] DEFAULT '{*:*}')
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_set_subject';

-- Ask as one of the server's own subjects from now on (system_restricted, provisionerd, …: extension/system.c); owner and
-- org are those of the workspace of sub_agent_api.  22023: no such subject.
CREATE FUNCTION coder.set_system_subject(name text, owner uuid DEFAULT NULL, org uuid DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_set_system_subject';

-- Ask as somebody with this id and just these roles ("name", "name:organization id"; none implied); for tests and what-ifs.
-- 22023: malformed role, unknown scope.
CREATE FUNCTION coder.set_subject_roles(id uuid, roles text[], groups uuid[] DEFAULT '{}', scopes text[] DEFAULT '{coder:all}',
	allow_list text[] DEFAULT '{*:*}')
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_set_subject_roles';

-- Whether this backend holds the subject of a token; for tests.
CREATE FUNCTION coder.subject_cached(token text)
RETURNS bool LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_subject_cached';

-- May the current subject do it?
CREATE FUNCTION coder.can(action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_can';

-- May the current subject do it in at least one organization?
CREATE FUNCTION coder.can_any(action text, type text, owner uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_can_any';

-- ZC403 unless can.
CREATE FUNCTION coder.require(action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS void LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_require';

-- ZC404 unless can.
CREATE FUNCTION coder.require_read(action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS void LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_require_read';

-- What decides for the current subject, in a sentence.
CREATE FUNCTION coder.explain(action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS text LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_explain';

-- May this user do it, by all of its roles?  Not where it is suspended or deleted.
CREATE FUNCTION coder.user_can(who uuid, action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_user_can';

-- All that decides, as JSON: for a user by any scope (NULL: no such user), for the current subject where who is NULL.
CREATE FUNCTION coder.explain_json(who uuid, action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL, any_org bool DEFAULT false)
RETURNS jsonb LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_explain_json';

-- Is the current subject a member of the organization?  From its own roles, without a query.
CREATE FUNCTION coder.has_organization_membership(org uuid)
RETURNS bool LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_has_organization_membership';

-- Which rows of a type the current subject may act on.  A row passes where everything is true, or its organization
-- is one of orgs, or it is the subject's own (owner = subject) in one of owned, or the subject's own and of no
-- organization where own is true, or acl_can is true of its lists; and, unless ids is NULL, its id is one of ids.
-- A row's user list can let the subject in only where it has the key subject, its group list only where the row's
-- organization is one of members and it has one of acl_keys: what an index can find.
CREATE TYPE coder.row_filter AS (
	everything bool,
	subject uuid,
	orgs uuid[],
	owned uuid[],
	own bool,
	members uuid[],
	acl_keys text[],
	ids uuid[]
);

-- The current subject's row_filter; everything false and all arrays empty where it may act on nothing.
CREATE FUNCTION coder.filter(action text, type text)
RETURNS coder.row_filter LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_filter';

-- The same as an SQL condition for a statement made at run time: constants only, so that the planner sees what an
-- index can do.  Arguments behind the type are SQL expressions of the row's columns, never text of a client; NULL
-- where the type's rows have none.
CREATE FUNCTION coder.filter_sql(action text, type text, org text DEFAULT NULL, owner text DEFAULT NULL, id text DEFAULT NULL,
	user_acl text DEFAULT NULL, group_acl text DEFAULT NULL)
RETURNS text LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_filter_sql';

-- Do the row's lists of users and groups alone let the current subject act, by a token of such scope?
CREATE FUNCTION coder.acl_can(action text, type text, org uuid, user_acl jsonb, group_acl jsonb, id uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_acl_can';

-- Display name of a built-in role of the site (org false) or of organizations; NULL: no such role.
CREATE FUNCTION coder.rbac_role(role text, org bool)
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_rbac_role';

-- A lock by name until the transaction ends, which only the extension can take: anybody may take an advisory lock.
CREATE FUNCTION coder.lock(name text)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_lock';

-- The same, beside others who hold it shared.
CREATE FUNCTION coder.lock_shared(name text)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_lock_shared';

-- The same until the session ends: says that its process lives.
CREATE FUNCTION coder.hold_lock(name text)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_hold_lock';

-- A lock until the transaction ends, without waiting; false where somebody holds it.
CREATE FUNCTION coder.try_lock(name text)
RETURNS bool LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_try_lock';

-- Letters and digits from the system's randomness.
CREATE FUNCTION coder.random_key(length int4)
RETURNS text LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_random_key';

-- Bytes from the system's randomness.
CREATE FUNCTION coder.random_bytes(length int4)
RETURNS bytea LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_random_bytes';

-- The fields of an HTML form's body (application/x-www-form-urlencoded), as coder.request.query holds a query; ZC400 where it is no text.
CREATE FUNCTION coder.form_decode(form bytea)
RETURNS jsonb LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_form_decode';

-- SHA-256, as api_keys.hashed_secret holds it.
CREATE FUNCTION coder.sha256(secret text)
RETURNS bytea LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_sha256_bytea';

-- argon2id string of a password.
CREATE FUNCTION coder.password_hash(password text)
RETURNS text LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_password_hash';

-- Does the password match an argon2id or PBKDF2 string?  An empty string matches nothing.
CREATE FUNCTION coder.password_verify(stored text, password text)
RETURNS bool LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_password_verify';

-- A new ed25519 SSH key: {private, public}.
CREATE FUNCTION coder.ssh_keypair()
RETURNS text[] LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_ssh_keypair';

-- A new ed25519 key: {seed, public}.
CREATE FUNCTION coder.ed25519_keypair()
RETURNS bytea[] LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_ed25519_keypair';

-- Starts the background worker of this database unless it runs.
CREATE FUNCTION coder.ensure_worker()
RETURNS bool LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_ensure_worker';

-- The request being served: one row, of NULLs outside of one.
CREATE FUNCTION coder.current_request(OUT remote text, OUT user_agent text, OUT request_id uuid)
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'coder_current_request_sql';

-- A JSON Web Token; alg is HS256, HS384, HS512 (key: the secret) or EdDSA (key: the Ed25519 seed).
CREATE FUNCTION coder.jwt_sign(claims jsonb, key bytea, alg text DEFAULT 'HS256', header jsonb DEFAULT '{}')
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_jwt_sign';

-- Its claims if it is good at that time, else NULL; also RS256 and ES256 (key: a PEM public key).
CREATE FUNCTION coder.jwt_verify(token text, key bytea, alg text DEFAULT 'HS256', at timestamptz DEFAULT now())
RETURNS jsonb LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_jwt_verify';

-- Its claims at whatever time, NULL where its signature or algorithm is wrong.
CREATE FUNCTION coder.jwt_open(token text, key bytea, alg text)
RETURNS jsonb LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_jwt_open';

-- What it says of itself, unverified; NULL for no token.
CREATE FUNCTION coder.jwt_header(token text)
RETURNS jsonb LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_jwt_header';

-- A JSON Web Key as the key of RS256, ES256 or EdDSA; NULL where it is none for it, or too weak.
CREATE FUNCTION coder.jwk_key(jwk jsonb, alg text)
RETURNS bytea LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_jwk_key';

-- The evaluated coder_workspace_tags of a template: {tags, problems}, {error}, or {broken}; extension/template.c.
CREATE FUNCTION coder.template_tags(archive bytea, input jsonb, at timestamptz)
RETURNS jsonb LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_template_tags';

-- A new key pair on P-256: {private, public}, 32 and 65 bytes.
CREATE FUNCTION coder.p256_keypair()
RETURNS bytea[] LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_p256_keypair';

-- ES256 of a text: r and s, 64 bytes.
CREATE FUNCTION coder.es256_sign(data text, private bytea, public bytea)
RETURNS bytea LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_es256_sign';

-- The body of a push to a browser (RFC 8291); public and auth are the browser's.  salt and a key pair are fresh where they
-- are NULL, and given by tests only.  Errors: 22023 for keys that are none, 54000 for a payload beyond 4079 bytes.
CREATE FUNCTION coder.webpush_encrypt(payload bytea, public bytea, auth bytea, salt bytea DEFAULT NULL, our_private bytea DEFAULT NULL,
	our_public bytea DEFAULT NULL)
RETURNS bytea LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_webpush_encrypt';
