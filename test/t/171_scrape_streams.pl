# A long scrape comes as it is written: the gateway holds little of it however slowly it is read, and half of it never looks whole.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes qw(slurp);
use FindBin;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port" });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
is(system(Coder::Gateway::bindir() . '/psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=600', '-o', '/dev/null', '-f',
	"$FindBin::Bin/../pgtap/support/workspaces.psql", $socket), 0, 'six hundred workspaces');

sub ask
{
	my ($version) = @_;
	my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", ReceiveBuffer => 65536) or die $@;
	syswrite $client, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	return $client;
}
# What comes within some seconds, at so many bytes a second (0: at once), until so many have come (0: all).
sub take
{
	my ($client, $seconds, $rate, $enough) = @_;
	my ($bytes, $until, $began) = ('', time + $seconds, time);
	while (time < $until && IO::Select->new($client)->can_read($until - time > 0 ? $until - time : 0))
	{
		my $n = sysread $client, $bytes, 1 << 18, length $bytes;
		last unless $n;
		last if $enough && length $bytes >= $enough;
		sleep 0.01 while $rate && length($bytes) / $rate > time - $began;
	}
	return $bytes;
}
# The body of an answer in chunks; undef where its end is missing.
sub body
{
	my ($answer) = @_;
	my ($head, $rest) = split /\r\n\r\n/, $answer, 2;
	return unless defined $rest && $head =~ /^HTTP\/1.1 200 .*^transfer-encoding: chunked/msi;
	my ($body, $at) = ('', 0);
	for (;;)
	{
		pos($rest) = $at;
		return unless $rest =~ /\G([0-9a-f]+)\r\n/gi;
		my $length = hex $1;
		return $body if $length == 0;
		return if length($rest) < pos($rest) + $length + 2;
		$body .= substr $rest, pos($rest), $length;
		$at = pos($rest) + $length + 2;
	}
}
sub resident { return slurp("/proc/$gateway->{pid}/status") =~ /^VmRSS:\s+(\d+)/m ? $1 / 1024 : die }
sub collectors { return $gateway->sql(q{SELECT count(*) FROM pg_stat_activity a WHERE a.query ~ 'coder.metrics\(\)' AND a.state = 'active' AND a.pid <> pg_backend_pid()}) }

# A short one is kept: who comes soon gets the same.
my ($first, $second) = map { body(take(ask(), 20)) } 1 .. 2;
like($first, qr/^coderd_agents_connections\{.*\ncoder_gateway_db_metrics_up 1\n\z/ms, 'a scrape, to its end');
sub of_database { return $_[0] =~ s/^# HELP process_start_time_seconds .*//msr }
is(of_database($second), of_database($first), 'one that follows within seconds shares what the database said');

# A long one: 400 agents with a thousand relays each.
$gateway->sql(q{UPDATE coder.workspace_agent_nodes SET latency = (SELECT jsonb_object_agg('Relay with a long name ' || r, jsonb_build_object('preferred', r = 1, 'latency_ms', r)) FROM generate_series(1, 1000) r)});
sleep 0.6;
my $before = resident();
my $began = time;
my $long = body(take(ask(), 60));
my $took = time - $began;
cmp_ok(length($long // ''), '>', 50_000_000, 'a scrape of many megabytes');
is(scalar(() = $long =~ /^coderd_agents_connection_latencies_seconds\{/mg), 400_000, 'has all lines');
like($long, qr/\ncoder_gateway_db_metrics_up 1\n\z/, 'and its end');
unlike($long, qr/^[^#\n]*[^\d.e+\-NaIinf\n]\n/m, 'each line is whole');

# Slowly: the gateway does not hold it, the database waits, others are served, and nothing is missing.
my $slow = ask();
my $head = take($slow, 20, 0, 1_000_000);
my $most = 0;
my $health = 0;
for (1 .. 20)
{
	$head .= take($slow, 0.1, 5_000_000);
	$most = resident() if resident() > $most;
	$health++ if ($gateway->client->get('/healthz'))[0] == 200;
}
cmp_ok($most - $before, '<', 40, 'the gateway holds a part of it') or diag "$before MB before, $most MB";
is(collectors(), 1, 'the database waits meanwhile');
is($health, 20, 'and others are answered');
my $rest = body($head . take($slow, 60));
is(scalar(() = ($rest // '') =~ /^coderd_agents_connection_latencies_seconds\{/mg), 400_000, 'one that is read slowly is whole, too');
ok($gateway->wait_for(5, sub { collectors() == 0 }), 'and then the database is done');

# A client that goes.
my $going = ask();
take($going, 20, 0, 300_000);
is(collectors(), 1, 'another');
close $going;
ok($gateway->wait_for(10, sub { collectors() == 0 }), 'whose client goes: the database stops');

# A backend that is killed in the midst of it.
my $broken = ask();
my $part = take($broken, 20, 0, 300_000);
$gateway->sql(q{SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.query ~ 'coder.metrics\(\)' AND a.state = 'active' AND a.pid <> pg_backend_pid()});
$part .= take($broken, 20);
ok(length $part > 300_000 && !defined body($part), 'the database is gone in the midst of it: the answer has no end');
like($gateway->log, qr/no metrics of the database: /, 'which is logged');
ok($gateway->wait_for(20, sub { (body(take(ask(), 60)) // '') =~ /\ncoder_gateway_db_metrics_up 1\n\z/ }), 'and the next is whole');
is(($gateway->client->get('/healthz'))[0], 200, 'the gateway lives');
$gateway->stop;
done_testing();
