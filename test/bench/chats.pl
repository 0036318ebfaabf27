# chats.pl -- chats: creations by many at once, a thousand turns that stream in one runner, what a turn costs the database,
# and how long a word is on its way.
#
# The model is a process of this script; it answers at once, or, asked for "slow", a word a second for 20 s, asked for
# "long", for 40 s, or, asked for "stamp", the time ten times a second.  The cluster is the embedded one: synchronous commit, fsync on.
# CREATIONS (4800), CLIENTS (480), STREAMS (1000), WATCHED (50), TALKS (300); PARTS (creations,turns,talks,words): only these.
#
# SPDX-License-Identifier: MIT
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes;
use Coder::WebSocket;
use File::Temp qw(tempdir);
use IO::Poll qw(POLLIN);
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

my $creations = $ENV{CREATIONS} // 4800;
my $clients = $ENV{CLIENTS} // 480;
my $streams = $ENV{STREAMS} // 1000;
my $watched = $ENV{WATCHED} // 50;
my $talks = $ENV{TALKS} // 300;
my %part = map { $_ => 1 } split /,/, $ENV{PARTS} // 'creations,turns,talks,words';
my $pieces = 20;
my $long = 40;
my $stamps = 60;
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

sub piece { my ($end, $word) = @_; return 'data: ' . JSON::PP::encode_json({ choices => [{ index => 0, delta => { content => ($word // 'word') . ' ' }, finish_reason => $end }] }) . "\n\n" }

# One process, no waiting: what is asked is read when it comes; those who are answered slowly are so at times of their own.
sub serve
{
	my $poll = IO::Poll->new;
	my (%asked, %left, %stamp, %phase, %socket);
	my $due = time + 0.01;
	my $tick = 0;
	my $n = 0;
	my $say = sub { my ($c, $text) = @_; local $SIG{PIPE} = 'IGNORE'; return defined syswrite $c, $text };
	my $close = sub { my ($c) = @_; $poll->remove($c); delete $_->{$c} for \%asked, \%left, \%stamp, \%phase, \%socket; close $c };

	while (1)
	{
		$poll->mask($listener => POLLIN) if !$tick;
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
			my ($manner) = $asked{$c} =~ /propose_title/ ? () : $asked{$c} =~ /"(slow|long|stamp)"/;
			if ($manner) { $stamp{$c} = $manner eq 'stamp'; $left{$c} = $stamp{$c} ? $stamps : $manner eq 'long' ? $long : $pieces; $phase{$c} = 37 * $n++ % 100; $asked{$c} = ''; next }
			$say->($c, piece('stop') . "data: [DONE]\n\n");
			$close->($c);
		}
		next if time < $due;
		$due += 0.01;
		$tick++;
		for my $c (map { $socket{$_} } keys %left)
		{
			next unless ($phase{$c} - $tick) % ($stamp{$c} ? 10 : 100) == 0;
			if ($left{$c}-- > 1) { $say->($c, piece(undef, $stamp{$c} ? sprintf('%.6f', time) : undef)) or $close->($c); next }
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

# One row and its commit, by as many connections as the gateway has for requests: what the machine gives at all.
sub commits
{
	my $bin = Coder::Gateway::bindir();
	open my $script, '>', "$dir/commit.sql" or die;
	print $script "INSERT INTO public.commits VALUES (1);\n";
	close $script;
	$server->sql('CREATE TABLE IF NOT EXISTS public.commits (n int)');
	my $out = `$bin/pgbench -n -M prepared -c 2 -T 3 -f $dir/commit.sql "host=$server->{dir}/config/postgres/run user=coder dbname=coder" 2>&1`;
	return $out =~ /^tps = (\d+)/m ? $1 : die "pgbench: $out";
}

# Bytes of WAL and syncs so far; an idle backend tells of its syncs ten seconds late.
sub wal { sleep 10.5; return split /\|/, $server->sql("SELECT pg_current_wal_insert_lsn() - '0/0', wal_sync FROM pg_stat_wal") }

sub measure_creations
{
	my ($what) = @_;
	my @wal = $what ? () : wal();
	my @cpu = cpu_of_server($server);
	my ($rate, $p50, $p99, $most, $failed) = create($creations, $clients, 'hello');
	row("$creations creations, $clients at once$what, a second", sprintf('%.0f (p50 %.0f ms, p99 %.0f ms, most %.0f ms, %d failed)', $rate, $p50, $p99, $most, $failed));
	my @used = map { 1e6 * $_ / $creations } do { my @after = cpu_of_server($server); ($after[0] - $cpu[0], $after[1] - $cpu[1]) };
	row('processor time of each, gateway + PostgreSQL', sprintf('%.0f + %.0f us', @used));
	return if $what;
	my @written = do { my @after = wal(); ($after[0] - $wal[0], $after[1] - $wal[1]) };
	row('WAL of each, and creations a sync', sprintf('%.1f kB, %.1f', $written[0] / $creations / 1000, $creations / ($written[1] || 1)));
	return;
}

printf "Chats (load %s)\n", load();
if ($part{creations})
{
	row('baseline: commits of one row by two connections, a second', commits());
	create(1000, $clients, 'warm');	# so that each connection has its plans
	wait_until_done();
	# The runner stands still: creations alone.
	kill STOP => $runner;
	measure_creations('');
	$server->sql("DELETE FROM coder.chats");
	kill CONT => $runner;
	sleep 2;
	measure_creations(', their turns running');
	wait_until_done();
	$server->sql("DELETE FROM coder.chats");
}

# What turns cost ----------------------------------------------------------------

$server->sql("ALTER SYSTEM SET shared_preload_libraries = 'coder', 'pg_stat_statements'");
$server->restart;
$server->sql('CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
$server->wait_for(20, sub { ($runner) = Coder::Processes::find($server->{pid}, qr/chat-runner/); $runner }) or die 'no runner';
create(20, 4, 'warm');
wait_until_done();
sub backends { return split /\n/, $server->sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'coder chat runner' AND query NOT LIKE 'LISTEN%' AND query NOT LIKE '%events_after%'") }
sub cpu_of_all { my $sum = 0; $sum += cpu($_) for @_; return $sum }
my $turns = 'query LIKE \'SELECT coder.chat\_%\'';
if ($part{turns})
{
	my @workers = backends();
	my $rest = rss($runner);
	my $cpu = cpu($runner);
	my $database = cpu_of_all(@workers);
	$server->sql('SELECT pg_stat_statements_reset()');
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
	my $n = $server->sql('SELECT count(*) FROM coder.chats') - 20;
	row("turns that streamed at once in one runner", $peak);
	row('its memory, at rest and then', sprintf('%.1f and %.1f MB', $rest / 1024, $memory / 1024));
	row('its processor time, a turn of 20 pieces', sprintf('%.1f ms', 1000 * (cpu($runner) - $cpu) / $n));
	row('in error', $server->sql("SELECT count(*) FROM coder.chats WHERE status = 'error'"));
	row('time in the database, a turn (pg_stat_statements)', $server->sql("SELECT round(sum(total_exec_time)::numeric / $n, 2) || ' ms: ' || string_agg(name || ' ' || round(each::numeric, 2), ', ' ORDER BY each DESC) FROM (
		SELECT substring(query FROM 'coder[.](\\w+)') AS name, sum(total_exec_time) AS total_exec_time, sum(total_exec_time) / $n AS each FROM pg_stat_statements WHERE $turns GROUP BY 1) x"));
	row('processor time of its connections, a turn', sprintf('%.2f ms', 1000 * (cpu_of_all(@workers) - $database) / $n));
	row("reads of configuration, $n turns", $server->sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~ 'coder[.]chat_run_'"));
	for my $change ("UPDATE coder.chat_providers SET base_url = base_url", "UPDATE coder.chat_model_configs SET display_name = 'n'", "INSERT INTO coder.user_configs (user_id, key, value) SELECT id, 'chat_custom_prompt', 'p' FROM coder.users")
	{
		$server->sql('SELECT pg_stat_statements_reset()');
		$server->sql($change);
		create(100, 10, 'hello');
		wait_until_done();
		row('reads of configuration, a change of ' . ($change =~ /coder\.(\w+)/)[0], $server->sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~ 'coder[.]chat_run_'"));
	}
}

# What conversations read of the configuration --------------------------------------

# A message to each of these chats, by wrk.
sub say_to
{
	my ($ids, $connections, $text) = @_;
	open my $lua, '>', "$dir/say.lua" or die;
	printf $lua <<'END', $server->{token}, JSON::PP::encode_json({ content => [{ type => 'text', text => $text }] }), join(', ', map { "'$_'" } @$ids), $chats;
wrk.method = "POST"
wrk.headers["Coder-Session-Token"] = "%s"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
local ids = { %s }
local sent, left = 0, #ids
function request()
	sent = sent + 1
	return wrk.format(nil, "%s/" .. ids[(sent - 1) %% #ids + 1] .. "/messages")
end
function response(status)
	left = left - 1
	if left == 0 then os.execute("(sleep 0.02; kill -INT $PPID) &") end
end
END
	close $lua;
	my $out = `wrk -t1 -c$connections -d60s --timeout 60s -s $dir/say.lua $server->{url}$chats 2>&1`;
	die "wrk: $out" if $?;
	return;
}

if ($part{talks})
{
	$server->sql('DELETE FROM coder.chats');
	$server->sql('SELECT pg_stat_statements_reset()');
	my $began = time;
	create($talks, 10, 'hello');
	wait_until_done();
	my @talking = split /\n/, $server->sql('SELECT id FROM coder.chats');
	for my $round (1 .. 9)
	{
		say_to(\@talking, 10, "and $round");
		wait_until_done();
	}
	my $answers = $server->sql("SELECT count(*) FROM coder.chat_messages WHERE role = 'assistant' AND NOT deleted");
	row(sprintf('reads of configuration, %d turns of %d chats in %d s', $answers, scalar @talking, time - $began),
		$server->sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~ 'coder[.]chat_run_'"));
}

# From the model to a page -------------------------------------------------------

# So many turns whose words are watched at another gateway, ten a second each, beside others that are said a word a second each.
sub measure_words
{
	my ($other, $beside) = @_;
	my @late;
	$server->sql('DELETE FROM coder.chats');
	if ($beside)
	{
		create($beside, 32, 'long');
		my $until = time + 25;
		while ($server->sql("SELECT count(*) FROM coder.chats WHERE status = 'running'") < $beside && time < $until) { sleep 0.2 }
	}
	my @ids = map { ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => 'stamp' }] }))[1]{id} } 1 .. $watched;
	my %ws = map { my $ws = Coder::WebSocket->open($other->url, "$chats/$_/stream", token => $server->{token}) or die $@; (fileno $ws->{socket} => $ws) } @ids;
	my $poll = IO::Poll->new;
	$poll->mask($_->{socket} => POLLIN) for values %ws;
	my $began = time;
	my $end = $began + $stamps / 10 + 4;
	my @cpu = (cpu($runner), cpu_of_server($server), cpu($other->{pid}));
	my $running;
	while (time < $end)
	{
		$running //= $server->sql("SELECT count(*) FROM coder.chats WHERE status = 'running'") if time > $began + 3;
		$poll->poll(0.5);
		for my $socket ($poll->handles(POLLIN))
		{
			my $ws = $ws{ fileno $socket };
			my $now = time;
			if (!$ws->more(0)) { $poll->remove($socket); next }
			while (my ($opcode, $payload) = $ws->frame(0))
			{
				next unless $opcode == 1;
				# The words as they come; the message that is stored has them again.
				my $words = join '', map { $_->{message_part}{part}{text} // '' } grep { $_->{type} eq 'message_part' } @{ JSON::PP::decode_json($payload) };
				push @late, map { $now - $_ } grep { $_ > $began + 1 } $words =~ /(\d{9,}\.\d{6}) /g;
			}
		}
	}
	my @used = (cpu($runner), cpu_of_server($server), cpu($other->{pid}));
	@late = sort { $a <=> $b } @late;
	row("a word to a page of another gateway, $watched turns, 10 words/s" . ($beside ? ", of $running" : ''),
		@late ? sprintf('p50 %.1f ms, p99 %.1f ms, most %.1f ms (%d words)', map({ 1000 * $_ } $late[@late / 2], $late[@late * 0.99], $late[-1]), scalar @late) : 'none came');
	row('processor time then: runner, gateway, PostgreSQL, other', sprintf('%.0f, %.0f, %.0f, %.0f ms a second', map { 1000 * ($used[$_] - $cpu[$_]) / (time - $began) } 0 .. 3));
	wait_until_done();
	return;
}

if ($part{words})
{
	my $other = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true',
		CODER_PG_CONNECTION_URL => "host=$server->{dir}/config/postgres/run user=coder dbname=coder" });
	my $idle;
	$other->wait_for(20, sub { ($idle) = Coder::Processes::find($other->{pid}, qr/chat-runner/); $idle }) or die 'no second runner';
	kill STOP => $idle;	# so that the words come by way of the first gateway's
	measure_words($other, 0);
	measure_words($other, $streams - $watched);
	kill CONT => $idle;
	$other->stop;
}
