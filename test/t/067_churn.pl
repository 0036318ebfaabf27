# Clients come and go abruptly: the server lives on, another's transfer is whole, and no socket is left behind.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes qw(slurp);
use Coder::Provisioning ();
use Coder::WebSocket;
use Cwd qw(abs_path);
use Digest::SHA;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(time sleep);

Coder::Provisioning::need_sandbox();

my $root = abs_path(dirname(__FILE__) . '/../..');
my $coder = $ENV{CODER_BINARY} // "$root/agent/coder";
my $seconds = $ENV{CHURN_SECONDS} // 25;
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
# Several loops, so that packets cross from one to another.
my $gateway = Coder::Gateway->start(env => {
	CODER_EVENT_LOOPS => 4, CODER_PROVISIONER_DAEMONS => 1, CODER_AGENT_BINARY => $coder,
	CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my ($url, $token, $pid) = ($gateway->url, $gateway->{token}, $gateway->{pid});
my %env = (HOME => $dir, CODER_CONFIG_DIR => "$dir/client", CODER_URL => $url, CODER_SESSION_TOKEN => $token);

# Starts a client in a process group of its own; its id, and where it prints.
sub client
{
	my (@command) = @_;
	my $child = open(my $out, '-|') // die "fork: $!";

	if ($child == 0)
	{
		setpgrp;
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, %env);
		open STDIN, '<', '/dev/null';
		open STDERR, '>>', "$dir/clients.log";
		exec $coder, @command or POSIX::_exit(127);
	}
	return ($child, $out);
}

sub finish
{
	my ($child, $out) = client(@_);

	1 while <$out>;
	return waitpid($child, 0) > 0 ? $? : -1;
}

# TCP sockets that the server has open.
sub sockets
{
	my %tcp = map { (split)[9] => 1 } grep { /^\s*\d+:/ } map { split /\n/, slurp("/proc/$pid/net/$_") } qw(tcp tcp6);
	return scalar grep { $tcp{$_} } map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? $1 : () } glob "/proc/$pid/fd/*";
}

is(finish('templates', 'push', 'starter', '-d', "$root/gateway/provisioner/starter", '-y'), 0, 'a template is pushed');
is(finish('create', 'dev', '--template', 'starter', '-y'), 0, 'a workspace is created');
is(finish('ssh', 'dev', '--', 'true'), 0, 'and can be entered') or diag slurp("$dir/clients.log");
my $agent = $gateway->sql('SELECT id FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
my $workspace = $gateway->sql('SELECT id FROM coder.workspaces LIMIT 1');
my $pty = "/api/v2/workspaceagents/$agent/pty?height=24&width=80&command=bash&reconnect=";

# The server's own way to the agent is made by the first terminal, and stays.
my $terminal = Coder::WebSocket->open($url, "${pty}33333333-3333-4333-8333-333333333333", token => $token);
ok($terminal && defined $terminal->message(20), 'a terminal opens');
undef $terminal;
is(($owner->get('/api/v2/users/me'))[0], 200, 'the server answers'); # its connection stays open
sleep 2;
my $before = sockets();

sub reset_socket { setsockopt $_[0], SOL_SOCKET, SO_LINGER, pack('ii', 1, 0); close $_[0] }

# One visitor who leaves without a word.
sub visit
{
	my $kind = int rand 6;

	if ($kind == 0)
	{
		my ($child) = client('ssh', 'dev', '--', 'head -c 100000000 /dev/zero');
		sleep rand 1.5;
		kill 'KILL', $child;
		waitpid $child, 0;
		return;
	}
	if ($kind == 1)
	{
		my $sse = IO::Socket::INET->new(PeerAddr => substr $url, 7) or return;
		$sse->syswrite("GET /api/v2/workspaces/$workspace/watch HTTP/1.1\r\nHost: x\r\nCoder-Session-Token: $token\r\n\r\n");
		sleep rand 0.1;
		return reset_socket($sse);
	}
	if ($kind == 2)
	{
		my $relay = IO::Socket::INET->new(PeerAddr => substr $url, 7) or return;
		$relay->syswrite("GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n");
		sleep rand 0.05;
		$relay->syswrite(join '', map { chr int rand 256 } 1 .. 200) if rand() < 0.5;
		return reset_socket($relay);
	}
	my ($path, %headers) = $kind == 3 ? ("/api/v2/workspaceagents/$agent/coordinate")
	  : $kind == 4 ? ('/derp', 'Sec-WebSocket-Protocol' => 'derp')
	  : (sprintf '%s44444444-4444-4444-8444-%012d', $pty, rand 1e6);
	my $ws = eval { Coder::WebSocket->open($url, $path, token => $token, headers => \%headers) } or return;
	$ws->send_frame(2, $kind == 5 ? '{"data":"yes\r"}' : join '', map { chr int rand 256 } 1 .. 100) if rand() < 0.7;
	sleep rand 0.3;
	return rand() < 0.5 ? reset_socket($ws->{socket}) : close $ws->{socket};
}

my $end = time + $seconds;
my @visitors;
for my $i (1 .. 3)
{
	my $child = fork // die "fork: $!";
	if ($child == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		srand $i;
		visit() while time < $end;
		POSIX::_exit(0);
	}
	push @visitors, $child;
}

my $line = "0123456789abcde\n";
my $want = Digest::SHA->new(256);
$want->add($line x 65536) for 1 .. 20;
$want = $want->hexdigest;
my ($whole, $broken) = (0, 0);
while (time < $end)
{
	my ($child, $out) = client('ssh', 'dev', '--', 'yes 0123456789abcde | head -c ' . 20 * 65536 * 16);
	my $sha = Digest::SHA->new(256)->addfile($out)->hexdigest;
	waitpid $child, 0;
	$sha eq $want && $? == 0 ? $whole++ : $broken++;
}
waitpid $_, 0 for @visitors;
cmp_ok($whole, '>', 0, 'transfers went on meanwhile');
is($broken, 0, 'and each was whole') or diag slurp("$dir/clients.log");
ok(!$gateway->ended && $gateway->{pid} == $pid, 'the server is the same process');
is(($owner->get('/api/v2/users/me'))[0], 200, 'and still answers');
$gateway->wait_for(40, sub { sockets() <= $before });
is(sockets(), $before, 'no socket is left');
is($gateway->stop, 0, 'the server ends in order');
done_testing();
