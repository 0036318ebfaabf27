# chats.pl -- chats: creations by many at once, and a thousand turns that stream in one runner.
#
# The model is a process of this script; it answers at once, or, asked for "slow", a word a second for 20 s.  The cluster is
# the embedded one: synchronous commit, fsync on.  CREATIONS (4800), CLIENTS (480), STREAMS (1000).
#
# SPDX-License-Identifier: MIT
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes;
use File::Temp qw(tempdir);
use IO::Poll qw(POLLIN);
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

my $creations = $ENV{CREATIONS} // 4800;
my $clients = $ENV{CLIENTS} // 480;
my $streams = $ENV{STREAMS} // 1000;
my $pieces = 20;
my $dir = tempdir('coder-bench-XXXXXX', TMPDIR => 1, CLEANUP => 1);
$| = 1;
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);

sub slurp { open my $file, '<', $_[0] or return ''; local $/; return <$file> // '' }
sub load { return (split ' ', slurp('/proc/loadavg'))[0] }
sub row { return printf "%-52s %s\n", @_ }
sub rss { return (slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+)/m)[0] // 0 }

# Processor time of a process so far, in seconds.
sub cpu { my @f = split ' ', slurp("/proc/$_[0]/stat") =~ s/^.*\) //sr; return (($f[11] // 0) + ($f[12] // 0)) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }

# The same of the gateway and of PostgreSQL with all its processes.
sub cpu_of_server
{
	my ($server) = @_;
	my $postmaster = $server->postmaster;
	my $sum = cpu($postmaster) + ((split ' ', slurp("/proc/$postmaster/stat") =~ s/^.*\) //sr)[13] + (split ' ', slurp("/proc/$postmaster/stat") =~ s/^.*\) //sr)[14]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
	for my $stat (glob '/proc/[0-9]*/stat') { my ($pid) = $stat =~ /(\d+)/; $sum += cpu($pid) if (slurp($stat) =~ /^\d+ \(.*\) \S (\d+)/s ? $1 : 0) == $postmaster }
	return (cpu($server->{pid}), $sum);
}

# The model ----------------------------------------------------------------------

my $listener = IO::Socket::INET->new(Listen => 4096, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $port = $listener->sockport;

sub piece { return 'data: ' . JSON::PP::encode_json({ choices => [{ index => 0, delta => { content => "word " }, finish_reason => $_[0] }] }) . "\n\n" }

# One process, no waiting: what is asked is read when it comes, what is said slowly is said each second.
sub serve
{
	my $poll = IO::Poll->new;
	my (%asked, %left, %socket);
	my $due = time + 1;
	my $say = sub { my ($c, $text) = @_; local $SIG{PIPE} = 'IGNORE'; return defined syswrite $c, $text };
	my $close = sub { my ($c) = @_; $poll->remove($c); delete $_->{$c} for \%asked, \%left, \%socket; close $c };

	$poll->mask($listener => POLLIN);
	while (1)
	{
		$poll->poll($due > time ? $due - time : 0);
		for my $c ($poll->handles(POLLIN))
		{
			if ($c == $listener) { my $new = $listener->accept or next; $poll->mask($new => POLLIN); $socket{$new} = $new; $asked{$new} = ''; next }
			if (!sysread $c, $asked{$c}, 65536, length $asked{$c}) { $close->($c); next }
			next if $left{$c};
			my ($size) = $asked{$c} =~ /^content-length: (\d+)/mi or next;
			my $end = index($asked{$c}, "\r\n\r\n");
			next if $end < 0 || length($asked{$c}) < $end + 4 + $size;
			$say->($c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
			if ($asked{$c} =~ /"slow"/ && $asked{$c} !~ /propose_title/) { $left{$c} = $pieces; next }
			$say->($c, piece('stop') . "data: [DONE]\n\n");
			$close->($c);
		}
		next if time < $due;
		$due += 1;
		for my $c (map { $socket{$_} } keys %left)
		{
			if ($left{$c}-- > 1) { $say->($c, piece(undef)) or $close->($c); next }
			$say->($c, piece('stop') . "data: [DONE]\n\n");
			$close->($c);
		}
	}
}

my $model = fork // die "fork: $!";
if (!$model) { $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP); eval { serve() }; print STDERR $@; POSIX::_exit(1) }
close $listener;
END { local $?; if ($model) { kill TERM => $model; waitpid $model, 0 } }

# The server ---------------------------------------------------------------------

my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key', base_url => "http://127.0.0.1:$port/v1" });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm', context_limit => 8000 });
my ($runner) = Coder::Processes::find($server->{pid}, qr/chat-runner/);

sub body { return JSON::PP::encode_json({ organization_id => $org, content => [{ type => 'text', text => $_[0] }] }) }

# So many POST by wrk; stops after them.  (requests a second, p50, p99 and most in ms, failures)
sub create
{
	my ($n, $connections, $text) = @_;
	open my $lua, '>', "$dir/create.lua" or die;
	printf $lua <<'END', $server->{token}, body($text), $n;
wrk.method = "POST"
wrk.headers["Coder-Session-Token"] = "%s"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
local left = %d
local began
function setup(thread) threads = thread end
function response(status)
	left = left - 1
	if status ~= 201 then failed = (failed or 0) + 1 end
	if left == 0 then os.execute("(sleep 0.02; kill -INT $PPID) &") end
end
function done(summary, latency)
	local f = threads:get("failed") or 0
	local e = summary.errors
	print(string.format("RESULT %%d %%f %%f %%f %%f %%d", summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
		latency:percentile(99) / 1e3, latency.max / 1e3, f + e.connect + e.read + e.write + e.timeout))
end
END
	close $lua;
	my $out = `wrk -t1 -c$connections -d120s --timeout 60s -s $dir/create.lua $server->{url}$chats`;
	my ($requests, $duration, $p50, $p99, $most, $failed) = $out =~ /^RESULT (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)/m or die "wrk: $out";
	return ($requests / $duration, $p50, $p99, $most, $failed);
}

sub wait_until_done { while ($server->sql("SELECT count(*) FROM coder.chats WHERE status IN ('pending', 'running')") > 0) { sleep 0.5 } return }

printf "Chats (load %s)\n", load();
create(1000, $clients, 'warm');	# so that each connection has its plans
wait_until_done();
# The runner stands still: creations alone.
kill STOP => $runner;
my @cpu = cpu_of_server($server);
my ($rate, $p50, $p99, $most, $failed) = create($creations, $clients, 'hello');
row("$creations creations, $clients at once, a second", sprintf('%.0f (p50 %.0f ms, p99 %.0f ms, most %.0f ms, %d failed)', $rate, $p50, $p99, $most, $failed));
my @used = map { 1e6 * $_ / $creations } do { my @after = cpu_of_server($server); ($after[0] - $cpu[0], $after[1] - $cpu[1]) };
row('processor time of each, gateway + PostgreSQL', sprintf('%.0f + %.0f us', @used));
$server->sql("DELETE FROM coder.chats");
kill CONT => $runner;
my $rest = rss($runner);
my $cpu = cpu($runner);
create($streams, 32, 'slow');
my ($peak, $memory) = (0, 0);
for (1 .. $pieces * 8)
{
	my $running = $server->sql("SELECT count(*) FROM coder.chats WHERE status = 'running'");
	$peak = $running if $running > $peak;
	$memory = rss($runner) if rss($runner) > $memory;
	last if !$running;
	sleep 0.5;
}
wait_until_done();
row("turns that streamed at once in one runner", $peak);
row('its memory, at rest and then', sprintf('%.1f and %.1f MB', $rest / 1024, $memory / 1024));
row('its processor time, a turn of 20 pieces', sprintf('%.1f ms', 1000 * (cpu($runner) - $cpu) / $streams));
row('in error', $server->sql("SELECT count(*) FROM coder.chats WHERE status = 'error'"));
