-- crypto.sql -- passwords, keys, tokens
BEGIN;
SELECT no_plan();

SELECT matches(coder.password_hash('SuperSecret1!'), '^\$argon2id\$', 'new passwords are argon2id');
SELECT ok(coder.password_verify(coder.password_hash('SuperSecret1!'), 'SuperSecret1!'), 'and match');
SELECT ok(NOT coder.password_verify(coder.password_hash('SuperSecret1!'), 'SuperSecret1'), 'only themselves');
-- PBKDF2-HMAC-SHA256, 1000 iterations, of "password" and the salt "0123456789abcdef"
SELECT ok(coder.password_verify('$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$' || rtrim(replace(encode(
	decode('8514638175a45bc45eb1f22f04ff7d27f4f8be480498c455ff4b494ce8d1e7d2f53252b19b65f0522dbf294d5139daeae474558a91dbf803ee557fe70deeebf3', 'hex'), 'base64'), E'\n', ''), '='), 'password'), 'an imported password matches');
SELECT ok(NOT coder.password_verify('$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$' || rtrim(replace(encode(
	decode('8514638175a45bc45eb1f22f04ff7d27f4f8be480498c455ff4b494ce8d1e7d2f53252b19b65f0522dbf294d5139daeae474558a91dbf803ee557fe70deeebf3', 'hex'), 'base64'), E'\n', ''), '='), 'Password'), 'only itself');
SELECT ok(NOT coder.password_verify(s, ''), 'matches nothing: ' || s) FROM unnest(ARRAY['', '$pbkdf2-sha256$', '$pbkdf2-sha256$x$y$z',
	'$pbkdf2-sha256$1$$', '$pbkdf2-sha256$99999999999$MDEy$MDEy', '$argon2id$', 'plain']) s;

SELECT is(coder.password_weakness('SuperSecret1!'), '', 'a strong password');
SELECT is(coder.password_weakness('short'),
	'insecure password, try including more special characters, using uppercase letters, using numbers or using a longer password', 'a short one');
SELECT isnt(coder.password_weakness(repeat('a', 60)), '', 'one character over and over');
SELECT isnt(coder.password_weakness('abcdefghijklmnopqrstuvwxyz'), '', 'the alphabet');
SELECT is(coder.password_weakness(repeat('aB3$xY7&', 9)), 'password must be no more than 64 characters', 'a long one');

SELECT matches(coder.random_key(22), '^[0-9A-Za-z]{22}$', 'keys are letters and digits');
SELECT isnt(coder.random_key(22), coder.random_key(22), 'and differ');
SELECT is(encode(coder.sha256('abc'), 'hex'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'SHA-256');
SELECT matches((coder.ssh_keypair())[2], '^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/=]+\n$', 'a public SSH key');
SELECT matches((coder.ssh_keypair())[1], '^-----BEGIN OPENSSH PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END OPENSSH PRIVATE KEY-----\n$', 'a private SSH key');

-- RFC 7515, appendix A.1
SELECT is(coder.jwt_verify('eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
	decode('AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ+EstJQLr/T+1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==', 'base64'), 'HS256', '2011-03-22'),
	'{"iss": "joe", "exp": 1300819380, "http://example.com/is_root": true}', 'a token of RFC 7515');
SELECT is(coder.jwt_verify('eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
	decode('AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ+EstJQLr/T+1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==', 'base64'), 'HS256', '2011-03-23'),
	NULL, 'which has expired since');
CREATE TEMP TABLE key AS SELECT k[1] AS seed, k[2] AS pub, 'secret'::bytea AS secret FROM coder.ed25519_keypair() k;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"sub": "x"}', secret, a), secret, a), '{"sub": "x"}', a || ' there and back') FROM key, unnest(ARRAY['HS256', 'HS384', 'HS512']) a;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"sub": "x"}', seed, 'EdDSA', '{"kid": "1"}'), pub, 'EdDSA'), '{"sub": "x"}', 'EdDSA there and back') FROM key;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"sub": "x"}', secret, 'HS256'), secret, 'HS512'), NULL, 'another algorithm') FROM key;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"sub": "x"}', pub, 'HS256'), pub, 'EdDSA'), NULL, 'a public key as a secret') FROM key;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"sub": "x"}', secret), 'other'), NULL, 'another secret') FROM key;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"nbf": 2000000000}', secret), secret, 'HS256', '2026-01-01'), NULL, 'too early') FROM key;
SELECT is(coder.jwt_verify(coder.jwt_sign('{"exp": "soon"}', secret), secret), NULL, 'a time that is none') FROM key;
SELECT is_empty($$SELECT n FROM key, coder.jwt_sign('{"sub": "x"}', secret) t, generate_series(0, length(t) - 1) n
	WHERE coder.jwt_verify(left(t, n), secret) IS NOT NULL$$, 'a token that is cut off anywhere is none');
SELECT throws_ok($$SELECT coder.jwt_sign('{}', 'k', 'none')$$, '22023', 'unknown algorithm "none"', 'there is no "none"');

SELECT * FROM finish();
ROLLBACK;
