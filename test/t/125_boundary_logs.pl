# What boundaries write to the agent's socket is counted once by the server, whatever is killed on the way; what does not fit is told of.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

my $coder = abs_path(dirname(__FILE__) . '/../../agent/coder');
plan skip_all => 'agent/coder is not built' unless -x $coder;

my $gateway = Coder::Gateway->start;
$gateway->first_user;
my $database = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
is(system(Coder::Gateway::bindir() . '/psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=4', '-o', '/dev/null', '-f',
	"$FindBin::Bin/../pgtap/support/workspaces.psql", $database), 0, 'four workspaces');
my ($token) = split /\n/, $gateway->sql(q{SELECT a.auth_token FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id WHERE b.transition = 'start' ORDER BY 1});
my $dir = "$gateway->{dir}/agent";
mkdir $dir;
my $path = "$dir/boundary.sock";
my $agent;

sub start_agent
{
	my ($url) = @_;
	$agent = fork // die;
	if (!$agent)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, HOME => $dir, CODER_AGENT_URL => $url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_SCRIPT_DATA_DIR => $dir,
			CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH => $path);
		open STDERR, '>>', "$dir/log" or die;
		exec $coder, 'agent' or POSIX::_exit(127);
	}
	$gateway->wait_for(10, sub { IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) }) or die 'no socket';	# it is there before it listens
	return;
}
sub agent_log { open my $file, '<', "$dir/log" or return ''; local $/; return scalar <$file> }
sub stop_agent { my ($signal) = @_; kill $signal, $agent; waitpid $agent, 0; undef $agent; return $? }
END { local $?; kill 'KILL', $agent if $agent }

sub boundary { return IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) // die "no socket: $!" }
sub frame { my ($tag, $payload) = @_; return pack('N', $tag << 24 | length $payload) . $payload }
sub logs { return frame(1, Coder::AgentRpc::boundary_logs(@_)) }

# Allowed, denied and dropped of all periods.
sub total
{
	return $gateway->sql(q{SELECT concat_ws(' ', coalesce(sum(allowed), 0), coalesce(sum(denied), 0), coalesce(sum(dropped), 0)) FROM (
		SELECT allowed_requests AS allowed, denied_requests AS denied, dropped_requests AS dropped FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL
		UNION ALL SELECT allowed_requests, denied_requests, dropped_requests FROM coder.boundary_usage_stats) x});
}
sub becomes { my ($want, $name, $seconds) = @_; $gateway->wait_for($seconds // 15, sub { total() eq $want }); return is(total(), $want, $name) }

start_agent($gateway->url);
my $one = boundary();
$one->syswrite(logs(2, 1));
becomes('2 1 0', 'a log of a boundary arrives');
$one->syswrite(frame(2, Coder::AgentRpc::field(1, Coder::AgentRpc::boundary_logs(1, 0))));
becomes('3 1 0', 'in an envelope too');
$one->syswrite(frame(2, Coder::AgentRpc::field(2, "\x08\x05\x10\x03")));
becomes('3 1 8', 'and what a boundary itself had to drop');
my $bytes = logs(1, 1);
for my $byte (split //, $bytes) { $one->syswrite($byte) }
becomes('4 2 8', 'byte by byte');
$one->syswrite(frame(1, "\x0a\xff\xff\xff") . logs(1, 0));
becomes('5 2 8', 'B26: what is no message is passed over');
$one->syswrite(logs(1, 0, undef, undef, Coder::AgentRpc::field(1, "G\xffT") . Coder::AgentRpc::field(2, "http://\xc3(/\0x")));
becomes('6 2 8', 'texts that are none too');

# B25: the connection ends where nothing more can be read.
for my $bad (pack('N', 3 << 24), pack('N', 1 << 24 | 32769), "\0\0\0\0", "\xff" x 100)
{
	my $hostile = boundary();
	$hostile->syswrite($bad);
	my $end = '';
	local $SIG{ALRM} = sub { die 'not closed' };
	alarm 5;
	is(eval { $hostile->sysread($end, 1) }, 0, 'B25: a connection that sends ' . unpack('H8', $bad) . ' is closed');
	alarm 0;
}
my @many = map { boundary() } 1 .. 40;
$_->syswrite(logs(1, 0)) for @many;
becomes('46 2 8', 'forty boundaries at once, after all that');
@many = ();

# A real boundary: what it denies is in the database.
SKIP:
{
	skip 'no namespaces here', 2 if system('unshare ' . ($> == 0 ? '-mn' : '-Urmn') . ' true 2>/dev/null') != 0;
	my $denied = (split ' ', total())[1];
	my $out = `env -i PATH=$ENV{PATH} HOME=$dir $coder boundary --log-level error --log-proxy-socket-path $path -- curl -sS -o /dev/null -w '%{http_code} ' http://a.test/1 -o /dev/null https://b.test/2`;
	is($out, '403 403 ', 'coder boundary denies two requests');
	$gateway->wait_for(10, sub { (split ' ', total())[1] == $denied + 2 });
	like($gateway->log, qr/"decision":"deny","http_method":"GET","http_url":"https:\/\/b.test\/2"/, 'and the log of the server has them');
	$gateway->sql('SELECT coder.boundary_usage_close(); DELETE FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL');
	$one->syswrite(logs(46, 2));
	$one->syswrite(frame(2, Coder::AgentRpc::field(2, "\x08\x08")));
	becomes('46 2 8', 'counted again from here');
}

# Each batch once, with kill -9 of the gateway and of PostgreSQL.
sub kill_database
{
	my $postmaster = $gateway->postmaster;
	kill 'KILL', $postmaster;
	$gateway->wait_for(20, sub { my $p = $gateway->postmaster; $p && $p != $postmaster }) or die 'no new PostgreSQL';
	$gateway->wait_for(20, sub { system(Coder::Gateway::bindir() . '/pg_isready', '-q', '-h', "$gateway->{dir}/config/postgres/run") == 0 }) or die 'no PostgreSQL';
	return;
}
my $writer = fork // die;
if (!$writer)
{
	my $socket = boundary();
	for (1 .. 70) { $socket->syswrite(logs(3, 2)); sleep 0.1 }
	POSIX::_exit(0);
}
for my $what (qw(gateway database gateway database))
{
	sleep 1;
	if ($what eq 'gateway') { $gateway->stop('KILL'); $gateway->up; next }
	kill_database();
}
waitpid $writer, 0;
becomes('256 142 8', 'kill -9 of gateway and PostgreSQL, twice each: every entry is counted once', 40);
is($gateway->sql('SELECT count(*) FROM coder.boundary_batches') > 10, 1, 'batches have ids') or diag agent_log();

# A server that is gone: a hundred frames wait, more are dropped, and the server hears how many.
$gateway->stop('KILL');
$gateway->wait_for(5, sub { agent_log() =~ /connection ended[^\n]*\n[^\n]*\z/ });
$one->syswrite(logs(1, 0)) for 1 .. 101;
$one->syswrite(logs(0, 3)) for 1 .. 49;
sleep 0.2;
$gateway->up;
$gateway->wait_for(20, sub { total() !~ /^256 / });
my ($allowed, $denied, $dropped) = split ' ', total();
$gateway->wait_for(10, sub { ($allowed, $denied, $dropped) = split ' ', total(); $allowed + ($denied - 142) + ($dropped - 8) >= 256 + 101 + 147 });
is($allowed + $denied - 142 + $dropped - 8, 256 + 101 + 147, 'B24: what did not fit in the queue is counted as dropped: nothing is unaccounted for');
cmp_ok($allowed, '>=', 356, 'the first hundred were kept');
cmp_ok($dropped - 8, '>=', 147, 'the last were not');

# Frames of the smallest entries there can be: the agent stays small.
$gateway->stop('KILL');
($allowed, $denied, $dropped) = (0, 0, 0);
my $tiny = frame(1, "\x0a\x00" x 16000);
$one->syswrite($tiny) for 1 .. 60;
my ($rss) = (do { open my $status, '<', "/proc/$agent/status" or die; local $/; <$status> }) =~ /^VmRSS:\s+(\d+)/m;
cmp_ok($rss, '<', 40000, "sixty frames of 16,000 entries: the agent has $rss kB");
$gateway->up;
my $ignored = sub { $gateway->sql('SELECT coalesce(sum(ignored_requests) + sum(dropped_requests), 0) FROM coder.boundary_usage_stats') };
$gateway->wait_for(20, sub { $ignored->() >= 60 * 16000 });
cmp_ok($ignored->(), '>=', 60 * 16000, 'those of no kind are counted as such, the rest as dropped');

# The end of the agent: what waits is sent.
my ($before) = split ' ', total();
$one->syswrite(logs(1, 0)) for 1 .. 20;
is(stop_agent('TERM'), 0, 'the agent ends');
is((split ' ', total())[0], $before + 20, 'after it has sent what its boundaries had written');
ok(!-e $path, 'its socket is gone');

# A path that is no socket is nobody's to remove.
open my $file, '>', $path or die;
print $file "mine\n";
close $file;
$agent = fork // die;
if (!$agent)
{
	%ENV = (%ENV, HOME => $dir, CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH => $path);
	open STDERR, '>>', "$dir/log" or die;
	exec $coder, 'agent' or POSIX::_exit(127);
}
ok($gateway->wait_for(10, sub { agent_log() =~ /no boundary logs: could not listen at \Q$path\E/ }), 'a file in the way is left alone');
is(-s $path, 5, 'with what is in it');
stop_agent('TERM');
done_testing();
