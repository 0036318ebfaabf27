# PostgreSQL that is killed or restarted under load: reads are repeated, writes say that the outcome is open.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(time sleep);

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;

# Forks readers for some seconds; each reports its statuses through a pipe.
sub load
{
	my ($seconds, $n) = @_;
	pipe my $read, my $write or die;
	for (1 .. $n)
	{
		my $pid = fork // die;
		next if $pid;
		my %seen;
		my $client = Coder::Client->new(url => $gateway->url, token => $gateway->{token}, timeout => 15);
		my $until = time + $seconds;
		while (time < $until) { $seen{ ($client->get('/api/v2/users/me'))[0] }++ }
		syswrite $write, join(' ', map { "$_=$seen{$_}" } keys %seen) . "\n";
		_exit(0);
	}
	close $write;
	return $read;
}

sub collect
{
	my ($pipe) = @_;
	my %seen;
	while (my $line = <$pipe>) { $seen{$1} += $2 while $line =~ /(\d+)=(\d+)/g }
	1 while wait != -1 && 0;
	return %seen;
}

for my $how (qw(INT KILL))
{
	my $pipe = load(4, 3);
	sleep 1;
	my $postmaster = $gateway->postmaster;
	kill $how, $postmaster;
	ok($gateway->wait_for(20, sub { my $p = $gateway->postmaster; $p && $p != $postmaster }), "SIG$how: a new PostgreSQL is started");
	my %seen = collect($pipe);
	diag join ', ', map { "$_: $seen{$_}" } sort keys %seen;
	cmp_ok($seen{200}, '>', 50, 'reads are answered before and after');
	is(join(' ', grep { $_ != 200 && $_ != 503 } keys %seen), '', 'and nothing but 200 and 503 is answered');
	ok($gateway->wait_for(10, sub { ($owner->get('/api/v2/users/me'))[0] == 200 }), 'the session goes on');
}

# One backend alone: PostgreSQL throws out every session, and all come back.
my $backend = $gateway->sql("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'coder-server'");
kill 'KILL', $backend;
ok($gateway->wait_for(10, sub { ($owner->get('/api/v2/users/me'))[0] == 200 }), 'kill -9 of a backend');

ok($gateway->wait_for(20, sub { (eval { $gateway->sql("SELECT 'gone' WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $backend)") } // '') eq 'gone' }),
	'and PostgreSQL is in order again');

# A write that runs when its connection breaks.
$gateway->sql(<<'SQL');
CREATE FUNCTION coder.test_sleep(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(1.5); RETURN coder.reply(200, '{}'::jsonb); END $$;
INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('test', 'POST', '/api/v2/test-sleep', 'test_sleep', 'none'), ('test', 'GET', '/api/v2/test-sleep', 'test_sleep', 'none');
SQL
my $client = $gateway->client;
ok($gateway->wait_for(5, sub { ($client->request('PUT', '/api/v2/test-sleep'))[0] == 405 }), 'a new route is known at once');
for my $method (qw(POST GET))
{
	my $pid = fork // die;
	if ($pid == 0)
	{
		sleep 0.4;
		$gateway->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'coder-server'");
		_exit(0);
	}
	my ($status, $body) = Coder::Client->new(url => $gateway->url)->request($method, '/api/v2/test-sleep');
	waitpid $pid, 0;
	if ($method eq 'POST')
	{
		is($status, 503, 'a write whose connection broke');
		like($body->{detail}, qr/outcome is unknown/, 'says that its outcome is unknown');
	}
	else
	{
		is($status, 200, 'a read is sent again');
	}
}

# Nobody waits for ever: a statement over its time is ended.
my ($slow) = do
{
	$gateway->sql(q{CREATE OR REPLACE FUNCTION coder.test_sleep(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(20); RETURN coder.reply(200, '{}'::jsonb); END $$});
	Coder::Client->new(url => $gateway->url)->request('GET', '/api/v2/test-sleep');
};
is($slow, 504, 'a statement over its time is answered with 504');
is($gateway->stop, 0, 'the server ends in order');
done_testing();
