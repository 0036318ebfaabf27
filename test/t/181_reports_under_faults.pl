# Reports of boundaries while PostgreSQL is stopped at once (-m immediate), the gateway or a backend stands still, somebody holds what a
# report needs, and connections are cut: what was acknowledged is counted, batches with ids once each, and nothing in halves.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces total rush);
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Coder::Gateway->start;
$gateway->first_user;
my @tokens = workspaces($gateway, 12);
my ($batches, $sent, $unknown) = (0, 0, 0);

# PostgreSQL's immediate stop: backends die in the middle of what they do, and no checkpoint is made.
sub immediate
{
	my $postmaster = $gateway->postmaster;
	kill 'QUIT', $postmaster;
	$gateway->wait_for(20, sub { my $p = $gateway->postmaster; $p && $p != $postmaster }) or die 'no new PostgreSQL';
	$gateway->wait_for(20, sub { system(Coder::Gateway::bindir() . '/pg_isready', '-q', '-h', "$gateway->{dir}/config/postgres/run") == 0 }) or die 'PostgreSQL does not answer';
	return;
}

# The gateway's backends.
sub backends { return grep { $_ } split /\n/, $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'psql%'}) }

# Somebody does something with the lock of the period, or with rows that a report writes, for a while.
sub hold
{
	my ($statement, $seconds) = @_;
	my $pid = fork // die;
	if (!$pid) { eval { $gateway->sql("BEGIN; $statement; SELECT pg_sleep($seconds); ROLLBACK") }; POSIX::_exit(0) }
	return $pid;
}

sub during
{
	my ($name, $seconds, $named, $code) = @_;
	my ($n, $lost, $tried) = rush($gateway, \@tokens, $seconds, $named, $code);
	$batches += $n if $named;
	$sent += $n unless $named;
	$unknown += $lost;
	cmp_ok($n, '>', 0, "$name: $n reports were acknowledged" . ($named ? " in $tried tries" : ", $lost not"));
	return;
}

during('PostgreSQL stops at once', 2.5, 1, sub { for (1 .. 2) { sleep 0.4; immediate() } });
during('the gateway stands still', 2.5, 1, sub { sleep 0.4; kill 'STOP', $gateway->{pid}; sleep 1.2; kill 'CONT', $gateway->{pid} });
during('backends stand still', 3.5, 1, sub { sleep 0.3; my @all = backends(); kill 'STOP', @all; sleep 2.6; kill 'CONT', @all });
during('connections are cut', 2.5, 1, sub { for (1 .. 6) { sleep 0.2; $gateway->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}) } });
during('statements are cancelled', 2.5, 1, sub { for (1 .. 20) { sleep 0.06; $gateway->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}) } });
my $holder;
during('somebody holds the period', 3.5, 1, sub { sleep 0.3; $holder = hold(q{SELECT coder.boundary_lock(true)}, 2.6) });
waitpid $holder, 0;
during('somebody holds the sums', 3.5, 1, sub { sleep 0.3; $holder = hold(q{SELECT FROM coder.boundary_usage_stats FOR UPDATE}, 2.6) });
waitpid $holder, 0;
is(total($gateway), join(' ', $batches, 2 * $batches, $batches), 'each batch with an id is counted once');

# Without ids each is sent once: what was acknowledged is counted, what was not may be.
during('without ids', 3, 0, sub { sleep 0.3; immediate(); sleep 0.3; $gateway->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}) });
my ($reports, $allowed, $denied) = split ' ', total($gateway);
cmp_ok($reports, '>=', $batches + $sent, 'what was acknowledged without an id is counted');
cmp_ok($reports, '<=', $batches + $sent + $unknown, 'and nothing that nobody sent');
is("$allowed $denied", join(' ', 2 * $reports, $reports), 'no report in halves');
is($gateway->sql(q{SELECT concat_ws(' ', sum(reports), sum(allowed), sum(denied)) FROM coder.boundary_usage('-infinity', 'infinity')}), "$reports $allowed $denied", 'by workspace and owner it is the same');

# The same id of another agent, and of the same agent in another order.
my @rpc = map { Coder::AgentRpc->open($gateway->url, $_) or die $@ } @tokens[0, 1];
my @ids = map { pack('N4', 9, 9, 9, $_) } 1 .. 4;
for my $i (0, 3, 1, 3, 2, 0, 1) { $rpc[0]->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(1, 0, $ids[$i])) // die $@ }
is((split ' ', total($gateway))[0], $reports + 4, 'batches that come again and in another order are counted once');
$rpc[1]->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(1, 0, $ids[0])) // die $@;
is((split ' ', total($gateway))[0], $reports + 5, 'an id of another agent is another batch');
my @before = split ' ', total($gateway);
$gateway->sql('SELECT coder.boundary_usage_close()');
$rpc[0]->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(1, 0, $ids[0])) // die $@;
is_deeply([split ' ', total($gateway)], \@before, 'one that comes again in the next period is not counted there');
# A clock a day off, in both directions, and one entry that says nothing of time.
$rpc[0]->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(3, 0, undef, time + 86400)) // die $@;
$rpc[0]->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(2, 0, undef, time - 86400)) // die $@;
is($gateway->sql('SELECT concat_ws(\' \', sum(allowed_requests), sum(skewed_requests)) FROM coder.boundary_usage_stats'), '5 5', 'clocks a day off are counted now, and as skewed');
$gateway->stop;
done_testing();
