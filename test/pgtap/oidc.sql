-- Sign-in with OpenID Connect and GitHub: keys, ID tokens and their refusal, paths, cookies, names.
BEGIN;
SELECT plan(55);
SELECT coder.configure('{"oidc_issuer_url": "https://idp.example", "oidc_client_id": "coder", "access_url": "https://coder.example/"}');

-- Keys: RFC 8037's for EdDSA; made by OpenSSL for the others.
SELECT is(encode(coder.jwk_key('{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}', 'EdDSA'), 'hex'),
	'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', 'an Ed25519 key');
SELECT is(coder.jwk_key(k, a), NULL, 'no key: ' || w) FROM (VALUES
	('{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'::jsonb, 'RS256', 'of another type'),
	('{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR"}', 'EdDSA', 'too short'),
	('{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}', 'EdDSA', 'of another curve'),
	('{"kty":"RSA","n":"0vx7agoebGcQ","e":"AQAB"}', 'RS256', 'RSA of 72 bits'),
	('{"kty":"RSA","e":"AQAB"}', 'RS256', 'without a modulus'),
	('{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}', 'ES256', 'a point off the curve'),
	('{"kty":"oct","k":"AAAA"}', 'RS256', 'a secret'),
	('[]', 'RS256', 'a list'), ('{}', 'ES256', 'nothing'), ('{"kty":7}', 'EdDSA', 'a number'),
	('{"kty":"OKP","crv":"Ed25519","x":"!"}', 'EdDSA', 'no base64')) v (k, a, w);
SELECT matches(convert_from(coder.jwk_key('{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}', 'ES256'), 'UTF8'),
	'^-----BEGIN PUBLIC KEY-----', 'a P-256 key');
-- RFC 7515, appendix A.3: the same key and a token of it.
SELECT is(coder.jwt_open('eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q',
	coder.jwk_key('{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}', 'ES256'), 'ES256')->>'iss',
	'joe', 'a token of 2011 opens whatever the time');
-- The same, appendix A.2: RS256.
SELECT is(coder.jwt_open('eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw',
	coder.jwk_key('{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}', 'RS256'), 'RS256')->>'iss',
	'joe', 'a token of RS256');

-- ID tokens: one key of ours, "a".
CREATE TEMP TABLE keys AS SELECT k[1] AS seed, k[2] AS pub FROM (VALUES (coder.ed25519_keypair())) v (k);
CREATE FUNCTION pg_temp.jwks(kid text DEFAULT 'a') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('keys', jsonb_build_array(jsonb_build_object('kty', 'OKP', 'crv', 'Ed25519', 'kid', kid, 'use', 'sig',
		'x', rtrim(translate(encode(pub, 'base64'), '+/', '-_'), '='))))
	FROM keys $$;
CREATE FUNCTION pg_temp.claims(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('iss', 'https://idp.example', 'aud', 'coder', 'sub', 'me', 'nonce', 'n1',
		'exp', extract(epoch FROM now())::bigint + 60) || more) $$;
CREATE FUNCTION pg_temp.verify(token text, jwks jsonb DEFAULT pg_temp.jwks(), discovery jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(v.error, 'good ' || (v.claims->>'sub')) || CASE WHEN v.unknown THEN ' (unknown)' ELSE '' END
	FROM coder.oidc_verify(token, jwks, discovery, 'coder', 'n1') v $$;
CREATE FUNCTION pg_temp.token(more jsonb DEFAULT '{}', header jsonb DEFAULT '{"kid": "a"}') RETURNS text LANGUAGE sql AS $$
	SELECT coder.jwt_sign(pg_temp.claims(more), seed, 'EdDSA', header) FROM keys $$;

SELECT is(pg_temp.verify(pg_temp.token()), 'good me', 'a good token');
SELECT is(pg_temp.verify(pg_temp.token(header => '{}')), 'good me', 'one that names no key');
SELECT is(pg_temp.verify(pg_temp.token('{"aud": ["x", "coder"]}')), 'good me', 'for two, one of them us');
SELECT is(pg_temp.verify(pg_temp.token('{"aud": ["x", "coder"], "azp": "x"}')), 'given to another client', 'for two, given to the other');
SELECT is(pg_temp.verify(pg_temp.token('{"aud": "other"}')), 'meant for another client', 'for another');
SELECT is(pg_temp.verify(pg_temp.token('{"aud": {"coder": 1}}')), 'meant for another client', 'for an object');
SELECT is(pg_temp.verify(pg_temp.token('{"aud": null}')), 'meant for another client', 'for nobody');
SELECT is(pg_temp.verify(pg_temp.token('{"iss": "https://evil.example"}')), 'issued by "https://evil.example"', 'of another issuer');
SELECT isnt(pg_temp.verify(pg_temp.token('{"iss": null}')), 'good me', 'of no issuer');
SELECT is(pg_temp.verify(pg_temp.token('{"exp": 1300819380}')), 'expired', 'expired');
SELECT is(pg_temp.verify(pg_temp.token('{"exp": null}')), 'expired', 'without an end');
SELECT is(pg_temp.verify(pg_temp.token('{"exp": "9999999999"}')), 'expired', 'with an end that is text');
SELECT is(pg_temp.verify(pg_temp.token('{"nbf": 9999999999}')), 'not valid yet', 'not valid yet');
SELECT is(pg_temp.verify(pg_temp.token('{"nonce": "n2"}')), 'the nonce is not that of this sign-in', 'of another sign-in');
SELECT is(pg_temp.verify(pg_temp.token('{"nonce": null}')), 'the nonce is not that of this sign-in', 'without a nonce');
SELECT is(pg_temp.verify(pg_temp.token(header => '{"kid": "b"}')), 'signed with a key that the provider does not publish (unknown)', 'with an unknown key');
SELECT is(pg_temp.verify(pg_temp.token(), '{"keys": []}'), 'signed with a key that the provider does not publish (unknown)', 'while there are no keys');
SELECT is(pg_temp.verify(pg_temp.token(), '{"keys": [1, null, [], {"kid": "a"}]}'), 'signed with a key that the provider does not publish (unknown)', 'nonsense for keys');
SELECT is(pg_temp.verify(pg_temp.token(), NULL), 'signed with a key that the provider does not publish (unknown)', 'no set at all');
SELECT is(pg_temp.verify(pg_temp.token(), discovery => '{"id_token_signing_alg_values_supported": ["RS256"]}'),
	'signed with an algorithm that is not accepted: "EdDSA"', 'with an algorithm that the provider does not name');
SELECT is(pg_temp.verify(overlay(pg_temp.token() PLACING 'AAAA' FROM length(pg_temp.token()) - 10)), 'the signature is wrong', 'a changed signature');
SELECT is(pg_temp.verify(regexp_replace(pg_temp.token(), '\.[^.]*$', '.')), 'the signature is wrong', 'no signature');
SELECT is(pg_temp.verify('eyJhbGciOiJub25lIn0.' || split_part(pg_temp.token(), '.', 2) || '.'),
	'signed with an algorithm that is not accepted: "none"', 'alg none');
SELECT is(pg_temp.verify(coder.jwt_sign(pg_temp.claims(), (SELECT pub FROM keys), 'HS256', '{"kid": "a"}')),
	'signed with an algorithm that is not accepted: "HS256"', 'the public key as an HMAC secret');
SELECT is(pg_temp.verify('a.b'), 'malformed token', 'malformed');
SELECT is(pg_temp.verify('...'), 'malformed token', 'only dots');

-- Tokens with one character changed, and cut ones: none is good, and none does harm.
CREATE TEMP TABLE whole AS SELECT pg_temp.token() AS t, pg_temp.jwks() AS k;
SELECT is((SELECT count(*) FROM whole w, generate_series(1, length(w.t)) i,
	LATERAL (SELECT overlay(w.t PLACING CASE WHEN substr(w.t, i, 1) = c THEN '-' ELSE c END FROM i FOR 1) FROM (VALUES ('A'), ('z'), ('.'), ('='), ('é')) x (c)) m (t)
	WHERE (coder.oidc_verify(m.t, w.k, '{}', 'coder', 'n1')).claims IS NOT NULL), 0::bigint, 'no changed token is good');
SELECT is((SELECT count(*) FROM whole w, generate_series(0, length(w.t) - 1) i
	WHERE (coder.oidc_verify(left(w.t, i), w.k, '{}', 'coder', 'n1')).claims IS NOT NULL OR (coder.oidc_verify(right(w.t, i), w.k, '{}', 'coder', 'n1')).claims IS NOT NULL),
	0::bigint, 'nor a cut one');

-- Paths that a sign-in may end at.
SELECT is(coder.local_path(v.a), v.b, 'the path of ' || v.a) FROM (VALUES ('/x?y=1#z', '/x?y=1#z'), ('https://evil.example/x', '/x'), ('//evil.example/x', '/x'),
	('/\evil.example', '/'), ('////evil.example/x', '/evil.example/x'), ('javascript:alert(1)', '/alert(1)'), (E'/x\r\nSet-Cookie: a=1', '/'), ('', '/')) v (a, b);

SELECT is(coder.username_from(v.a), v.b, 'the name of ' || v.a) FROM (VALUES ('dora', 'dora'), ('dora.explorer@example.com', 'doraexplorer')) v (a, b);
SELECT matches(coder.username_from('@'), '^user-[0-9a-z]{8}$', 'a random name where nothing is left');
SELECT is(coder.form_decode(coder.form_encode('{"a b": "ä&=%+ c", "d": ""}')), '{"a b": "ä&=%+ c", "d": ""}', 'a form there and back');
SELECT * FROM finish();
ROLLBACK;
