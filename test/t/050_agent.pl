# The command line, a workspace, and the agent in it, from login to delete: nothing stands for anything here.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $root  = abs_path(dirname(__FILE__) . '/../..');
my $coder = "$root/agent/coder";
my $why   = Coder::Provisioning::no_sandbox();
$why //= 'agent/coder is not built' unless -x $coder;
plan skip_all => $why if $why;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my $gateway = Coder::Gateway->start(env => { CODER_PROVISIONER_DAEMONS => 2, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_AGENT_BINARY => $coder });
mkdir "$dir/home";
delete @ENV{ grep { /^CODER_/ } keys %ENV };
$ENV{HOME} = "$dir/home";
$ENV{TERM} = 'xterm';

sub slurp { open my $file, '<:raw', $_[0] or return ''; local $/; return <$file> // '' }
sub spew { open my $file, '>:raw', $_[0] or die "$_[0]: $!"; print $file $_[1]; close $file; return $_[0] }

# Runs a program for 30 s at most, with a file as its input: ($status, $out, $err).
sub run
{
	my ($in, @command) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDIN,  '<', $in        or die;
		open STDOUT, '>', "$dir/out" or die;
		open STDERR, '>', "$dir/err" or die;
		alarm 30;
		exec { $command[0] } @command or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	return ($? & 127 ? "signal " . ($? & 127) : $? >> 8, slurp("$dir/out"), slurp("$dir/err"));
}

sub cli { return run('/dev/null', $coder, @_) }

sub cli_ok
{
	my ($name, $like, @args) = @_;
	my ($status, $out, $err) = cli(@args);

	return ok($status eq '0' && $out =~ $like, $name) || diag "status $status\n$out$err";
}

sub fetch { my ($port) = @_; my $answer = HTTP::Tiny->new(timeout => 5)->get("http://127.0.0.1:$port/"); return $answer->{content} // '' }

# In and out of the server.
cli_ok('login makes the first user', qr/admin/, 'login', $gateway->url, '--first-user-username', 'admin', '--first-user-email',
	'admin@example.com', '--first-user-password', 'SomeSecurePassword!', '--first-user-full-name', 'Admin');
cli_ok('whoami', qr/signed in as admin/, 'whoami');
my ($owner) = $gateway->login('admin@example.com', 'SomeSecurePassword!', 1);
sub workspace { my ($name) = @_; return scalar $owner->get("/api/v2/users/me/workspace/$name") }

sub agent
{
	my ($name) = @_;
	my ($agent) = map { @{ $_->{agents} // [] } } @{ workspace($name)->{latest_build}{resources} };
	return $agent;
}

# The starter template, pushed as a folder.
cli_ok('templates push', qr/Template "starter"/, 'templates', 'push', 'starter', '-y', '-d', "$root/gateway/provisioner/starter");
cli_ok('create', qr/Workspace "dev" is created/, 'create', 'dev', '--template', 'starter', '-y');
my (undef, $json) = cli('list', '-o', 'json');
is(eval { JSON::PP::decode_json($json)->[0]{name} } // $json, 'dev', 'list -o json');
cli_ok('show', qr/main/, 'show', 'dev');

# Commands.
is_deeply([ (cli('ssh', 'dev', '--', 'echo out; echo err >&2; exit 3'))[ 0, 1, 2 ] ], [ 3, "out\n", "err\n" ], 'ssh gives status and both outputs');
cli_ok('a command that ends well', qr/^\d+\n$/, 'ssh', 'dev', '--', 'id -u');
is((cli('ssh', 'dev', '--', 'kill -KILL $$'))[0], 255, 'a command killed by a signal');
my $data = join '', map { sha256_hex($_) } 1 .. 81920;
my $file = spew("$dir/data", $data);
my ($status, $out) = run($file, $coder, 'ssh', 'dev', '--', 'tee copy | sha256sum');
like($out, qr/^${\sha256_hex($data)} /, '5 MB arrive as they are');
($status, $out) = cli('ssh', 'dev', '--', 'cat copy');
is(sha256_hex($out), sha256_hex($data), 'and come back so');

# A terminal of our own.
SKIP:
{
	skip 'IO::Pty is not installed', 5 unless eval { require IO::Pty; 1 };
	my $pty = IO::Pty->new;
	$pty->set_winsize(31, 97);
	my $pid = fork // die;
	if ($pid == 0)
	{
		$pty->make_slave_controlling_terminal;
		my $tty = $pty->slave;
		close $pty;
		open STDIN,  '<&', $tty;
		open STDOUT, '>&', $tty;
		open STDERR, '>&', $tty;
		exec { $coder } $coder, 'ssh', 'dev' or POSIX::_exit(127);
	}
	$pty->close_slave;
	my $seen  = '';
	my $until = sub {
		my ($what) = @_;
		my $end = time + 15;
		while ($seen !~ $what && time < $end && IO::Select->new($pty)->can_read(1) // 1)
		{
			sysread($pty, $seen, 4096, length $seen) or last;
		}
		return $seen =~ $what;
	};
	$until->(qr/[\$#] $/);
	syswrite $pty, "stty size; echo \$TERM\n";
	ok($until->(qr/31 97\r\nxterm/), 'a terminal has our size and type') or diag $seen;
	$pty->set_winsize(40, 120);
	kill 'WINCH', $pid;
	$seen = '';
	ok($gateway->wait_for(10, sub { syswrite $pty, "stty size\n"; $until->(qr/40 120\r\n|31 97\r\n/); my $new = $seen =~ /40 120/; $seen = ''; $new }),
		'and follows it');
	syswrite $pty, "sleep 100; echo slept=\$?\n";
	sleep 0.5;
	syswrite $pty, "\x03";
	syswrite $pty, "echo status=\$?\n";
	ok($until->(qr/status=130/), 'Ctrl-C ends the remote command only') or diag $seen;
	syswrite $pty, "exit 5\n";
	my $ended = $gateway->wait_for(10, sub { sysread($pty, $seen, 4096, length $seen) if IO::Select->new($pty)->can_read(0); waitpid($pid, POSIX::WNOHANG()) == $pid });
	ok($ended, 'exit ends it') or kill 'KILL', $pid;
	is($? >> 8, 5, 'with the status of the shell');
}

# OpenSSH by config-ssh; it would read the home of the passwd file.
cli_ok('config-ssh', qr/Done/, 'config-ssh', '-y');
my @options = ('-F', "$dir/home/.ssh/config", '-o', 'BatchMode=yes');
is((run('/dev/null', 'ssh', @options, 'coder.dev', 'exit 7'))[0], 7, 'ssh coder.dev');
is((run('/dev/null', 'scp', '-q', @options, $file, 'coder.dev:up'))[0], 0, 'scp up');
is((run('/dev/null', 'scp', '-q', @options, 'coder.dev:up', "$dir/down"))[0], 0, 'and down');
is(sha256_hex(slurp("$dir/down")), sha256_hex($data), 'without a change');

# Ports, and what is left of connections.
my ($there, $here) = (Coder::Gateway::free_port(), Coder::Gateway::free_port());
spew("$dir/serve.pl", <<"PERL");
use IO::Socket::INET;
my \$s = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1:$there', ReuseAddr => 1) or die;
while (my \$c = \$s->accept) { while (<\$c>) { last if /^\\r\\n/ } print \$c "HTTP/1.0 200 OK\\r\\n\\r\\nfrom inside"; close \$c }
PERL
run("$dir/serve.pl", $coder, 'ssh', 'dev', '--', 'cat > serve.pl; setsid perl serve.pl > /dev/null 2>&1 &');
my $forward = fork // die;
if ($forward == 0)
{
	open STDOUT, '>', "$dir/forward" or die;
	exec { $coder } $coder, 'port-forward', 'dev', '--tcp', "$here:$there" or POSIX::_exit(127);
}
ok($gateway->wait_for(10, sub { fetch($here) eq 'from inside' }), 'port-forward') or diag slurp("$dir/forward");
kill 'INT', $forward;
waitpid $forward, 0;
is($?, 0, 'ends with Ctrl-C');
my ($pings) = (cli('ping', 'dev', '-n', '2'))[1];
is(scalar(() = $pings =~ /^pong from dev/mg), 2, 'ping -n 2') or diag $pings;
my ($process) = grep { slurp("/proc/$_/cmdline") =~ /coder\0agent/ && slurp("/proc/$_/environ") =~ /CODER_AGENT_URL=\Q${\$gateway->url}\E\0/ }
  map { m{(\d+)$} } glob '/proc/[0-9]*';
my $threads = sub { return scalar(() = glob "/proc/$process/task/*") };
ok($gateway->wait_for(5, sub { $threads->() == 1 }), 'the agent keeps no thread of an SSH connection') or diag $threads->() . ' threads';
my ($resident) = slurp("/proc/$process/status") =~ /^VmRSS:\s+(\d+) kB/m;
cmp_ok($resident, '<', 12288, 'and little memory');

# Stop, and start again.
my $token = $gateway->sql('SELECT auth_token FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
cli_ok('stop', qr/is stopped/, 'stop', 'dev', '-y');
is(($gateway->client($token)->get('/api/v2/workspaceagents/me/gitsshkey'))[0], 401, "a stopped workspace's agent is a stranger");
isnt((cli('ssh', '--disable-autostart', 'true', 'dev', '--', 'true'))[0], 0, 'ssh refuses where it must not start');
cli_ok('ssh starts a stopped workspace, whose home is as it was', qr/^${\length $data}\n$/, 'ssh', 'dev', '--', 'wc -c < copy');
cli_ok('delete', qr/is deleted/, 'delete', 'dev', '-y');

# Scripts, metadata and health, of a template made for it.
mkdir "$dir/scripts";
spew("$dir/scripts/main.tf", <<'HCL');
terraform { required_providers { coder = { source = "coder/coder" } } }
data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = data.coder_provisioner.me.arch
  startup_script = "echo started by $CODER_WORKSPACE_NAME"
  metadata {
    key          = "answer"
    display_name = "Answer"
    script       = "echo $((6*7))"
    interval     = 1
    timeout      = 5
  }
}
resource "coder_script" "late" {
  agent_id     = coder_agent.main.id
  display_name = "Late"
  run_on_start = true
  timeout      = 1
  script       = "echo begins; sleep 60"
}
resource "coder_script" "cron" {
  agent_id     = coder_agent.main.id
  display_name = "Cron"
  cron         = "* * * * * *"
  script       = "date >> $HOME/cron.txt"
}
resource "coder_app" "web" {
  agent_id = coder_agent.main.id
  slug     = "web"
  url      = "http://127.0.0.1:PORT"
  healthcheck {
    url       = "http://127.0.0.1:PORT/"
    interval  = 1
    threshold = 2
  }
}
resource "sandbox_process" "workspace" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}
HCL
spew("$dir/scripts/main.tf", slurp("$dir/scripts/main.tf") =~ s/PORT/$there/gr);
cli_ok('a template with scripts', qr/Template "scripts"/, 'templates', 'push', 'scripts', '-y', '-d', "$dir/scripts");
cli_ok('its workspace', qr/is created/, 'create', 'work', '--template', 'scripts', '-y');
my $agent = agent('work');
my $logs = sub { join "\n", map { $_->{output} } @{ $owner->get("/api/v2/workspaceagents/$agent->{id}/logs") // [] } };
ok($gateway->wait_for(10, sub { $logs->() =~ /started by work/ }), "a startup script's output arrives") or diag $logs->();
ok($gateway->wait_for(15, sub { agent('work')->{lifecycle_state} eq 'start_timeout' }), 'a script that takes too long is a timeout')
  or diag agent('work')->{lifecycle_state};
my $answer = sub { $gateway->sql("SELECT value FROM coder.workspace_agent_metadata WHERE workspace_agent_id = '$agent->{id}' AND key = 'answer'") };
ok($gateway->wait_for(10, sub { $answer->() =~ /^42/ }), 'metadata arrive') or diag $answer->();
my $health = sub { agent('work')->{apps}[0]{health} };
ok($gateway->wait_for(10, sub { $health->() eq 'unhealthy' }), 'an app nobody serves is unhealthy') or diag $health->();
run("$dir/serve.pl", $coder, 'ssh', 'work', '--', 'cat > serve.pl; setsid perl serve.pl > /dev/null 2>&1 &');
ok($gateway->wait_for(10, sub { $health->() eq 'healthy' }), 'and healthy once somebody does') or diag $health->();
ok($gateway->wait_for(10, sub { (cli('ssh', 'work', '--', 'wc -l < cron.txt'))[1] =~ /^([2-9]|\d\d)/ }), 'a cron script runs each second');

# A killed server takes its sandboxes with it; both come back.
$gateway->restart('KILL');
my $back = time;
ok($gateway->wait_for(15, sub { (cli('ssh', 'work', '--', 'echo again >> cron.txt'))[0] eq '0' }), 'after a kill of the server the agent is back');
cmp_ok(time - $back, '<', 8, 'soon');

# A script that fails.
spew("$dir/scripts/main.tf", slurp("$dir/scripts/main.tf") =~ s/echo started by \$CODER_WORKSPACE_NAME/exit 9/r =~ s/; sleep 60//r);
cli_ok('a template whose script fails', qr/Template "scripts"/, 'templates', 'push', 'scripts', '-y', '-d', "$dir/scripts");
cli_ok('a workspace of it', qr/is created/, 'create', 'bad', '--template', 'scripts', '-y');
ok($gateway->wait_for(10, sub { agent('bad')->{lifecycle_state} eq 'start_error' }), 'starts with an error') or diag agent('bad')->{lifecycle_state};
cli_ok('work is deleted', qr/is deleted/, 'delete', 'work', '-y');
my $began = time;
cli_ok('bad is deleted', qr/is deleted/, 'delete', 'bad', '-y');
cmp_ok(time - $began, '<', 4, 'without waiting for an agent whose last words the server refuses');
is($gateway->stop, 0, 'the server ends well');
done_testing();
