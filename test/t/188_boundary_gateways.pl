# Boundary usage through two gateways of one database: who reports to both is counted once, a report that is under way when a period ends is in one of
# the two, and gateways and PostgreSQL that start again neither forget nor repeat.  The cases S1 to S5, B17 and B22 of boundary usage.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('usage');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ncoder.database = 'postgres'");
$node->start;
my @gateways = map { Coder::Gateway->start(node => $node) } 0, 1;
$gateways[0]->first_user;
my @tokens = workspaces($gateways[0], 30, $node->connstr('postgres'));
sub sql { return $node->safe_psql('postgres', $_[0]) }

# A token's connection to a gateway; anew where that was killed.
my %rpc;
sub report
{
	my ($gateway, $token, @entries) = @_;
	my $rpc = $rpc{"$gateway $token"} //= Coder::AgentRpc->open($gateways[$gateway]->url, $tokens[$token]) // die "no connection: $@";
	return defined $rpc->call('ReportBoundaryLogs', @entries == 1 ? $entries[0] : Coder::AgentRpc::boundary_logs(@entries), 15);
}
sub open_period { return sql(q{SELECT concat_ws(' ', sum(unique_workspaces_count), sum(unique_users_count), sum(allowed_requests), sum(denied_requests)) FROM coder.boundary_usage_stats}) }
sub end_period { return sql(q{SELECT concat_ws(' ', unique_workspaces, unique_users, allowed_requests, denied_requests) FROM coder.boundary_usage_close()}) }
my $owners = sql(q{SELECT count(DISTINCT w.owner_id) FROM coder.workspaces w WHERE w.running});

end_period();
report($_ % 2, $_ >> 1, 2, 1) for 0 .. 2 * @tokens - 1;
is(open_period(), join(' ', scalar @tokens, $owners, 4 * @tokens, 2 * @tokens), 'S1: agents that report to both gateways are one workspace each, and their owners one user each');
cmp_ok(sql('SELECT count(DISTINCT replica_id) FROM coder.boundary_usage_stats'), '>', 1, 'though several backends count');
is(end_period(), join(' ', scalar @tokens, $owners, 4 * @tokens, 2 * @tokens), 'S1: so says the snapshot');
report(1, 0, 1, 0);
is(end_period(), '1 1 1 0', 'S5: given a snapshot, a gateway that counted before it reports only what is new');

# Of what was acknowledged nothing is in a gateway or in a backend.
report(0, 0, 3, 1);
report(1, 1, 3, 1);
$gateways[0]->stop('KILL');
delete $rpc{'0 0'};
is(open_period() =~ / (6 2)$/ ? $1 : open_period(), '6 2', 'S4: given a gateway killed right after its answer, nothing is lost');
$gateways[0]->up;
report(0, 0, 1, 0);
is((split ' ', open_period())[0], 2, 'S4: what comes of the same workspace after its start is no new workspace');
%rpc = ();
$node->stop('immediate');
$node->start;
$gateways[0]->wait_for(30, sub { my $all = 1; for my $i (0, 1) { $rpc{"$i 0"} //= Coder::AgentRpc->open($gateways[$i]->url, $tokens[0]) or $all = 0 } $all }) or die 'no gateway';
report($_, 0, 1, 0) for 0, 1;
report(0, 2, 1, 0);
is((split ' ', open_period())[0], 3, 'S2: nor after PostgreSQL was stopped at once');
like(end_period(), qr/^3 \d+ 10 2$/, 'S3 S4: all that was acknowledged is in the period');

# B17: one report is under way in a session, another comes through a gateway, the period is asked to end, a third comes.
sub session
{
	my (@statements) = @_;
	my $pid = open my $psql, '|-', Coder::Gateway::bindir() . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', $node->connstr('postgres') or die;
	$psql->autoflush(1);
	print $psql "$_;\n" for @statements;
	return $psql;
}
sub waiting { my ($what) = @_; return sql(qq{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%boundary_$what%' AND pid <> pg_backend_pid()}) }
my $agent = sql("SELECT id FROM coder.workspace_agents WHERE auth_token = '$tokens[3]'");
my $logs = join ',', ('{"allowed": true, "http_request": {}}') x 10, ('{"allowed": false, "http_request": {}}') x 5;
my $slow = session('BEGIN', "SELECT coder.agent_rpc('$agent', 'ReportBoundaryLogs', '{\"logs\": [$logs]}')");
ok($gateways[0]->wait_for(10, sub { sql(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%ReportBoundaryLogs%'}) == 1 }), 'B17: given a report (10,5) that is not committed');
ok(report(1, 4, 20, 10), 'B17: another (20,10) is acknowledged meanwhile');
my $before = sql('SELECT period FROM coder.boundary_usage_periods WHERE closed_at IS NULL');
my $close = session('SELECT coder.boundary_usage_close()');
ok($gateways[0]->wait_for(10, sub { waiting('usage_close') == 1 }), 'B17: who ends the period waits for the first');
my $late = fork // die;
if (!$late)
{
	my $rpc = Coder::AgentRpc->open($gateways[0]->url, $tokens[5]);
	require POSIX;
	POSIX::_exit($rpc && defined $rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(7, 0), 20) ? 0 : 1);
}
ok($gateways[0]->wait_for(10, sub { waiting('reports') == 1 }), 'B17: a third (7,0) waits for that');
print $slow "COMMIT;\n";
close $_ or fail 'a session failed' for $slow, $close;
waitpid $late, 0;
is($?, 0, 'B17: then it is acknowledged');
is(sql("SELECT concat_ws(' ', allowed_requests, denied_requests) FROM coder.boundary_usage_periods WHERE period = $before"), '30 15', 'B17: the period has the first two, 30 allowed and 15 denied');
is((split ' ', end_period(), 3)[2], '7 0', 'B17: the next has the third');
is(sql(q{SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND format('%s %s %s', p.unique_workspaces, p.unique_users, p.allowed_requests) <>
	(SELECT format('%s %s %s', count(DISTINCT u.workspace_id), count(DISTINCT u.user_id), coalesce(sum(u.allowed), 0)) FROM coder.boundary_usage(p.opened_at, p.closed_at) u)}), 0,
	'B17 Q2: and each period has what its window has');

# B22: the line of a request.
sub entry { my ($allowed, $time, $http) = @_; return Coder::AgentRpc::field(1, ($allowed ? "\x08\x01" : '') . (defined $time ? Coder::AgentRpc::field(2, "\x08" . Coder::AgentRpc::varint($time)) : '') . Coder::AgentRpc::field(3, $http)) }
sub http { my ($url, $rule) = @_; return Coder::AgentRpc::field(1, 'PUT') . Coder::AgentRpc::field(2, $url) . (defined $rule ? Coder::AgentRpc::field(3, $rule) : '') }
my $at = 1776297600;
ok(report(1, 0, entry(1, $at, http('https://a.test/1', 'domain=a.test')) . entry(0, $at, http('https://a.test/2', 'domain=b.test')) . entry(1, undef, http('https://a.test/3')) . entry(0, $at, '')),
	'B22: one allowed by a rule, one denied, one without time and rule, one without anything');
my $lines = sub { return grep { $_->{http_url} =~ m{^(https://a\.test/[123]|)$} } map { decode_json($_) } $gateways[1]->log =~ /boundary_request (\{.*\})$/mg };
$gateways[1]->wait_for(5, sub { $lines->() == 4 });
my %who = %{ decode_json(sql(qq{SELECT json_build_object('workspace_id', w.id, 'workspace_name', w.name, 'owner', u.username, 'agent_name', a.name, 'template_id', w.template_id, 'template_version_id', b.template_version_id)
	FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id
	JOIN coder.users u ON u.id = w.owner_id WHERE a.auth_token = '$tokens[0]'})) };
my %same = (%who, http_method => 'PUT', event_time => '2026-04-16T00:00:00.000000000Z');
is_deeply([ $lines->() ], [
		{ %same, decision => 'allow', http_url => 'https://a.test/1', matched_rule => 'domain=a.test' }, { %same, decision => 'deny', http_url => 'https://a.test/2' },
		{ %same, decision => 'allow', http_url => 'https://a.test/3', matched_rule => '', event_time => '0001-01-01T00:00:00Z' }, { %same, decision => 'deny', http_method => '', http_url => '' } ],
	'B22: each line has who and where, decision, method, URL and time, and that of an allowed one its rule') or diag explain [ $lines->() ];
is((split ' ', end_period(), 3)[2], '2 2', 'B22: all four are counted');
$_->stop for @gateways;
done_testing();
