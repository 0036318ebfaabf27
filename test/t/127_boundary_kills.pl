# Reports of boundaries under random kill -9 of the gateway and of PostgreSQL: none is lost, none is counted twice.
#
# KILLS (default 8) is how many, SEED makes a run that failed happen again; test/bench/run does a hundred.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Reports qw(workspaces total kill_database rush);
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(sleep time);

my $kills = $ENV{KILLS} // 8;
my $seed  = $ENV{SEED} // time ^ $$;
srand $seed;
diag "SEED=" . int $seed;

my $gateway = Coder::Gateway->start;
$gateway->first_user;
my @tokens = workspaces($gateway, 12);
my ($batches, $tries, $done) = (0, 0, 0);

while ($done < $kills)
{
	my $some = $kills - $done < 4 ? $kills - $done : 4;
	my ($n, undef, $tried) = rush($gateway, \@tokens, 1.2 * $some, 1, sub {
		for (1 .. $some)
		{
			sleep 0.1 + rand 0.5;
			my $how = int rand 3;
			# Both at once, too.
			kill 'KILL', $gateway->postmaster if $how == 2;
			if ($how == 0) { kill_database($gateway) } else { $gateway->stop('KILL'); $gateway->up }
			eval { $gateway->sql('SELECT coder.boundary_usage_close()') } if rand() < 0.3;
			$done++;
		}
	});
	$batches += $n;
	$tries   += $tried;
}
diag "$done kills, $batches batches in $tries tries";
cmp_ok($tries, '>', $batches, 'some batches had to be sent again');
is(total($gateway), join(' ', $batches, 2 * $batches, $batches), 'each is counted once');
is($gateway->sql('SELECT sum(allowed) FROM coder.boundary_usage(\'-infinity\', \'infinity\')'), 2 * $batches, 'by workspace and owner too');
is($gateway->sql(q{SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND format('%s %s %s %s', p.unique_workspaces, p.unique_users, p.reports, p.allowed_requests) <>
	(SELECT format('%s %s %s %s', count(DISTINCT u.workspace_id), count(DISTINCT u.user_id), coalesce(sum(u.reports), 0), coalesce(sum(u.allowed), 0)) FROM coder.boundary_usage(p.opened_at, p.closed_at) u)}), 0,
	'and every period has what its window has');
done_testing();
