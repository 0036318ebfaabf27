# Purges: small steps beside a long reader and writers, who wait for nothing; what is locked stays until it is not.  And what agents report of themselves.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = PostgreSQL::Test::Cluster->new('retention');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(node => $node, env => { CODER_PURGE_BATCH => 5000, CODER_CONNECTION_LOGS_RETENTION => '30d', CODER_WORKSPACE_AGENT_LOGS_RETENTION => '7d',
	CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port", CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true' });
my $owner = $gateway->first_user;
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$node->command_ok([ 'psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=20', '-o', '/dev/null', '-f', "$FindBin::Bin/../pgtap/support/workspaces.psql", $node->connstr('postgres') ], 'twenty workspaces');

# An agent on the wire: its samples, and what it counts itself.
my $token = $sql->(q{SELECT a.auth_token FROM coder.workspace_agents a WHERE a.id = md5('agent1')::uuid});
my $agent = Coder::AgentRpc->open($gateway->url, $token) or die $@;
sub metric { my ($name, $type, $value, %labels) = @_; return Coder::AgentRpc::field(12, Coder::AgentRpc::field(1, $name) . "\x10" . chr($type) . "\x19" . pack('d<', $value)
	. join '', map { Coder::AgentRpc::field(4, Coder::AgentRpc::field(1, $_) . Coder::AgentRpc::field(2, $labels{$_})) } sort keys %labels) }
ok(defined $agent->call('UpdateStats', Coder::AgentRpc::field(1, "\x10\x02" . metric('agent_scripts_executed_total', 1, 3, success => 'true') . metric('bad name', 2, 1) . metric('agent_z', 2, 0.25))), 'a report of an agent');
my ($status, $text) = Coder::Client->new(url => "http://127.0.0.1:$port")->get('/metrics');
like($text, qr/^# TYPE agent_scripts_executed_total counter\nagent_scripts_executed_total\{success="true",username="member0",agent_name="main",template_name="template-1",workspace_name="workspace-1"\} 3\n/m, 'what it counts is served');
like($text, qr/^agent_z\{[^}]*\} 0\.25$/m, 'gauges too');
like($text, qr/^coder_agent_metrics_refused_total\{reason="name"\} 1$/m, 'and what is refused is counted');
like($text, qr/^coderd_agentstats_connection_count\{agent_name="main",username="member0",workspace_name="workspace-1"\} 2$/m, 'its sample as well');

# Old rows: more than a batch of each kind.
my ($stats, $logs, $lines) = (30_000, 12_000, 11_000);
$sql->(qq{
	INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id)
	SELECT now() - interval '200 days' + i * interval '1 s', md5('user0')::uuid, md5('agent0')::uuid, md5('workspace0')::uuid, md5('template0')::uuid FROM generate_series(1, $stats) i;
	SET session_replication_role = replica;
	INSERT INTO coder.connection_logs (connect_time, organization_id, workspace_owner_id, workspace_id, workspace_name, agent_name, type, ip)
	SELECT now() - interval '40 days', (SELECT id FROM coder.organizations WHERE is_default), md5('user0')::uuid, md5('workspace0')::uuid, 'w', 'main', 'ssh', '127.0.0.1' FROM generate_series(1, $logs);
	INSERT INTO coder.workspace_agent_logs (agent_id, created_at, output) SELECT md5('agent0')::uuid, now() - interval '30 days', 'line' FROM generate_series(1, $lines);
	UPDATE coder.workspaces SET latest_build_id = NULL WHERE id = md5('workspace0')::uuid;
	UPDATE coder.workspace_agents SET last_connected_at = now() - interval '30 days' WHERE id = md5('agent0')::uuid;
	RESET session_replication_role;
	ANALYZE});
is($sql->('SELECT coder.purge_most()'), 5000, 'batches of five thousand');

# A reader with an old snapshot, one who has locked ten rows, and writers.
my @psql = ($node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', $node->connstr('postgres'));
sub background
{
	my ($file, @statements) = @_;
	my $pid = fork // die;
	return $pid if $pid;
	open STDOUT, '>', "$gateway->{dir}/$file" or die;
	exec @psql, map { ('-c', $_) } @statements;
}
my $old = q{created_at < now() - interval '180 days'};
my $reader = background('reader', 'BEGIN ISOLATION LEVEL REPEATABLE READ', "SELECT count(*) FROM coder.workspace_agent_stats WHERE $old", 'SELECT pg_sleep(14)',
	"SELECT count(*) FROM coder.workspace_agent_stats WHERE $old", 'COMMIT');
my $locker = background('locker', 'BEGIN', "SELECT count(*) FROM (SELECT FROM coder.workspace_agent_stats WHERE $old ORDER BY created_at LIMIT 10 FOR UPDATE) x", 'SELECT pg_sleep(10)', 'COMMIT');
ok($gateway->wait_for(5, sub { $sql->(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) == 2 }), 'a reader and a locker');
open my $script, '>', "$gateway->{dir}/write.sql" or die;
print $script "\\set i random(1, 19)\nSELECT coder.agent_rpc(md5('agent' || :i)::uuid, 'UpdateStats', '{\"stats\": {\"connection_count\": 1, \"rx_bytes\": 5}}');\n";
close $script;
my $writers = fork // die;
if ($writers == 0)
{
	chdir $gateway->{dir};
	open STDOUT, '>', 'writers' or die;
	open STDERR, '>&', \*STDOUT;
	exec $node->installed_command('pgbench'), '-n', '-f', 'write.sql', '-c', 3, '-T', 9, '-l', '--log-prefix=latency', $node->connstr('postgres');
}
$sql->(q{UPDATE coder.tick_state SET last_at = '-infinity' WHERE name = 'purge'});
my $began = time;
ok($gateway->wait_for(12, sub { $sql->("SELECT count(*) FROM coder.workspace_agent_stats WHERE $old") == 10 }), 'all old samples go but the ten that are locked');
diag(sprintf '%d rows in %.1f s', $stats, time - $began);
is($sql->('SELECT count(*) FROM coder.connection_logs'), 0, 'so does the old connection log');
is($sql->(q{SELECT count(*) FROM coder.workspace_agent_logs WHERE agent_id = md5('agent0')::uuid}), 0, 'and lines of the old agent');
is($sql->(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), 2, 'while the two are still at it');
is($sql->(q{SELECT failed FROM coder.stat_tick WHERE step = 'round'}), 0, 'no round failed');
cmp_ok($sql->(q{SELECT longest_seconds FROM coder.stat_tick WHERE step = 'purge'}), '<', 5, 'no batch was long');
waitpid $writers, 0;
my ($n, $worst, $late) = (0, 0, 0);
for my $file (glob "$gateway->{dir}/latency*")
{
	open my $in, '<', $file or die;
	while (<$in>) { my $us = (split)[2]; $n++; $worst = $us if $us > $worst; $late++ if $us > 1_000_000 }
}
cmp_ok($n, '>', 50, "writers wrote $n samples meanwhile");
is($late, 0, sprintf 'none waited for a second; the longest %.0f ms', $worst / 1000);
waitpid $locker, 0;
waitpid $reader, 0;
is(slurp_file("$gateway->{dir}/reader") =~ s/\s+/ /gr, "$stats $stats ", 'the reader saw what was there when it began');
$sql->(q{UPDATE coder.tick_state SET last_at = '-infinity' WHERE name = 'purge'});
ok($gateway->wait_for(10, sub { $sql->("SELECT count(*) FROM coder.workspace_agent_stats WHERE $old") == 0 }), 'what was locked goes with the next purge');
is($sql->('SELECT count(*) FROM coder.workspace_agent_stats') >= $n ? 1 : 0, 1, 'new samples stay');
$gateway->stop;
done_testing();
