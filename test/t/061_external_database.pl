# A server on a PostgreSQL of somebody else's, whose library is preloaded or not, does all that the embedded one does.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use PostgreSQL::Test::Cluster;
use Test::More;

my $worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coder worker'";

sub ws_until
{
	my ($ws, $re) = @_;
	my $end = time + 30;
	my $last;
	while (time < $end && !$ws->{close})
	{
		$last = $ws->message(1) // next;
		return 1 if $last =~ $re;
	}
	diag $last // 'nothing';
	diag "closed: @{$ws->{close}}" if $ws->{close};
	return 0;
}

# A watcher that is not read answers no pings, and is cut off: what has come is read, and forgotten.
sub ws_drain { my ($ws) = @_; 1 while defined $ws->message(0); return }

for my $preload (0, 1)
{
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $node = PostgreSQL::Test::Cluster->new("preload$preload");
	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ncoder.database = 'postgres'") if $preload;
	$node->start;
	my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $gateway = Coder::Gateway->start(node => $node,
		env => { %{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => Coder::Provisioning::coder() });
	my $p = Coder::Provisioning->new($gateway);
	my $owner = $p->{client};

	is(($owner->get('/api/v2/users/me'))[1]{username}, 'admin', "$how: the first user signs in");
	ok(!-e "$gateway->{dir}/config/postgres", 'no cluster is made');
	ok($gateway->wait_for(15, sub { $node->safe_psql('postgres', $worker) == 1 }), 'the worker runs, once');

	my $version = $p->import('starter', Coder::Provisioning::starter());
	is($version->{status}, 'succeeded', 'the starter template is imported') or diag $version->{error};
	my $template = $p->template('starter', $version);
	my ($ws, $watch);
  SKIP:
	{
		my $why = Coder::Provisioning::no_sandbox();
		skip $why, 7 if $why;
		my ($status, $body) = $owner->post('/api/v2/users/me/workspaces', { template_id => $template->{id}, name => 'dev' });
		is($status, 201, 'a workspace is made');
		$watch = Coder::WebSocket->open($gateway->url, "/api/v2/workspaces/$body->{id}/watch-ws", token => $owner->{token});
		ok(ws_until($watch, qr/"lifecycle_state":"ready"/), 'a watcher sees its agent become ready');
		is(join('|', $p->run_coder(qw(ssh dev -- echo there))), "there\n|0", 'and there is a shell');
		ws_drain($watch);

		# PostgreSQL is restarted: the server, the worker, the workspace and the watcher go on.
		$node->restart('immediate');
		ok($gateway->wait_for(20, sub { ($owner->get('/api/v2/users/me'))[0] == 200 }), 'the server is back after a crash of PostgreSQL');
		ok($gateway->wait_for(15, sub { $node->safe_psql('postgres', $worker) == 1 }), 'so is the worker');
		ws_drain($watch);
		is(join('|', $p->run_coder(qw(ssh dev -- echo again))), "again\n|0", 'the workspace is as it was');
		ws_drain($watch);
		is($p->build($body, 'stop')->{status}, 'succeeded', 'it stops');
		ok(ws_until($watch, qr/"transition":"stop"/), 'and the watcher sees it');
		undef $watch;
	}
	is($gateway->stop, 0, 'the server ends well');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM coder.users WHERE NOT is_system'), 1, 'PostgreSQL goes on without it');
	$node->stop;
}

# A database that is not there: the server waits for it, says so, and can be ended.
my $none = Coder::Gateway->start(wait => -1, env => { CODER_PG_CONNECTION_URL => 'postgres://nobody@127.0.0.1:1/none' });
$none->launch;
ok($none->wait_for(20, sub { $none->log =~ /waiting for the database.*127\.0\.0\.1.*refused/s }), 'without a database the server waits, and says why') or diag $none->log;
is(($none->client->get('/healthz'))[0], 599, 'it does not start');
ok(defined $none->stop, 'it can be ended while it waits');
done_testing();
