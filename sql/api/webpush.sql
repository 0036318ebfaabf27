-- sql/api/webpush.sql -- messages to browsers that are not open (Web Push: RFC 8030, 8291, 8292)
--
-- Tables: sql/schema/notification.sql.  Encryption: extension/webpush.c.

-- Bytes as base64 for URLs, without padding.
CREATE OR REPLACE FUNCTION coder.base64url(bytes bytea)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN translate(encode(bytes, 'base64'), E'+/=\n', '-_');
END
$$;

-- The bytes of base64, for URLs or not, padded or not; NULL where it is none.
CREATE OR REPLACE FUNCTION coder.base64_bytes(value text)
RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE	-- a subtransaction
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	plain CONSTANT text := rtrim(translate(value, '-_', '+/'), '=');
BEGIN
	RETURN decode(rpad(plain, (length(plain) + 3) / 4 * 4, '='), 'base64');
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;

-- This server's key pair for pushes, made when it is first needed.
CREATE OR REPLACE FUNCTION coder.webpush_keys()
RETURNS bytea[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pair bytea[];
BEGIN
	IF coder.site_config('webpush_vapid_public_key') IS NULL THEN
		PERFORM coder.lock('coder.seed');
		IF NOT EXISTS (SELECT 1 FROM coder.site_configs c WHERE c.key = 'webpush_vapid_public_key') THEN
			pair := coder.p256_keypair();
			INSERT INTO coder.site_configs (key, value) VALUES ('webpush_vapid_private_key', coder.base64url(pair[1])),
				('webpush_vapid_public_key', coder.base64url(pair[2]));
		END IF;
	END IF;
	RETURN ARRAY(SELECT coder.base64_bytes(c.value) FROM coder.site_configs c
		WHERE c.key IN ('webpush_vapid_private_key', 'webpush_vapid_public_key') ORDER BY c.key);
END
$$;

-- Who pushes, for the push service at this origin: a JWT of twelve hours, signed with the server's key (RFC 8292).
CREATE OR REPLACE FUNCTION coder.vapid_token(origin text, pair bytea[])
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	claims CONSTANT jsonb := jsonb_build_object('aud', origin, 'exp', extract(epoch FROM now())::bigint + 43200,
		'sub', coalesce(nullif(coder.setting('access_url'), ''), 'mailto:admin@localhost'));
	signed CONSTANT text := coder.base64url(convert_to('{"typ":"JWT","alg":"ES256"}', 'UTF8')) || '.'
		|| coder.base64url(convert_to(coder.compact(claims), 'UTF8'));
BEGIN
	RETURN signed || '.' || coder.base64url(coder.es256_sign(signed, pair[1], pair[2]));
END
$$;

-- The request that pushes a message to a browser, for coder.fetch; public: to no address of a private network.
CREATE OR REPLACE FUNCTION coder.webpush_request(s coder.webpush_subscriptions, message jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pair CONSTANT bytea[] := coder.webpush_keys();
	body CONSTANT bytea := coder.webpush_encrypt(convert_to(coder.compact(message), 'UTF8'),
		coder.base64_bytes(s.endpoint_p256dh_key), coder.base64_bytes(s.endpoint_auth_key));
BEGIN
	RETURN jsonb_build_object('method', 'POST', 'url', s.endpoint, 'public', true, 'max_size', 65536,
		'body_base64', translate(encode(body, 'base64'), E'\n', ''),
		'headers', jsonb_build_object('Content-Type', 'application/octet-stream', 'Content-Encoding', 'aes128gcm', 'TTL', '60',
			'Urgency', 'normal', 'Authorization', format('vapid t=%s, k=%s',
				coder.vapid_token(substring(s.endpoint FROM '^https://[^/]+'), pair), coder.base64url(pair[2]))));
END
$$;

-- The message of a test.
CREATE OR REPLACE FUNCTION coder.webpush_test_message()
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN '{"icon": "/icon/coder.svg", "title": "It works", "body": "This browser gets messages.", "actions": []}';
END
$$;

-- POST /users/{user}/webpush/subscription: first a test, then the subscription; DELETE ends it.
CREATE OR REPLACE FUNCTION coder.webpush_subscription(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req);
	place CONSTANT text := coalesce(body->>'endpoint', '');
	s coder.webpush_subscriptions;
BEGIN
	PERFORM coder.require_read(CASE req.method WHEN 'DELETE' THEN 'delete' ELSE 'create' END, 'webpush_subscription', NULL, u.id);
	IF req.method = 'DELETE' THEN
		DELETE FROM coder.webpush_subscriptions x WHERE x.user_id = u.id AND x.endpoint = place;
		IF NOT FOUND THEN
			PERFORM coder.raise(404, 'Webpush subscription not found.');
		END IF;
		RETURN coder.reply(204);
	END IF;
	-- A name of the public network: neither an address nor a name without a dot; where it leads, the gateway looks.
	IF place !~ '^https://([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?(:[0-9]{1,5})?/[!-~]*$'
		OR place ~* '^https://([^/]*\.)?(localhost|local|internal|home\.arpa|test|invalid)(:[0-9]+)?/' OR length(place) > 2048 THEN
		PERFORM coder.raise(400, 'Invalid webpush endpoint.', 'an https address of a public host is needed');
	ELSIF coalesce(length(coder.base64_bytes(body->>'p256dh_key')), 0) <> 65 OR coalesce(length(coder.base64_bytes(body->>'auth_key')), 0) <> 16 THEN
		PERFORM coder.raise(400, 'Invalid webpush endpoint.', 'p256dh_key and auth_key are not those of a browser');
	ELSIF (SELECT count(*) FROM coder.webpush_subscriptions x WHERE x.user_id = u.id) >= 50 THEN
		PERFORM coder.raise(400, 'Invalid webpush endpoint.', 'there are 50 subscriptions already');
	END IF;
	s := ROW(gen_random_uuid(), u.id, now(), place, body->>'p256dh_key', body->>'auth_key')::coder.webpush_subscriptions;
	RETURN coder.fetch('webpush_subscribed', to_jsonb(s), coder.webpush_request(s, coder.webpush_test_message()));
EXCEPTION WHEN invalid_parameter_value THEN
	PERFORM coder.raise(400, 'Invalid webpush endpoint.', sqlerrm);
END
$$;

-- The push service has answered the test.
CREATE OR REPLACE FUNCTION coder.webpush_subscribed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	f CONSTANT record := coder.fetched(req);
	s coder.webpush_subscriptions;
BEGIN
	s := jsonb_populate_record(NULL::coder.webpush_subscriptions, f.state);
	IF coalesce((f.results->0->>'status')::int4, 0) NOT BETWEEN 200 AND 299 THEN
		PERFORM coder.raise(500, 'Failed to test webpush subscription', coder.fetched_error(f.results->0));
	END IF;
	PERFORM coder.require_read('create', 'webpush_subscription', NULL, u.id);
	DELETE FROM coder.webpush_subscriptions x WHERE x.user_id = u.id AND x.endpoint = s.endpoint;
	INSERT INTO coder.webpush_subscriptions SELECT (s).* WHERE s.user_id = u.id;
	RETURN coder.reply(204);
END
$$;

-- POST /users/{user}/webpush/test: to all of the user's browsers
CREATE OR REPLACE FUNCTION coder.webpush_test(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	requests jsonb[];
	ids uuid[];
BEGIN
	PERFORM coder.require_read('create', 'notification_message', NULL, u.id);
	SELECT array_agg(coder.webpush_request(x.s, coder.webpush_test_message()) ORDER BY (x.s).created_at, (x.s).id), array_agg((x.s).id ORDER BY (x.s).created_at, (x.s).id)
	  INTO requests, ids FROM (SELECT s FROM coder.webpush_subscriptions s WHERE s.user_id = u.id ORDER BY s.created_at, s.id LIMIT 16) x;
	IF requests IS NULL THEN
		RETURN coder.reply(204);
	END IF;
	RETURN coder.fetch('webpush_tested', to_jsonb(ids), VARIADIC requests);
END
$$;

-- The push services have answered; a browser that is gone is forgotten.
CREATE OR REPLACE FUNCTION coder.webpush_tested(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	f CONSTANT record := coder.fetched(req);
	failed jsonb;
BEGIN
	PERFORM coder.require_read('create', 'notification_message', NULL, u.id);
	DELETE FROM coder.webpush_subscriptions s
	 USING jsonb_array_elements_text(f.state) WITH ORDINALITY i (id, n)
	 WHERE s.user_id = u.id AND s.id::text = i.id AND (f.results->(i.n - 1)::int4->>'status') IN ('404', '410');
	SELECT r INTO failed FROM jsonb_array_elements(f.results) r
	 WHERE (r->>'status')::int4 NOT BETWEEN 200 AND 299 AND r->>'status' NOT IN ('404', '410') LIMIT 1;
	IF failed IS NOT NULL THEN
		-- What is gone stays forgotten: no error is raised.
		RETURN coder.reply(500, jsonb_build_object('message', 'Failed to send test notification', 'detail', coder.fetched_error(failed)));
	END IF;
	RETURN coder.reply(204);
END
$$;

DELETE FROM coder.routes WHERE area = 'webpush';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('webpush', 'POST', '/api/v2/users/{user}/webpush/subscription', 'webpush_subscription', 'slow', false),
	('webpush', 'DELETE', '/api/v2/users/{user}/webpush/subscription', 'webpush_subscription', 'fast', false),
	('webpush', 'POST', '/api/v2/users/{user}/webpush/test', 'webpush_test', 'slow', false);
