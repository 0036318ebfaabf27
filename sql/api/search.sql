-- sql/api/search.sql -- the q= language: "key:value" elements and free words

-- ZC400 with the endpoint's message for a query that is too long: the time to take one apart grows with its square.
CREATE OR REPLACE FUNCTION coder.search_check_length(q text, message text)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF length(q) > 8192 THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('q', 'A query has at most 8192 characters')));
	END IF;
END
$$;

-- Splits a query into {"key": ["value", …]}.  Words without a key make one term, under the key free;
-- where free is NULL they are an error.  Keys not in allowed, and elements of the wrong form, raise 400
-- with the endpoint's message.  A value's commas separate a list.
CREATE OR REPLACE FUNCTION coder.search_parse(q text, message text, free text, allowed text[])
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	element text;
	bare text;
	key text;
	value text;
	words text := '';
	terms jsonb := '{}';
	why text;
	field text := 'q';
BEGIN
	PERFORM coder.search_check_length(q, message);
	FOR element IN SELECT m[1] FROM regexp_matches(q, '((?:[^\s"]|"[^"]*(?:"|$))+)', 'g') m LOOP
		bare := regexp_replace(element, '"[^"]*("|$)', '', 'g');
		IF strpos(bare, ':') = 0 THEN
			words := words || CASE WHEN words = '' THEN '' ELSE ' ' END || replace(element, '"', '');
			CONTINUE;
		ELSIF element ~ '^:|:$' THEN
			why := format('Query element "%s" cannot start or end with '':''', element);
			EXIT;
		ELSIF length(bare) - length(replace(bare, ':', '')) > 1 THEN
			why := format('Query element "%s" can only contain 1 '':''', element);
			EXIT;
		END IF;
		key := lower(split_part(element, ':', 1));
		value := substr(element, strpos(element, ':') + 1);
		IF NOT key = ANY (allowed) THEN
			why := format('"%s" is not a valid query param', key);
			field := key;
			EXIT;
		END IF;
		terms := jsonb_set(terms, ARRAY[key], coalesce(terms->key, '[]')
			|| CASE WHEN value LIKE '"%' THEN jsonb_build_array(replace(value, '"', ''))
				ELSE to_jsonb(string_to_array(value, ',')) END);
	END LOOP;
	IF why IS NULL AND words <> '' THEN
		IF free IS NULL THEN
			why := format('invalid search term: %s', words);
		ELSE
			terms := jsonb_set(terms, ARRAY[free], jsonb_build_array(words));
		END IF;
	END IF;
	IF why IS NOT NULL THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(field, why)));
	END IF;
	RETURN terms;
END
$$;

-- ZC400 unless all values of a key are among these.
CREATE OR REPLACE FUNCTION coder.search_check_enum(terms jsonb, key text, message text, allowed text[], single bool DEFAULT false)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	SELECT v INTO bad FROM jsonb_array_elements_text(coalesce(terms->key, '[]')) v WHERE NOT v = ANY (allowed) LIMIT 1;
	IF bad IS NOT NULL THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
			format('Query param "%s" has invalid %s: "%s" is not a valid value', key,
				CASE WHEN single THEN 'value' ELSE 'values' END, bad))));
	END IF;
END
$$;

-- ZC400 unless a key's value is an RFC 3339 time.
CREATE OR REPLACE FUNCTION coder.search_check_time(terms jsonb, key text, message text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ok bool := true;
BEGIN
	BEGIN
		PERFORM (terms->key->>0)::timestamptz;
	EXCEPTION WHEN data_exception THEN
		ok := false;	-- a day that its month does not have
	END;
	IF NOT ok OR upper(terms->key->>0) !~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)$' THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
			format('Query param "%s" must be a valid date format (2006-01-02T15:04:05Z07:00): "%s"', key, terms->key->>0))));
	END IF;
END
$$;

-- ZC400 unless a key's value is a boolean.
CREATE OR REPLACE FUNCTION coder.search_check_bool(terms jsonb, key text, message text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF lower(terms->key->>0) NOT IN ('1', 't', 'true', '0', 'f', 'false') THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
			format('Query param "%s" must be a valid boolean: "%s" is not one', key, terms->key->>0))));
	END IF;
END
$$;
