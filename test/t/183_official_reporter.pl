# The official agent reports what boundaries wrote to its socket, while PostgreSQL and the gateway are killed: what it was acknowledged is
# counted, nothing in halves; its statistics, metrics and signs of life are taken as our own agent's.  CODER_OFFICIAL_CLI names its program.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Client;
use Coder::Gateway;
use Coder::Reports qw(workspaces total kill_database);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

my $official = $ENV{CODER_OFFICIAL_CLI};
my $ours = abs_path(dirname(__FILE__) . '/../../agent/coder');
plan skip_all => 'CODER_OFFICIAL_CLI names no program' unless $official && -x $official && -x $ours;

my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_AGENT_STATS_REFRESH_INTERVAL => '1s', CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port", CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true' });
$gateway->first_user;
my @tokens = workspaces($gateway, 8);
my %agents;
END { local $?; for (values %agents) { kill 'KILL', $_; waitpid $_, 0 } }

sub start_agent
{
	my ($name, $program, $token, @flags) = @_;
	my $dir = "$gateway->{dir}/$name";
	mkdir $dir;
	$agents{$name} = fork // die;
	if (!$agents{$name})
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, HOME => $dir, CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_SCRIPT_DATA_DIR => $dir,
			CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH => "$dir/boundary.sock", (map { ("CODER_AGENT_${_}_ADDRESS" => '') } qw(PROMETHEUS DEBUG PPROF)));
		open STDERR, '>>', "$dir/log" or die;
		open STDOUT, '>&', \*STDERR or die;
		exec $program, 'agent', @flags or POSIX::_exit(127);
	}
	$gateway->wait_for(30, sub { -S "$dir/boundary.sock" }) or die "no socket of $name";
	return IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$dir/boundary.sock") // die "no socket: $!";
}
sub status { return $gateway->sql("SELECT coder.agent_status(a, clock_timestamp()) FROM coder.workspace_agents a WHERE auth_token = '$_[0]'") }
sub frame { my $logs = Coder::AgentRpc::boundary_logs(2, 1); return pack('N', 1 << 24 | length $logs) . $logs }
# Reports of one agent's workspace.
sub counted
{
	my ($token) = @_;
	return split ' ', $gateway->sql(qq{SELECT concat_ws(' ', coalesce(sum(u.reports), 0), coalesce(sum(u.allowed), 0), coalesce(sum(u.denied), 0)) FROM coder.boundary_usage('-infinity', 'infinity') u
		JOIN coder.workspace_builds b USING (workspace_id) JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE a.auth_token = '$token'});
}
sub relayed { my ($status, $body) = Coder::Client->new(url => "http://127.0.0.1:$port")->request('GET', '/metrics'); return $body // '' }
# What each workspace's agent says that it has forwarded.
sub forwarded { my $all = relayed(); my %n; while ($all =~ /^agent_boundary_log_proxy_batches_forwarded_total\{[^}]*workspace_name="([^"]+)"[^}]*\} (\d+)/mg) { $n{$1} = $2 } return \%n }

my %socket = (official => start_agent('official', $official, $tokens[0], '--no-reap'), ours => start_agent('ours', $ours, $tokens[1]));
ok($gateway->wait_for(30, sub { status($tokens[$_ eq 'official' ? 0 : 1]) eq 'connected' }), "$_: connected") for qw(official ours);
for (1 .. 20) { $_->syswrite(frame()) for values %socket; sleep 0.03 }
ok($gateway->wait_for(15, sub { "@{[ counted($tokens[0]) ]}" eq '20 40 20' }), 'official: twenty reports are counted') or diag join ' ', counted($tokens[0]);
ok($gateway->wait_for(15, sub { "@{[ (counted($tokens[1]))[1, 2] ]}" eq '40 20' }), 'ours: so are they') or diag join ' ', counted($tokens[1]);
for my $n (1 .. 50)
{
	$_->syswrite(frame()) for values %socket;
	sleep 0.06;
	kill_database($gateway) if $n == 12;
	if ($n == 30) { $gateway->stop('KILL'); $gateway->up }
}
ok($gateway->wait_for(40, sub { "@{[ (counted($tokens[1]))[1, 2] ]}" eq '140 70' }), 'ours: after kill -9 of PostgreSQL and of the gateway each entry is counted once') or diag join ' ', counted($tokens[1]);
ok($gateway->wait_for(30, sub { my $n = forwarded(); keys %$n == 2 && (counted($tokens[0]))[0] >= (sort { $b <=> $a } values %$n)[0] }), 'both tell what they have forwarded') or diag explain forwarded();
my ($reports, $allowed, $denied) = counted($tokens[0]);
cmp_ok($reports, '<=', 70, "official: no report is counted twice ($reports of 70)");
is("$allowed $denied", join(' ', 2 * $reports, $reports), 'nor in halves');
is($gateway->sql('SELECT count(*) FROM coder.workspace_agent_sample_faults'), 0, 'their statistics have no faults');
is($gateway->sql(q{SELECT count(DISTINCT agent_id) FROM coder.workspace_agent_stats WHERE created_at > now() - interval '20 seconds'}), 2, 'and are stored side by side');
my $all = relayed();
for my $family (qw(agent_scripts_executed_total agent_ssh_server_sftp_connections_total agent_reconnecting_pty_connections_total coderd_agentstats_currently_reachable_peers coderd_agentstats_startup_script_seconds))
{
	my %from = map { $_ => 1 } $all =~ /^$family\{[^}]*workspace_name="([^"]+)"/mg;
	is(scalar keys %from, 2, "$family of both");
}
is($all =~ /^coder_agent_metrics_refused_total\{[^}]*reason="(?!name")/m, '', 'no metric is refused but for its name');
for my $name (qw(official ours)) { kill 'TERM', $agents{$name}; waitpid delete $agents{$name}, 0 }
ok($gateway->wait_for(10, sub { status($tokens[0]) eq 'disconnected' && status($tokens[1]) eq 'disconnected' }), 'both are gone when they end');
$gateway->stop;
done_testing();
