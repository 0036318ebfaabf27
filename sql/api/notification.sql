-- sql/api/notification.sql -- notifications: the inbox, who wants what, settings
--
-- Tables: sql/schema/notification.sql.

-- Puts a message into a user's inbox, unless the user does not want this kind.  Its watchers are told.
CREATE OR REPLACE FUNCTION coder.notify(uid uuid, template uuid, title text, content text, actions jsonb DEFAULT '[]',
	targets uuid[] DEFAULT '{}', icon text DEFAULT '')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.notification_templates;
	off bool;
	nid uuid;
BEGIN
	SELECT x.* INTO t FROM coder.notification_templates x WHERE x.id = template;
	SELECT p.disabled INTO off FROM coder.notification_preferences p
	 WHERE p.user_id = uid AND p.notification_template_id = template;
	IF t.id IS NULL OR coalesce(off, NOT t.enabled_by_default)
		OR (SELECT (c.value::jsonb->>'notifier_paused')::bool FROM coder.site_configs c WHERE c.key = 'notifications_settings') THEN
		RETURN;
	END IF;
	INSERT INTO coder.inbox_notifications (user_id, template_id, targets, title, content, icon, actions, created_at)
	VALUES (uid, template, targets, title, content,
		coalesce(nullif(icon, ''), CASE t."group" WHEN 'Workspace Events' THEN 'DEFAULT_ICON_WORKSPACE'
			WHEN 'User Events' THEN 'DEFAULT_ICON_ACCOUNT' WHEN 'Template Events' THEN 'DEFAULT_ICON_TEMPLATE'
			ELSE 'DEFAULT_ICON_OTHER' END), actions, clock_timestamp())
	RETURNING id INTO nid;
	PERFORM coder.emit('inbox:' || uid, nid::text);
END
$$;

-- InboxNotification
CREATE OR REPLACE FUNCTION coder.inbox_json(n coder.inbox_notifications)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', n.id, 'user_id', n.user_id, 'template_id', n.template_id, 'targets', to_jsonb(coalesce(n.targets, '{}')),
		'title', n.title, 'content', n.content, 'icon', n.icon, 'actions', n.actions, 'read_at', coder.ts(n.read_at),
		'created_at', coder.ts(n.created_at));
END
$$;

-- How many messages of a user are unread.
CREATE OR REPLACE FUNCTION coder.inbox_unread(uid uuid)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT count(*) FROM coder.inbox_notifications n WHERE n.user_id = uid AND n.read_at IS NULL);
END
$$;

-- A list of uuids in the query.
CREATE OR REPLACE FUNCTION coder.query_ids(req coder.request, name text)
RETURNS uuid[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item text;
	ids uuid[] := '{}';
BEGIN
	FOREACH item IN ARRAY coder.query_list(req, name) LOOP
		IF coder.try_uuid(item) IS NULL THEN
			PERFORM coder.raise_query(name, format('Query param "%s" has invalid values: invalid UUID length: %s', name, length(item)));
		END IF;
		ids := ids || coder.try_uuid(item);
	END LOOP;
	RETURN ids;
END
$$;

-- The read_status of the query.
CREATE OR REPLACE FUNCTION coder.query_read_status(req coder.request)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	status CONSTANT text := coder.query_text(req, 'read_status', 'all');
BEGIN
	IF status NOT IN ('all', 'read', 'unread') THEN
		PERFORM coder.raise(400, 'starting_before query parameter should be any of ''all'', ''read'', ''unread''.');
	END IF;
	RETURN status;
END
$$;

-- GET /notifications/inbox: 25, newest first
CREATE OR REPLACE FUNCTION coder.inbox_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	uid CONSTANT uuid := coder.subject_id();
	wanted CONSTANT uuid[] := coder.query_ids(req, 'targets');
	kinds CONSTANT uuid[] := coder.query_ids(req, 'templates');
	status CONSTANT text := coder.query_read_status(req);
	before_id CONSTANT uuid := coder.query_uuid(req, 'starting_before');
	before timestamptz;
	answer jsonb;
BEGIN
	SELECT n.created_at INTO before FROM coder.inbox_notifications n WHERE n.id = before_id AND n.user_id = uid;
	SELECT jsonb_agg(coder.inbox_json(p.n)) INTO answer
	  FROM (SELECT n FROM coder.inbox_notifications n
			 WHERE n.user_id = uid AND (cardinality(wanted) = 0 OR n.targets @> wanted)
			   AND (cardinality(kinds) = 0 OR n.template_id = ANY (kinds))
			   AND (status = 'all' OR (status = 'read') = (n.read_at IS NOT NULL))
			   AND (before_id IS NULL OR n.created_at < before)
			 ORDER BY n.created_at DESC LIMIT 25) p;
	RETURN coder.reply(200, jsonb_build_object('notifications', coalesce(answer, '[]'), 'unread_count', coder.inbox_unread(uid)));
END
$$;

-- GET /notifications/inbox/watch: a frame for each new notification.
CREATE OR REPLACE FUNCTION coder.inbox_watch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	uid CONSTANT uuid := coder.subject_id();
	wanted CONSTANT uuid[] := coder.query_ids(req, 'targets');
	kinds CONSTANT uuid[] := coder.query_ids(req, 'templates');
	status CONSTANT text := coder.query_read_status(req);
	since timestamptz := coalesce(req.cursor::timestamptz, clock_timestamp());
	frames jsonb;
	latest timestamptz;
BEGIN
	SELECT jsonb_agg(jsonb_build_object('notification', coder.inbox_json(n), 'unread_count', coder.inbox_unread(uid)) ORDER BY n.created_at),
			max(n.created_at)
	  INTO frames, latest
	  FROM coder.inbox_notifications n
	 WHERE n.user_id = uid AND n.created_at > since AND req.cursor IS NOT NULL
	   AND (cardinality(wanted) = 0 OR n.targets @> wanted) AND (cardinality(kinds) = 0 OR n.template_id = ANY (kinds))
	   AND (status <> 'read' OR n.read_at IS NOT NULL);
	RETURN coder.reply(101, jsonb_build_object('format', 'wsjson', 'channels', jsonb_build_array('inbox:' || uid),
		'frames', coalesce(frames, '[]'), 'cursor', to_char(coalesce(latest, since) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
END
$$;

-- PUT /notifications/inbox/{id}/read-status
CREATE OR REPLACE FUNCTION coder.inbox_read_status(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	nid CONSTANT uuid := coder.param_uuid(req, 'id');
	body CONSTANT jsonb := coder.body(req);
	n coder.inbox_notifications;
BEGIN
	PERFORM coder.body_type(body, 'is_read', 'boolean');
	UPDATE coder.inbox_notifications x SET read_at = CASE WHEN (body->>'is_read')::bool THEN now() END
	 WHERE x.id = nid AND x.user_id = coder.subject_id() RETURNING * INTO n;
	IF n.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, jsonb_build_object('notification', coder.inbox_json(n), 'unread_count', coder.inbox_unread(n.user_id)));
END
$$;

-- PUT /notifications/inbox/mark-all-as-read
CREATE OR REPLACE FUNCTION coder.inbox_read_all(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.inbox_notifications x SET read_at = now() WHERE x.user_id = coder.subject_id() AND x.read_at IS NULL;
	RETURN coder.reply(204);
END
$$;

-- GET and PUT /notifications/settings: PUT answers 304 where nothing changes.
CREATE OR REPLACE FUNCTION coder.notification_settings(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	now_paused bool := coalesce((SELECT (c.value::jsonb->>'notifier_paused')::bool FROM coder.site_configs c
		WHERE c.key = 'notifications_settings'), false);
	paused bool;
BEGIN
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('notifier_paused', now_paused));
	END IF;
	PERFORM coder.require('update', 'deployment_config');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'notifier_paused', 'boolean');
	paused := coalesce((body->>'notifier_paused')::bool, false);
	IF paused = now_paused THEN
		RETURN coder.reply(304);
	END IF;
	INSERT INTO coder.site_configs AS c (key, value) VALUES ('notifications_settings', jsonb_build_object('notifier_paused', paused)::text)
	ON CONFLICT (key) DO UPDATE SET value = excluded.value;
	RETURN coder.reply(200, jsonb_build_object('notifier_paused', paused));
END
$$;

-- GET /notifications/templates/system and …/custom: null where there are none
CREATE OR REPLACE FUNCTION coder.notification_templates_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(jsonb_build_object('id', t.id, 'name', t.name, 'title_template', t.title_template,
			'body_template', t.body_template, 'actions', coalesce(t.actions, '[]')::text, 'group', coalesce(t."group", ''),
			'method', coalesce(t.method::text, ''), 'kind', t.kind, 'enabled_by_default', t.enabled_by_default) ORDER BY t.name)
		FROM coder.notification_templates t WHERE t.kind::text = split_part(req.route, '/', 6)), 'null'));
END
$$;

-- PUT /notifications/templates/{notification_template}/method
CREATE OR REPLACE FUNCTION coder.notification_template_method(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tid CONSTANT uuid := coder.try_uuid(req.params->>'notification_template');
	body CONSTANT jsonb := coder.body(req);
	wanted CONSTANT text := coalesce(body->>'method', '');
	t coder.notification_templates;
BEGIN
	SELECT x.* INTO t FROM coder.notification_templates x WHERE x.id = tid;
	IF t.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.require('update', 'notification_template');
	IF wanted NOT IN ('', 'smtp', 'webhook', 'inbox') THEN
		PERFORM coder.raise(400, 'Invalid request to update notification template method', NULL, jsonb_build_array(coder.validation('method',
			format('"%s" is not a valid method; smtp, webhook, inbox are the available options', wanted))));
	ELSIF wanted = coalesce(t.method::text, '') THEN
		RETURN coder.reply(304);
	END IF;
	UPDATE coder.notification_templates x SET method = nullif(wanted, '')::coder.notification_method WHERE x.id = tid;
	RETURN coder.reply_message(200, 'Successfully updated notification template method.');
END
$$;

-- GET /notifications/dispatch-methods
CREATE OR REPLACE FUNCTION coder.notification_methods(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('available', '["smtp", "webhook"]'::jsonb,
		'default', coalesce(coder.setting('notifications_method'), 'smtp')));
END
$$;

-- POST /notifications/test
CREATE OR REPLACE FUNCTION coder.notification_test(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.require('update', 'deployment_config');
	PERFORM coder.notify(coder.subject_id(), 'c425f63e-716a-4bf4-ae24-78348f706c3f', 'A test notification', 'This is a test notification.',
		jsonb_build_array(jsonb_build_object('label', 'View notification settings', 'url', coalesce(coder.setting('access_url'), '') || '/deployment/notifications')));
	RETURN coder.reply(204);
END
$$;

-- POST /notifications/custom: to oneself
CREATE OR REPLACE FUNCTION coder.notification_custom(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	content CONSTANT jsonb := coder.body(req)->'content';
	title CONSTANT text := trim(coalesce(content->>'title', ''));
	message CONSTANT text := trim(coalesce(content->>'message', ''));
BEGIN
	IF title = '' OR message = '' OR length(title) > 120 OR length(message) > 2000 THEN
		PERFORM coder.raise(400, 'Invalid request body', CASE WHEN title = '' OR message = ''
			THEN 'Both "title" and "message" are needed.' ELSE 'The title has at most 120, the message at most 2000 characters.' END);
	END IF;
	PERFORM coder.notify(coder.subject_id(), '39b1e189-c857-4b0c-877a-511144c18516', title, message);
	RETURN coder.reply(204);
END
$$;

-- GET and PUT /users/{user}/notifications/preferences: null where there are none
CREATE OR REPLACE FUNCTION coder.notification_preferences_all(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body jsonb;
BEGIN
	PERFORM coder.require_read(CASE WHEN req.method = 'PUT' THEN 'update' ELSE 'read' END, 'notification_preference', NULL, u.id);
	IF req.method = 'PUT' THEN
		body := coalesce(nullif(coder.body(req)->'template_disabled_map', 'null'), '{}');
		IF EXISTS (SELECT 1 FROM jsonb_object_keys(body) k WHERE coder.try_uuid(k) IS NULL) THEN
			PERFORM coder.raise(400, 'Unable to parse notification template UUID.');
		END IF;
		INSERT INTO coder.notification_preferences AS p (user_id, notification_template_id, disabled)
		SELECT u.id, e.key::uuid, e.value::bool FROM jsonb_each_text(body) e
		  JOIN coder.notification_templates t ON t.id = e.key::uuid
		ON CONFLICT (user_id, notification_template_id) DO UPDATE SET disabled = excluded.disabled, updated_at = now();
	END IF;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(jsonb_build_object('id', p.notification_template_id, 'disabled', p.disabled,
			'updated_at', coder.ts(p.updated_at)))
		FROM coder.notification_preferences p WHERE p.user_id = u.id), 'null'));
END
$$;

DELETE FROM coder.routes WHERE area = 'notification';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('notification', 'GET', '/api/v2/notifications/inbox', 'inbox_list', true),
	('notification', 'GET', '/api/v2/notifications/inbox/watch', 'inbox_watch', true),
	('notification', 'PUT', '/api/v2/notifications/inbox/{id}/read-status', 'inbox_read_status', false),
	('notification', 'PUT', '/api/v2/notifications/inbox/mark-all-as-read', 'inbox_read_all', false),
	('notification', 'GET', '/api/v2/notifications/settings', 'notification_settings', true),
	('notification', 'PUT', '/api/v2/notifications/settings', 'notification_settings', false),
	('notification', 'GET', '/api/v2/notifications/templates/system', 'notification_templates_list', true),
	('notification', 'GET', '/api/v2/notifications/templates/custom', 'notification_templates_list', true),
	('notification', 'PUT', '/api/v2/notifications/templates/{notification_template}/method', 'notification_template_method', false),
	('notification', 'GET', '/api/v2/notifications/dispatch-methods', 'notification_methods', true),
	('notification', 'POST', '/api/v2/notifications/test', 'notification_test', false),
	('notification', 'POST', '/api/v2/notifications/custom', 'notification_custom', false),
	('notification', 'GET', '/api/v2/users/{user}/notifications/preferences', 'notification_preferences_all', true),
	('notification', 'PUT', '/api/v2/users/{user}/notifications/preferences', 'notification_preferences_all', false);
