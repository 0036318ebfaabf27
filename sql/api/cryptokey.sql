-- SPDX-License-Identifier: MIT
--
-- cryptokey.sql
--   Signed tokens of the server itself: which key signs, which still verify,
--   and when a key gets a successor.  Time is an argument, for the tests.

-- How long what a feature's key signed is good: its key must verify for as long.
CREATE OR REPLACE FUNCTION coder.crypto_key_token_life(feature coder.crypto_key_feature) RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE feature::text WHEN 'tailnet_resume' THEN interval '24 hours' WHEN 'oidc_convert' THEN interval '5 minutes'
							  ELSE interval '1 minute' END;
END
$$;
COMMENT ON FUNCTION coder.crypto_key_token_life(coder.crypto_key_feature) IS 'How long a token of the feature is good.';

CREATE OR REPLACE FUNCTION coder.crypto_key_insert(feature coder.crypto_key_feature, starts_at timestamptz)
RETURNS coder.crypto_keys
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_size integer := CASE feature::text WHEN 'workspace_apps_api_key' THEN 32 ELSE 64 END;
	v_key coder.crypto_keys;
BEGIN
	INSERT INTO coder.crypto_keys (feature, sequence, secret, starts_at)
	SELECT crypto_key_insert.feature, coalesce(max(k.sequence), 0) + 1, encode(coder.random_bytes(v_size), 'hex'),
		   crypto_key_insert.starts_at
	  FROM coder.crypto_keys k WHERE k.feature = crypto_key_insert.feature
	RETURNING * INTO v_key;
	RETURN v_key;
END
$$;
COMMENT ON FUNCTION coder.crypto_key_insert(coder.crypto_key_feature, timestamptz) IS
	'A new key of a feature. The caller holds the lock coder.crypto_keys.';
REVOKE ALL ON FUNCTION coder.crypto_key_insert(coder.crypto_key_feature, timestamptz) FROM PUBLIC;

-- A key lives for 30 days.  Less than an hour before that its successor is made; it goes on verifying
-- until nothing that it signed can be good, an hour and a token's life after the successor began.
CREATE OR REPLACE FUNCTION coder.crypto_keys_rotate(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_feature coder.crypto_key_feature;
	v_last coder.crypto_keys;
	v_start timestamptz;
	v_done integer := 0;
	v_rows integer;
BEGIN
	PERFORM coder.lock('coder.crypto_keys');
	UPDATE coder.crypto_keys k SET secret = NULL, secret_key_id = NULL WHERE k.deletes_at <= at AND k.secret IS NOT NULL;
	GET DIAGNOSTICS v_rows = ROW_COUNT;
	FOREACH v_feature IN ARRAY enum_range(NULL::coder.crypto_key_feature) LOOP
		SELECT k.* INTO v_last FROM coder.crypto_keys k
		 WHERE k.feature = v_feature AND k.secret IS NOT NULL ORDER BY k.sequence DESC LIMIT 1;
		IF NOT FOUND THEN
			PERFORM coder.crypto_key_insert(v_feature, at);
			v_done := v_done + 1;
		ELSIF v_last.starts_at + interval '30 days' - interval '1 hour' <= at THEN
			v_start := greatest(v_last.starts_at + interval '30 days', at + interval '30 minutes');
			PERFORM coder.crypto_key_insert(v_feature, v_start);
			UPDATE coder.crypto_keys k
			   SET deletes_at = v_start + interval '1 hour' + coder.crypto_key_token_life(v_feature)
			 WHERE k.feature = v_feature AND k.sequence = v_last.sequence;
			v_done := v_done + 1;
		END IF;
	END LOOP;
	RETURN v_done + v_rows;
END
$$;
COMMENT ON FUNCTION coder.crypto_keys_rotate(timestamptz) IS
	'Makes the keys that are missing and the successors that are due, and forgets secrets that are over; how many.';
REVOKE ALL ON FUNCTION coder.crypto_keys_rotate(timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION coder.crypto_sign(feature coder.crypto_key_feature, claims jsonb, at timestamptz DEFAULT now())
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_key coder.crypto_keys;
BEGIN
	FOR i IN 1..2 LOOP
		SELECT k.* INTO v_key FROM coder.crypto_keys k
		 WHERE k.feature = crypto_sign.feature AND k.secret IS NOT NULL AND k.starts_at <= at
		   AND (k.deletes_at IS NULL OR k.deletes_at > at)
		 ORDER BY k.sequence DESC LIMIT 1;
		EXIT WHEN FOUND;
		-- The first token of all, before the first tick.
		PERFORM coder.crypto_keys_rotate(at);
	END LOOP;
	RETURN coder.jwt_sign(claims, decode(coder.unseal(v_key.secret, v_key.secret_key_id), 'hex'), 'HS512', jsonb_build_object('kid', v_key.sequence::text));
END
$$;
COMMENT ON FUNCTION coder.crypto_sign(coder.crypto_key_feature, jsonb, timestamptz) IS
	'A token of a feature, signed with its newest key.';
REVOKE ALL ON FUNCTION coder.crypto_sign(coder.crypto_key_feature, jsonb, timestamptz) FROM PUBLIC;

-- The clocks of several servers may differ by a minute.
CREATE OR REPLACE FUNCTION coder.crypto_verify(feature coder.crypto_key_feature, token text, at timestamptz DEFAULT now())
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_kid text := coder.jwt_header(token) ->> 'kid';
	v_secret text;
	v_claims jsonb;
BEGIN
	IF coalesce(v_kid, '') !~ '^[1-9][0-9]{0,8}$' THEN
		RETURN NULL;
	END IF;
	SELECT coder.unseal(k.secret, k.secret_key_id) INTO v_secret FROM coder.crypto_keys k
	 WHERE k.feature = crypto_verify.feature AND k.sequence = v_kid::integer AND k.secret IS NOT NULL
	   AND (k.deletes_at IS NULL OR k.deletes_at > at);
	v_claims := coder.jwt_verify(token, decode(v_secret, 'hex'), 'HS512', at - interval '1 minute');
	RETURN CASE WHEN v_claims ? 'exp' THEN v_claims END;
END
$$;
COMMENT ON FUNCTION coder.crypto_verify(coder.crypto_key_feature, text, timestamptz) IS
	'The claims of a token of a feature; NULL where it is none, or not good any more.';
