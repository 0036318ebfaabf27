# Reports of boundaries are counted once, whatever is killed, and each in one period.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces total kill_database rush);
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Coder::Gateway->start;
$gateway->first_user;
my @tokens = workspaces($gateway, 12);

my $rpc = Coder::AgentRpc->open($gateway->url, $tokens[0]) or die $@;
is($rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(3, 2)), '', 'an agent reports over the wire') or diag $@;
is(total($gateway), '1 3 2', 'and is counted');
my @lines = $gateway->log =~ /boundary_request (\{.*\})$/mg;
is(scalar @lines, 5, 'B22: each request is a line of the log');
my ($allowed) = grep { /"decision":"allow"/ } @lines;
my ($denied) = grep { /"decision":"deny"/ } @lines;
like($allowed // '', qr/"workspace_id":"[0-9a-f-]{36}".*"http_method":"GET","http_url":"https:\/\/example.com\/path","event_time":"20.*"matched_rule":/, 'B22: one that was allowed');
unlike($denied // 'none', qr/matched_rule|none/, 'B22: one that was denied has no rule');
my $batch = pack 'N4', 1, 2, 3, 4;
$rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(1, 0, $batch)) for 1 .. 3;
is(total($gateway), '2 4 2', 'a batch that comes three times is counted once');
is($rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(10000, 0, undef, time - 86400, '')), '', 'ten thousand entries of yesterday in one report') or diag $@;
is(total($gateway), '3 10004 2', 'are counted now');
is($gateway->sql(q{SELECT sum(skewed_requests) FROM coder.boundary_usage_stats}), 10000, 'and noticed');
is($rpc->call('ReportBoundaryLogs', "\x0a\xff\xff\xff\xff\x0f"), undef, 'what is no message is refused');
isnt($@, '', 'with words');
is(total($gateway), '3 10004 2', 'and not counted');
my $stopped = $gateway->sql(q{SELECT auth_token FROM coder.workspace_agents WHERE id = (SELECT a.id FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'workspace-1')});
my $late = Coder::AgentRpc->open($gateway->url, $stopped) or die $@;
$gateway->sql(q{SET session_replication_role = replica; UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE name = 'workspace-1'});
is($late->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(1, 0)), undef, 'a workspace whose build is over');
like($@, qr/not authorized/, 'is refused');
is(total($gateway), '3 10004 2', 'and not counted');
@tokens = grep { $_ ne $stopped } @tokens;

# Closes the period as often as it can; two of them at once.
sub closers
{
	my ($seconds) = @_;
	return map {
		my $pid = fork // die;
		if (!$pid)
		{
			open STDERR, '>', '/dev/null';    # it fails while there is no database
			my $until = time + $seconds;
			while (time < $until) { eval { $gateway->sql('SELECT coder.boundary_usage_close()') }; sleep 0.05 }
			_exit(0);
		}
		$pid
	} 1 .. 2;
}

my ($reports) = split ' ', total($gateway);
my ($n, $unknown, $tried) = rush($gateway, \@tokens, 9, 1, sub {
	my @closers = closers(9);
	for my $what (qw(gateway database gateway database))
	{
		sleep 1.2;
		if ($what eq 'gateway') { $gateway->stop('KILL'); $gateway->up; next }
		kill_database($gateway);
	}
	waitpid $_, 0 for @closers;
});
diag "$n batches in $tried tries";
cmp_ok($tried, '>', $n, 'kill -9 of gateway and PostgreSQL, four times, while eight agents report: some batches are sent again');
is(total($gateway), join(' ', $reports + $n, 10004 + 2 * $n, 2 + $n), 'Q1 Q4: each is counted once');
is($gateway->sql(q{SELECT count(*) FROM (SELECT opened_at, lag(closed_at) OVER (ORDER BY period) AS before FROM coder.boundary_usage_periods) p WHERE opened_at <> before}), 0, 'Q5: windows touch');
cmp_ok($gateway->sql('SELECT count(*) FROM coder.boundary_usage_periods'), '>', 20, 'many periods');
is($gateway->sql(q{SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND format('%s %s %s %s', p.unique_workspaces, p.unique_users, p.reports, p.allowed_requests) <>
	(SELECT format('%s %s %s %s', count(DISTINCT u.workspace_id), count(DISTINCT u.user_id), coalesce(sum(u.reports), 0), coalesce(sum(u.allowed), 0)) FROM coder.boundary_usage(p.opened_at, p.closed_at) u)}), 0,
	'Q2: each period has what its window has: reports, requests, workspaces, users');

($reports) = split ' ', total($gateway);
($n, $unknown, $tried) = rush($gateway, \@tokens, 4, 0, sub {
	sleep 1;
	kill_database($gateway);
});
my ($after) = split ' ', total($gateway);
diag "$n acknowledged, $unknown of unknown outcome";
cmp_ok($after - $reports, '>=', $n, 'without batch ids: all that was acknowledged is counted');
cmp_ok($after - $reports, '<=', $n + $unknown, 'and nothing that was not sent');
done_testing();
