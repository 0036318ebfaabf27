-- SPDX-License-Identifier: MIT
--
-- usageday.sql
--   Use of templates added up by day, so that reports over months need not read
--   each half hour.
--
-- A day, of UTC, is here or it is not (template_usage_made).  Whatever changes one
-- of its half hours takes it away in the same transaction, and reports read its
-- half hours until it is made again (sql/api/usageday.sql): both say the same.

CREATE TABLE coder.template_usage_days
(
	day					date NOT NULL,
	template_id			uuid NOT NULL,
	user_id				uuid NOT NULL,
	halves				bigint NOT NULL,
	usage_mins			integer NOT NULL,
	ssh_mins			integer NOT NULL,
	sftp_mins			integer NOT NULL,
	reconnecting_pty_mins	integer NOT NULL,
	vscode_mins			integer NOT NULL,
	jetbrains_mins		integer NOT NULL,
	PRIMARY KEY (day, template_id, user_id)
);
COMMENT ON TABLE coder.template_usage_days IS
	'template_usage_stats added up by day of UTC; with the nil template: of all templates, where a half hour of a user has thirty minutes.';
COMMENT ON COLUMN coder.template_usage_days.halves IS 'Bit n: the half hour n of the day was used.';

CREATE TABLE coder.template_usage_app_days
(
	day					date NOT NULL,
	template_id			uuid NOT NULL,
	user_id				uuid NOT NULL,
	slug				text NOT NULL,
	halves				bigint NOT NULL,
	mins				integer NOT NULL,
	PRIMARY KEY (day, template_id, user_id, slug)
);
COMMENT ON TABLE coder.template_usage_app_days IS 'The same of apps, by template.';

CREATE TABLE coder.template_usage_made
(
	day					date NOT NULL PRIMARY KEY
);
COMMENT ON TABLE coder.template_usage_made IS 'Days that template_usage_days and template_usage_app_days have, and have right.';

CREATE FUNCTION coder.usage_day_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_days date[];
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = 'use of templates is written in READ COMMITTED transactions only';
	END IF;
	-- Who makes days has this lock alone: what it has made is seen here, and what is written here there.
	PERFORM coder.lock_shared('coder.usage_days');
	IF TG_OP = 'TRUNCATE' THEN
		TRUNCATE coder.template_usage_days, coder.template_usage_app_days, coder.template_usage_made;
		RETURN NULL;
	END IF;
	v_days := ARRAY(SELECT DISTINCT (c.start_time AT TIME ZONE 'UTC')::date FROM changed c);
	IF TG_OP = 'UPDATE' THEN
		v_days := v_days || ARRAY(SELECT DISTINCT (b.start_time AT TIME ZONE 'UTC')::date FROM before b);
	END IF;
	DELETE FROM coder.template_usage_made m WHERE m.day = ANY (v_days);
	IF FOUND THEN
		DELETE FROM coder.template_usage_days d WHERE d.day = ANY (v_days);
		DELETE FROM coder.template_usage_app_days d WHERE d.day = ANY (v_days);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.usage_day_changed() IS
	'Trigger of template_usage_stats: days of which a half hour changes are to be made anew. Errors: 25001 where a snapshot is older than the lock.';
CREATE TRIGGER usage_day_inserted AFTER INSERT ON coder.template_usage_stats REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.usage_day_changed();
CREATE TRIGGER usage_day_updated AFTER UPDATE ON coder.template_usage_stats REFERENCING OLD TABLE AS before NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.usage_day_changed();
CREATE TRIGGER usage_day_deleted AFTER DELETE ON coder.template_usage_stats REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.usage_day_changed();
CREATE TRIGGER usage_day_truncated AFTER TRUNCATE ON coder.template_usage_stats
	FOR EACH STATEMENT EXECUTE FUNCTION coder.usage_day_changed();
ALTER TABLE coder.template_usage_stats ENABLE ALWAYS TRIGGER usage_day_inserted, ENABLE ALWAYS TRIGGER usage_day_updated,
	ENABLE ALWAYS TRIGGER usage_day_deleted, ENABLE ALWAYS TRIGGER usage_day_truncated;

SELECT pg_catalog.pg_extension_config_dump('coder.template_usage_days', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_usage_app_days', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_usage_made', '');
