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

# A reader's position, kept from call to call.
my $at;

sub start_here
{
	$at = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmin(pg_current_snapshot())');
}

sub rows_after
{
	my ($ms) = @_;
	return map { [split /\|/] } split /\n/, $node->safe_psql('postgres', "SELECT next, seq, payload FROM coder.events_after('$at', $ms)");
}

sub after
{
	my ($ms) = @_;
	my @rows = rows_after($ms);
	$at = $rows[0][0] if @rows;
	return join ' ', map { $_->[2] } @rows;
}

# The first transaction takes the lower number and commits last.
my $one = $node->background_psql('postgres');
my $two = $node->background_psql('postgres');
start_here();
$one->query_safe("BEGIN; SELECT coder.emit('a', 'first')");
$two->query_safe("BEGIN; SELECT coder.emit('a', 'second')");
$two->query_safe('COMMIT');
is(after(0), '', 'a committed event waits for a transaction before it that is not decided');
$one->query_safe('COMMIT');
is(after(0), 'first second', 'then both come, in order');

# A transaction that ends without its event does not hold up the others.
$one->query_safe("BEGIN; SELECT coder.emit('a', 'never')");
$two->query_safe("SELECT coder.emit('a', 'third')");
is(after(0), '', 'an undecided event holds up what follows');
$one->query_safe('ROLLBACK');
is(after(0), 'third', 'until it is rolled back');

# The older transaction takes the higher number and ends first: it must not
# carry the reader past the lower number of the one that is still running.
$one->query_safe('BEGIN; SELECT pg_current_xact_id()');
$two->query_safe("BEGIN; SELECT coder.emit('a', 'lower')");
$one->query_safe("SELECT coder.emit('a', 'higher')");
$one->query_safe('COMMIT');
is(after(0), 'higher', 'an older transaction with a higher number comes when it has ended');
$two->query_safe('COMMIT');
is(after(0), 'lower', 'and the lower number of the younger one is not lost');
is(after(0), '', 'none of it comes again');

# A transaction of another database writes no events here, and holds up none; one of this database may still.
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
my $far = $node->background_psql('elsewhere');
$far->query_safe('BEGIN; SELECT pg_current_xact_id()');
$two->query_safe("SELECT coder.emit('a', 'past')");
is(after(0), 'past', 'a transaction of another database is not waited for');
$one->query_safe('BEGIN; SELECT pg_current_xact_id()');
$two->query_safe("SELECT coder.emit('a', 'behind')");
is(after(0), '', 'one of this database is');
$one->query_safe("SELECT coder.emit('a', 'before'); COMMIT");
is(after(0), 'behind before', 'since it may still have something to tell');
my $near = $node->background_psql('postgres');
$near->query_safe("BEGIN; SAVEPOINT a; SELECT pg_current_xact_id(); ROLLBACK TO a; SAVEPOINT b; CREATE TEMP TABLE t ()");
$two->query_safe("SELECT coder.emit('a', 'sub')");
is(after(0), '', 'with savepoints, too');
$near->query_safe("SELECT coder.emit('a', 'own'); RELEASE b; COMMIT");
is(after(0), 'sub own', 'whole and in order');
$near->quit;
$far->query_safe('COMMIT');
$far->quit;

# A reader that begins while a transaction with events is running gets them.
$one->query_safe("BEGIN; SELECT coder.emit('a', 'running')");
start_here();
$two->query_safe("SELECT coder.emit('a', 'later')");
$one->query_safe('COMMIT');
is(after(0), 'running later', 'what was running at the start of a reader reaches it');

# An answer is limited, but a transaction is never split.
$one->query_safe("SELECT coder.emit('b', 'one' || i) FROM generate_series(1, 600) i");
$one->query_safe("SELECT coder.emit('b', 'two' || i) FROM generate_series(1, 900) i");
$one->query_safe("SELECT coder.emit('b', 'three')");
is(scalar(split / /, after(0)), 1500, 'the limit falls into a transaction, which is whole');
is(after(0), 'three', 'the next answer begins behind it');

# A waiting reader is woken by the commit, not by its timeout; a rollback wakes nobody.
my $out = '';
my $reader = IPC::Run::start(
	['psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "SELECT payload FROM coder.events_after('$at', 20000)"],
	'>', \$out);
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%events_after(%20000)%' AND wait_event_type = 'Extension'"),
	'a reader waits');
my $start = time;
$one->query_safe("BEGIN; SELECT coder.emit('a', 'lost')");
$one->query_safe('ROLLBACK');
$one->query_safe("SELECT coder.emit('a', 'woken')");
$reader->finish;
is($out, "woken\n", 'it gets the event');
cmp_ok(time - $start, '<', 10, 'long before its timeout');
is(after(0), 'woken', 'as every reader does');
is(after(100), '', 'nothing comes where nothing is');

# A reader that fell behind does not look at all that it has not had for each answer.
start_here();
$one->query_safe("SELECT count(coder.emit('c', i::text)) FROM generate_series(1, 1000) i") for 1 .. 20;
my $reads = "SELECT pg_stat_force_next_flush(); SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'events_pkey';";
my @read = grep { length } split /\n/, $node->safe_psql('postgres', "$reads
	DO \$\$
	DECLARE at xid8 := '$at'; n int := 0; more int; next xid8;
	BEGIN
		LOOP
			SELECT count(*), max(e.next::text)::xid8 INTO more, next FROM coder.events_after(at, 0) e;
			EXIT WHEN more = 0;
			n := n + more;
			at := next;
		END LOOP;
		IF n <> 20000 THEN RAISE EXCEPTION '% of 20000', n; END IF;
	END \$\$; $reads");
cmp_ok($read[1] - $read[0], '<', 60_000, 'twenty answers of a thousand read no more rows than about twice what they hold');
start_here();

# Readers that follow many writers miss nothing and see nothing twice.
my ($writers, $each) = (4, 100);
my @writers = map {
	my $w = $_;
	my $sql = join '', map { "BEGIN; " . ($_ % 2 ? "SELECT pg_current_xact_id(), pg_sleep(0.001); " : '')
			. "SELECT coder.emit('w', '$w.$_'); SELECT pg_sleep(0.001 * ($_ % 3)); "
			. ($_ % 10 == 9 ? 'ROLLBACK;' : 'COMMIT;') . "\n" } 1 .. $each;
	my $file = $node->basedir . "/writer$w.sql";
	PostgreSQL::Test::Utils::append_to_file($file, $sql);
	IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'), '-f', $file], '>', '/dev/null');
} 1 .. $writers;
my $wanted = $writers * $each * 9 / 10;
my (%seen, $twice);
my $backwards = 0;
my $moved = $at;
my $deadline = time + 60;
while (keys %seen < $wanted && time < $deadline)
{
	my $last = 0;
	for (rows_after(500))
	{
		my ($next, $seq, $payload) = @$_;
		$twice = $payload if $seen{$payload}++;
		$backwards++ if $seq <= $last || $next < $at;
		$last = $seq;
		$moved = $next;
	}
	$at = $moved;
}
$_->finish for @writers;
is(scalar(keys %seen), $wanted, 'all committed events were read');
is($twice, undef, 'none twice');
is($backwards, 0, 'and in order within each answer');

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

# A crash is another history: positions of before mean nothing any more.
my $history = $node->safe_psql('postgres', 'SELECT coder.events_history()');
is($node->safe_psql('postgres', 'SELECT coder.events_history()'), $history, 'the history goes on');
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
ok($node->poll_query_until('postgres', 'SHOW restart_after_crash', 'on'), 'the server starts again behind a crash');
my $victim = $node->background_psql('postgres');
chomp(my $backend = $victim->query('SELECT pg_backend_pid()'));
kill KILL => $backend;
ok($node->poll_query_until('postgres', "SELECT coder.events_history() <> $history"), 'a crash begins another');
eval { $victim->quit };
$node->safe_psql('postgres', 'DROP EXTENSION coder CASCADE');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'coder worker'"), 'it ends with the extension');
done_testing();
