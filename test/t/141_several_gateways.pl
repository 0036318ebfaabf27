# Two gateways on one database are one tailnet: whoever is connected to one reaches who is connected to the other.
#
# Before both stands a proxy that gives each connection to the next gateway, as a load balancer may: the agent, its relay,
# the client and its relay end up anywhere.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Proxy;
use Coder::WebSocket;
use File::Temp qw(tempdir);
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_sandbox();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ncoder.database = 'postgres'\nmax_connections = 200");
$node->start;
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my @ports = (Coder::Gateway::free_port(), Coder::Gateway::free_port());
my $balancer = Coder::Proxy->start([ map { "http://127.0.0.1:$_" } @ports ]);
my %env = (%{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => Coder::Provisioning::coder(), CODER_ACCESS_URL => $balancer->url);

sub gateway
{
	my ($n) = @_;
	return Coder::Gateway->start(node => $node, port => $ports[$n],
		env => { %env, CODER_DERP_SERVER_RELAY_URL => "http://127.0.0.1:$ports[$n]", CODER_PROVISIONER_DAEMONS => $n == 0 ? 2 : 0 });
}
my @gateways = map { gateway($_) } 0, 1;
my $p = Coder::Provisioning->new($gateways[0]);
$gateways[1]{token} = $gateways[0]{token};
my $owner = $p->{client};

sub replicas { return @{ ($owner->get('/api/v2/replicas'))[1] } }
ok($gateways[0]->wait_for(20, sub { replicas() == 2 }), 'two gateways live');
is_deeply([ sort map { $_->{relay_address} } replicas() ], [ sort map { "http://127.0.0.1:$_" } @ports ], 'with their relay URLs');
sub notes { diag($_->log =~ s{^}{# }mgr) for @gateways }
sub linked { my ($gateway) = @_; return $gateway->log =~ /mesh: the gateway .* is told/ }
ok($gateways[0]->wait_for(20, sub { linked($gateways[0]) && linked($gateways[1]) }), 'each tells the other of its peers') or notes();

my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace runs') or diag $build->{error};
my $agent = $node->safe_psql('postgres', 'SELECT id FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
sub connected { return ($owner->get("/api/v2/workspaceagents/$agent"))[1]{status} eq 'connected' }
ok($gateways[0]->wait_for(20, \&connected), 'its agent is connected, to one of them');

sub terminal
{
	my ($gateway) = @_;
	my $id = sprintf '%08x-0000-4000-8000-%012x', rand 2**31, rand 2**31;
	return Coder::WebSocket->open($gateway->url, "/api/v2/workspaceagents/$agent/pty?reconnect=$id&width=80&height=24&command=sh",
		token => $gateways[0]{token}) // die $@;
}
sub answers
{
	my ($pty, $what) = @_;
	my $seen = '';
	my $end = time + 15;

	$pty->send_frame(2, JSON::PP::encode_json({ data => "echo $what-\$((1+1))\r" }));
	while (time < $end && !$pty->{close} && $seen !~ /$what-2/) { $seen .= $pty->message(1) // '' }
	return $seen =~ /$what-2/;
}
ok(answers(terminal($gateways[$_]), "here$_"), "a terminal by gateway $_") for 0, 1;

# The client by either gateway; its relay is wherever the proxy leads.
for my $n (0, 1, 0, 1)
{
	local $p->{gateway} = $gateways[$n];
	is(join('|', $p->run_coder('ssh', 'dev', '--', 'echo', "by $n")), "by $n\n|0", "a shell by gateway $n");
}

# Much of it: what goes in comes out.
{
	my $file = "$dir/big";
	open my $out, '>', $file or die;
	print $out pack('N*', map { rand 2**32 } 1 .. 250_000) for 1 .. 5;
	close $out;
	my ($sum) = `sha256sum < $file` =~ /^(\w+)/;
	local %ENV = (%ENV, CODER_URL => $balancer->url, CODER_SESSION_TOKEN => $gateways[0]{token}, CODER_CONFIG_DIR => "$dir/client");
	delete @ENV{ grep { /^CODER_(?!URL|SESSION|CONFIG_DIR)/ } keys %ENV };
	my $coder = Coder::Provisioning::coder();
	like(scalar(`timeout 60 $coder ssh dev -- sha256sum < $file`), qr/^$sum\b/, '5 MB through both');
}

# One gateway dies: the other has both ends when the agent is back, and the dead one is told again when it is.
my $pty = terminal($gateways[0]);
ok(answers($pty, 'before'), 'a terminal by the gateway that stays');
$gateways[1]->stop('KILL');
ok($gateways[0]->wait_for(40, sub { connected() && eval { answers(terminal($gateways[0]), 'alone') } }), 'which reaches the agent still, or again');
$gateways[1]->up;
ok($gateways[1]->wait_for(30, sub { linked($gateways[1]) && eval { answers(terminal($gateways[1]), 'back') } }), 'and so does the other, back again');

# Who has no token of this deployment is not let in.
is(($owner->get('/api/v2/replicas/mesh'))[0], 401, 'a session is no pass to the mesh');

is($gateways[1]->stop, 0, 'a gateway that ends well');
ok($gateways[0]->wait_for(10, sub { $gateways[0]->log =~ /mesh: the gateway .* cannot be told/ }), 'is missed');
ok($gateways[0]->wait_for(40, sub { connected() && eval { answers(terminal($gateways[0]), 'last') } }), 'the agent comes to the one that is left');
is($gateways[0]->stop, 0, 'which ends well too');
done_testing();
