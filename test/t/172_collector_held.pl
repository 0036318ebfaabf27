# A collector that is held for 60 seconds between reading and writing calls no connected agent gone; one that is silent is called so within its timeout and one interval.
# long: it waits a minute, without work.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use FindBin;
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $hold = $ENV{CODER_TEST_HOLD} // 60;
my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port" });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
my $psql = Coder::Gateway::bindir() . '/psql';
is(system($psql, '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=300', '-o', '/dev/null', '-f', "$FindBin::Bin/../pgtap/support/workspaces.psql", $socket), 0, 'three hundred workspaces');

# Eight agents by the wire, each a process that answers pings.  
my %process;
for my $i (1 .. 8)
{
	my $token = $gateway->sql(qq{SELECT a.auth_token FROM coder.workspace_agents a WHERE a.id = md5('agent$i')::uuid});
	my $pid = fork // die;
	if ($pid == 0)
	{
		my $agent = Coder::AgentRpc->open($gateway->url, $token) // POSIX::_exit(1);
		$agent->data(-1, 3600);
		POSIX::_exit(0);
	}
	$process{$i} = $pid;
}
END { if (%process) { local $?; kill 'KILL', values %process; waitpid $_, 0 for values %process } }
my $connected = q{SELECT count(*) FROM coder.workspace_agents a WHERE coder.agent_status(a, clock_timestamp()) = 'connected'};
ok($gateway->wait_for(20, sub { $gateway->sql($connected) == 8 }), 'eight agents are connected');

# The others answered 25 seconds ago, as it seems: their timeout is over while the collectors are held.
$gateway->sql(q{UPDATE coder.workspace_agents a SET first_connected_at = clock_timestamp(), last_connected_at = clock_timestamp() - interval '25 s', disconnected_at = NULL
	WHERE a.id NOT IN (SELECT md5('agent' || i)::uuid FROM generate_series(1, 8) i)});

# Two collectors: one of the database that rests between its first piece and the others, one at the address whose client does not read.
my $held = fork // die;
if ($held == 0)
{
	open my $in, '|-', $psql, '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', "$gateway->{dir}/held", $socket or POSIX::_exit(1);
	print $in "BEGIN; DECLARE c CURSOR FOR SELECT coder.metrics(); FETCH 1 FROM c; SELECT pg_sleep($hold); FETCH ALL FROM c; COMMIT;\n";
	POSIX::_exit(close($in) ? 0 : 1);
}
my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", ReceiveBuffer => 4096) or die $@;
syswrite $client, "GET /metrics HTTP/1.0\r\n\r\n";
my $began = time;

# Meanwhile: every scrape, by a second; three agents fall silent, one is killed, four are as they were.
my $prometheus = Coder::Client->new(url => "http://127.0.0.1:$port");
my %number = map { ("workspace-$_" => $_) } 1 .. 8;
sub states { my ($text) = @_; my %state; $state{ $number{$1} // 'other' }{$2}++ while $text =~ /^coderd_agents_connections\{.*?workspace_name="([^"]*)",status="(\w+)"/mg; return \%state }
my ($false, %silent, %gone) = (0);
while (time < $began + $hold)
{
	my ($status, $text) = $prometheus->get('/metrics');
	my $state = states($status == 200 ? $text : '');
	$false++ for grep { !$silent{$_} && !$state->{$_}{connected} } 1 .. 8;
	$gone{$_} //= time for grep { $silent{$_} && $state->{$_}{disconnected} } keys %silent;
	my $next = (scalar keys %silent) + 1;
	if ($next <= 4 && time > $began + $next)
	{
		kill $next == 4 ? 'KILL' : 'STOP', $process{$next};
		$silent{$next} = time;
	}
	sleep 1;
}
is($false, 0, 'no scrape calls a connected agent gone');
# The timeout, 30 s, from the last answer; a scrape's answer is half a second old at most, and there is one each second.
for my $i (sort keys %silent)
{
	my $after = $gone{$i} ? $gone{$i} - $silent{$i} : 'never';
	ok($gone{$i} && $after <= ($i == 4 ? 0 : 30) + 1 + 3, 'one that ' . ($i == 4 ? 'is killed' : 'falls silent') . ' is called gone in time') or diag "after $after s";
}

# What was held.
waitpid $held, 0;
is($?, 0, "the collector that was held, $hold s");
my $text = '';
open my $in, '<', "$gateway->{dir}/held" or die;
$text .= $_ while <$in>;
my %seen;
$seen{$1}++ while $text =~ /^coderd_agents_connections\{.*?,status="(\w+)"/mg;
is_deeply(\%seen, { connected => 300 }, 'calls no connected agent gone');
cmp_ok(length $text, '>', 262_144, 'and writes in pieces') or diag length $text;
my $slow = '';
while (sysread $client, $slow, 1 << 16, length $slow) { }
%seen = ();
$seen{$1}++ while $slow =~ /^coderd_agents_connections\{.*?,status="(\w+)"/mg;
is_deeply(\%seen, { connected => 300 }, 'nor does the one whose client did not read');
like($slow, qr/\ncoder_gateway_db_metrics_up 1\n\z/, 'which has its end');
my $now = states($gateway->sql('SELECT coder.metrics()'));
is_deeply({ connected => scalar(grep { $now->{$_}{connected} } 1 .. 8), silent => $now->{other}{disconnected} // 0 }, { connected => 4, silent => 292 },
	'the next has four that answer, and calls those gone that were silent meanwhile');
is($gateway->sql($connected), 4, 'as the table does');
kill 'CONT', $process{$_} for 1 .. 3;
$gateway->stop;
done_testing();
