# Samples of agents that come in the same tenth of a second are stored together; one that the database does not take harms nobody else's.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces);
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(time);

my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 1 });
$gateway->first_user;
my @tokens = workspaces($gateway, 20);
# An agent of a workspace that was stopped since it connected.
my $stopped = shift @tokens;

# An UpdateStatsRequest: connections, bytes received.
sub sample { my ($connections, $rx) = @_; return Coder::AgentRpc::field(1, "\x10" . Coder::AgentRpc::varint($connections) . "\x28" . Coder::AgentRpc::varint($rx)) }

# How many samples were answered with 30 s, and what was heard instead.
sub together
{
	my ($samples, @requests) = @_;
	return map { "$_->[0] $_->[1]" } Coder::AgentRpc::together($gateway->url, 'UpdateStats', $samples, sub { $_[0] eq Coder::AgentRpc::field(1, "\x08\x1e") }, @requests);
}
sub stored { return $gateway->sql(q{SELECT concat_ws(' ', count(*), sum(rx_bytes), count(DISTINCT agent_id)) FROM coder.workspace_agent_stats}) }

my $late = Coder::AgentRpc->open($gateway->url, $stopped) or die $@;
$gateway->sql(q{UPDATE coder.workspaces SET last_used_at = '2020-01-01'});
$gateway->sql(q{UPDATE coder.workspace_builds SET deadline = now() + interval '1 minute' WHERE transition = 'start'});
my @requests = map { [$tokens[$_], sample(1, 5)] } 0 .. 11;
is_deeply([together(10, @requests)], [('10 ') x 12], 'twelve agents at once: each is answered with the interval');
is(stored(), '120 600 12', 'and stored once');
cmp_ok($gateway->sql('SELECT count(DISTINCT xmin::text) FROM coder.workspace_agent_stats'), '<=', 60, 'many in the same transaction');
is($gateway->sql(q{SELECT count(*) FROM coder.workspace_agent_stats s JOIN coder.workspaces w ON w.id = s.workspace_id AND w.owner_id = s.user_id AND w.template_id = s.template_id
	JOIN coder.workspace_builds b ON b.workspace_id = w.id JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id AND a.id = s.agent_id}),
	'120', 'each with its own workspace, owner and template');
is($gateway->sql(q{SELECT count(*) FROM coder.workspaces WHERE last_used_at > now() - interval '1 minute'}), '12', 'whose workspaces are in use');
is($gateway->sql(q{SELECT count(*) FROM coder.workspace_builds WHERE deadline > now() + interval '50 minutes'}), '12', 'and their deadlines moved');

# A sample that the database refuses, an agent whose build is over, and a workspace that somebody has locked, among the others.
$gateway->sql(q{ALTER TABLE coder.workspace_agent_stats ADD CHECK (rx_bytes <> 666)});
$gateway->sql(q{SET session_replication_role = replica; UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE id = (SELECT b.workspace_id FROM coder.workspace_builds b
	JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE a.auth_token = '} . $stopped . q{')});
is($late->call('UpdateStats', sample(1, 5)), undef, 'a workspace that was stopped');
like($@, qr/not authorized/, 'hears so');
my @answers = together(10, @requests[0 .. 5], [$tokens[6], sample(1, 666)]);
is_deeply([@answers[0 .. 5]], [('10 ') x 6], 'others among which there is a bad one are answered');
like($answers[6], qr/^0 .*internal error/, 'which is refused');
is(stored(), '180 900 12', 'each is stored once, as it was answered');
$gateway->sql(q{UPDATE coder.workspaces SET last_used_at = '2020-01-01'});
my $locker = fork // die;
if ($locker == 0)
{
	$gateway->sql(q{BEGIN; SELECT FROM coder.workspaces WHERE id = (SELECT min(workspace_id::text)::uuid FROM coder.workspace_agent_stats) FOR UPDATE; SELECT pg_sleep(8); COMMIT});
	_exit(0);
}
ok($gateway->wait_for(5, sub { $gateway->sql(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'somebody holds a workspace');
my $began = time;
is_deeply([together(3, @requests)], [('3 ') x 12], 'no sample waits for it');
cmp_ok(time - $began, '<', 6, 'nor any other');
is($gateway->sql(q{SELECT count(*) FROM coder.workspaces WHERE last_used_at > now() - interval '1 minute'}), '11', 'the others are in use');
waitpid $locker, 0;
is_deeply([together(1, @requests)], [('1 ') x 12], 'by the next sample');
is($gateway->sql(q{SELECT count(*) FROM coder.workspaces WHERE last_used_at > now() - interval '1 minute'}), '12', 'it is, too');
# Connections that end together are noted together, each with its event; who is back by then is not called gone.
my @agents = map { Coder::AgentRpc->open($gateway->url, $_) or die $@ } @tokens;
my $here = sprintf q{SELECT concat_ws(' ', count(*) FILTER (WHERE disconnected_at IS NULL AND last_connected_at > now() - interval '1 minute'), count(*) FILTER (WHERE disconnected_at >= last_connected_at)) FROM coder.workspace_agents
	WHERE auth_token IN ('%s')}, join "','", @tokens;
ok($gateway->wait_for(10, sub { $gateway->sql($here) eq @tokens . ' 0' }), 'all agents are connected') or diag $gateway->sql($here);
my $events = $gateway->sql('SELECT coalesce(max(seq), 0) FROM coder.events');
undef @agents;
ok($gateway->wait_for(10, sub { $gateway->sql($here) eq '0 ' . @tokens }), 'all are gone') or diag $gateway->sql($here);
is($gateway->sql(qq{SELECT count(*) FROM coder.events WHERE seq > $events AND channel LIKE 'workspace:%' AND payload LIKE '%agt_connection_update%'}), scalar @tokens, 'with an event each');
@agents = map { Coder::AgentRpc->open($gateway->url, $_) or die $@ } @tokens;
ok($gateway->wait_for(10, sub { $gateway->sql($here) eq @tokens . ' 0' }), 'and come back');
$gateway->stop;
done_testing();
