# What a workspace reaches of the client by SSH (its key agent, its ports, its display), and what a terminal shows first.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use Digest::MD5 qw(md5_hex);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Test::More;

Coder::Provisioning::need_agent();
plan skip_all => 'OpenSSH is not installed' unless grep { -x "$_/ssh-agent" } split /:/, $ENV{PATH};
my ($gateway, $p) = Coder::Provisioning::with_agent();
my $dir = $gateway->{dir};
my $coder = Coder::Provisioning::coder();
my @children;
END { local $?; kill 'TERM', @children if @children }

my $main = Coder::Provisioning::starter()->{'main.tf'} =~ s/(resource "coder_agent" "main" \{)/$1\n  motd_file = "~\/motd"/r;
my ($ws, $build) = $p->create($p->template('starter', $p->import('starter', { 'main.tf' => $main })), 'dev');
is($build->{status}, 'succeeded', 'a workspace') or BAIL_OUT("$build->{error}\n$build->{log}");

# OpenSSH and the client of this build.
open my $config, '>', "$dir/ssh" or die;
print $config "Host coder.*\n\tStrictHostKeyChecking no\n\tUserKnownHostsFile /dev/null\n\tLogLevel ERROR\n\tExitOnForwardFailure yes\n\tForwardX11Trusted yes\n",
	"\tProxyCommand $coder ssh --stdio --ssh-host-prefix coder. %h\n";
close $config;
delete @ENV{ grep { /^CODER_|^SSH_|^DISPLAY$/ } keys %ENV };
@ENV{qw(CODER_URL CODER_SESSION_TOKEN CODER_CONFIG_DIR)} = ($gateway->url, $p->{client}{token}, "$dir/client");
sub run
{
	my ($input, @command) = @_;
	my $pid = open(my $out, '-|') // die;
	if ($pid == 0)
	{
		open STDIN, '<', $input // '/dev/null';
		open STDERR, '>&', \*STDOUT;
		exec 'timeout', 40, @command or POSIX::_exit(127);
	}
	my $text = join '', <$out>;
	close $out;
	return ($? >> 8) . " $text";
}
sub openssh { my ($options, $command, $input) = @_; return run($input, 'ssh', '-F', "$dir/ssh", @$options, 'coder.dev', $command // ()) }
sub ours { my ($options, $command, $input) = @_; return run($input, $coder, 'ssh', @$options, 'dev', '--', $command // ()) }
my %clients = (OpenSSH => \&openssh, ours => \&ours);

# The key agent.
system('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'key of the test', '-f', "$dir/key") == 0 or die;
my ($sock, $pid) = `ssh-agent -a $dir/agent.sock` =~ /SSH_AUTH_SOCK=(\S+?);.*SSH_AGENT_PID=(\d+);/s or die;
push @children, $pid;
$ENV{SSH_AUTH_SOCK} = $sock;
system("ssh-add -q $dir/key 2> /dev/null") == 0 or die;
for my $name (sort keys %clients)
{
	my $ssh = $clients{$name};
	is($ssh->([], 'echo "<$SSH_AUTH_SOCK>"; ls -d /tmp/auth-agent* 2> /dev/null | wc -l'), "0 <>\n0\n", "$name: no key agent where none is wanted");
	like($ssh->(['-A'], 'for i in 1 2 3; do ssh-add -l & done; wait; stat -c %a $(dirname $SSH_AUTH_SOCK)'), qr/\A0 (?:256 \S+ key of the test \(ED25519\)\n){3}700\n\z/, "$name: the client's key agent");
	is($ssh->([], 'ls -d /tmp/auth-agent* 2> /dev/null | wc -l'), "0 0\n", "$name: which goes with the connection");
}
like(ours(['-A', '--identity-agent', "$dir/none"], 'ssh-add -l; echo code=$?'), qr/code=[1-9]/, 'a key agent that is not there answers nothing');
{
	local $ENV{SSH_AUTH_SOCK} = '';
	like(ours(['-A'], 'true'), qr/^1 error: there is no key agent/, 'or is told of');
}

# Ports of the workspace: what is sent comes back backwards, whole, from here.
my $big = join '', map { chr(($_ * 7919) & 255) } 1 .. 200000;
my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die;
my $port = $listener->sockport;
$pid = fork // die;
if ($pid == 0)
{
	$SIG{CHLD} = 'IGNORE';
	while (my $c = $listener->accept)
	{
		next if fork;
		local $/;
		my $text = <$c>;
		print $c scalar reverse $text;
		close $c;
		POSIX::_exit(0);
	}
}
push @children, $pid;
close $listener;
open my $file, '>:raw', "$dir/big" or die; print $file $big x 10; close $file;
my $want = md5_hex(scalar reverse $big x 10);
my $there = <<'PERL';
use IO::Socket::INET; use Digest::MD5 qw(md5_hex); my ($port, $n) = @ARGV; local $/; my $text = <STDIN>; my @sums;
for (1 .. $n) { next if fork; my $s = IO::Socket::INET->new("127.0.0.1:$port") or do { print "refused\n"; exit }; if (!fork) { print $s $text; shutdown $s, 1; exit } print md5_hex(<$s>), "\n"; exit }
1 while wait > 0;
PERL
is(ours([], 'cat > there.pl', do { open my $f, '>', "$dir/there.pl" or die; print $f $there; close $f; "$dir/there.pl" }), '0 ', 'a program in the workspace');
for my $name (sort keys %clients)
{
	my $ssh = $clients{$name};
	my $remote = Coder::Gateway::free_port();
	is($ssh->(['-R', "$remote:127.0.0.1:$port"], "perl there.pl $remote 5", "$dir/big"), "0 " . "$want\n" x 5, "$name: five connections from there to here, at once");
	is($ssh->([], "perl there.pl $remote 1", "$dir/big"), "0 refused\n", "$name: which end with it");
	like($ssh->(['-R', "$port:127.0.0.1:$port"], 'true'), qr/^(?:255|1) .*forward/s, "$name: a port that is taken");
	my $closed = Coder::Gateway::free_port();
	like($ssh->(['-R', "$remote:127.0.0.1:$closed"], "perl there.pl $remote 1; echo done", "$dir/big"), qr/done\n\z/, "$name: where nobody listens here, it ends there");
}
my ($one, $two) = map { Coder::Gateway::free_port() } 1 .. 2;
is(openssh(['-R', "$one:127.0.0.1:$port", '-R', "$two:127.0.0.1:$port", '-A'], "perl there.pl $two 1 < big; ssh-add -l | wc -l"), "0 " . md5_hex('') . "\n1\n", 'several ports and the key agent')
	if ours([], ': > big') eq '0 ';
like(openssh(['-v', '-R', "0:127.0.0.1:$port"], 'true'), qr/Allocated port [1-9]\d* for remote forward/, 'any port, which is told');
like(ours(['-R', '1:2'], 'true'), qr/^1 error: --remote-forward 1:2: PORT:HOST:PORT expected/, 'no port');
is(ours(['-e', 'ONE=1', '-e', 'TWO=a b,THREE='], 'echo "$ONE|$TWO|$THREE|${THREE-unset}"'), "0 1|a b||\n", 'variables');
like(ours(['-e', 'ONE'], 'true'), qr/^1 error: --env ONE: NAME=VALUE expected/, 'which have values');

# A display: the client's X server gets what the workspace's program says, with the client's own cookie.
SKIP:
{
	skip 'no xauth', 4 unless grep { -x "$_/xauth" } split /:/, $ENV{PATH};
	my ($x, $number);
	for $number (50 .. 99) { $x = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 6000 + $number, ReuseAddr => 1) and last }
	skip 'no port for a display', 4 unless $x;
	$number = $x->sockport - 6000;
	$pid = fork // die;
	if ($pid == 0)
	{
		while (my $c = $x->accept) { sysread $c, my $hello, 4096; my $n = length $hello; print $c "display $n" . unpack 'a1', $hello; close $c }
	}
	push @children, $pid;
	close $x;
	my $client = <<'PERL';
use IO::Socket::INET; my ($number) = $ENV{DISPLAY} =~ /^localhost:(\d+)\.\d+$/ or die "no display: $ENV{DISPLAY}\n"; my ($name, $cookie) = (split ' ', `xauth list`)[-2, -1];
my $s = IO::Socket::INET->new('127.0.0.1:' . (6000 + $number)) or die "refused\n"; $cookie = pack 'H*', $ARGV[0] // $cookie;
print $s pack('a1 x v3 v x2', 'l', 11, 0, length $name, length $cookie), $name, "\0" x (-length($name) % 4), $cookie; print join '', <$s>; print "\n";
PERL
	open my $f, '>', "$dir/x.pl" or die; print $f $client; close $f;
	ours([], 'cat > x.pl', "$dir/x.pl");
	local $ENV{DISPLAY} = "127.0.0.1:$number.0";
	is(openssh(['-X'], 'perl x.pl'), "0 display 48l\n", 'a display');
	is(openssh(['-X'], 'stat -c %a .Xauthority'), "0 600\n", 'whose cookie is the user\'s');
	unlike(openssh(['-X'], 'perl x.pl 00112233445566778899aabbccddeeff'), qr/display/, 'and needed');
	delete $ENV{DISPLAY};
	is(openssh([], 'echo "<$DISPLAY>"'), "0 <>\n", 'no display where none is wanted');
}

# What a terminal shows first.
sub terminal { open my $in, '>', "$dir/exit" or die; print $in "exit\n"; close $in; return run("$dir/exit", 'ssh', '-tt', '-F', "$dir/ssh", 'coder.dev', @_) }
sub announce { return ($p->{client}->put('/api/v2/appearance', { announcement_banners => [@_] }))[0] }
unlike(terminal(), qr/noon|motd/, 'nothing to show');
ours([], 'printf "one line of motd\nanother\n" > motd');
is(announce({ enabled => JSON::PP::true, message => "at noon\nwe rest", background_color => '#aabbcc' }, { enabled => JSON::PP::false, message => 'hidden' }, 5, { message => 'also hidden' }), 200, 'an announcement');
my $shown = terminal();
like($shown, qr/at noon\r\nwe rest\r\n\r\none line of motd\r\nanother\r\n/, 'is shown, then the message of the day');
unlike($shown, qr/hidden/, 'but not what is off');
unlike(terminal('echo quiet'), qr/noon|motd/, 'a command shows neither');
unlike(openssh([], 'echo quiet'), qr/noon|motd/, 'nor one without a terminal');
ours([], 'touch .hushlogin');
$shown = terminal();
like($shown, qr/at noon/, 'who wants quiet hears announcements');
unlike($shown, qr/motd/, 'and no message of the day');
ours([], 'rm .hushlogin motd; mkdir motd');
is(announce({ enabled => JSON::PP::true, message => 'changed' }), 200, 'another announcement');
like(terminal(), qr/changed/, 'is shown at once, and what is no file stops nothing');

# An agent that is told to give no ports.
my ($token) = workspaces($gateway, 10);
my $member = $gateway->sql("SELECT coder.api_key_create(w.owner_id, 'password', 3600) FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE a.auth_token = '$token'");
my $name = $gateway->sql("SELECT w.name FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE a.auth_token = '$token'");
mkdir "$dir/home";
$pid = fork // die;
if ($pid == 0)
{
	open STDERR, '>', "$dir/strict.log";
	%ENV = (PATH => $ENV{PATH}, HOME => "$dir/home", CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING => 'true');
	exec $coder, 'agent' or POSIX::_exit(127);
}
push @children, $pid;
$ENV{CODER_SESSION_TOKEN} = $member;
is(run(undef, $coder, 'ssh', $name, '--', 'echo there'), "0 there\n", 'an agent that gives no ports') or diag `tail -5 $dir/strict.log`;
like(run(undef, $coder, 'ssh', '-R', "$one:127.0.0.1:$port", $name, '--', 'echo there'), qr/^1 error: port $one of the workspace cannot be forwarded/, 'gives none');
$gateway->stop;
done_testing();
