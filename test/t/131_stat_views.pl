# coder.stat_gateway: each process tells of itself, two of one database, and who is killed is not alive any more.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('stat');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
my @gateways = map { Coder::Gateway->start(node => $node) } 1 .. 2;
my $owner = $gateways[0]->first_user;
$owner->get('/api/v2/users/me') for 1 .. 30;
ok($gateways[0]->wait_for(25, sub { $node->safe_psql('postgres', 'SELECT count(*) FROM coder.stat_gateway WHERE alive AND requests > 0') >= 1
	&& $node->safe_psql('postgres', 'SELECT count(*) FROM coder.stat_gateway WHERE alive') == 2 }), 'two gateways tell of themselves');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM coder.stat_gateway WHERE pid IN (' . join(',', map { $_->{pid} } @gateways) . ')'), 2, 'they are these processes');
ok($gateways[0]->wait_for(15, sub { $node->safe_psql('postgres', "SELECT requests FROM coder.stat_gateway WHERE pid = $gateways[0]{pid}") >= 30 }), 'requests are counted');
ok($gateways[0]->wait_for(15, sub { $node->safe_psql('postgres',
	'SELECT count(*) FROM coder.stat_gateway WHERE statements > 0 AND database_connections > 0 AND resident_bytes > 1000000 AND version IS NOT NULL AND started_at < now()') == 2 }),
	'statements, connections, memory, version');
my $rounds = $node->safe_psql('postgres', q{SELECT runs FROM coder.stat_tick WHERE step = 'round'});
ok($gateways[0]->wait_for(10, sub { $node->safe_psql('postgres', q{SELECT runs FROM coder.stat_tick WHERE step = 'round'}) > $rounds }), 'rounds of the worker go on, in shared memory');
is($node->safe_psql('postgres', q{SELECT failed FROM coder.stat_tick WHERE step = 'round'}), 0, 'none failed');

# kill -9 of the database: the table is empty, and filled again; the counters begin anew.
$node->stop('immediate');
$node->start;
ok($gateways[0]->wait_for(40, sub { ($node->psql('postgres', 'SELECT count(*) FROM coder.stat_gateway WHERE alive'))[1] == 2 }), 'after a crash of PostgreSQL both tell again');

# A round that fails is counted as one.
$node->safe_psql('postgres', q{CREATE FUNCTION coder.bad() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'; CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON coder.tick_state EXECUTE FUNCTION coder.bad()});
ok($gateways[0]->wait_for(10, sub { $node->safe_psql('postgres', q{SELECT failed FROM coder.stat_tick WHERE step = 'round'}) > 0 }), 'a round that fails is seen');
$node->safe_psql('postgres', 'DROP FUNCTION coder.bad() CASCADE');

# A stop in order is known at once; silence takes fifteen seconds.
my $told = $node->safe_psql('postgres', "SELECT id FROM coder.stat_gateway WHERE pid = $gateways[1]{pid}");
sub alive { return join ' ', map { $node->safe_psql('postgres', $_) } 'SELECT count(*) FROM coder.stat_gateway WHERE alive', 'SELECT count(*) FROM coder.replicas WHERE stopped_at IS NULL' }
is(alive(), '2 2', 'two are alive');
is($gateways[1]->stop, 0, 'one stops');
is(alive(), '1 1', 'and is not alive from then on');
is($node->safe_psql('postgres', "SELECT stopped_at BETWEEN now() - interval '10 s' AND now() FROM coder.replicas WHERE id = '$told'"), 't', 'it is this one');
is(scalar(@{ ($owner->get('/api/v2/replicas'))[1] }), 1, 'GET /replicas says the same');
$gateways[1]->up;
ok($gateways[0]->wait_for(15, sub { alive() eq '2 2' }), 'it starts again, as another');

# A database that is gone holds no stop up.
$node->stop('immediate');
my $began = time;
is($_->stop, 0, 'a stop without the database') for @gateways;
cmp_ok(time - $began, '<', 25, 'in time');
done_testing();
