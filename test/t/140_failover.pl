# The primary dies for good and its standby is promoted: the server goes on there, with all that was acknowledged.
#
# Replication is synchronous.  A writer makes users all the time; each that it was told of is there in the end, once.
# The gateway is given both servers and looks for the one that takes changes; workspaces and watchers stay.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use Coder::WebSocket;
use File::Temp qw(tempdir);
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ncoder.database = 'postgres'\nsynchronous_commit = on\nmax_connections = 100");
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
$primary->reload;

# As libpq wants several hosts; the address of one server, twice where both share a folder of sockets.
my $servers = sprintf 'host=%s,%s port=%d,%d dbname=postgres target_session_attrs=read-write connect_timeout=5 user=%s',
	$primary->host, $standby->host, $primary->port, $standby->port, scalar getpwuid $<;
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => {
		%{ Coder::Provisioning::env($dir) },
		CODER_AGENT_BINARY      => Coder::Provisioning::coder(),
		CODER_PG_CONNECTION_URL => $servers,
		CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true',
	});
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $none = Coder::Provisioning::no_sandbox();
my $workspace;
unless ($none)
{
	my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
	$workspace = ($owner->post('/api/v2/users/me/workspaces', { template_id => $template->{id}, name => 'dev' }))[1];
	ok($gateway->wait_for(60, sub { join('|', $p->run_coder(qw(ssh dev -- echo there))) eq "there\n|0" }), 'a workspace has a shell');
}

# An agent that reports what its boundary did, each batch until it is acknowledged.
my ($token) = workspaces($gateway, 2, $servers);
my $reporter = fork // die "fork: $!";
if ($reporter == 0)
{
	my ($n, undef, $tried) = Coder::Reports::sender($gateway, $token, 20, 1, 1);
	open my $out, '>', "$dir/reported" or die;
	print $out "$n $tried";
	close $out;
	POSIX::_exit(0);
}

# Users until the file says stop: a line for each answer.
my $said = "$dir/said";
my ($organization) = map { $_->{id} } @{ ($owner->get('/api/v2/organizations'))[1] };
my $writer = fork // die "fork: $!";
if ($writer == 0)
{
	open my $out, '>', $said or die;
	$out->autoflush;
	for (my $n = 0; !-e "$dir/stop"; $n++)
	{
		my ($status) = eval { $owner->post('/api/v2/users', { username => "u$n", email => "u$n\@example.com", password => 'SomeSecurePassword!',
					organization_ids => [$organization] }) };
		printf $out "%d %s\n", $n, $status // 599;
		sleep 0.02 unless ($status // 0) == 201;
	}
	POSIX::_exit(0);
}
sub said { open my $in, '<', $said or return; return map { [split] } <$in> }
sub made { return grep { $_->[1] == 201 } said() }

ok($gateway->wait_for(30, sub { made() >= 30 }), 'users are made');
$primary->stop('immediate');
my $before = () = made();
$standby->promote;
$standby->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
$standby->reload;
my $began = time;
ok($gateway->wait_for(60, sub { made() >= $before + 30 }), 'users are made on the other server') or diag $gateway->log;
note sprintf 'the first answers after %.1f s', time - $began;
open my $stop, '>', "$dir/stop" or die;
waitpid $writer, 0;

# A report that was counted, and whose acknowledgement was lost with the primary, comes again: it is not counted again.
waitpid $reporter, 0;
open my $reported, '<', "$dir/reported" or die "$!";
my ($batches, $tries) = split ' ', <$reported>;
note "$batches batches in $tries tries";
is($standby->safe_psql('postgres', q{SELECT concat_ws(' ', sum(reports), sum(allowed), sum(denied)) FROM (
	SELECT reports, allowed_requests AS allowed, denied_requests AS denied FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL
	UNION ALL SELECT reports, allowed_requests, denied_requests FROM coder.boundary_usage_stats) x}), join(' ', $batches, 2 * $batches, $batches), 'every report of a boundary is counted once');

my %there = map { $_ => 1 } split /\n/, $standby->safe_psql('postgres', q(SELECT username FROM coder.users WHERE username ~ '^u\d+$'));
my @lost = grep { !$there{"u$_->[0]"} } made();
is(@lost, 0, 'no user that was acknowledged is lost') or diag join ' ', map { $_->[0] } @lost;
my %refused = map { ("u$_->[0]" => 1) } grep { $_->[1] =~ /^4/ } said();
is(join(' ', grep { $there{$_} } sort keys %refused), '', 'none that was refused is there');
ok($gateway->wait_for(20, sub { $standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coder worker'") == 1 }),
	'the worker runs on the new primary');

SKIP:
{
	skip $none, 4 if $none;
	is(join('|', $p->run_coder(qw(ssh dev -- echo still))), "still\n|0", 'the workspace is as it was');
	my $watch = Coder::WebSocket->open($gateway->url, "/api/v2/workspaces/$workspace->{id}/watch-ws", token => $owner->{token});
	is($p->build($workspace, 'stop')->{status}, 'succeeded', 'it stops');
	my $seen;
	my $end = time + 30;
	while (!$seen && time < $end && !$watch->{close})
	{
		$seen = 1 if ($watch->message(1) // '') =~ /"transition":"stop"/;
	}
	ok($seen, 'a watcher sees it: events go on');
	is($p->build($workspace, 'start')->{status}, 'succeeded', 'it starts again');
}
is($gateway->stop, 0, 'the server ends well');
done_testing();
