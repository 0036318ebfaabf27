# Signs of life of agents share statements; a row that somebody holds delays nobody else, and what was lost is made good.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces kill_database);
use Coder::WebSocket;
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(time);

my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 1 });
$gateway->first_user;
my @tokens = workspaces($gateway, 16);
my $agents = join "','", @tokens;
$gateway->sql(qq{UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL, disconnected_at = NULL});
my $status = "SELECT string_agg(s || ' ' || n, ', ' ORDER BY s) FROM (SELECT coder.agent_status(a, clock_timestamp()) AS s, count(*) AS n FROM coder.workspace_agents a WHERE a.auth_token IN ('$agents') GROUP BY 1) x";
my $n = @tokens;
my @all;
sub connect_all_but { my ($not) = @_; @all = map { Coder::AgentRpc->open($gateway->url, $tokens[$_]) or die "no connection: $@" } grep { $_ != $not } 0 .. $#tokens; return }
sub connect_all { @all = map { Coder::AgentRpc->open($gateway->url, $_) or die "no connection: $@" } @tokens }

# Locks an agent's row until the file descriptor is closed.
sub hold
{
	my ($token) = @_;
	my $pid = open my $psql, '|-', Coder::Gateway::bindir() . '/psql', '-XAtq', '-o', '/dev/null', "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder" or die;
	$psql->autoflush(1);
	print $psql "BEGIN; SELECT FROM coder.workspace_agents WHERE auth_token = '$token' FOR UPDATE;\n";
	$gateway->wait_for(10, sub { $gateway->sql(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'psql'}) eq '1' }) or die 'no lock';
	return $psql;
}

my $held = hold($tokens[0]);
my $began = time;
connect_all();
ok($gateway->wait_for(10, sub { $gateway->sql(qq{SELECT count(*) FROM coder.workspace_agents a WHERE a.auth_token IN ('$agents') AND coder.agent_status(a, clock_timestamp()) = 'connected'}) == $n - 1 }),
	'agents come while somebody holds the row of one: the others are connected') or diag $gateway->sql($status);
cmp_ok(time - $began, '<', 8, 'at once');
close $held;
ok($gateway->wait_for(10, sub { $gateway->sql($status) eq "connected $n" }), 'that one, too, once it is free') or diag $gateway->sql($status);
is($gateway->sql(qq{SELECT count(*) FROM coder.workspace_agents WHERE last_connected_replica_id = (SELECT id FROM coder.replicas ORDER BY started_at DESC LIMIT 1)}), $n, 'each to this gateway');

# An end that could not be noted is told again.
$held = hold($tokens[1]);
my $gone = splice @all, 1, 1;
undef $gone;
ok(!$gateway->wait_for(3, sub { $gateway->sql($status) ne "connected $n" }), 'one goes while somebody holds its row');
close $held;
ok($gateway->wait_for(10, sub { $gateway->sql($status) eq 'connected ' . ($n - 1) . ', disconnected 1' }), 'it is gone once the row is free') or diag $gateway->sql($status);

# A6: a log shipper with the agent's token is no sign of its life.  A4: an agent whose workspace has a newer build hears so with its next beat.
my $shipper = Coder::WebSocket->open($gateway->url, '/api/v2/workspaceagents/me/rpc?version=2.8&role=logstream-kube', token => $tokens[1]);
ok($shipper, 'A6: a log shipper connects');
$gateway->sql(qq{SET session_replication_role = replica; UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE id = (SELECT b.workspace_id FROM coder.workspace_builds b
	JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE a.auth_token = '$tokens[2]')});

# All that the rows said is lost, and PostgreSQL is killed: within a beat they say it again.
$gateway->sql(qq{UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL WHERE disconnected_at IS NULL});
kill_database($gateway);
$began = time;
ok($gateway->wait_for(20, sub { $gateway->sql($status) =~ /\bconnected @{[ $n - 2 ]}\b/ }), 'after PostgreSQL was killed and the signs were lost all are connected by their next beats') or diag $gateway->sql($status);
cmp_ok($gateway->sql(qq{SELECT count(DISTINCT xmin::text) FROM coder.workspace_agents WHERE auth_token IN ('$agents')}), '<=', $n / 2, 'many in the same transaction');
is($gateway->log =~ /could not note/, '', 'nothing to complain about');
is($gateway->sql(qq{SELECT last_connected_at IS NULL FROM coder.workspace_agents WHERE auth_token = '$tokens[2]'}), 't', 'A4: but that of the older build');
my $over = $all[1];
is($over->call('GetManifest', '', 5), undef, 'A4: whose connection is closed');
is($gateway->sql(qq{SELECT disconnected_at >= last_connected_at FROM coder.workspace_agents WHERE auth_token = '$tokens[1]'}), 't', 'A6: and the one that only ships logs is gone still');
# A3: none of these ever answers a ping.
ok($gateway->wait_for(40, sub { $gateway->sql(qq{SELECT count(*) FROM coder.workspace_agents a WHERE auth_token IN ('$agents') AND coder.agent_status(a, clock_timestamp()) = 'connected'}) eq '0' }), 'A3: agents that answer no ping for 30 s are gone') or diag $gateway->sql($status);
is($gateway->sql(qq{SELECT count(*) FROM coder.workspace_agents WHERE auth_token IN ('$agents') AND disconnected_at >= last_connected_at}), $n - 1, 'A2 A3: since their connections were closed');
connect_all_but(2);
ok($gateway->wait_for(10, sub { $gateway->sql($status) =~ /\bconnected @{[ $n - 1 ]}\b/ }), 'A5: they come again') or diag $gateway->sql($status);
undef @all;
ok($gateway->wait_for(10, sub { $gateway->sql($status) =~ /\bdisconnected @{[ $n - 1 ]}\b/ }), 'A2: all are gone') or diag $gateway->sql($status);
# An agent that goes from one gateway to another and back: the end of the old connection is not its end.
my $other = Coder::Gateway->start(env => { CODER_PG_CONNECTION_URL => "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder", CODER_EVENT_LOOPS => 1 });
my ($old, @seen) = Coder::AgentRpc->open($gateway->url, $tokens[3]) // die $@;
for my $move (1 .. 6)
{
	my $new = Coder::AgentRpc->open(($move % 2 ? $other : $gateway)->url, $tokens[3]) // die $@;
	$gateway->wait_for(5, sub { $gateway->sql(qq{SELECT (SELECT started_at FROM coder.replicas r WHERE r.id = a.last_connected_replica_id) = (SELECT } . ($move % 2 ? 'max' : 'min')
		. qq{(started_at) FROM coder.replicas) FROM coder.workspace_agents a WHERE auth_token = '$tokens[3]'}) eq 't' }) or diag 'not noted';
	undef $old;
	$old = $new;
	push @seen, map { $gateway->sql("SELECT coder.agent_status(a, clock_timestamp()) FROM coder.workspace_agents a WHERE auth_token = '$tokens[3]'") } 1 .. 8;
}
is_deeply([ grep { $_ ne 'connected' } @seen ], [], 'an agent that goes from gateway to gateway is never called gone');
undef $old;
ok($gateway->wait_for(10, sub { $gateway->sql("SELECT coder.agent_status(a, clock_timestamp()) FROM coder.workspace_agents a WHERE auth_token = '$tokens[3]'") eq 'disconnected' }), 'but when it leaves for good');
$other->stop;
$gateway->stop;
done_testing();
