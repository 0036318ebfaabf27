# A reader of events never passes a transaction that is still running, and a commit wakes it.
use strict; use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coder');

sub after
{
	my ($seq, $ms) = @_;
	return $node->safe_psql('postgres', "SELECT coalesce(string_agg(payload, ' '), '') FROM coder.events_after($seq, $ms)");
}

# The first transaction takes the lower number and commits last.
my $one = $node->background_psql('postgres');
my $two = $node->background_psql('postgres');
$one->query_safe("BEGIN; SELECT coder.emit('a', 'first')");
$two->query_safe("BEGIN; SELECT coder.emit('a', 'second')");
$two->query_safe('COMMIT');
is(after(0, 0), '', 'a committed event waits for a lower one that is not decided');
$one->query_safe('COMMIT');
is(after(0, 0), 'first second', 'then both come, in order');

# A transaction that ends without its event does not hold up the others.
$one->query_safe("BEGIN; SELECT coder.emit('a', 'never')");
$two->query_safe("SELECT coder.emit('a', 'third')");
is(after(2, 0), '', 'an undecided event holds up what follows');
$one->query_safe('ROLLBACK');
is(after(2, 0), 'third', 'until it is rolled back');

# A waiting reader is woken by the commit, not by its timeout; a rollback wakes nobody.
my $last = $node->safe_psql('postgres', 'SELECT max(seq) FROM coder.events');
my $out = '';
my $reader = IPC::Run::start(
	['psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "SELECT payload FROM coder.events_after($last, 20000)"],
	'>', \$out);
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%events_after($last, 20000)%' AND wait_event_type = 'Extension'"),
	'a reader waits');
my $start = time;
$one->query_safe("BEGIN; SELECT coder.emit('a', 'lost')");
$one->query_safe('ROLLBACK');
$one->query_safe("SELECT coder.emit('a', 'woken')");
$reader->finish;
is($out, "woken\n", 'it gets the event');
cmp_ok(time - $start, '<', 10, 'long before its timeout');
is(after(999999, 100), '', 'nothing comes where nothing is');

# Readers that follow the numbers of many writers miss nothing and see nothing twice.
my ($writers, $each) = (4, 100);
$last = $node->safe_psql('postgres', 'SELECT max(seq) FROM coder.events');
my @writers = map {
	my $w = $_;
	my $sql = join '', map { "BEGIN; SELECT coder.emit('w', '$w.$_'); SELECT pg_sleep(0.001 * ($_ % 3)); "
			. ($_ % 10 == 9 ? 'ROLLBACK;' : 'COMMIT;') . "\n" } 1 .. $each;
	my $file = $node->basedir . "/writer$w.sql";
	PostgreSQL::Test::Utils::append_to_file($file, $sql);
	IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'), '-f', $file], '>', '/dev/null');
} 1 .. $writers;
my $wanted = $writers * $each * 9 / 10;
my (%seen, $twice);
my $backwards = 0;
my $deadline = time + 60;
while (keys %seen < $wanted && time < $deadline)
{
	for (split /\n/, $node->safe_psql('postgres', "SELECT seq, payload FROM coder.events_after($last, 500)"))
	{
		my ($seq, $payload) = split /\|/;
		$twice = $payload if $seen{$payload}++;
		$backwards++ if $seq <= $last;
		$last = $seq;
	}
}
$_->finish for @writers;
is(scalar(keys %seen), $wanted, 'all committed events were read');
is($twice, undef, 'none twice');
is($backwards, 0, 'and in order');

# The background worker runs once however often it is asked for, and ends with the extension.
ok($node->safe_psql('postgres', 'SELECT coder.ensure_worker()') eq 't', 'the worker starts');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'coder worker'"), 'it runs');
$node->safe_psql('postgres', 'SELECT coder.ensure_worker() FROM generate_series(1, 5)');
$node->safe_psql('postgres', "UPDATE coder.events SET created_at = now() - interval '1 hour'");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM coder.events'), 'it removes old events');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coder worker'"), 1, 'it is alone');
$node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION coder.tick() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$');
$node->safe_psql('postgres', "INSERT INTO coder.events (channel, created_at) VALUES ('x', now() - interval '1 hour')");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM coder.events'), 'it goes on after a round that failed');
$one->quit;
$two->quit;
$node->safe_psql('postgres', 'DROP EXTENSION coder CASCADE');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'coder worker'"), 'it ends with the extension');
done_testing();
