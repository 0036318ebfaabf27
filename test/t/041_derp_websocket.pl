# Where something on the way does not let the relay's upgrade pass, agent and client use a WebSocket.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Proxy;
use Digest::SHA qw(sha256_hex);
use File::Temp qw(tempdir);
use Test::More;

Coder::Provisioning::need_sandbox();

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $broken = "$dir/broken";

# A server, a workspace and both ends of its tunnel behind a proxy that does what rule says.
sub behind
{
	my ($rule, %env) = @_;
	my $port = Coder::Gateway::free_port();
	my $proxy = Coder::Proxy->start("http://127.0.0.1:$port", rule => $rule);
	my $gateway = Coder::Gateway->start(port => $port, env => { %{ Coder::Provisioning::env($dir) },
		CODER_AGENT_BINARY => Coder::Provisioning::coder(), CODER_ACCESS_URL => $proxy->url, %env });
	my $p = Coder::Provisioning->new($gateway);
	my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
	my ($ws, $build) = $p->create($template, 'dev');
	is($build->{status}, 'succeeded', 'a workspace runs') or diag $build->{error};
	return ($gateway, $proxy);
}

# What was asked of the relay: its upgrades, in order; and without repetitions.
sub asked { my ($proxy) = @_; return map { m{^GET /derp HTTP.*^Upgrade: (\S+)}ms ? lc $1 : () } $proxy->heads }
sub upgrades { my ($proxy) = @_; my $last = ''; return join ' ', grep { $_ ne $last && ($last = $_) } asked($proxy) }

sub through
{
	my ($gateway, $proxy) = @_;
	my $p = { gateway => { %$gateway, url => $proxy->url }, client => $gateway->client($gateway->{token}) };

	is(join('|', Coder::Provisioning::run_coder($p, qw(ssh dev -- echo there))), "there\n|0", 'a command runs');
	my ($got) = Coder::Provisioning::run_coder($p, 'ssh', 'dev', '--', 'for i in $(seq 1 20000); do echo 0123456789012345678901234567890123456789012345678901234567890123; done');
	is(sha256_hex($got), sha256_hex(('0123456789' x 6 . "0123\n") x 20_000), 'a megabyte comes as it is');
	return;
}

# What the relay counts adds up.
sub relay_counts
{
	my ($gateway) = @_;
	my ($status, $text) = $gateway->client->get('/metrics');
	my %n;
	while ($text =~ /^coder_derp_server_(\w+)(?:\{\w+="(\w+)"\})? (\S+)$/mg) { $n{$1}{ $2 // '' } = $3 }
	my $sum = sub { my $all = 0; $all += $_ for values %{ $n{ $_[0] } // {} }; return $all };
	cmp_ok($n{packets_received_total}{''}, '>', 500, 'packets of the relay');
	is($sum->('packets_received_kind_total'), $n{packets_received_total}{''}, '  by kind');
	cmp_ok($n{packets_received_kind_total}{disco}, '<', $n{packets_received_kind_total}{other}, '  most are no pings');
	is($n{packets_sent_total}{''} + $n{packets_dropped_reason_total}{unknown_dest}, $n{packets_received_total}{''}, '  were given on, or for nobody');
	is($sum->($_), $n{packets_dropped_total}{''}, "  $_") for qw(packets_dropped_reason_total packets_dropped_type_total);
	cmp_ok($n{bytes_received_total}{''}, '>', 1_280_000, '  their bytes');
	cmp_ok($n{average_queue_duration_ms}{''}, '>', 0, '  they wait');
	cmp_ok($n{average_queue_duration_ms}{''}, '<', 1000, '  not long');
	is($n{clients}{''}, $n{clients_local}{''} + $n{clients_remote}{''}, '  peers here and elsewhere');
	cmp_ok($n{clients_local}{''}, '>=', 1, '  the agent is one');
	is($n{got_ping_total}{''}, $n{sent_pong_total}{''}, '  pings are answered');
	is(scalar(keys %n), 25, '  all of its families');
	return;
}

{
	# It passes WebSockets, and drops what it does not know, as proxies do.
	my ($gateway, $proxy) = behind(sub {
		my ($head) = @_;
		$head =~ s/\r\n(?:Upgrade|Connection):[^\r]*//gi if $head =~ /^Upgrade: DERP/mi;
		return $head;
	});
	through($gateway, $proxy);
	relay_counts($gateway);
	my %times;
	$times{$_}++ for asked($proxy);    # two ends may ask at the same time
	is($times{derp}, 3, 'each end (an agent, two clients) asks once') or diag join ' ', asked($proxy);
	cmp_ok($times{websocket}, '>=', 3, 'then takes a WebSocket');
	my ($head) = grep { m{^GET /derp } && /websocket/i } $proxy->heads;
	like($head, qr/^Sec-WebSocket-Protocol: derp\r$/m, 'of the relay');
	is($gateway->sql(q(SELECT node -> 'derp_forced_websocket' ->> '999' FROM coder.workspace_agent_nodes)), 'the answer to the upgrade was 426', 'the agent tells why');

	# Sticky: after the connections broke, no end tries the upgrade again.
	my $before = () = $proxy->heads;
	$proxy->cut;
	$gateway->wait_for(10, sub { grep { m{^GET /derp } } ($proxy->heads)[ $before .. -1 + (() = $proxy->heads) ] });
	my @later = grep { m{^GET /derp } } ($proxy->heads)[ $before .. -1 + (() = $proxy->heads) ];
	ok(@later && !(grep { !/websocket/i } @later), 'the agent comes back by WebSocket at once') or diag @later;
}
{
	# A relay that fails for a while is not taken for such a proxy.
	my ($gateway, $proxy) = behind(sub {
		my ($head) = @_;
		return $head unless $head =~ /^Upgrade: DERP/mi && !-e $broken;
		open my $file, '>', $broken;
		return { answer => "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n" };
	});
	is(join('|', Coder::Provisioning::run_coder({ gateway => { %$gateway, url => $proxy->url }, client => $gateway->client($gateway->{token}) },
		qw(ssh dev -- echo there))), "there\n|0", 'a command runs');
	is(upgrades($proxy), 'derp', 'after a 502 the upgrade is asked for again');
}
{
	my ($gateway, $proxy) = behind(undef, CODER_DERP_FORCE_WEBSOCKETS => 'true');
	through($gateway, $proxy);
	is(upgrades($proxy), 'websocket', 'where the deployment says so, a WebSocket from the start');
}
done_testing;
