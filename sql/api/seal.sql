-- sql/api/seal.sql -- keys of sealed columns: at a gateway's start, rotation, and giving sealing up
--
-- Tables: sql/schema/seal.sql.  In C: extension/seal.c.

-- The columns that triggers seal, of which more may come with any table.
CREATE OR REPLACE FUNCTION coder.sealed_columns()
RETURNS TABLE (relation regclass, name text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT t.tgrelid::regclass, convert_from(substring(t.tgargs FROM a.at FOR a.len), 'UTF8')
	  FROM pg_trigger t, LATERAL (
		SELECT coalesce(lag(z.i) OVER (ORDER BY z.i) + 2, 1) AS at, z.i + 1 - coalesce(lag(z.i) OVER (ORDER BY z.i) + 2, 1) AS len
		  FROM generate_series(0, length(t.tgargs) - 1) z (i) WHERE get_byte(t.tgargs, z.i) = 0) a
	 WHERE t.tgfoid = 'coder.seal_columns()'::regprocedure ORDER BY 1, 2;
END
$$;

-- Keys in use: how many values are sealed with each; NULL: plain text.
CREATE OR REPLACE FUNCTION coder.sealed_values()
RETURNS TABLE (relation regclass, name text, key_id text, n bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT s.relation, s.name FROM coder.sealed_columns() s LOOP
		RETURN QUERY EXECUTE format('SELECT %L::regclass, %L::text, x.%I, count(*) FROM %s x WHERE x.%I <> '''' GROUP BY x.%I',
			c.relation, c.name, c.name || '_key_id', c.relation, c.name, c.name || '_key_id');
	END LOOP;
END
$$;

-- A gateway starts, or has new keys: an error where a sealed value needs a key that it does not have, or where one of its keys
-- is not what its name says.  The key that seals from now on is noted.
CREATE OR REPLACE FUNCTION coder.keys_start()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids CONSTANT text[] := coder.seal_key_ids();
	missing text;
BEGIN
	SELECT string_agg(DISTINCT v.key_id, ', ') INTO missing FROM coder.sealed_values() v WHERE v.key_id IS NOT NULL AND v.key_id <> ALL (ids);
	IF missing IS NOT NULL THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format(
			'values in the database are sealed with the key %s, which is not among CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS', missing);
	END IF;
	PERFORM coder.unseal(k.test, k.active_key_digest) FROM coder.dbcrypt_keys k WHERE k.active_key_digest = ANY (ids);
	IF EXISTS (SELECT 1 FROM coder.dbcrypt_keys k WHERE k.revoked_key_digest = ids[1]) THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('the key %s has been revoked', ids[1]);
	ELSIF cardinality(ids) > 0 THEN
		INSERT INTO coder.dbcrypt_keys (number, active_key_digest, test)
		SELECT coalesce(max(k.number), 0) + 1, ids[1], coder.seal('coder') FROM coder.dbcrypt_keys k
		ON CONFLICT (active_key_digest) DO NOTHING;
	END IF;
END
$$;

-- Keys that nothing needs any more are revoked, but for those kept.
CREATE OR REPLACE FUNCTION coder.keys_revoke(kept text[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.dbcrypt_keys k SET revoked_key_digest = k.active_key_digest, active_key_digest = NULL, revoked_at = now()
	 WHERE k.active_key_digest <> ALL (kept);
END
$$;

-- Every value sealed with the session's first key, also those in plain text; older keys are revoked.  Answers how many changed.
CREATE OR REPLACE FUNCTION coder.keys_rotate()
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id CONSTANT text := (coder.seal_key_ids())[1];
	c record;
	n bigint;
	total bigint := 0;
BEGIN
	IF id IS NULL THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = 'there is no key: set CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS';
	END IF;
	PERFORM coder.keys_start();
	FOR c IN SELECT s.relation, s.name FROM coder.sealed_columns() s LOOP
		EXECUTE format('UPDATE %s x SET %I = coder.seal(coder.unseal(x.%I, x.%I)), %I = $1 WHERE x.%I <> '''' AND x.%I IS DISTINCT FROM $1',
			c.relation, c.name, c.name, c.name || '_key_id', c.name || '_key_id', c.name, c.name || '_key_id') USING id;
		GET DIAGNOSTICS n = ROW_COUNT;
		total := total + n;
	END LOOP;
	PERFORM coder.keys_revoke(ARRAY[id]);
	RETURN total;
END
$$;

-- Every value in plain text; all keys are revoked.  Answers how many changed.
CREATE OR REPLACE FUNCTION coder.keys_decrypt()
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c record;
	n bigint;
	total bigint := 0;
BEGIN
	FOR c IN SELECT s.relation, s.name FROM coder.sealed_columns() s LOOP
		EXECUTE format('UPDATE %s x SET %I = coder.unseal(x.%I, x.%I), %I = NULL WHERE x.%I IS NOT NULL',
			c.relation, c.name, c.name, c.name || '_key_id', c.name || '_key_id', c.name || '_key_id');
		GET DIAGNOSTICS n = ROW_COUNT;
		total := total + n;
	END LOOP;
	PERFORM coder.keys_revoke('{}');
	RETURN total;
END
$$;
