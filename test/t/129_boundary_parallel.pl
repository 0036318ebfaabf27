# Many sessions of the database report at once, while periods end: the cases of several trackers and of races.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Reports qw(workspaces total);
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Coder::Gateway->start;
$gateway->first_user;
workspaces($gateway, 130);
# A hundred agents whose workspaces run, each of an owner of its own.
$gateway->sql(q{SET session_replication_role = replica; UPDATE coder.workspaces SET owner_id = md5(id::text)::uuid});
my @agents = split /\n/, $gateway->sql(q{SELECT a.id FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id WHERE b.transition = 'start' ORDER BY 1 LIMIT 100});
is(scalar @agents, 100, 'a hundred agents');

sub entries { my ($allowed, $denied) = @_; return join ',', ('{"allowed": true, "http_request": {}}') x $allowed, ('{"allowed": false, "http_request": {}}') x $denied }
sub report { my ($agent, $allowed, $denied) = @_; return "SELECT coder.agent_rpc('$agent', 'ReportBoundaryLogs', '{\"logs\": [" . entries($allowed, $denied) . "]}') IS NOT NULL;" }
sub reset { return $gateway->sql(q{SELECT concat_ws(' ', unique_workspaces, unique_users, allowed_requests, denied_requests) FROM coder.boundary_usage_close()}) }

# Statements of several sessions at once, each statement a transaction.
sub sessions
{
	my (@scripts) = @_;
	my @pids = map {
		my $script = $_;
		my $pid = fork // die;
		if (!$pid)
		{
			open my $psql, '|-', Coder::Gateway::bindir() . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder" or _exit(1);
			print $psql $script;
			_exit(close($psql) ? 0 : 1);
		}
		$pid
	} @scripts;
	my $failed = 0;
	for (@pids) { waitpid $_, 0; $failed++ if $? }
	return $failed;
}

main::reset();
# B5: ten sessions, ten agents each, ten reports of one allowed and one denied.
is(sessions(map { my $s = $_; join '', map { my $i = $_; map { report($agents[10 * $s + $_], 1, 1) } 0 .. 9 } 1 .. 10 } 0 .. 9), 0, 'ten sessions');
is(main::reset(), '100 100 1000 1000', 'B5: a hundred workspaces and users, a thousand reports');
# The same ten agents in each of ten sessions, in other orders, and several of them in one transaction by groups: nobody waits for ever.
my @orders = map { my $s = $_; [map { $agents[($_ * 7 + $s * 3) % 10] } 0 .. 9] } 0 .. 9;
my $group = sub { return "SELECT coder.boundary_reports('[" . join(',', map { "{\"agent\": \"$_\", \"request\": {\"logs\": [" . entries(1, 0) . "]}}" } @_) . "]');" };
is(sessions(map { my $order = $orders[$_]; join '', map { $group->(@$order) } 1 .. 20 } 0 .. 9), 0, 'groups with the same agents in ten orders at once: no deadlock');
is(main::reset(), '10 10 2000 0', 'counted once each');
is(sessions(map { my $order = $orders[$_]; join '', 'BEGIN;', (map { report($_, 1, 0) } sort @$order), 'COMMIT;' } 0 .. 9), 0, 'several reports in one transaction');
is(main::reset(), '10 10 100 0', 'too');

# B14: three sessions with two, three and one pairs; then one more of the first.
is(sessions(report($agents[0], 20, 1) . report($agents[1], 5, 2), report($agents[2], 25, 4) . report($agents[3], 25, 4) . report($agents[4], 25, 4), report($agents[5], 5, 0)), 0, 'three sessions');
is(main::reset(), '6 6 105 15', 'B14: together');
is(sessions(report($agents[1], 1, 0)), 0, 'one more');
is(main::reset(), '1 1 1 0', 'B14: only what is new');

# B16 B17: fifty reports in each of four sessions while periods end fifty times.
is(sessions((map { my $s = $_; join '', map { report($agents[$s], 20, 10) } 1 .. 50 } 0 .. 3), join '', map { 'SELECT coder.boundary_usage_close();SELECT pg_sleep(0.01);' } 1 .. 50), 0, 'B16: reports while periods end');
main::reset();
is($gateway->sql(q{SELECT concat_ws(' ', sum(allowed_requests), sum(denied_requests), sum(reports)) FROM coder.boundary_usage_periods WHERE period > (SELECT min(period) FROM coder.boundary_usage_periods WHERE allowed_requests = 1)}),
	'4000 2000 200', 'B16 B17 Q1: every report is in exactly one period');
is($gateway->sql(q{SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND format('%s %s %s', p.unique_workspaces, p.unique_users, p.reports) <>
	(SELECT format('%s %s %s', count(DISTINCT u.workspace_id), count(DISTINCT u.user_id), coalesce(sum(u.reports), 0)) FROM coder.boundary_usage(p.opened_at, p.closed_at) u)}), 0, 'Q2: with whom its window has');

# A transaction that is rolled back, and a part of one, count for nothing, now and later in the same session.
is(sessions(join '', 'BEGIN;', report($agents[7], 1, 0), 'ROLLBACK;', 'BEGIN;', report($agents[8], 1, 0), 'SAVEPOINT a;', report($agents[9], 1, 0), 'ROLLBACK TO a;', 'COMMIT;', report($agents[7], 1, 0), report($agents[9], 1, 0)), 0, 'rolled back');
is(main::reset(), '3 3 3 0', 'what was rolled back is new when it comes again');
# In one session a period after the other: each has its own sets.
is(sessions(join '', map { report($agents[0], 1, 0) . report($agents[0], 1, 0) . 'SELECT coder.boundary_usage_close();' } 1 .. 5), 0, 'five periods in one session');
is($gateway->sql(q{SELECT string_agg(concat_ws(' ', unique_workspaces, unique_users, allowed_requests), ', ') FROM (SELECT * FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL ORDER BY period DESC LIMIT 5) p}),
	'1 1 2, 1 1 2, 1 1 2, 1 1 2, 1 1 2', 'each counts its own');
done_testing();
