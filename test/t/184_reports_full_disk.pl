# The disk of the database is full while agents report: what is acknowledged is counted, what is refused is not, and it goes on when there is space.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces total);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'only root can mount a small disk' if $> != 0;
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $disk = "$dir/disk";
chmod 0755, $dir;
mkdir $disk;
plan skip_all => 'tmpfs cannot be mounted here' if system("mount -t tmpfs -o size=160m,mode=0755 coder-test '$disk' 2>/dev/null") != 0;
my $gateway;
END { undef $gateway; system("umount -l '$disk' 2>/dev/null") if $disk && -d $disk }

$gateway = Coder::Gateway->start(dir => $disk, log_file => "$dir/server.log");
$gateway->first_user;
my @tokens = workspaces($gateway, 8);
my ($n, $acknowledged, $refused, $rpc) = (0, 0, 0);

# One batch, tried until it is acknowledged or the code says that it is enough; true: it is.
sub report
{
	my ($code) = @_;
	$n++;
	until ($code->())
	{
		$rpc //= Coder::AgentRpc->open($gateway->url, $tokens[$n % @tokens]) or do { sleep 0.1; next };
		return ++$acknowledged if defined $rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs(2, 1, pack('N4', 1, 2, 3, $n)), 10);
		$refused++;
		undef $rpc;
		sleep 0.05;
	}
	return 0;
}

report(sub { 0 }) for 1 .. 5;
system("dd if=/dev/zero of='$disk/ballast' bs=64k 2>/dev/null");
my $until = time + 20;
# Write-ahead log that has its place goes on to be written until it is full.
my $waits = 0;
until ($refused >= 3 || time > $until)
{
	system(Coder::Gateway::bindir() . "/psql -Xq 'host=$disk/config/postgres/run user=coder dbname=coder' -c 'CREATE TABLE IF NOT EXISTS public.filler (i int)' -c 'INSERT INTO public.filler SELECT generate_series(1, 50000)' 2>/dev/null");
	$waits++ unless report(sub { $refused >= 3 || time > $until });
}
cmp_ok($refused, '>=', 3, "reports are refused while the disk is full ($acknowledged were acknowledged)");
unlink "$disk/ballast";
ok($gateway->wait_for(40, sub { eval { $gateway->sql('SELECT 1') } // '' eq '1' }), 'there is space again');
$gateway->sql('CHECKPOINT');
my $last = $acknowledged;
$until = time + 40;
report(sub { time > $until }) for 1 .. 5;
is($acknowledged, $last + 5, 'reports are acknowledged again');
my ($reports, $allowed, $denied) = split ' ', total($gateway);
cmp_ok($reports, '>=', $acknowledged, 'what was acknowledged is counted');
cmp_ok($reports, '<=', $acknowledged + $waits, 'what was refused is not, but where nobody knew');
is("$allowed $denied", join(' ', 2 * $reports, $reports), 'nothing is counted in halves');
is($gateway->sql('SELECT sum(reports) FROM coder.boundary_usage(\'-infinity\', \'infinity\')'), $reports, 'by workspace it is the same');
$gateway->stop;
done_testing();
