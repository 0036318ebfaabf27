# A session in a workspace, from the agent's report to the figures: bytes, latency, session counts, the deployment's sums, insights, the last use.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;

Coder::Provisioning::need_sandbox();

my $root = abs_path(dirname(__FILE__) . '/../..');
my $coder = $ENV{CODER_BINARY} // "$root/agent/coder";
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my $gateway = Coder::Gateway->start(env => { CODER_PROVISIONER_DAEMONS => 1, CODER_AGENT_BINARY => $coder, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true',
	CODER_AGENT_STATS_REFRESH_INTERVAL => '1s' });
my $owner = $gateway->first_user;
my %env = (HOME => $dir, CODER_CONFIG_DIR => "$dir/client", CODER_URL => $gateway->url, CODER_SESSION_TOKEN => $gateway->{token});

sub client
{
	my (@command) = @_;
	my $child = fork // die "fork: $!";

	return $child if $child;
	delete @ENV{ grep { /^CODER_/ } keys %ENV };
	%ENV = (%ENV, %env);
	open STDIN, '<', '/dev/null';
	open STDOUT, '>>', "$dir/clients.log";
	open STDERR, '>&', \*STDOUT;
	exec 'timeout', 60, $coder, @command or POSIX::_exit(127);
}
sub finish { waitpid client(@_), 0; return $? }
sub seen { my ($seconds, $sql) = @_; return $gateway->wait_for($seconds, sub { $gateway->sql("SELECT ($sql)::int") eq '1' }) }

is(finish('templates', 'push', 'starter', '-d', "$root/gateway/provisioner/starter", '-y'), 0, 'a template');
is(finish('create', 'dev', '--template', 'starter', '-y'), 0, 'a workspace');
ok(seen(30, 'EXISTS (SELECT FROM coder.workspace_agent_stats)'), 'its agent reports');
is($gateway->sql('SELECT sum(connection_count) FROM coder.workspace_agent_stats'), '0', 'that nobody is there');
is($gateway->sql('SELECT count(*) FROM coder.workspace_agent_stats WHERE connection_median_latency_ms >= 0'), '0', 'so no latency is known');
$gateway->sql("UPDATE coder.workspaces SET last_used_at = '2020-01-01'");

my $session = client('ssh', 'dev', '--', 'mkfifo go; head -c 3000000 /dev/zero; read line < go; rm go');
ok(seen(30, 'EXISTS (SELECT FROM coder.workspace_agent_stats WHERE session_count_ssh = 1 AND connection_count = 1)'), 'a session is counted');
ok(seen(20, 'EXISTS (SELECT FROM coder.workspace_agent_stats WHERE session_count_ssh = 1 AND connection_median_latency_ms > 0)'), 'its latency measured');
ok($gateway->sql('SELECT max(connection_median_latency_ms) FROM coder.workspace_agent_stats') < 2000, 'in milliseconds');
ok(seen(20, 'SELECT sum(tx_bytes) BETWEEN 3000000 AND 6000000 FROM coder.workspace_agent_stats'), 'what it sent, counted once')
  or diag $gateway->sql('SELECT sum(tx_bytes) FROM coder.workspace_agent_stats');
ok(seen(5, "SELECT last_used_at > now() - interval '1 minute' FROM coder.workspaces"), 'the workspace is in use');

my ($status, $stats) = $owner->get('/api/v2/deployment/stats');
$gateway->wait_for(10, sub { ($status, $stats) = $owner->get('/api/v2/deployment/stats'); $stats->{session_count}{ssh} == 1 && $stats->{workspaces}{tx_bytes} > 3000000 });
is("$status $stats->{session_count}{ssh} $stats->{workspaces}{running}", '200 1 1', 'the deployment has a session and a workspace');
ok($stats->{workspaces}{connection_latency_ms}{P50} > 0 && $stats->{workspaces}{tx_bytes} > 3000000, 'with its latency and traffic');
my $workspace = $gateway->sql('SELECT id FROM coder.workspaces');
my $points = ($owner->get("/api/v2/workspaces/$workspace/agent-stats"))[1]{points};
ok($points->[-1]{ssh} == 1 && $points->[-1]{latency_ms}{p50} > 0, 'the workspace over time');
$gateway->sql("SELECT coder.rollup_usage(now() + interval '1 minute')");
is(($owner->get('/api/v2/insights/daus?tz_offset=0'))[1]{entries}[-1]{amount}, 1, 'a user worked today');
my $today = POSIX::strftime('%Y-%m-%d', gmtime);
my $until = POSIX::strftime('%Y-%m-%dT%H:00:00Z', gmtime(time + 3600));
my ($code, $latency) = $owner->get("/api/v2/insights/user-latency?start_time=${today}T00:00:00Z&end_time=$until");
is($code, 200, 'insights');
ok($latency->{report}{users}[0]{latency_ms}{p50} > 0, 'know how far away');

is(finish('ssh', 'dev', '--', 'echo x > go'), 0, 'it may end');
waitpid $session, 0;
ok(seen(20, 'SELECT connection_count = 0 FROM coder.workspace_agent_stats ORDER BY created_at DESC LIMIT 1'), 'the session is over');
my $sent = $gateway->sql('SELECT sum(tx_bytes) FROM coder.workspace_agent_stats');
is(finish('ssh', 'dev', '--', 'true'), 0, 'another, by a peer that was not there');
ok(seen(20, "SELECT sum(tx_bytes) BETWEEN $sent + 100 AND $sent + 1000000 FROM coder.workspace_agent_stats"), 'adds what it sent, and nothing twice')
  or diag $sent, ' ', $gateway->sql('SELECT sum(tx_bytes) FROM coder.workspace_agent_stats');
# An editor's backend, as far as can be seen from outside, and a port forwarded to it.
SKIP:
{
	skip 'no ssh', 3 unless `ssh -V 2>&1` =~ /OpenSSH/;
	is(finish('ssh', 'dev', '--', q{perl -MIO::Socket::INET -e 'print 1' >/dev/null 2>&1 || exit 3; (setsid perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 39217, ReuseAddr => 1); while ($c = $s->accept) { push @c, $c }' remote-dev-server </dev/null >/dev/null 2>&1 &) ; sleep 1}), 0, 'a server in the workspace');
	my $forward = fork // die "fork: $!";
	if ($forward == 0)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, %env);
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$dir/clients.log";
		open STDERR, '>&', \*STDOUT;
		exec 'timeout', 60, 'ssh', '-F', '/dev/null', '-o', "ProxyCommand=$coder ssh --stdio dev", '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-W', '127.0.0.1:39217', 'coder.dev'
		  or POSIX::_exit(127);
	}
	ok(seen(20, 'EXISTS (SELECT FROM coder.workspace_agent_stats WHERE session_count_jetbrains = 1)'), 'is a session of that editor')
	  or diag $gateway->sql('SELECT json_agg(s) FROM (SELECT session_count_ssh, session_count_jetbrains FROM coder.workspace_agent_stats ORDER BY created_at DESC LIMIT 3) s'), `tail -5 $dir/clients.log`;
	ok(seen(10, "EXISTS (SELECT FROM coder.connection_logs WHERE type = 'jetbrains')"), 'and in the log of connections');
	kill TERM => $forward;
	waitpid $forward, 0;
}
is($gateway->sql('SELECT count(*) FROM coder.workspace_agent_sample_faults'), '0', 'no figure was impossible');
$gateway->stop;
done_testing();
