-- sql/schema/rbac.sql -- custom roles, and what tells the backends that a subject has changed

CREATE TABLE coder.custom_roles (
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	name text NOT NULL,
	display_name text NOT NULL,
	site_permissions jsonb NOT NULL DEFAULT '[]',
	org_permissions jsonb NOT NULL DEFAULT '[]',
	user_permissions jsonb NOT NULL DEFAULT '[]',
	member_permissions jsonb NOT NULL DEFAULT '[]',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	organization_id uuid REFERENCES coder.organizations (id) ON DELETE CASCADE
		CONSTRAINT organization_id_not_zero CHECK (organization_id <> '00000000-0000-0000-0000-000000000000'),
	is_system bool NOT NULL DEFAULT false,
	CONSTRAINT custom_roles_unique_key UNIQUE (name, organization_id)
);
CREATE UNIQUE INDEX idx_custom_roles_name_lower_organization_id ON coder.custom_roles
	(lower(name), coalesce(organization_id, '00000000-0000-0000-0000-000000000000'));
CREATE INDEX idx_custom_roles_id ON coder.custom_roles (id);

COMMENT ON TABLE coder.custom_roles IS 'Roles that administrators made, of the site or of an organization, as the API''s permissions.';

SELECT pg_extension_config_dump('coder.custom_roles', '');

-- What a row is to the access rules.
CREATE TYPE coder.access_object AS (
	type text,
	id uuid,
	org uuid,
	owner uuid,
	user_acl jsonb,
	group_acl jsonb
);

-- Always empty.  Its invalidation, not a row, tells all backends to forget all their subjects, so that
-- plans over the real tables stay.
CREATE TABLE coder.auth_epoch ();
COMMENT ON TABLE coder.auth_epoch IS 'Always empty: its invalidation tells all backends to forget the subjects they hold.';

-- Trigger: the subjects that backends hold are forgotten at commit: with the name of a column those of the user
-- that it names in the row, without one all of them (extension/subject.c).
CREATE FUNCTION coder.auth_changed() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_auth_changed';

-- What concerns one user.  The use of a key and its sliding expiry are not changes of its subject.
CREATE TRIGGER auth_changed_update AFTER UPDATE ON coder.api_keys FOR EACH ROW
	WHEN (NEW.expires_at < OLD.expires_at OR NEW.scopes <> OLD.scopes OR NEW.allow_list <> OLD.allow_list
		OR NEW.user_id <> OLD.user_id OR NEW.hashed_secret <> OLD.hashed_secret OR NEW.id <> OLD.id)
	EXECUTE FUNCTION coder.auth_changed('user_id');
CREATE TRIGGER auth_changed AFTER DELETE ON coder.api_keys
	FOR EACH ROW EXECUTE FUNCTION coder.auth_changed('user_id');

CREATE TRIGGER auth_changed_update AFTER UPDATE ON coder.users FOR EACH ROW
	WHEN (NEW.status <> OLD.status OR NEW.rbac_roles <> OLD.rbac_roles OR NEW.deleted <> OLD.deleted
		OR NEW.username <> OLD.username OR NEW.is_service_account <> OLD.is_service_account OR NEW.id <> OLD.id)
	EXECUTE FUNCTION coder.auth_changed('id');
CREATE TRIGGER auth_changed AFTER DELETE ON coder.users
	FOR EACH ROW EXECUTE FUNCTION coder.auth_changed('id');

CREATE TRIGGER auth_changed AFTER INSERT OR UPDATE OR DELETE ON coder.organization_members
	FOR EACH ROW EXECUTE FUNCTION coder.auth_changed('user_id');
CREATE TRIGGER auth_changed AFTER INSERT OR UPDATE OR DELETE ON coder.group_members
	FOR EACH ROW EXECUTE FUNCTION coder.auth_changed('user_id');
-- A provider's token that ends sooner; that it lives longer is found when the time has come.
CREATE TRIGGER auth_changed_update AFTER UPDATE ON coder.user_links FOR EACH ROW
	WHEN (NEW.oauth_expiry < OLD.oauth_expiry OR NEW.user_id <> OLD.user_id OR NEW.login_type <> OLD.login_type)
	EXECUTE FUNCTION coder.auth_changed('user_id');
CREATE TRIGGER auth_changed AFTER DELETE ON coder.user_links
	FOR EACH ROW EXECUTE FUNCTION coder.auth_changed('user_id');

-- What concerns everybody.
CREATE TRIGGER auth_changed_truncate AFTER TRUNCATE ON coder.api_keys
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_truncate AFTER TRUNCATE ON coder.users
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_truncate AFTER TRUNCATE ON coder.organization_members
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_truncate AFTER TRUNCATE ON coder.group_members
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_truncate AFTER TRUNCATE ON coder.user_links
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();

CREATE TRIGGER auth_changed_update AFTER UPDATE ON coder.organizations FOR EACH ROW
	WHEN (NEW.shareable_workspace_owners <> OLD.shareable_workspace_owners OR NEW.deleted <> OLD.deleted)
	EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed AFTER DELETE OR TRUNCATE ON coder.organizations
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.custom_roles
	FOR EACH STATEMENT EXECUTE FUNCTION coder.auth_changed();

-- The deployment's switches that change roles (extension/load.c).
CREATE TRIGGER auth_changed_insert AFTER INSERT ON coder.settings FOR EACH ROW
	WHEN (NEW.name IN ('disable_owner_workspace_access', 'disable_workspace_sharing')) EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_update AFTER UPDATE ON coder.settings FOR EACH ROW
	WHEN (NEW.name IN ('disable_owner_workspace_access', 'disable_workspace_sharing') AND NEW IS DISTINCT FROM OLD)
	EXECUTE FUNCTION coder.auth_changed();
CREATE TRIGGER auth_changed_delete AFTER DELETE ON coder.settings FOR EACH ROW
	WHEN (OLD.name IN ('disable_owner_workspace_access', 'disable_workspace_sharing')) EXECUTE FUNCTION coder.auth_changed();

-- Is this session restoring a dump?  pg_dump's scripts, and pg_restore, turn both settings off.  Triggers
-- that make rows from rows stand aside then, since the dump has both.
CREATE FUNCTION coder.restoring() RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN current_setting('row_security') = 'off' AND current_setting('check_function_bodies') = 'off';
END
$$;

-- Every organization has its Everyone group and its two system roles.
CREATE FUNCTION coder.organization_inserted() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coder.restoring() THEN
		RETURN NULL;
	END IF;
	INSERT INTO coder.groups (id, name, organization_id) VALUES (NEW.id, 'Everyone', NEW.id)
	ON CONFLICT DO NOTHING;
	INSERT INTO coder.custom_roles (name, display_name, organization_id, is_system)
	VALUES ('organization-member', '', NEW.id, true), ('organization-service-account', '', NEW.id, true)
	ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
CREATE TRIGGER organization_inserted AFTER INSERT ON coder.organizations
	FOR EACH ROW EXECUTE FUNCTION coder.organization_inserted();

-- A deleted custom role leaves its members.
CREATE FUNCTION coder.custom_role_deleted() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.organization_members m SET roles = array_remove(m.roles, OLD.name)
	 WHERE m.organization_id = OLD.organization_id AND OLD.name = ANY (m.roles);
	RETURN OLD;
END
$$;
CREATE TRIGGER custom_role_deleted BEFORE DELETE ON coder.custom_roles
	FOR EACH ROW EXECUTE FUNCTION coder.custom_role_deleted();

-- Who leaves an organization leaves its groups.
CREATE FUNCTION coder.organization_member_deleted() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.group_members gm USING coder.groups g
	 WHERE g.id = gm.group_id AND g.organization_id = OLD.organization_id AND gm.user_id = OLD.user_id;
	RETURN OLD;
END
$$;
CREATE TRIGGER organization_member_deleted BEFORE DELETE ON coder.organization_members
	FOR EACH ROW EXECUTE FUNCTION coder.organization_member_deleted();

-- A deleted user has no keys and links, and its changes of status are kept.
CREATE FUNCTION coder.user_changed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coder.restoring() THEN
		RETURN NULL;
	END IF;
	IF TG_OP = 'INSERT' OR NEW.status <> OLD.status THEN
		INSERT INTO coder.user_status_changes (user_id, new_status, changed_at)
		VALUES (NEW.id, NEW.status, NEW.updated_at);
	END IF;
	IF NEW.deleted AND (TG_OP = 'INSERT' OR NOT OLD.deleted) THEN
		INSERT INTO coder.user_deleted (user_id, deleted_at) VALUES (NEW.id, NEW.updated_at);
		DELETE FROM coder.api_keys k WHERE k.user_id = NEW.id;
		DELETE FROM coder.user_links l WHERE l.user_id = NEW.id;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER user_changed AFTER INSERT OR UPDATE OF status, deleted ON coder.users
	FOR EACH ROW EXECUTE FUNCTION coder.user_changed();

-- No keys and links for a deleted user.
CREATE FUNCTION coder.refuse_deleted_user() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (SELECT u.deleted FROM coder.users u WHERE u.id = NEW.user_id) THEN
		RAISE check_violation USING MESSAGE = 'user is deleted';
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER refuse_deleted_user BEFORE INSERT ON coder.api_keys
	FOR EACH ROW EXECUTE FUNCTION coder.refuse_deleted_user();
CREATE TRIGGER refuse_deleted_user BEFORE INSERT OR UPDATE ON coder.user_links
	FOR EACH ROW EXECUTE FUNCTION coder.refuse_deleted_user();
