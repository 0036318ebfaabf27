-- webpush.sql -- pushes to browsers: the encryption of RFC 8291, the signature, subscriptions; good and bad requests
BEGIN;
\i api.psql
SELECT no_plan();

-- RFC 8291, appendix A
SELECT is(coder.base64url(coder.webpush_encrypt('When I grow up, I want to be a watermelon',
	coder.base64_bytes('BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4'), coder.base64_bytes('BTBZMqHH6r4Tts7J_aSIgg'),
	coder.base64_bytes('DGv6ra1nlYgDCS1FRnbzlw'), coder.base64_bytes('yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw'),
	coder.base64_bytes('BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8'))),
	'DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN',
	'the standard''s example');
CREATE TEMP TABLE k AS SELECT p[1] AS private, p[2] AS public FROM coder.p256_keypair() p;
SELECT is(length(private) || ' ' || length(public) || ' ' || get_byte(public, 0), '32 65 4', 'a key pair') FROM k;
SELECT isnt(coder.webpush_encrypt('x', public, '\x000102030405060708090a0b0c0d0e0f'), coder.webpush_encrypt('x', public, '\x000102030405060708090a0b0c0d0e0f'), 'no two messages are alike') FROM k;
SELECT throws_ok(format('SELECT coder.webpush_encrypt(%L, %L, %L)', p, u, a), e, NULL, n) FROM k, LATERAL (VALUES
	('x'::bytea, '\x04'::bytea, '\x00'::bytea, '22023', 'a short key'), ('x', set_byte(public, 64, get_byte(public, 64) # 1), '\x000102030405060708090a0b0c0d0e0f', '22023', 'no point of the curve'),
	('x', public, '\x0001', '22023', 'a short secret'), (convert_to(repeat('x', 4080), 'UTF8'), public, '\x000102030405060708090a0b0c0d0e0f', '54000', 'a long message')) v (p, u, a, e, n);
SELECT is(length(coder.webpush_encrypt(convert_to(repeat('x', 4079), 'UTF8'), public, '\x000102030405060708090a0b0c0d0e0f')), 86 + 4079 + 17, 'the longest message') FROM k;

-- the server's key is there from the start, and signs
SELECT matches(a.body_->>'webpush_public_key', '^B[A-Za-z0-9_-]{86}$', 'the public half is told') FROM api('GET', '/api/v2/buildinfo') a;
SELECT is(coder.webpush_keys(), coder.webpush_keys(), 'it stays the same');
CREATE TEMP TABLE v AS SELECT coder.vapid_token('https://push.example.com', coder.webpush_keys()) AS token;
SELECT is(convert_from(coder.base64_bytes(split_part(token, '.', 2)), 'UTF8')::jsonb->>'aud', 'https://push.example.com', 'a token for the push service') FROM v;
SELECT ok(coder.jwt_verify(token, convert_to(E'-----BEGIN PUBLIC KEY-----\n' || encode('\x3059301306072a8648ce3d020106082a8648ce3d030107034200'::bytea || (coder.webpush_keys())[2], 'base64')
	|| E'\n-----END PUBLIC KEY-----\n', 'UTF8'), 'ES256') IS NOT NULL, 'whose signature is good') FROM v;

-- subscriptions
CREATE TEMP TABLE t AS SELECT token_of('admin') AS admin, token_of('bob') AS bob;
CREATE FUNCTION public.tok(n text) RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;
CREATE FUNCTION public.sub(endpoint text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('endpoint', endpoint, 'auth_key', 'BTBZMqHH6r4Tts7J_aSIgg',
	'p256dh_key', 'BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4') || more $$;
CREATE FUNCTION public.post(method text, who text, body jsonb, cursor text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || (a.body_->>'message'), '') FROM api(method, '/api/v2/users/' || who || '/webpush/subscription', body, tok('bob'), cursor => cursor) a $$;
SELECT is(post('POST', 'me', sub(e)), '400 Invalid webpush endpoint.', coalesce(e, 'none')) FROM unnest(ARRAY[NULL, '', 'http://push.example.com/x', 'https://127.0.0.1/x', 'https://[::1]/x', 'https://localhost/x', 'https://push.localhost/x',
	'https://intranet/x', 'https://push.internal/x', 'https://user@push.example.com/x', 'https://push.example.com', 'https://2130706433/x', 'https://0x7f.1/x', 'https://push.example.com/ x', E'https://push.example.com/\r\nX: y',
	'https://push.example.com:99999999/x', 'file:///etc/passwd', 'https://printer.local/x', 'https://push.example.com/' || repeat('x', 2100)]) e;
SELECT is(post('POST', 'me', sub('https://push.example.com/x', m)), '400 Invalid webpush endpoint.', m::text) FROM (VALUES ('{"auth_key": "x"}'::jsonb), ('{"auth_key": "%%%"}'), ('{"p256dh_key": ""}'), ('{"p256dh_key": null}'),
	('{"p256dh_key": "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}')) v (m);
SELECT is(post('POST', 'admin', sub('https://push.example.com/x')), '404 Resource not found or you do not have access to this resource', 'nobody else''s');
CREATE TEMP TABLE f AS SELECT a.status, a.body_ AS b FROM api('POST', '/api/v2/users/me/webpush/subscription', sub('https://push.example.com/x?y=1'), tok('bob')) a;
SELECT is(status || ' ' || (b->>'continue') || ' ' || (b #>> '{requests,0,url}') || ' ' || (b #>> '{requests,0,public}'), '102 webpush_subscribed https://push.example.com/x?y=1 true', 'a test goes out first') FROM f;
SELECT matches(b #>> '{requests,0,headers,Authorization}', '^vapid t=[\w-]+\.[\w-]+\.[\w-]+, k=[\w-]{87}$', 'signed') FROM f;
SELECT is((SELECT count(*)::int FROM coder.webpush_subscriptions), 0, 'nothing is kept before');
CREATE FUNCTION public.answered(status int4) RETURNS text LANGUAGE sql AS $$ SELECT post('POST', 'me', sub('https://push.example.com/x?y=1'),
	E'fetched:webpush_subscribed\n' || jsonb_build_object('state', f.b->'state', 'results', jsonb_build_array(jsonb_build_object('status', answered.status, 'error', 'connect', 'error_text', 'refused')))::text) FROM f $$;
SELECT is(answered(s), a, 'the push service says ' || s) FROM (VALUES (0, '500 Failed to test webpush subscription'), (403, '500 Failed to test webpush subscription'), (201, '204'), (201, '204')) v (s, a);
SELECT is((SELECT count(*)::int FROM coder.webpush_subscriptions), 1, 'one is kept once');
SELECT is(a.status || ' ' || jsonb_array_length(a.body_->'requests'), '102 1', 'a test to all') FROM api('POST', '/api/v2/users/me/webpush/test', NULL, tok('bob')) a;
SELECT is(a.status, 204, 'a browser that is gone') FROM api('POST', '/api/v2/users/me/webpush/test', NULL, tok('bob'), cursor => E'fetched:webpush_tested\n'
	|| jsonb_build_object('state', (SELECT jsonb_agg(id) FROM coder.webpush_subscriptions), 'results', '[{"status": 410}]'::jsonb)::text) a;
SELECT is((SELECT count(*)::int FROM coder.webpush_subscriptions), 0, 'is forgotten');
SELECT is(answered(201), '204', 'again');
SELECT is(post('DELETE', 'me', sub(e)), a, 'the end of ' || e) FROM (VALUES ('https://push.example.com/z', '404 Webpush subscription not found.'), ('https://push.example.com/x?y=1', '204'), ('https://push.example.com/x?y=1', '404 Webpush subscription not found.')) v (e, a);

SELECT * FROM finish();
ROLLBACK;
