-- sql/schema/setting.sql -- what the gateway passes at start, and site-wide values kept for ever

CREATE TABLE coder.settings (
	name text PRIMARY KEY,
	value text NOT NULL,
	given bool NOT NULL DEFAULT false
);
COMMENT ON TABLE coder.settings IS 'deployment settings, written by coder.configure() at each start of a gateway';
COMMENT ON COLUMN coder.settings.given IS 'Was given to a gateway by its environment or command line: goes when the next one that starts is not given it.';

CREATE TABLE coder.site_configs (
	key varchar(256) PRIMARY KEY,
	value text NOT NULL
);
COMMENT ON TABLE coder.site_configs IS 'deployment id, keys and other values of the site as a whole';

-- Requests counted by gateways, for those who come near a limit; two minutes' worth.
CREATE UNLOGGED TABLE coder.rate_counts (
	who text NOT NULL,
	path bigint NOT NULL,
	minute bigint NOT NULL,
	source text NOT NULL,
	count int4 NOT NULL,
	PRIMARY KEY (who, path, minute, source)
);
COMMENT ON TABLE coder.rate_counts IS 'Requests of users and addresses near a rate limit, by gateway and minute; a path is a hash.';

SELECT pg_extension_config_dump('coder.settings', '');
SELECT pg_extension_config_dump('coder.site_configs', '');

-- What gateways told of themselves last; written every ten seconds by each, and lost when PostgreSQL crashes.
CREATE UNLOGGED TABLE coder.gateway_stats
(
	id					uuid NOT NULL PRIMARY KEY,
	started_at			timestamptz NOT NULL,
	updated_at			timestamptz NOT NULL,
	stats				jsonb NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE coder.gateway_stats IS 'What gateways told of themselves last, every ten seconds; see coder.stat_gateway.';
SELECT pg_catalog.pg_extension_config_dump('coder.gateway_stats', '');
