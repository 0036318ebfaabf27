-- sql/api/fetch.sql -- what a function asks the gateway to fetch from others; docs/ARCHITECTURE.md section 2.2

-- An object of name -> text as a form, or as a URL's query.  Members that are null are left out.
CREATE OR REPLACE FUNCTION coder.form_encode(form jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT string_agg(coder.url_encode(f.key) || '=' || coder.url_encode(f.value), '&' ORDER BY f.key)
		FROM jsonb_each_text(form) f WHERE f.value IS NOT NULL), '');
END
$$;

-- A form in application/x-www-form-urlencoded as an object of name -> text.
CREATE OR REPLACE FUNCTION coder.form_decode(form text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_object_agg(coder.url_decode(split_part(p, '=', 1)),
			coder.url_decode(substr(p, length(split_part(p, '=', 1)) + 2)))
		FROM unnest(string_to_array(form, '&')) p WHERE p <> ''), '{}');
END
$$;

-- The text behind its percent signs; what is no UTF-8 is dropped.
CREATE OR REPLACE FUNCTION coder.url_decode(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bytes bytea := '';
	part text;
BEGIN
	FOR part IN SELECT m[1] FROM regexp_matches(replace(value, '+', ' '), '(%[0-9A-Fa-f]{2}|[^%]+|%)', 'g') m LOOP
		bytes := bytes || CASE WHEN part ~ '^%[0-9A-Fa-f]{2}$' THEN decode(substr(part, 2), 'hex')
			ELSE convert_to(part, 'UTF8') END;
	END LOOP;
	RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
	RETURN '';
END
$$;

-- A URL with members of a form added to its query.
CREATE OR REPLACE FUNCTION coder.url_with(url text, form jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN url || CASE WHEN strpos(url, '?') > 0 THEN '&' ELSE '?' END || coder.form_encode(form);
END
$$;

-- A request that a gateway shall make; headers: name -> text.
CREATE OR REPLACE FUNCTION coder.fetch_get(url text, headers jsonb DEFAULT '{}', max_size int4 DEFAULT 1048576,
	timeout_ms int4 DEFAULT 10000)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('method', 'GET', 'url', url, 'max_size', max_size, 'timeout_ms', timeout_ms,
		'headers', '{"Accept": "application/json"}'::jsonb || headers);
END
$$;

-- The same with a form as its body.
CREATE OR REPLACE FUNCTION coder.fetch_form(url text, form jsonb, headers jsonb DEFAULT '{}', method text DEFAULT 'POST')
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('method', method, 'url', url, 'body', coder.form_encode(form), 'headers',
		'{"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}'::jsonb || headers);
END
$$;

-- The same request, counted by the gateway as one to an identity or git provider (coderd_oauth2_external_requests_total).
CREATE OR REPLACE FUNCTION coder.fetch_counted(request jsonb, name text, source text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN request || jsonb_build_object('counted', jsonb_build_object('name', name, 'source', source));
END
$$;

-- The answer that makes the gateway send the requests and call coder.<next>(coder.request) with the results.
-- What came of them is coder.fetched(req), the state is kept for it.
CREATE OR REPLACE FUNCTION coder.fetch(next text, state jsonb, VARIADIC requests jsonb[])
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(102, jsonb_build_object('continue', next, 'state', state, 'requests', to_jsonb(requests))::text,
		NULL, NULL)::coder.response;
END
$$;

-- The answer that makes the gateway call coder.<next>(coder.request) after a time, of up to ten seconds.
CREATE OR REPLACE FUNCTION coder.wait(next text, state jsonb, ms int4)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(102, jsonb_build_object('continue', next, 'state', state, 'wait_ms', ms)::text, NULL, NULL)::coder.response;
END
$$;

-- In a function named by coder.fetch or coder.wait: the state it left, and the results in the order of the requests, each
-- {"status", "headers", "body"} or {"status": 0, "error", "error_text"}.
CREATE OR REPLACE FUNCTION coder.fetched(req coder.request, OUT state jsonb, OUT results jsonb)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	all_of_it CONSTANT jsonb := req.cursor::jsonb;
BEGIN
	state := all_of_it->'state';
	results := all_of_it->'results';
END
$$;

-- Text as JSON, NULL where it is none, or NULL.
CREATE OR REPLACE FUNCTION coder.try_json(value text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN value::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
	RETURN NULL;
END
$$;

-- The body of a result with a status of 2xx as a JSON object; NULL for anything else.
CREATE OR REPLACE FUNCTION coder.fetched_object(result jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
BEGIN
	IF (result->>'status')::int4 BETWEEN 200 AND 299 THEN
		body := coder.try_json(result->>'body');
	END IF;
	RETURN CASE WHEN jsonb_typeof(body) = 'object' THEN body END;
END
$$;

-- What went wrong with a result, for people: never more than its first line.
CREATE OR REPLACE FUNCTION coder.fetched_error(result jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(result->>'error' || ': ' || (result->>'error_text'), format('status code %s', result->>'status'));
END
$$;
