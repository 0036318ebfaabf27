# What an agent counts of itself: at its own Prometheus address, with its statistics at the server's, and nothing else of its API at either address.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Client;
use Coder::Gateway;
use Coder::Reports qw(workspaces);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Socket qw(SOCK_STREAM);
use Test::More;

my $coder = abs_path(dirname(__FILE__) . '/../../agent/coder');
plan skip_all => 'agent/coder is not built' unless -x $coder;

my ($metrics, $debug, $server) = map { Coder::Gateway::free_port() } 1 .. 3;
my $gateway = Coder::Gateway->start(env => { CODER_AGENT_STATS_REFRESH_INTERVAL => '1s', CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$server",
	CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true' });
$gateway->first_user;
my @tokens = workspaces($gateway, 8);
my @agents;

sub start_agent
{
	my ($token, $name, %env) = @_;
	my $dir = "$gateway->{dir}/$name";
	mkdir $dir;
	my $pid = fork // die;
	if (!$pid)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, HOME => $dir, CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_SCRIPT_DATA_DIR => $dir,
			CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH => "$dir/boundary.sock", %env);
		open STDERR, '>>', "$dir/log" or die;
		exec $coder, 'agent' or POSIX::_exit(127);
	}
	push @agents, $pid;
	return sub { open my $file, '<', "$dir/log" or return ''; local $/; return scalar <$file> };
}
END { local $?; for (@agents) { kill 'KILL', $_; waitpid $_, 0 } }

sub ask { my ($port, $method, $path) = @_; my ($status, $body) = Coder::Client->new(url => "http://127.0.0.1:$port")->request($method, $path); return ($status, ref $body ? JSON::PP->new->canonical->encode($body) : $body // '') }
sub told { return (ask($metrics, 'GET', '/metrics'))[1] }
sub relayed { return (ask($server, 'GET', '/metrics'))[1] }

# A script of the start, which fails, and one that does not.
$gateway->sql(q{DELETE FROM coder.workspace_agent_scripts});
$gateway->sql(qq{INSERT INTO coder.workspace_agent_scripts (workspace_agent_id, log_source_id, log_path, script, cron, start_blocks_login, run_on_start, run_on_stop, timeout_seconds, display_name, id)
	SELECT a.id, gen_random_uuid(), '', s, '', false, true, false, 0, s, gen_random_uuid() FROM coder.workspace_agents a, unnest(ARRAY['true', 'exit 3']) s WHERE a.auth_token = '$tokens[0]'});
my $log = start_agent($tokens[0], 'one', CODER_AGENT_PROMETHEUS_ADDRESS => "127.0.0.1:$metrics", CODER_AGENT_DEBUG_ADDRESS => "localhost:$debug");
ok($gateway->wait_for(20, sub { told() =~ /reachable_peers/ }), 'the agent tells what it counts') or diag $log->();
my $text = told();
like($text, qr/^# TYPE agent_scripts_executed_total counter\nagent_scripts_executed_total\{success="false"\} 1\nagent_scripts_executed_total\{success="true"\} 1$/m, 'scripts, by their end');
like($text, qr/^coderd_agentstats_startup_script_seconds\{success="false"\} \d/m, 'how long the start took');
like($text, qr/^coderd_agentstats_currently_reachable_peers\{connection_type="derp"\} 0\ncoderd_agentstats_currently_reachable_peers\{connection_type="p2p"\} 0$/m, 'peers');
my $one = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$gateway->{dir}/one/boundary.sock") // die "no socket: $!";
my $logs = Coder::AgentRpc::boundary_logs(2, 1);
$one->syswrite(pack('N', 1 << 24 | length $logs) . $logs);
my $status = Coder::AgentRpc::field(2, "\x08\x05\x10\x03");
$one->syswrite(pack('N', 2 << 24 | length $status) . $status);
ok($gateway->wait_for(10, sub { told() =~ /^agent_boundary_log_proxy_batches_forwarded_total 1$/m }), 'B27: batches of boundaries');
like(told(), qr/^agent_boundary_log_proxy_logs_dropped_total\{reason="boundary_batch_full"\} 3\nagent_boundary_log_proxy_logs_dropped_total\{reason="boundary_channel_full"\} 5$/m, 'B27: and what boundaries had to drop');
ok($gateway->wait_for(15, sub { my $all = relayed(); $all =~ /^agent_boundary_log_proxy_batches_forwarded_total\{[^}]*\} 1$/m && $all =~ /^agent_scripts_executed_total\{[^}]*success="false"[^}]*\} 1$/m
	&& $all =~ /^coderd_agentstats_currently_reachable_peers\{[^}]*connection_type="p2p"[^}]*\} 0$/m && $all =~ /^agent_boundary_log_proxy_logs_dropped_total\{[^}]*reason="boundary_channel_full"[^}]*\} 5$/m }),
	'the server tells the same with who and where') or diag join "\n", grep { /agent_(bound|scripts)|agentstats_(curr|start)/ } split /\n/, relayed();
SKIP:
{
	skip 'promtool is not here', 1 if system('command -v promtool >/dev/null') != 0;
	open my $promtool, '|-', 'promtool check metrics > /dev/null 2>&1' or die;
	print $promtool told();
	ok(close $promtool, 'promtool has nothing to say about it');
}

# The other address, and what neither has.
is((ask($debug, 'GET', '/debug/prometheus'))[1] =~ /^agent_scripts_executed_total/m, 1, '/debug/prometheus');
like((ask($debug, 'GET', '/debug/logs'))[1], qr/agent \S+ starts/, '/debug/logs');
is(JSON::PP::decode_json((ask($debug, 'GET', '/debug/manifest'))[1])->{agent_name}, 'main', '/debug/manifest');
is((ask($debug, 'GET', $_))[0], 404, "no $_ there") for qw(/ /api/v0/listening-ports /api/v0/read-file?path=/etc/hostname /api/v0/context-config);
is((ask($_->[0], 'POST', '/api/v0/processes/start'))[0], 405, "nor a process to start at the $_->[1] address") for [$debug, 'debug'], [$metrics, 'metrics'];
like((ask($metrics, 'GET', '/debug/manifest'))[1], qr/^# HELP/, 'the metrics address tells metrics, whatever is asked');

# An address that is taken, one that is none, and none.
my $second = start_agent($tokens[1], 'two', CODER_AGENT_PROMETHEUS_ADDRESS => "127.0.0.1:$metrics", CODER_AGENT_DEBUG_ADDRESS => 'nonsense');
ok($gateway->wait_for(15, sub { $second->() =~ /connected to/ }), 'an agent whose address is taken connects') or diag $second->();
like($second->(), qr/no metrics: could not listen at 127.0.0.1:$metrics: Address already in use.*no debug routes: "nonsense" is no address/s, 'and says so');
my $third = start_agent($tokens[2], 'three', CODER_AGENT_PROMETHEUS_ADDRESS => '', CODER_AGENT_DEBUG_ADDRESS => '');
ok($gateway->wait_for(15, sub { $third->() =~ /connected to/ }), 'one that shall have none');
unlike($third->(), qr/metrics|debug routes/, 'has none');

# Many connections that say nothing do not keep the agent from its work.
my @idle = grep { defined } map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$metrics", Timeout => 2) } 1 .. 60;
is($gateway->sql(qq{SELECT coder.agent_status(a, clock_timestamp()) FROM coder.workspace_agents a WHERE auth_token = '$tokens[0]'}), 'connected', 'sixty silent connections: the agent works');
@idle = ();
ok($gateway->wait_for(10, sub { (eval { told() } // '') =~ /^# HELP/ }), 'and answers when they are gone');
my $garbage = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$metrics") or die;
$garbage->syswrite("\0\xff" x 4096);
ok($gateway->wait_for(10, sub { (eval { told() } // '') =~ /^# HELP/ }), 'what is no HTTP harms nobody');
$gateway->stop;
done_testing();
