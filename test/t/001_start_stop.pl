# A server starts, stops and starts again, and nothing that was acknowledged is lost, however it ended.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use File::Temp qw(tempdir);
use Test::More;

my $program = Coder::Gateway::program();

like(`$program --version`, qr/^coder-server v\d/, '--version');
my $help = `$program --help`;
is($?, 0, '--help ends well');
like($help, qr/--$_\b/, "--help names --$_") for qw(http-address access-url postgres-url global-config experiments);
like($help, qr/CODER_ACCESS_URL/, 'and the environment variables');
my $said = `$program --no-such-flag 2>&1`;
is($? >> 8, 2, 'an unknown flag is refused');
like($said, qr/unknown flag "--no-such-flag"/, 'by its name');
$said = `$program --api-rate-limit many 2>&1`;
like($said, qr/"many", not a number/, 'a value of the wrong type, too');
$said = `CODER_TLS_ENABLE=perhaps $program 2>&1`;
like($said, qr/CODER_TLS_ENABLE is "perhaps"/, 'also in the environment');

my $gateway = Coder::Gateway->start;
like($gateway->log, qr/\Q$gateway->{url}\E.*psql/s, 'a start says what to do next');
my $owner = $gateway->first_user;
my ($status, $me) = $owner->get('/api/v2/users/me');
is($status, 200, 'the first user is signed in');
# However long the first CREATE EXTENSION took: the worker of the new cluster looks for it after 5 s, and not again.
ok($gateway->wait_for(15, sub { $gateway->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coder worker'") == 1 }), 'what is due by time is done');

# A second server neither takes the port nor the cluster.
my $second = Coder::Gateway->start(port => $gateway->{port}, wait => -1);
eval { $second->up };	# the first one may answer in its place
ok($second->wait_for(10, sub { $second->ended }), 'a port that is taken ends the start');
like($second->log, qr/127\.0\.0\.1:\d+ is in use/, 'and the message says so');
my $third = Coder::Gateway->start(dir => $gateway->{dir}, log_file => "$gateway->{dir}/third.log", wait => -1);
ok(!eval { $third->up; 1 }, 'a cluster that is in use ends the start');
like($third->log, qr/another coder-server \(pid $gateway->{pid}\) uses/, 'and the message names the other');

my $postmaster = $gateway->postmaster;
is($gateway->stop('INT'), 0, 'SIGINT ends it with status 0');
ok(!kill(0, $postmaster), 'and PostgreSQL with it');
$gateway->up;
cmp_ok($gateway->{started_in}, '<', 3, 'the second start is quick');
is(($owner->get('/api/v2/users/me'))[1]{id}, $me->{id}, 'the session is still there');

# kill -9 of the launcher: PostgreSQL stops by itself, and the next start finds all.
my @sessions;
for my $round (1 .. 2)
{
	push @sessions, $gateway->login('admin@example.com', 'SomeSecurePassword!');
	$postmaster = $gateway->postmaster;
	$gateway->stop('KILL');
	ok($gateway->wait_for(30, sub { !kill 0, $postmaster }), 'PostgreSQL stops after kill -9 of the server');
	$gateway->up;
}
is(($_->get('/api/v2/users/me'))[0], 200, 'a session that was acknowledged right before is still there') for @sessions;

# kill -9 of everything at once.
kill 'KILL', $gateway->postmaster, $gateway->{pid};
$gateway->wait_for(10, sub { $gateway->ended });
$gateway->up;
is(($owner->get('/api/v2/users/me'))[0], 200, 'kill -9 of everything, and all is there');

# The server's user cannot pass a folder of root's with mode 0700.
SKIP:
{
	skip 'needs root', 1 if $> != 0;
	my $closed = tempdir('coder-closed-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chmod 0700, $closed;
	my $inside = eval { Coder::Gateway->start(dir => $closed) };
	skip 'needs the right to make a mount namespace', 1
	  if !$inside && $@ =~ /reachable for the server: Operation not permitted/;
	is($inside && ($inside->client->get('/api/v2/users/first'))[0], 404, 'a cluster below a closed folder works');
	undef $inside;
}
done_testing();
