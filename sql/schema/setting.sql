-- sql/schema/setting.sql -- what the gateway passes at start, and site-wide values kept for ever

CREATE TABLE coder.settings (
	name text PRIMARY KEY,
	value text NOT NULL
);
COMMENT ON TABLE coder.settings IS 'deployment settings, written by coder.configure() at each start of a gateway';

CREATE TABLE coder.site_configs (
	key varchar(256) PRIMARY KEY,
	value text NOT NULL
);
COMMENT ON TABLE coder.site_configs IS 'deployment id, keys and other values of the site as a whole';

SELECT pg_extension_config_dump('coder.settings', '');
SELECT pg_extension_config_dump('coder.site_configs', '');
