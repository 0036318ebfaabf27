-- template.sql -- templates, versions, parameters: from an upload to an active version
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE k AS SELECT token_of('admin') AS owner, token_of('bob') AS bob,
	token_of('tina', '{template-admin}') AS tina,
	(SELECT id FROM coder.organizations WHERE is_default) AS org, decode(repeat('00', 1024), 'hex') AS tar;
CREATE TEMP TABLE v (k text PRIMARY KEY, j jsonb);
CREATE FUNCTION public.v(name text, VARIADIC path text[]) RETURNS text LANGUAGE sql AS
	$$ SELECT j #>> path FROM v WHERE k = name $$;
-- remembers an answer's body under a name; the status
CREATE FUNCTION public.keep(name text, method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL)
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM api(method, path, body, coalesce(token, (SELECT owner FROM k)));
	INSERT INTO v VALUES (name, a.body_) ON CONFLICT (k) DO UPDATE SET j = excluded.j;
	RETURN a.status;
END
$$;
-- an import of an empty archive by the daemon, with these parameters
CREATE FUNCTION public.import(job text, parameters jsonb DEFAULT '[]', presets jsonb DEFAULT '[]') RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	d uuid := coder.provisioner_register('test', '{terraform}', '{}', 'v0');
BEGIN
	RETURN NEXT is(coder.provisioner_acquire(d)->>'job_id', job, 'the daemon takes the job');
	PERFORM coder.provisioner_complete(d, job::uuid, jsonb_build_object('job_id', job, 'template_import',
		jsonb_build_object('rich_parameters', parameters, 'presets', presets)));
END
$$;

INSERT INTO v SELECT 'file', body_ FROM k, api('POST', '/api/v2/files', NULL, k.owner, k.tar, 'application/x-tar');
SELECT is(keep('v1', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	jsonb_build_object('name', 'v1', 'message', 'first', 'storage_method', 'file', 'provisioner', 'terraform',
					   'file_id', v('file', 'hash'), 'tags', '{}'::jsonb)), 201, 'a version is made') FROM k;
SELECT is(v('v1', 'job', 'status'), 'pending', 'its import waits');
SELECT is(v('v1', 'template_id'), '00000000-0000-0000-0000-000000000000', 'and it is bound to no template');
SELECT is((j->'job'->'tags'), '{"owner": "", "scope": "organization"}', 'tags are normalized') FROM v WHERE k = 'v1';
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v1', 'id') || '/rich-parameters'), 425, 'no parameters before the import''s end');
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v1', 'id') || '/variables'), 403, 'no variables either');
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v1', 'id') || '/resources'), 400, 'nor resources');
SELECT is(keep('x', 'POST', '/api/v2/templateversions/' || v('v1', 'id') || '/dry-run', '{}'), 425, 'nor a dry run');
SELECT import(v('v1', 'job', 'id'),
	'[{"name": "size", "display_name": "Size", "description": "Number of **things**", "type": "number", "mutable": true,
	   "default_value": "2", "validation_min": 1, "validation_max": 10, "form_type": "INPUT", "options": []},
	  {"name": "region", "type": "string", "default_value": "eu", "form_type": "RADIO",
	   "options": [{"name": "Europe", "value": "eu"}, {"name": "US", "value": "us"}]}]',
	'[{"name": "small", "default": true, "parameters": [{"name": "size", "value": "1"}], "prebuild": {"instances": 2}}]');
SELECT is(keep('v1', 'GET', '/api/v2/templateversions/' || v('v1', 'id')), 200, 'the version is read');
SELECT is(v('v1', 'job', 'status'), 'succeeded', 'and its import has ended');
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v1', 'id') || '/rich-parameters'), 200, 'read again');
SELECT is((SELECT j FROM v WHERE k = 'x'),
	'[{"name": "region", "description": "", "description_plaintext": "", "type": "string", "form_type": "radio", "mutable": false,
	   "default_value": "eu", "icon": "", "required": false, "ephemeral": false,
	   "options": [{"name": "Europe", "description": "", "value": "eu", "icon": ""}, {"name": "US", "description": "", "value": "us", "icon": ""}]},
	  {"name": "size", "display_name": "Size", "description": "Number of **things**", "description_plaintext": "Number of things",
	   "type": "number", "form_type": "input", "mutable": true, "default_value": "2", "icon": "", "options": [],
	   "validation_min": 1, "validation_max": 10, "required": false, "ephemeral": false}]', 'parameters are the API''s');
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v1', 'id') || '/presets'), 200, 'read again');
SELECT is((SELECT (j->0) - 'ID' FROM v WHERE k = 'x'),
	'{"Name": "small", "Default": true, "DesiredPrebuildInstances": 2, "Description": "", "Icon": "",
	  "Parameters": [{"Name": "size", "Value": "1"}]}', 'so are presets');
SELECT is(keep('x', 'POST', '/api/v2/templateversions/' || v('v1', 'id') || '/dynamic-parameters/evaluate', '{"id": 1, "inputs": {"size": "30"}}'), 101, 'evaluated by the gateway');
SELECT is(v('x', 'static', 'parameters', '1', 'value', 'value'), '30', 'a value is shown as it was given');
SELECT is(v('x', 'static', 'parameters', '1', 'diagnostics', '0', 'detail'), 'value 30 is more than the maximum 10', 'and judged');
SELECT is(v('x', 'static', 'parameters', '0', 'value', 'value'), 'eu', 'a default is used');

-- What the server itself evaluates.
CREATE FUNCTION pg_temp.oct(n int, digits int) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg((n >> 3 * i & 7)::text, '' ORDER BY i DESC) FROM generate_series(0, digits - 1) i$$;
CREATE FUNCTION pg_temp.tar(tf text) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	head bytea := rpad('main.tf', 100, '~')::bytea || '0000644~0000000~0000000~'::bytea
		|| (pg_temp.oct(octet_length(tf), 11) || '~00000000000~        0')::bytea || repeat('~', 355)::bytea;
BEGIN
	head := decode(replace(encode(head, 'hex'), '7e', '00'), 'hex');
	head := overlay(head PLACING pg_temp.oct((SELECT sum(get_byte(head, i))::int FROM generate_series(0, 511) i), 6)::bytea
					|| '\x0020'::bytea FROM 149 FOR 8);
	RETURN head || tf::bytea || decode(repeat('00', (512 - octet_length(tf) % 512) % 512 + 1024), 'hex');
END
$$;
CREATE FUNCTION pg_temp.tags(tags text, input jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS
	$$SELECT coder.template_tags(pg_temp.tar(format('variable "v" { default = "d" }
data "coder_parameter" "p" { name = "p" }
data "coder_workspace_tags" "t" { tags = %s }
', tags)), input, '2026-01-01')$$;
SELECT is(pg_temp.tags('{ a = var.v, n = 1.5, b = !false, gone = null }'), '{"tags": {"a": "d", "n": "1.5", "b": "true"}, "problems": {}}', 'tags of a template');
SELECT is(pg_temp.tags('{ (var.v) = "x-${data.coder_parameter.p.value}" }', '{"variables": {"v": "k"}, "parameters": {"p": "q"}}'),
	'{"tags": {"k": "x-q"}, "problems": {}}', 'with values of variables and parameters');
SELECT is((SELECT jsonb_object_agg(k, true) FROM jsonb_object_keys(pg_temp.tags('{ a = [1], b = { c = 1 }, d = "x" }') -> 'problems') k),
	'{"a": true, "b": true}', 'values that are no tag');
SELECT ok(pg_temp.tags(t) ? 'error', 'no tags: ' || t) FROM unnest(ARRAY['"x"', '[1]', 'var.none', '{ a = 1/0 }']) t;
SELECT is(pg_temp.tags('} }'), '{"tags": {}, "problems": {}}', 'a template that does not parse has none: its import says why');
SELECT ok(coder.template_tags(d, '{}', now()) ? 'broken', 'no archive') FROM (VALUES (''::bytea), ('junk'), (left(pg_temp.tar('x')::text, 400)::bytea)) v (d);
SELECT is(pg_temp.tags(repeat('[', 100000)), '{"tags": {}, "problems": {}}', 'nor one that is nested too deep');
SELECT matches(coder.init_script('linux', 'arm64', 'https://example.com/x'), E'BINARY_URL=https://example.com/bin/coder-linux-arm64\n', 'a script for an agent');
SELECT matches(coder.init_script('linux', 'amd64', 'https://example.com', 'token'), E'CODER_AGENT_AUTH="token"\nexport CODER_AGENT_URL="https://example.com/"', 'knows the way back');
SELECT is(coder.init_script('plan9', 'amd64', 'https://example.com'), NULL, 'none for an unknown system');

-- templates
SELECT is(keep('t', 'POST', format('/api/v2/organizations/%s/templates', org),
	jsonb_build_object('name', 'dev', 'template_version_id', v('v1', 'id'), 'default_ttl_ms', 3600000)), 201, 'a template is made') FROM k;
SELECT is(v('t', 'default_ttl_ms'), '3600000', 'with its time to live');
SELECT is(v('t', 'autostart_requirement', 'days_of_week', '6'), 'sunday', 'starts on all days');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id'), NULL, bob), 200, 'a member may read it') FROM k;
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id'), '{"description": "mine"}', bob), 404, 'but not change it') FROM k;
SELECT is(keep('x', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	jsonb_build_object('storage_method', 'file', 'provisioner', 'terraform', 'file_id', v('file', 'hash')), bob), 403, 'nor make versions') FROM k;
SELECT is(keep('x', 'GET', '/api/v2/templates?q=name:DE', NULL, bob), 200, 'the list') FROM k;
SELECT is(v('x', '0', 'name'), 'dev', 'finds it');
SELECT is(keep('x', 'GET', '/api/v2/templates?q=nothere'), 200, 'read again');
SELECT is((SELECT j FROM v WHERE k = 'x'), '[]', 'and nothing else');
SELECT is(keep('x', 'GET', '/api/v2/organizations/default/templates/DEV'), 200, 'names ignore case');
SELECT is(keep('x', 'GET', '/api/v2/organizations/default/templates/dev/versions/v1'), 200, 'a version by name');
SELECT is(keep('x', 'GET', '/api/v2/organizations/default/templates/dev/versions/v1/previous'), 404, 'the first has none before it');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/daus'), 200, 'users by day');
SELECT is((SELECT jsonb_array_length(j->'entries') FROM v WHERE k = 'x'), 61, 'of 61 days');
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id'), '{"description": "new", "default_ttl_ms": 7200000}'), 200, 'it is changed');
SELECT is(v('x', 'description') || v('x', 'default_ttl_ms') || v('x', 'activity_bump_ms'), 'new72000000', 'absent numbers are zero');
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id'), '{"default_ttl_ms": 7200000}'), 304, 'no change is 304');

-- what bad input gets
CREATE TEMP TABLE bad (method text, path text, body jsonb, status int, message text, field text);
INSERT INTO bad
SELECT x.method, format(x.path, k.org, v('t', 'id'), v('v1', 'id')), x.body, x.status, x.message, x.field FROM k, (VALUES
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "Bad Name"}'::jsonb, 400, 'Validation failed.', 'name'),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "new", "template_version_id": "11111111-1111-1111-1111-111111111111"}', 400, 'Validation failed.', 'name'),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "x"}', 400, 'Validation failed.', 'template_version_id'),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": 1}', 400, 'Request body must be valid JSON.', NULL),
	('POST', '/api/v2/organizations/%1$s/templates', '[]', 400, 'Request body must be valid JSON.', NULL),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "x", "template_version_id": "y"}', 400, 'Request body must be valid JSON.', NULL),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "Dev", "template_version_id": "11111111-1111-1111-1111-111111111111"}', 409, 'Template with name "Dev" already exists.', 'name'),
	('POST', '/api/v2/organizations/%1$s/templates', '{"name": "x", "template_version_id": "11111111-1111-1111-1111-111111111111"}', 404, 'Template version "11111111-1111-1111-1111-111111111111" does not exist.', 'template_version_id'),
	('POST', '/api/v2/organizations/nope/templates', '{}', 404, NULL, NULL),
	('PATCH', '/api/v2/templates/%2$s', '{"default_ttl_ms": -1}', 400, 'Invalid request to update template metadata!', 'default_ttl_ms'),
	('PATCH', '/api/v2/templates/%2$s', '{"failure_ttl_ms": 59999}', 400, 'Invalid request to update template metadata!', 'failure_ttl_ms'),
	('PATCH', '/api/v2/templates/%2$s', '{"autostop_requirement": {"weeks": 17}}', 400, 'Invalid request to update template metadata!', 'autostop_requirement.weeks'),
	('PATCH', '/api/v2/templates/%2$s', '{"autostart_requirement": {"days_of_week": ["someday"]}}', 400, NULL, 'autostart_requirement.days_of_week'),
	('PATCH', '/api/v2/templates/%2$s', '{"cors_behavior": "odd"}', 400, NULL, 'cors_behavior'),
	('PATCH', '/api/v2/templates/%2$s', '{"max_port_share_level": "odd"}', 400, NULL, 'max_port_share_level'),
	('PATCH', '/api/v2/templates/%2$s/versions', '{"id": "11111111-1111-1111-1111-111111111111"}', 404, 'Template version not found.', NULL),
	('PATCH', '/api/v2/templates/%2$s/versions', '{}', 400, 'Validation failed.', 'id'),
	('GET', '/api/v2/templates/zzz', NULL, 400, 'Invalid UUID "zzz".', NULL),
	('GET', '/api/v2/templates/11111111-1111-1111-1111-111111111111', NULL, 404, NULL, NULL),
	('GET', '/api/v2/templates?q=odd:1', NULL, 400, 'Invalid template search query.', 'odd'),
	('GET', '/api/v2/templates?q=name:', NULL, 400, 'Invalid template search query.', 'q'),
	('GET', '/api/v2/templates?q=deprecated:maybe', NULL, 400, 'Invalid template search query.', 'deprecated'),
	('GET', '/api/v2/templates/%2$s/versions?limit=-1', NULL, 400, 'Query parameters have invalid values.', 'limit'),
	('GET', '/api/v2/templates/%2$s/versions?after_id=11111111-1111-1111-1111-111111111111', NULL, 400, NULL, NULL),
	('GET', '/api/v2/templates/%2$s/versions/nope', NULL, 404, 'No template version found by name "nope".', NULL),
	('POST', '/api/v2/organizations/%1$s/templateversions', '{}', 400, 'Validation failed.', 'storage_method'),
	('POST', '/api/v2/organizations/%1$s/templateversions', '{"storage_method": "file", "provisioner": "terraform", "example_id": "no-such"}', 400, 'Example not found.', NULL),
	('POST', '/api/v2/organizations/%1$s/templateversions', '{"storage_method": "file", "provisioner": "terraform", "file_id": "11111111-1111-1111-1111-111111111111"}', 404, 'File not found.', NULL),
	('POST', '/api/v2/organizations/%1$s/templateversions', '{"storage_method": "file", "provisioner": "terraform", "example_id": "x", "template_id": "11111111-1111-1111-1111-111111111111"}', 404, 'Template does not exist.', NULL),
	('PATCH', '/api/v2/templateversions/%3$s', '{"name": "a b"}', 400, 'Validation failed.', 'name'),
	('PATCH', '/api/v2/templateversions/%3$s/cancel', NULL, 400, 'Job has already completed!', NULL),
	('POST', '/api/v2/templateversions/%3$s/archive', NULL, 500, 'Internal error fetching template version.', NULL),
	('POST', '/api/v2/templateversions/%3$s/unarchive', NULL, 400, 'Template version already unarchived', NULL),
	('GET', '/api/v2/templateversions/%3$s/logs?format=xml', NULL, 400, 'Invalid format parameter.', NULL),
	('GET', '/api/v2/templateversions/%3$s/logs?format=text&follow', NULL, 400, 'Text format is not supported with follow mode.', NULL),
	('GET', '/api/v2/templateversions/%3$s/logs?after=x', NULL, 400, 'Query param "after" must be an integer.', 'after'),
	('GET', '/api/v2/templateversions/%3$s/dry-run/zzz', NULL, 400, 'Job ID "zzz" must be a valid UUID.', NULL),
	('GET', '/api/v2/templateversions/%3$s/dynamic-parameters?user_id=x', NULL, 400, 'Invalid user_id query parameter', NULL)
	) x (method, path, body, status, message, field);
SELECT is(a.status, b.status, format('%s %s %s', b.method, left(b.path, 90), b.body))
  FROM bad b, k, api(b.method, b.path, b.body, k.owner) a;
SELECT is(a.body_->>'message', b.message, format('%s %s %s: message', b.method, left(b.path, 90), b.body))
  FROM bad b, k, api(b.method, b.path, b.body, k.owner) a WHERE b.message IS NOT NULL;
SELECT is(a.body_#>>'{validations,0,field}', b.field, format('%s %s %s: field', b.method, left(b.path, 90), b.body))
  FROM bad b, k, api(b.method, b.path, b.body, k.owner) a WHERE b.field IS NOT NULL;

-- a second version
SELECT is(keep('v2', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	jsonb_build_object('name', 'v2', 'storage_method', 'file', 'provisioner', 'terraform', 'file_id', v('file', 'hash'),
					   'template_id', v('t', 'id'))), 201, 'a second version') FROM k;
SELECT is(keep('x', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	jsonb_build_object('name', 'v2', 'storage_method', 'file', 'provisioner', 'terraform', 'file_id', v('file', 'hash'),
					   'template_id', v('t', 'id'))), 409, 'whose name is taken then') FROM k;
SELECT is(keep('x', 'PATCH', format('/api/v2/templates/%s/versions', v('t', 'id')), jsonb_build_object('id', v('v2', 'id'))), 403, 'cannot be active before its import');
SELECT import(v('v2', 'job', 'id'));
SELECT is(keep('x', 'GET', '/api/v2/templateversions/' || v('v2', 'id') || '/presets'), 200, 'read again');
SELECT is((SELECT j FROM v WHERE k = 'x'), 'null', 'no presets are null');
SELECT is(keep('x', 'PATCH', format('/api/v2/templates/%s/versions', v('t', 'id')), jsonb_build_object('id', v('v2', 'id'))), 200, 'then it can');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id')), 200, 'read again');
SELECT is(v('x', 'active_version_id'), v('v2', 'id'), 'and is');
SELECT ok(EXISTS (SELECT FROM coder.events WHERE channel = 'template:' || v('t', 'id')), 'those who watch workspaces of the template are told');
SELECT is(keep('x', 'POST', '/api/v2/templateversions/' || v('v1', 'id') || '/archive'), 200, 'the old one is archived');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/versions'), 200, 'read again');
SELECT is((SELECT jsonb_array_length(j) FROM v WHERE k = 'x'), 1, 'and off the list');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/versions?include_archived=true'), 200, 'read again');
SELECT is((SELECT jsonb_array_length(j) FROM v WHERE k = 'x'), 2, 'unless it is asked for');
SELECT is(keep('x', 'PATCH', format('/api/v2/templates/%s/versions', v('t', 'id')), jsonb_build_object('id', v('v1', 'id'))), 400, 'an archived version cannot be active');
SELECT is(keep('x', 'POST', '/api/v2/templateversions/' || v('v1', 'id') || '/unarchive'), 200, 'it comes back');
SELECT is(keep('x', 'PATCH', '/api/v2/templateversions/' || v('v1', 'id'), '{"name": "v2"}'), 400, 'a name is used once');

-- invariants hold for an administrator's statements too
SET CONSTRAINTS ALL IMMEDIATE;
SELECT throws_ok(format($$UPDATE coder.template_versions SET archived = true WHERE id = '%s'$$, v('v2', 'id')), 'ZC409', NULL, 'the active version cannot be archived');
SELECT throws_ok(format($$UPDATE coder.templates SET active_version_id = gen_random_uuid() WHERE id = '%s'$$, v('t', 'id')), 'ZC409', NULL, 'an active version exists');
SELECT throws_ok(format($$UPDATE coder.template_versions SET template_id = NULL WHERE id = '%s'$$, v('v1', 'id')), 'ZC409', NULL, 'a version stays with its template');
SELECT throws_ok(format($$UPDATE coder.templates SET group_acl = '[]' WHERE id = '%s'$$, v('t', 'id')), '23514', NULL, 'an ACL is an object');

SET CONSTRAINTS ALL DEFERRED;

-- who may read what
SELECT is(a.status, x.status, format('%s: %s', x.who, x.path)) FROM k, (VALUES
	('bob', '/api/v2/templates/examples', 404), ('tina', '/api/v2/templates/examples', 200),
	('bob', '/api/v2/templates/%s/daus', 404), ('tina', '/api/v2/templates/%s/daus', 200),
	('bob', '/api/v2/organizations/default/provisionerjobs', 404), ('owner', '/api/v2/organizations/default/provisionerjobs', 200),
	('bob', '/api/v2/templateversions/%2$s/rich-parameters', 200)) x (who, path, status),
	LATERAL api('GET', format(x.path, v('t', 'id'), v('v2', 'id')), NULL,
		CASE x.who WHEN 'bob' THEN k.bob WHEN 'tina' THEN k.tina ELSE k.owner END) a;

-- dry runs
SELECT is(keep('dry', 'POST', '/api/v2/templateversions/' || v('v2', 'id') || '/dry-run', '{"workspace_name": "ws", "rich_parameter_values": [{"name": "size", "value": "3"}]}'), 201, 'a dry run is made');
CREATE TEMP TABLE dry AS SELECT coder.provisioner_acquire(d.id) AS j FROM coder.provisioner_daemons d WHERE d.name = 'test';
SELECT is(j#>>'{template_dry_run,metadata,workspace_name}' || (j#>>'{template_dry_run,rich_parameter_values,0,value}'), 'ws3', 'the daemon is told what to plan') FROM dry;
SELECT is(keep('x', 'GET', format('/api/v2/templateversions/%s/dry-run/%s/resources', v('v2', 'id'), v('dry', 'id'))), 400, 'no resources yet');
SELECT lives_ok(format($$SELECT coder.provisioner_complete((SELECT id FROM coder.provisioner_daemons WHERE name = 'test'), '%s',
	'{"template_dry_run": {"resources": [{"name": "vm", "type": "thing", "agents": [{"name": "main", "operating_system": "linux", "architecture": "amd64"}]}]}}')$$,
	v('dry', 'id')), 'it ends');
SELECT is(keep('x', 'GET', format('/api/v2/templateversions/%s/dry-run/%s/resources', v('v2', 'id'), v('dry', 'id'))), 200, 'then its resources');
SELECT is(v('x', '0', 'name') || v('x', '0', 'agents', '0', 'name'), 'vmmain', 'are there with their agents');
SELECT is(keep('x', 'GET', format('/api/v2/templateversions/%s/dry-run/%s', v('v2', 'id'), v('dry', 'id'))), 200, 'it is read');
SELECT is(v('x', 'status'), 'succeeded', 'and has succeeded');
SELECT is(keep('x', 'PATCH', format('/api/v2/templateversions/%s/dry-run/%s/cancel', v('v2', 'id'), v('dry', 'id'))), 400, 'too late to cancel it');
SELECT is(keep('x', 'GET', format('/api/v2/templateversions/%s/dry-run/%s', v('v1', 'id'), v('dry', 'id'))), 403, 'it is of no other version');
SELECT is(keep('x', 'GET', format('/api/v2/templateversions/%s/dry-run/%s', v('v2', 'id'), v('dry', 'id')), NULL, bob), 403, 'nor for another member') FROM k;

-- access lists
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/acl'), 200, 'the access list');
SELECT is(v('x', 'group', '0', 'name') || v('x', 'group', '0', 'role'), 'Everyoneuse', 'lets everyone use the template');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/acl', NULL, bob), 404, 'a member does not see it') FROM k;
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id') || '/acl',
	jsonb_build_object('group_perms', jsonb_build_object(org, ''), 'user_perms', jsonb_build_object((SELECT id FROM coder.users WHERE username = 'bob'), 'admin'))), 200,
	'it is changed') FROM k;
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id'), '{"description": "bob''s", "default_ttl_ms": 7200000}', bob), 200, 'who is made admin may change the template') FROM k;
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id'), NULL, token_of('eve')), 404, 'who is not on it sees nothing');
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id') || '/acl', x.body), 400, 'bad list: ' || x.body::text)
  FROM (VALUES ('{"user_perms": {"zzz": "use"}}'::jsonb), ('{"user_perms": {"11111111-1111-1111-1111-111111111111": "use"}}'),
			   ('{"group_perms": {"11111111-1111-1111-1111-111111111111": "use"}}'), ('{"group_perms": {"11111111-1111-1111-1111-111111111111": "odd"}}'),
			   ('{"user_perms": []}')) x (body);
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id') || '/acl/available?q=bo'), 200, 'who could be given a role');
SELECT is(v('x', 'users', '0', 'username'), 'bob', 'is found by name');
SELECT is(keep('x', 'PATCH', '/api/v2/templates/' || v('t', 'id') || '/acl', jsonb_build_object('group_perms', jsonb_build_object(org, 'use'))), 200, 'everyone again') FROM k;

-- the template that comes with the server
SELECT is(keep('x', 'GET', '/api/v2/templates/examples'), 200, 'examples are listed');
SELECT is(v('x', '0', 'id') || (v('x', '0', 'name') <> '') || (v('x', '0', 'markdown') ~ '^# '), 'sandboxtruetrue', 'the starter is one');
SELECT is(keep('e', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	'{"storage_method": "file", "provisioner": "terraform", "example_id": "sandbox"}'), 201, 'a version is made of it') FROM k;
SELECT ok(position('sandbox_process' IN encode(f.data, 'escape')) > 0, 'with its files')
  FROM coder.files f WHERE f.id = v('e', 'job', 'file_id')::uuid;
SELECT is(keep('x', 'PATCH', '/api/v2/templateversions/' || v('e', 'id') || '/cancel'), 200, 'its import is canceled');
SELECT is(keep('x', 'PATCH', '/api/v2/templateversions/' || v('e', 'id') || '/cancel'), 400, 'once');

-- deletion
INSERT INTO coder.workspaces (owner_id, organization_id, template_id, name)
SELECT u.id, k.org, v('t', 'id')::uuid, 'left' FROM k, coder.users u WHERE u.username = 'bob';
SELECT is(keep('x', 'DELETE', '/api/v2/templates/' || v('t', 'id')), 400, 'a template with workspaces stays');
SELECT throws_ok(format($$UPDATE coder.templates SET deleted = true WHERE id = '%s'$$, v('t', 'id')), 'ZC400', NULL, 'by an UPDATE too');
UPDATE coder.workspaces SET deleted = true WHERE name = 'left';
SELECT is(keep('x', 'DELETE', '/api/v2/templates/' || v('t', 'id')), 200, 'the template is deleted');
SELECT is(keep('x', 'GET', '/api/v2/templates/' || v('t', 'id')), 404, 'and gone');
SELECT throws_ok(format($$INSERT INTO coder.workspaces (owner_id, organization_id, template_id, name)
	SELECT u.id, o.id, '%s', 'late' FROM coder.organizations o, coder.users u WHERE u.username = 'bob' AND o.is_default$$, v('t', 'id')),
	'ZC409', NULL, 'no workspace is made of it any more');
SELECT is(keep('v3', 'POST', format('/api/v2/organizations/%s/templateversions', org),
	jsonb_build_object('storage_method', 'file', 'provisioner', 'terraform', 'file_id', v('file', 'hash'))), 201, 'a version without a name') FROM k;
SELECT ok(EXISTS (SELECT FROM coder.audit_logs WHERE resource_type = 'template' AND action = 'delete'), 'the deletion is in the audit log');
SELECT is(keep('x', 'POST', format('/api/v2/organizations/%s/templates', org),
	jsonb_build_object('name', 'dev', 'template_version_id', v('v3', 'id'))), 201, 'its name is free again') FROM k;
SELECT throws_ok(format($$UPDATE coder.templates SET deleted = false WHERE id = '%s'$$, v('t', 'id')), NULL, NULL, 'a deleted template stays deleted');

SELECT * FROM finish();
ROLLBACK;
