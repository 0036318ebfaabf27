-- sql/schema/signin.sql -- what is known of the identity provider, until it is asked again

CREATE UNLOGGED TABLE coder.oidc_providers (
	issuer text PRIMARY KEY,
	discovery jsonb,
	discovered_at timestamptz,
	jwks jsonb,
	jwks_at timestamptz,
	jwks_tried_at timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE coder.oidc_providers IS 'Discovery document and signing keys of the OpenID Connect provider, kept for an hour.';
