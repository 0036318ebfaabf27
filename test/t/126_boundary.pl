# "coder boundary" runs a command that reaches what rules allow, whatever it does, and nothing else.
use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_STREAM SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(sleep time);

$SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT);    # a shell's background has them ignored

# All of it in a network of the test's own, where 10.9.9.1 and fd00::9 are the world outside.
if (!$ENV{BOUNDARY_TEST_NETWORK})
{
	my @unshare = ('unshare', $> == 0 ? '-mn' : '-Urmn');
	plan skip_all => 'no namespaces here' if system("@unshare true 2>/dev/null") != 0;
	$ENV{BOUNDARY_TEST_NETWORK} = 1;
	exec @unshare, $^X, (map { "-I$_" } @INC), $0 or die;
}
my $coder = abs_path(dirname(__FILE__) . '/../../agent/coder');
plan skip_all => 'agent/coder is not built' unless -x $coder;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
sub spew { my ($name, $text) = @_; open my $file, '>', "$dir/$name" or die; print $file $text; close $file; return "$dir/$name" }
sub slurp { open my $file, '<:raw', $_[0] or return ''; local $/; return <$file> // '' }
spew('hosts', "127.0.0.1 localhost\n10.9.9.1 allowed.test other.test self.test\nfd00::9 six.test\n");
system("ip link set lo up; ip addr add 10.9.9.1/32 dev lo; ip -6 addr add fd00::9/128 dev lo nodad; mount --bind $dir/hosts /etc/hosts") == 0 or die;
delete @ENV{ grep { /^CODER_|^BOUNDARY_|_proxy$|_PROXY$/ } keys %ENV };
$ENV{HOME} = "$dir/home";
mkdir $ENV{HOME};
my @children;
END { local $?; kill 'KILL', @children if @children && $ENV{BOUNDARY_TEST_NETWORK} == $$ }
$ENV{BOUNDARY_TEST_NETWORK} = $$;

sub background { my ($code) = @_; my $pid = fork // die; if (!$pid) { $code->(); POSIX::_exit(0) } push @children, $pid; return $pid }
sub listening { my ($host) = @_; return IO::Socket::IP->new(LocalHost => $host, LocalPort => 0, Listen => 20, Type => SOCK_STREAM, ReuseAddr => 1) // die "$host: $@" }

# A server of HTTP that notes what it was asked.
my $seen = spew('seen', '');
sub serve
{
	my ($client) = @_;
	my $buffer = '';
	while (1)
	{
		while ($buffer !~ /\r\n\r\n/) { $client->sysread($buffer, 65536, length $buffer) or return }
		$buffer =~ s/\A(.*?\r\n\r\n)//s;
		my $head = $1;
		my ($line) = $head =~ /\A([^\r]*)/;
		open my $note, '>>', $seen or die;
		syswrite $note, "$line\n";
		my $length = $head =~ /^content-length: (\d+)/mi ? $1 : 0;
		$client->syswrite("HTTP/1.1 100 Continue\r\n\r\n") if $head =~ /^expect:/mi;
		while (length $buffer < $length) { $client->sysread($buffer, 65536, length $buffer) or return }
		my $body = substr $buffer, 0, $length, '';
		my ($path) = $line =~ / (\S+) /;
		if ($path eq '/redirect') { $client->syswrite("HTTP/1.1 302 Found\r\nLocation: http://other.test:" . $client->sockport . "/x\r\nContent-Length: 0\r\n\r\n"); next }
		if ($path eq '/stream')
		{
			$client->syswrite("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
			sleep 2;
			$client->syswrite("4\r\nlast\r\n0\r\n\r\n");
			next;
		}
		if ($path eq '/upgrade')
		{
			$client->syswrite("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n");
			my $word;
			$client->sysread($word, 100);
			$client->syswrite(uc $word);
			return;
		}
		if ($path eq '/rude') { $client->syswrite("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"); return }
		my $answer = $path eq '/big' ? 'b' x 3_000_000 : $path eq '/length' ? length $body : $path eq '/head' ? $head : "hello\n";
		my $all = "HTTP/1.1 200 OK\r\nContent-Length: " . length($answer) . "\r\n\r\n" . ($line =~ /^HEAD/ ? '' : $answer);
		while (length $all) { my $n = $client->syswrite($all) or return; substr $all, 0, $n, '' }
	}
}
sub http_server
{
	my ($host) = @_;
	my $listener = listening($host);
	background(sub { $SIG{CHLD} = 'IGNORE'; while (1) { my $client = $listener->accept or next; if (!fork) { serve($client); POSIX::_exit(0) } close $client } });
	return $listener->sockport;
}
my $port = http_server('10.9.9.1');
my $port6 = http_server('fd00::9');
my $raw = listening('10.9.9.1');
my $udp = IO::Socket::IP->new(LocalHost => '10.9.9.1', LocalPort => 53, Type => SOCK_DGRAM, Proto => 'udp') // die "udp: $@";

# A server of HTTPS that is trusted outside, and one that is not.
mkdir "$dir/www";
spew('www/x', "secret\n");
for my $name (qw(allowed self))
{
	system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $dir/$name.key -out $dir/$name.pem -days 2 -subj /CN=$name -addext subjectAltName=DNS:$name.test 2>/dev/null") == 0 or die;
}
my %tls;
for my $name (qw(allowed self))
{
	my $probe = listening('10.9.9.1');
	$tls{$name} = $probe->sockport;
	close $probe;
	background(sub { chdir "$dir/www"; open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null';
		exec 'openssl', 's_server', '-quiet', '-accept', "10.9.9.1:$tls{$name}", '-cert', "$dir/$name.pem", '-key', "$dir/$name.key", '-WWW' });
}
for my $p (values %tls) { for (1 .. 100) { last if IO::Socket::IP->new(PeerHost => '10.9.9.1', PeerPort => $p); sleep 0.05 } }
$ENV{SSL_CERT_FILE} = "$dir/allowed.pem";    # whom the proxy trusts

# Runs a command for 20 s at most: ($status, $out, $err).
sub run
{
	my (@command) = @_;
	my $pid = fork // die;
	if (!$pid)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$dir/out" or die;
		open STDERR, '>', "$dir/err" or die;
		alarm 20;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	return ($? & 127 ? 'signal ' . ($? & 127) : $? >> 8, slurp("$dir/out"), slurp("$dir/err"));
}
my @flags;
sub inside { my ($script, @more) = @_; return run($coder, 'boundary', @flags, @more, '--', 'sh', '-c', $script) }
sub is_inside { my ($script, $want, $name, @more) = @_; my ($status, $out, $err) = inside($script, @more); return is($out, $want, $name) || diag "status $status: $err" }
sub asked { return slurp($seen) }

@flags = ('--allow', 'method=GET,POST,HEAD domain=allowed.test', '--disable-audit-logs');
my $at = "http://allowed.test:$port";
is_inside("curl -sS $at/x", "hello\n", 'what a rule allows');
my $before = asked();
is_inside("curl -sS -o /dev/null -w '%{http_code}' http://other.test:$port/x", '403', 'another host is denied');
is_inside("curl -sS -o /dev/null -w '%{http_code}' -X DELETE $at/x", '403', 'another method too');
is_inside("curl -sS -o /dev/null -w '%{http_code}' http://10.9.9.1:$port/x", '403', 'and the same host by its address');
is_inside("curl -sS -o /dev/null -w '%{http_code}' -H 'Host: other.test:$port' $at/x", '403', 'or by another name in the header');
is(asked(), $before, 'and its server hears nothing of it');
like((inside("curl -sS http://other.test:$port/a?b=c"))[1], qr/denied by the boundary.*GET http:\/\/other.test:$port\/a\?b=c.*--allow "method=GET domain=other.test path=\/a"/s, 'the answer says what is missing');
@flags = ('--disable-audit-logs');
is_inside("curl -sS -o /dev/null -w '%{http_code}' $at/x", '403', 'without rules nothing is allowed');
is_inside("curl -sS -w '%{http_code} ' -o /dev/null $at/x/1 -o /dev/null $at/x/../y -o /dev/null --path-as-is $at/x/../y -o /dev/null $at/x/%2e%2e/y", '200 403 403 403 ',
	'a rule with a path is not deceived', '--allow', 'domain=allowed.test path=/x/*');
@flags = ('--allow', 'method=GET,POST,HEAD domain=allowed.test', '--disable-audit-logs');
is_inside("curl -sS -L -o /dev/null -w '%{http_code} %{num_redirects}' $at/redirect", '403 1', 'a redirect elsewhere is denied');
is_inside("curl -sS -o /dev/null -o /dev/null -w '%{num_connects} ' $at/x $at/x", '1 0 ', 'a connection carries several requests');
is_inside("curl -sS -o /dev/null -o /dev/null -w '%{http_code} ' $at/x http://allowed.test:$port/x -X DELETE", '403 403 ', 'each of which is judged');
is_inside("head -c 1000000 /dev/zero | curl -sS --data-binary \@- $at/length", '1000000', 'a large body goes there');
is_inside("curl -sS $at/big | wc -c | tr -d ' \\n'", '3000000', 'and a larger one comes back');
is_inside("curl -sS -I -o /dev/null -w '%{http_code}' $at/x", '200', 'HEAD');
is_inside("curl -sSN $at/stream | perl -MTime::HiRes=time -e '\$t = time; sysread STDIN, \$b, 5; print \$b, time - \$t < 1.5 ? \" at once\" : \" late\"'", 'first at once', 'what is streamed comes when it comes');
is_inside("printf 'GET /upgrade HTTP/1.1\\r\\nHost: allowed.test:$port\\r\\nConnection: Upgrade\\r\\nUpgrade: shout\\r\\n\\r\\n' > $dir/up; exec perl -MIO::Socket::IP -e '\$s = IO::Socket::IP->new(PeerHost => \"allowed.test\", PeerPort => $port); open F, \"<\", \"$dir/up\"; print \$s join \"\", <F>; \$s->flush; sysread \$s, \$b, 4096; print \$s \"word\"; \$s->flush; sysread \$s, \$w, 10; print \$w'",
	'WORD', 'an upgrade to another protocol');
isnt((inside("curl -sS $at/rude"))[0], 0, 'an answer that is cut off is not made whole');
is_inside("curl -sS -o /dev/null -w '%{http_code}' http://allowed.test:1/", '502', 'a server that is not there');
like((inside("curl -sS $at/head -H 'Connection: close, X-Hop' -H 'Proxy-Authorization: s'"))[1], qr/\AGET \/head HTTP\/1.1\r\nHost: allowed.test:$port\r\nUser-Agent: [^\r]*\r\nAccept: \*\/\*\r\n(X-Hop[^\r]*\r\n)?\r\n\z/, 'headers of the connection stay here');

# TLS.
my $https = "https://allowed.test:$tls{allowed}";
is_inside("curl -sS $https/x", "secret\n", 'HTTPS, without a word to curl');
@flags = ('--disable-audit-logs', '--allow', 'domain=allowed.test path=/x');
is_inside("curl -sS -o /dev/null -w '%{http_code}' $https/y", '403', 'its paths are judged');
@flags = ('--allow', 'method=GET,POST,HEAD domain=allowed.test', '--disable-audit-logs');
is_inside("HTTPS_PROXY=http://9.9.9.9:3128 curl -sS $https/x", "secret\n", 'through CONNECT, of any proxy');
is_inside("HTTPS_PROXY=http://9.9.9.9:3128 curl -sS -o /dev/null -w '%{http_code}' https://other.test:$tls{allowed}/x", '403', 'which is no way around');
is_inside("http_proxy=http://9.9.9.9:3128 curl -sS $at/x", "hello\n", 'the kind of request that a proxy gets');
is_inside("http_proxy=http://127.0.0.1:3129 curl -sS $at/x", "hello\n", 'a proxy on loopback where one is wanted', '--proxy-port', '3129');
is_inside("curl -sS https://self.test:$tls{self}/x", "the certificate of self.test is not trusted: self-signed certificate\n", 'a server whose certificate is not trusted outside', '--allow', 'domain=self.test');
my ($status, $out, $err) = inside("curl -sS --cacert $dir/allowed.pem $https/x");
isnt($status, 0, 'a program that trusts one authority only does not get through');
like($err, qr/DENY method=CONNECT url=https:\/\/allowed.test:$tls{allowed} .*\n.*does not take the boundary's certificate/, 'and the log says why');
isnt((inside("curl -sS --http2-prior-knowledge $at/x"))[0], 0, 'HTTP/2 is not taken');
is_inside("curl -sS --http2 $https/x", "secret\n", 'a client that would like it speaks HTTP/1.1');

# No other way out.
# A whole second would tell more, but nothing is under way any more.
sub quiet { return !IO::Select->new($_[0])->can_read(0.1) }
my $perl_raw = sub { my ($host, $p, $send) = @_; return "perl -MIO::Socket::IP -e '\$s = IO::Socket::IP->new(PeerHost => \"$host\", PeerPort => $p, Timeout => 3) or exit 3; print \$s \"$send\"; \$s->flush; exit(defined sysread(\$s, \$b, 10) && length \$b ? 0 : 4)'" };
isnt((inside($perl_raw->('10.9.9.1', $raw->sockport, 'ssh-2.0')))[0], 0, 'another protocol than HTTP is refused');
($status, $out, $err) = inside($perl_raw->('allowed.test', $raw->sockport, '\\1\\2\\3'));
is($status, 4, 'also to a host that is allowed');
like($err, qr/DENY method=TCP url=tcp:\/\/10.9.9.1:${\$raw->sockport} reason=neither HTTP nor TLS/, 'and is logged');
ok(quiet($raw), 'nobody has heard of it');
inside("perl -MIO::Socket::IP -e '\$s = IO::Socket::IP->new(PeerHost => \"10.9.9.1\", PeerPort => 53, Proto => \"udp\"); print \$s \"x\" x 20; \$s->flush; sleep 1'");
inside("getent hosts name-with-a-secret.test; true");
ok(quiet($udp), 'no datagram leaves, nor a question for a name');
like((inside('getent ahostsv4 some.name.test'))[1], qr/^198\.18\.0\.\d+ /, 'names have addresses');
like((inside($perl_raw->('raw.test', 25, '\\1')))[2], qr/DENY method=TCP url=tcp:\/\/raw.test:25 /, 'a connection is logged with the name that was asked for');
my $ask = 'perl -MIO::Socket::IP -e \'$s = IO::Socket::IP->new(PeerHost => "9.9.9.9", PeerPort => 53, Proto => "udp"); print $s pack("n6", 7, 256, 1, 0, 0, 0) . "\x07allowed\x04test\0" . pack("n2", 1, 1); $s->flush; alarm 5; sysread $s, $b, 512; print join ".", unpack "C4", substr $b, -4\'';
like((inside($ask))[1], qr/^198\.18\.0\.\d+$/, 'a question to any server is answered inside');
is_inside($ask, '10.9.9.1', 'or, where that is wanted, resolved outside', '--use-real-dns');
is_inside("env -i PATH=\$PATH curl -sS -o /dev/null -w '%{http_code}' http://other.test:$port/x", '403', 'no variable has to be there');
is_inside("env -i PATH=\$PATH curl -sS --noproxy '*' -o /dev/null -w '%{http_code}' http://10.9.9.1:$port/x", '403', 'for the boundary to hold');
is_inside("curl -sSg -o /dev/null -w '%{http_code}' 'http://[fd00::9]:$port6/x'", '403', 'IPv6 is denied as the rest');
is_inside("curl -sSg 'http://[fd00::9]:$port6/x'", "hello\n", 'and allowed', '--allow', 'domain=*');
is_inside("curl -sS http://six.test:$port6/x", "hello\n", 'by name too', '--allow', 'domain=six.test');
isnt((inside("nsenter --net=/proc/$$/ns/net true"))[0], 0, 'it cannot join the network outside');
isnt((inside('ip route flush table local || ip link set lo down'))[0], 0, 'nor change its own');
isnt((inside("kill -0 $$ && cat /proc/$$/root/etc/hosts && gdb -p $$ 2>/dev/null || nsenter -U -t $$ true"))[0], 0, 'nor another user namespace');
my $way_out = IO::Socket::IP->new(PeerHost => '10.9.9.1', PeerPort => $port) // die;
{
	local $^F = 1000;
	my $fd = POSIX::dup2(fileno $way_out, 9);
	($status, $out, $err) = inside("printf 'GET /stolen HTTP/1.1\\r\\n\\r\\n' >&9");
	POSIX::close(9);
}
sleep 0.1;
unlike(asked(), qr/stolen/, 'a socket that it inherits is not a way out');
is_inside('(sleep 0.2; curl -sS http://127.0.0.1:7777/ 2>&1 | tr -d "\n") & perl -MIO::Socket::IP -e \'$l = IO::Socket::IP->new(LocalHost => "127.0.0.1", LocalPort => 7777, Listen => 1); $c = $l->accept; sysread $c, $b, 4096; print $c "HTTP/1.0 200 OK\r\n\r\nmine"\'; wait', 'mine', 'its own loopback is its own');

# The command.
is((inside("exit $_"))[0], $_, "it ends with status $_") for 0, 1, 7, 255;
is((inside('kill -TERM $$'))[0], 143, 'killed by a signal');
is((run($coder, 'boundary', @flags, '--', "$dir/nothing"))[0], 127, 'a command that is not there');
is((run($coder, 'boundary', @flags, '--', "$dir/www/x"))[0], 126, 'one that is none');
sub with_signal
{
	my ($signal, $script) = @_;
	my $pid = fork // die;
	if (!$pid) { open STDERR, '>', "$dir/err"; exec $coder, 'boundary', @flags, '--', 'sh', '-c', $script or POSIX::_exit(1) }
	for (1 .. 200) { last if -e "$dir/ready"; sleep 0.02 }
	kill $signal, $pid;
	waitpid $pid, 0;
	my $how = $?;
	unlink "$dir/ready";
	return $how;
}
is(with_signal($_, "trap 'exit 42' $_; echo \$\$ > $dir/pid; touch $dir/ready; while :; do sleep 0.05; done") >> 8, 42, "$_ goes on to it") for qw(TERM HUP INT USR1);
with_signal('KILL', "echo \$\$ > $dir/pid; touch $dir/ready; exec sleep 20");
my ($pid) = slurp("$dir/pid") =~ /(\d+)/;
for (1 .. 100) { last unless kill 0, $pid; sleep 0.05 }
ok(!kill(0, $pid), 'without its boundary it ends');
is(scalar(() = glob "$dir/coder-boundary-*"), 0, 'nothing is left behind');

# Settings.
like((run($coder, 'boundary', '--help'))[1], qr/--allow rule.*--log-level.*BOUNDARY_ALLOW|--allow/s, '--help');
for my $case ([['--allow', 'github.com'], qr/rule "github.com": expected key=value/], [['--log-level', 'loud'], qr/log level "loud"/], [['--proxy-port', '0'], qr/is no port/],
	[['--config', "$dir/none"], qr/could not read/], [['--jail-type', 'chroot'], qr/expected nsjail/])
{
	($status, $out, $err) = run($coder, 'boundary', @{ $case->[0] }, '--', 'true');
	is($status, 1, "@{ $case->[0] } is refused");
	like($err, $case->[1], 'with words');
}
is((run($coder, 'boundary'))[0], 1, 'so is no command');
spew('config.yaml', "allowlist:\n  - domain=allowed.test path=/x\nlog_level: error\ndisable_audit_logs: true\n");
@flags = ('--config', "$dir/config.yaml");
is_inside("curl -sS $at/x", "hello\n", 'rules of a file');
is((inside("curl -sS $at/y"))[2], '', 'and its level of the log');
is_inside("curl -sS http://other.test:$port/x", "hello\n", 'with those of the command line', '--allow', 'domain=other.test');
mkdir "$dir/home/.config";
mkdir "$dir/home/.config/coder_boundary";
rename "$dir/config.yaml", "$dir/home/.config/coder_boundary/config.yaml";
@flags = ();
is_inside("curl -sS $at/x", "hello\n", 'the file where the public tool has it');
unlink "$dir/home/.config/coder_boundary/config.yaml";
{
	local $ENV{BOUNDARY_ALLOW} = 'method=GET,HEAD domain=allowed.test path=/x,/z';
	is_inside("curl -sS $at/x", "hello\n", 'a rule of the environment', '--disable-audit-logs');
}
spew('config.yaml', "allowlist:\n  - nonsense\n");
like((run($coder, 'boundary', '--config', "$dir/config.yaml", '--', 'true'))[2], qr/config.yaml, line 2: rule "nonsense"/, 'an error in it has a line');
inside("curl -sS $at/x", '--allow', 'domain=allowed.test', '--log-level', 'info', '--log-dir', "$dir/log", '--disable-audit-logs');
like(slurp("$dir/log/boundary.log"), qr/info boundary: ALLOW method=GET url=\Q$at\E\/x rule="domain=allowed.test"/, 'a log of its own');

# The agent hears of each request, also of those right before the end.
my $agent = IO::Socket::UNIX->new(Local => "$dir/agent.sock", Listen => 5, Type => SOCK_STREAM) // die;
my $frames = spew('frames', '');
background(sub { while (my $boundary = $agent->accept) { open my $file, '>>', $frames; my $b; while ($boundary->sysread($b, 65536)) { syswrite $file, $b } } });
inside("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -sS -o /dev/null $at/allowed\$i http://other.test:$port/denied\$i; done", '--allow', 'domain=allowed.test', '--log-proxy-socket-path', "$dir/agent.sock");
for (1 .. 50) { last if slurp($frames) =~ /denied12/; sleep 0.05 }
my $bytes = slurp($frames);
is(scalar(() = $bytes =~ /\/allowed\d+/g), 12, 'the agent hears of what was allowed');
is(scalar(() = $bytes =~ /\/denied\d+/g), 12, 'and of what was denied');
is(scalar(() = $bytes =~ /domain=allowed\.test/g), 12, 'with the rule where there is one');
my ($whole, $rest) = (0, $bytes);
while (length $rest >= 4) { my ($head) = unpack 'N', $rest; last if $head >> 24 != 2 || length $rest < 4 + ($head & 0xffffff); substr $rest, 0, 4 + ($head & 0xffffff), ''; $whole++ }
is($rest, '', "in whole frames ($whole)");
like((inside('true', '--log-proxy-socket-path', "$dir/nobody.sock"))[2], qr/no agent listens at/, 'without an agent there is a warning');

# Without rights.
SKIP:
{
	skip 'not root', 2 if $> != 0;
	chmod 0777, "$dir/home";
	($status, $out, $err) = run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', $coder, 'boundary', '--disable-audit-logs', '--allow', 'domain=allowed.test', '--', 'sh', '-c', "id -u; curl -sS $at/x; curl -sS -o /dev/null -w '%{http_code}' http://other.test:$port/x");
	skip 'user namespaces are for root only', 2 if $err =~ /could not make a user namespace/;
	is($out, "65534\nhello\n403", 'a user without rights has the same') or diag $err;
	($status, $out, $err) = run($coder, 'boundary', '--no-user-namespace', '--disable-audit-logs', '--', 'sh', '-c', "nsenter --net=/proc/$$/ns/net true");
	isnt($status, 0, 'root without a user namespace cannot leave either');
}

# Landlock instead of a network of its own.
SKIP:
{
	@flags = ('--jail-type', 'landjail', '--allow', 'method=GET,POST,HEAD domain=allowed.test', '--disable-audit-logs');
	($status, $out, $err) = inside('true');
	skip 'no Landlock for connections here', 14 if $err =~ /Landlock/;
	is($status, 0, 'landjail: a command') or diag $err;
	$before = asked();
	is_inside("curl -sS -o /dev/null -w '%{http_code} ' http://other.test:$port/x http://10.9.9.1:$port/x -o /dev/null", '403 403 ', 'landjail: what no rule allows is denied');
	is(asked(), $before, 'landjail: and its server hears nothing');
	is_inside("curl -sS $at/x", "hello\n", 'landjail: what a rule allows');
	is_inside("curl -sS $https/x", "secret\n", 'landjail: HTTPS, through CONNECT');
	is_inside("curl -sS -o /dev/null -w '%{http_code}' https://other.test:$tls{allowed}/x", '403', 'landjail: not to another host');
	$before = asked();
	isnt((inside("curl -sS --noproxy '*' --resolve allowed.test:$port:10.9.9.1 $at/x"))[0], 0, 'landjail: without the proxy there is no way');
	is(asked(), $before, 'landjail: the server hears nothing of it');
	my $try = sub { my ($what, $domain, $type, $protocol) = @_;
		return (inside("perl -MSocket -e 'socket(my \$s, $domain, $type, $protocol) or print \"no socket\" and exit; connect(\$s, sockaddr_in($port, inet_aton(\"10.9.9.1\"))) and print \"connected\" or print \"refused\"'"))[1] };
	is($try->('a stream', 'AF_INET', 'SOCK_STREAM', 0), 'refused', 'landjail: a connection');
	is($try->('datagrams', 'AF_INET', 'SOCK_DGRAM', 0), 'no socket', 'landjail: datagrams');
	is($try->('MPTCP', 'AF_INET', 'SOCK_STREAM', 262), 'no socket', 'landjail: MPTCP, which Landlock does not look at');
	is($try->('raw', 'AF_INET', 'SOCK_RAW', 1), 'no socket', 'landjail: raw packets');
	is((inside('exit 7'))[0], 7, 'landjail: the status of the command');
	is((inside('kill -TERM $$'))[0], 143, 'landjail: killed by a signal');
}
done_testing();
