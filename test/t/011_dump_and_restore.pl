# A dump of the database is the whole control plane: restored, it has the same rows and answers the same.
use strict; use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Coder::Documents;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coder;
	SELECT coder.configure('{"access_url": "http://example.com"}');
	INSERT INTO coder.users (username, email, status, rbac_roles) VALUES ('ann', 'ann@example.com', 'active', '{owner}');
	INSERT INTO coder.organization_members (user_id, organization_id)
	SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE u.username = 'ann';
	UPDATE coder.users SET status = 'dormant' WHERE username = 'ann';
	UPDATE coder.groups SET quota_allowance = 7;
	CREATE TABLE keep AS SELECT coder.api_key_create(id, 'password', 86400) AS token FROM coder.users WHERE username = 'ann';
	SELECT coder.audit('create', 'user', gen_random_uuid(), 'x')});
# Templates, versions, workspaces and builds, which refer to one another in circles.
$node->safe_psql('postgres', "BEGIN;" . Coder::Documents::read_text("$Coder::Documents::data/sample.sql") . "COMMIT;");
cmp_ok($node->safe_psql('postgres', q{SELECT coder.count_jobs(now() + interval '10 years')}), '>', 0, 'jobs are added up for metrics');

# Rows of each table that a dump carries, with a digest of their contents.
sub tables
{
	my ($db) = @_;
	return $node->safe_psql($db, q{
		SELECT c.relname, (xpath('//row/d/text()', query_to_xml(format(
			'SELECT md5(coalesce(string_agg(t::text, E''\n'' ORDER BY t::text), '''')) || count(*) AS d FROM coder.%I t', c.relname),
			false, false, '')))[1]
		  FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY x (oid, n) JOIN pg_class c ON c.oid = x.oid
		 WHERE e.extname = 'coder' AND c.relkind = 'r' ORDER BY 1});
}
my $before = tables('postgres');
my $file = $node->basedir . '/dump.sql';
$node->command_ok(['pg_dump', '-f', $file, '-d', $node->connstr('postgres')], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
# As docs/ADMIN.md says: without the triggers, which have done their work in the rows.
local $ENV{PGOPTIONS} = '-c session_replication_role=replica';
$node->command_ok(['psql', '-1Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $file], 'restore');
delete $ENV{PGOPTIONS};
is(tables('restored'), $before, 'every table has the same rows');
is($node->safe_psql('restored', q{
	SELECT get_byte(a, 0) * 256 + get_byte(a, 1) FROM keep t, coder.routes r,
		   coder.handle(r.id, 'GET', '/api/v2/users/me', '{me}', '', '', NULL, t.token, '::1', NULL, NULL) a
	 WHERE r.pattern = '/api/v2/users/{user}' AND r.method = 'GET'}), 200, 'and a token from before is good');
is($node->safe_psql('restored', q{SELECT coder.configure('{}'); SELECT count(*) FROM coder.organizations}), "\n1",
	'the next start makes nothing twice');
done_testing();
