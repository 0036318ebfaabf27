-- file.sql -- uploads: kept once, read by those who may
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE k AS SELECT token_of('admin') AS owner, token_of('bob') AS bob, token_of('eve') AS eve, token_of('tina', '{template-admin}') AS tina,
	decode(repeat('00', 1024), 'hex') AS tar;
CREATE TEMP TABLE f AS SELECT a.* FROM k, api('POST', '/api/v2/files', NULL, k.bob, k.tar, 'application/x-tar') a;
SELECT is(status, 201, 'a file is stored') FROM f;
SELECT is(a.status || (a.body_->>'hash'), '200' || (f.body_->>'hash'), 'the same bytes are the same file')
  FROM k, f, api('POST', '/api/v2/files', NULL, k.bob, k.tar, 'application/x-tar') a;
SELECT isnt(a.body_->>'hash', f.body_->>'hash', 'but not another user''s')
  FROM k, f, api('POST', '/api/v2/files', NULL, k.owner, k.tar, 'application/x-tar') a;
SELECT is(a.status, 200, 'its creator reads it') FROM k, f, api('GET', '/api/v2/files/' || (f.body_->>'hash'), NULL, k.bob) a;
SELECT is(a.raw_, k.tar, 'byte by byte') FROM k, f, api('GET', '/api/v2/files/' || (f.body_->>'hash'), NULL, k.bob) a;
SELECT ok(a.headers ~ 'Content-Type: application/x-tar', 'as what it is') FROM k, f, api('GET', '/api/v2/files/' || (f.body_->>'hash'), NULL, k.bob) a;
SELECT is(a.status, 404, 'another member does not') FROM k, f, api('GET', '/api/v2/files/' || (f.body_->>'hash'), NULL, k.eve) a;
SELECT is(a.status, 200, 'a template admin does') FROM k, f, api('GET', '/api/v2/files/' || (f.body_->>'hash'), NULL, k.tina) a;

-- what bad input gets
SELECT is(a.status || ' ' || (a.body_->>'message'), x.answer, x.type || ' ' || x.path) FROM k, f, (VALUES
	('POST', '/api/v2/files', 'text/plain', 'x'::bytea, '400 Unsupported content type header "text/plain".'),
	('POST', '/api/v2/files', 'application/zip', 'not a zip', '400 Incomplete .zip archive file.'),
	('POST', '/api/v2/files', 'application/x-zip-compressed', '', '400 Incomplete .zip archive file.'),
	('GET', '/api/v2/files/zzz', '', NULL, '400 File id must be a valid UUID.'),
	('GET', '/api/v2/files/00000000-0000-0000-0000-000000000000', '', NULL, '404 Resource not found or you do not have access to this resource'),
	('GET', '/api/v2/files/%s?format=rar', '', NULL, '400 Unsupported conversion format.')) x (method, path, type, data, answer),
	LATERAL api(x.method, format(x.path, f.body_->>'hash'), NULL, k.bob, x.data, x.type) a;
SELECT throws_ok($$UPDATE coder.files SET data = 'y'$$, '23514', NULL, 'a file''s hash is its content''s');

-- zip and tar become one another
CREATE TEMP TABLE z AS SELECT decode('504b030414000000000000002158c064211a1400000014000000070000006d61696e2e74667265736f757263652022782220227922207b7d0a504b03041400000000000000215843beb7e80100000001000000090000007375622f612e74787461504b0102140314000000000000002158c064211a14000000140000000700000000000000000000008001000000006d61696e2e7466504b010214031400000000000000215843beb7e801000000010000000900000000000000000000008001390000007375622f612e747874504b050600000000020002006c000000610000000000', 'hex') AS zip;
SELECT ok(position('resource "x" "y"' IN encode(coder.archive_zip_to_tar(zip), 'escape')) > 0, 'a zip becomes a tar') FROM z;
SELECT is(coder.archive_zip_to_tar(coder.archive_tar_to_zip(coder.archive_zip_to_tar(zip))), coder.archive_zip_to_tar(zip), 'and goes there and back') FROM z;
SELECT is_empty($$SELECT n FROM z, generate_series(0, length(zip) - 1) n WHERE coder.archive_zip_to_tar(substr(zip, 1, n)) IS NOT NULL$$,
	'a zip that is cut off anywhere is none');
SELECT is(coder.archive_zip_to_tar('\x504b0304140000000000000021581526dbfb0100000001000000040000002e2e2f7879504b01021403140000000000000021581526dbfb01000000010000000400000000000000000000008001000000002e2e2f78504b0506000000000100010032000000230000000000'), NULL, 'a name outside of the archive is refused');
SELECT is(a.status, 201, 'an uploaded zip is stored') FROM k, z, api('POST', '/api/v2/files', NULL, k.bob, z.zip, 'application/zip') a;
SELECT is((SELECT mimetype::text FROM coder.files ORDER BY created_at DESC, data DESC LIMIT 1), 'application/x-tar', 'as a tar');
SELECT is(coder.archive_zip_to_tar('PK'), NULL, 'a broken zip is none');
SELECT is(coder.archive_tar_to_zip('broken'), NULL, 'a broken tar is none');

SELECT * FROM finish();
ROLLBACK;
