# Coder::Reports -- agents that report what boundaries did, while servers are killed.
#
#	my @tokens = workspaces($gateway, 12);                       # of the agents of running workspaces; a third argument says where the database is
#	my ($n, $unknown, $tried) = rush($gateway, \@tokens, $seconds, $named, sub { ... });
#
# rush: eight agents report, each two allowed and one denied a batch, for some seconds while the code runs.  named: batches have ids,
# and each is sent until it is acknowledged; else each is sent once.  Batches that were acknowledged, of unknown outcome, and tries.
#
# SPDX-License-Identifier: MIT
package Coder::Reports;

use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Exporter qw(import);
use File::Basename qw(dirname);
use POSIX qw(_exit);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(workspaces total kill_database rush);

# Workspaces of the database's support file; the tokens of agents whose workspaces run.
sub workspaces
{
	my ($gateway, $n, $socket) = @_;
	$socket //= "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";

	system(Coder::Gateway::bindir() . '/psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', "n=$n", '-o', '/dev/null', '-f',
		dirname(__FILE__) . '/../../pgtap/support/workspaces.psql', $socket) == 0 or die 'no workspaces';
	return split /\n/, query($gateway, $socket, q{SELECT a.auth_token FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
		JOIN coder.workspace_builds b ON b.job_id = r.job_id WHERE b.transition = 'start' ORDER BY 1});
}

sub query
{
	my ($gateway, $socket, $sql) = @_;
	open my $psql, '-|', Coder::Gateway::bindir() . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', $socket, '-c', $sql or die "psql: $!";
	my $out = join '', <$psql>;
	close $psql or die "psql failed: $sql";
	return $out;
}

# What all periods, closed and open, have: reports, allowed, denied.
sub total
{
	my ($gateway) = @_;
	return $gateway->sql(q{SELECT concat_ws(' ', sum(reports), sum(allowed), sum(denied)) FROM (
		SELECT reports, allowed_requests AS allowed, denied_requests AS denied FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL
		UNION ALL SELECT reports, allowed_requests, denied_requests FROM coder.boundary_usage_stats) x});
}

# kill -9 of PostgreSQL, until it answers again.
sub kill_database
{
	my ($gateway) = @_;
	my $postmaster = $gateway->postmaster;
	kill 'KILL', $postmaster;
	$gateway->wait_for(20, sub { my $p = $gateway->postmaster; $p && $p != $postmaster }) or die 'no new PostgreSQL';
	$gateway->wait_for(20, sub { system(Coder::Gateway::bindir() . '/pg_isready', '-q', '-h', "$gateway->{dir}/config/postgres/run") == 0 }) or die 'PostgreSQL does not answer';
	return;
}

my $rushes = 6;    # ids of a rush are not those of another

# Each sender sends batches with ids, one after the other, until each is acknowledged; the other kind has no ids and sends once.
sub sender
{
	my ($gateway, $token, $seconds, $named, $seed) = @_;
	my ($n, $unknown, $tried, $rpc) = (0, 0, 0);
	my $until = time + $seconds;
	while (time < $until)
	{
		my $acknowledged = 0;
		$n++;
		while (!$acknowledged)
		{
			$rpc //= Coder::AgentRpc->open($gateway->url, $token) or do { sleep 0.05; next };
			my $request = Coder::AgentRpc::boundary_logs(2, 1, $named ? pack('N4', $rushes, $seed, $n, 0) : undef);
			$tried++;
			$acknowledged = defined $rpc->call('ReportBoundaryLogs', $request, 15);
			last if $acknowledged;
			undef $rpc;
			sleep 0.02;
			last unless $named;
		}
		$unknown++, $n-- unless $acknowledged;
	}
	return ($n, $unknown, $tried);
}

sub rush
{
	my ($gateway, $tokens, $seconds, $named, $during) = @_;
	$rushes++;
	pipe my $read, my $write or die;
	my @pids;
	for my $i (0 .. 7)
	{
		my $pid = fork // die;
		if ($pid) { push @pids, $pid; next }
		my @result = sender($gateway, $tokens->[$i % @$tokens], $seconds, $named, ($named << 8) + $i);
		syswrite $write, "@result\n";
		_exit(0);
	}
	close $write;
	$during->();
	my ($n, $unknown, $tried) = (0, 0, 0);
	while (my $line = <$read>) { my @x = split ' ', $line; $n += $x[0]; $unknown += $x[1]; $tried += $x[2] }
	waitpid $_, 0 for @pids;
	return ($n, $unknown, $tried);
}

1;
