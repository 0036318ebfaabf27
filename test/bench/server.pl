# server.pl -- the figures of a whole server: requests a second, times, memory, throughput.
#
# Each figure stands beside a baseline of the same minute, since machines differ
# and may be busy; nothing is judged.  Repeated figures are medians.
# SECONDS_EACH (2) is the time of one run of wrk, RUNS (3) how many there are.
#
# SPDX-License-Identifier: MIT
use strict;
use warnings FATAL => 'all';
use Coder::Client;
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

my $root = abs_path(dirname(__FILE__) . '/../..');
my $cli = "$root/agent/coder";
my $official = $ENV{CODER_OFFICIAL_CLI};
my $seconds = $ENV{SECONDS_EACH} // 2;
my $runs = $ENV{RUNS} // 3;
my $dir = tempdir('coder-bench-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
my $pg = Coder::Gateway::bindir();
$| = 1;
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);	# servers end with their objects

# Printing ---------------------------------------------------------------------

sub slurp { open my $file, '<', $_[0] or return ''; local $/; return <$file> // '' }
sub median { my @v = sort { $a <=> $b } @_; return @v ? $v[ @v / 2 ] : 0 }
sub ms { return sprintf '%.0f ms', 1000 * $_[0] }
sub mb { return sprintf '%.1f MB', $_[0] / 1024 }
sub load { return (split ' ', slurp('/proc/loadavg'))[0] }

# A line: the figure, its baseline and what that is, the ratio; then what is to be reached.
sub row
{
	my ($name, $value, $baseline, $what, $ratio, $goal) = @_;
	return printf "%-44s %14s %14s %-30s %7s  %s\n", $name, $value, $baseline, $what,
	  $ratio =~ /^[\d.]+$/ ? sprintf('%.2f', $ratio) : $ratio, $goal;
}

sub section { return printf "\n%s (load %s)\n", $_[0], load() }

# Others on the machine may be busy: waits a few seconds for a moment when they are not.
sub quiet
{
	my $calm = 0;

	for (1 .. 60)
	{
		my ($running) = slurp('/proc/loadavg') =~ m{ (\d+)/};
		$calm = $running <= 1 ? $calm + 1 : 0;
		return if $calm == 4;
		sleep 0.05;
	}
	return;
}

# Measuring ----------------------------------------------------------------------

# Requests a second of wrk; dies if an answer is not 2xx.
sub rate
{
	my ($url, $connections, @headers) = @_;
	my $out = '';

	open my $wrk, '-|', 'wrk', '-t1', "-c$connections", "-d${seconds}s", (map { ('-H', $_) } @headers), $url or die "wrk: $!";
	$out .= $_ while <$wrk>;
	close $wrk;
	die "wrk $url: $out" if $out =~ /Non-2xx/ || $out !~ m{Requests/sec:\s*([\d.]+)};
	return $1;
}

# `select 1` on the server behind the gateway, prepared, eight connections.
sub select_rate
{
	my ($gateway) = @_;
	my $script = "$dir/select.sql";

	open my $file, '>', $script or die $!;
	print $file "select 1;\n";
	close $file;
	my $out = `'$pg/pgbench' -n -M prepared -f '$script' -c 8 -T $seconds -h '$gateway->{dir}/config/postgres/run' -U coder coder 2>&1`;
	return $out =~ /tps = ([\d.]+)/ ? $1 : die "pgbench: $out";
}

# PostgreSQL's processes.
sub postgres_pids
{
	my ($gateway) = @_;
	my $postmaster = $gateway->postmaster;
	return ($postmaster, grep { slurp("/proc/$_/stat") =~ /^\d+ \(.*\) \S $postmaster / } map { m{(\d+)$} } glob '/proc/[0-9]*');
}

# Processor time so far, which others' load hardly changes: process id to nanoseconds.
sub processor_time
{
	my ($gateway) = @_;
	my %time = map { $_ => (split ' ', slurp("/proc/$_/schedstat") || '0')[0] } postgres_pids($gateway);

	$time{gateway} += (split ' ', slurp($_))[0] for glob "/proc/$gateway->{pid}/task/*/schedstat";
	return \%time;
}

# Microseconds a request, of the gateway and of the processes of PostgreSQL that were there all the time.
sub each_request
{
	my ($before, $after, $requests) = @_;
	my %sum = (gateway => 0, postgres => 0);

	for (grep { defined $after->{$_} } keys %$before)
	{
		$sum{ $_ eq 'gateway' ? $_ : 'postgres' } += ($after->{$_} - $before->{$_}) / 1000 / $requests;
	}
	return @sum{qw(gateway postgres)};
}

# Runs a command to its end: seconds, and the most memory it had, in kB.
sub run_watched
{
	my ($env, @command) = @_;
	my $began = time;
	my $peak = 0;

	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = (%ENV, %$env);
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', "$dir/command.log";
		exec @command or POSIX::_exit(127);
	}
	until (waitpid($pid, WNOHANG))
	{
		my $status = slurp("/proc/$pid/status");
		# Before exec it is this program.
		$peak = $1 if $status !~ /^Name:\s+perl/m && $status =~ /^VmHWM:\s+(\d+)/m;
		sleep 0.001;
	}
	die "@command: status $?: " . slurp("$dir/command.log") if $? != 0;
	return (time - $began, $peak);
}

sub memory { return slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : 0 }

# Shared memory counted once: the sum over PostgreSQL's processes.
sub postgres_memory
{
	my ($gateway) = @_;
	my $sum = 0;

	for (postgres_pids($gateway)) { $sum += $1 if slurp("/proc/$_/smaps_rollup") =~ /^Pss:\s+(\d+)/m }
	return $sum;
}

# The process that answers to a name and has this in its environment.
sub find_process
{
	my ($command, $variable) = @_;
	my ($pid) = grep { slurp("/proc/$_/cmdline") =~ $command && index(slurp("/proc/$_/environ"), $variable) >= 0 }
	  map { m{(\d+)$} } glob '/proc/[0-9]*';
	return $pid;
}

# Figures -------------------------------------------------------------------------

sub start_times
{
	my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir,
		CODER_AGENT_BINARY => $cli, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', Coder::Provisioning::terraform_env($dir)));
	my $empty = $gateway->{started_in};
	my @again;

	for (1 .. $runs) { $gateway->restart; push @again, $gateway->{started_in} }
	section('Start to the first 200 of /healthz');
	row('ready, empty cluster', ms($empty), '-', '', '-', 'reference 2.0 s');
	row('ready, existing cluster', ms(median(@again)), ms($empty), 'empty cluster', median(@again) / $empty, '<= 1000 ms');
	return $gateway;
}

sub rates
{
	my ($gateway, $token) = @_;
	my $url = $gateway->url;

	section("Requests a second (median of $runs runs of $seconds s, interleaved with the baselines)");
	for my $connections (32, 64)
	{
		my (@static, @select, @me, @gateway, @postgres);
		for (1 .. $runs)
		{
			quiet();
			push @static, rate("$url/", $connections);
			push @select, select_rate($gateway);
			my $before = processor_time($gateway);
			push @me, rate("$url/api/v2/users/me", $connections, "Coder-Session-Token: $token");
			my ($of_gateway, $of_postgres) = each_request($before, processor_time($gateway), $me[-1] * $seconds);
			push @gateway, $of_gateway;
			push @postgres, $of_postgres;
		}
		my $me = median(@me);
		row("GET /users/me, $connections connections", int $me, int median(@static), 'static page', $me / median(@static), '>= 40000');
		row('', "best " . int((sort { $b <=> $a } @me)[0]), int((sort { $b <=> $a } @static)[0]), 'static page, best', '-', '');
		row('', sprintf('%.1f + %.1f us', median(@gateway), median(@postgres)), '-', '', '-', 'processor time of gateway + PostgreSQL');
		row('', '', int median(@select), 'select 1 (pgbench)', $me / median(@select), '');
	}
	return;
}

sub rest_memory
{
	my ($gateway, $when) = @_;

	row("gateway resident, $when", mb(memory($gateway->{pid})), mb(postgres_memory($gateway)), 'PostgreSQL, shared counted once',
		'-', $when eq 'at rest' ? '<= 25 MB' : 'reference 245 MB');
	my $provisioner = find_process(qr/provisioner/, "CODER_CONFIG_DIR=$gateway->{dir}/config");
	row("provisioner resident, $when", mb(memory($provisioner)), '-', '', '-', '') if $provisioner;
	return;
}

# The list of 25 of n workspaces, on a server of its own.
sub lists
{
	my %rate;

	section("GET /workspaces?limit=25, requests a second (median of $runs)");
	for my $n (1000, 10_000)
	{
		my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
		my $token = $gateway->first_user->{token};
		my @psql = ("$pg/psql", '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', "n=$n", '-d',
			"host=$gateway->{dir}/config/postgres/run user=coder dbname=coder");
		my $url = $gateway->url;

		system(@psql, '-1', '-f', "$root/test/pgtap/support/workspaces.psql") == 0 or die 'psql: the data set';
		system(@psql, '-c', 'VACUUM ANALYZE') == 0 or die 'psql: VACUUM';
		for my $connections (1, 16)
		{
			my (@static, @list, @gateway, @postgres);
			for (1 .. $runs)
			{
				quiet();
				push @static, rate("$url/", $connections);
				my $before = processor_time($gateway);
				push @list, rate("$url/api/v2/workspaces?limit=25", $connections, "Coder-Session-Token: $token");
				my ($of_gateway, $of_postgres) = each_request($before, processor_time($gateway), $list[-1] * $seconds);
				push @gateway, $of_gateway;
				push @postgres, $of_postgres;
			}
			my $list = $rate{$n}{$connections} = median(@list);
			row("25 of $n, $connections connections", int $list, int median(@static), 'static page', $list / median(@static),
				($n == 1000 && $connections == 16 ? '>= 2000, ' : '') . 'best ' . int((sort { $b <=> $a } @list)[0]));
			row('', sprintf('%.0f + %.0f us', median(@gateway), median(@postgres)), '-', '', '-', 'processor time of gateway + PostgreSQL');
		}
		rest_memory($gateway, 'after lists') if $n == 1000;
		$gateway->stop;
	}
	for (1, 16)
	{
		row("25 of 1000 against of 10000, $_ connections", int $rate{1000}{$_}, int $rate{10_000}{$_}, 'of 10000',
			$rate{1000}{$_} / $rate{10_000}{$_}, '<= 1.50');
	}
	return;
}

# Waits for the shell's prompt on a terminal.
sub prompt
{
	my ($gateway, $token, $agent) = @_;
	my $id = sprintf '%08x-0000-4000-8000-%012x', rand 2**32, rand 2**32;
	my $socket = Coder::WebSocket->open($gateway->url, "/api/v2/workspaceagents/$agent/pty?reconnect=$id&width=80&height=24", token => $token)
	  or die "no terminal: $@";
	my $screen = '';

	while ($screen !~ /[\$#%>] /)
	{
		$screen .= $socket->message(10) // die "no prompt: $screen";
	}
	return;
}

# From the POST to the agent and to the prompt; the workspace of the last round stays.
sub starter
{
	my ($gateway, $client) = @_;
	my $why = Coder::Provisioning::no_sandbox();

	section("Starter workspace (median of $runs)");
	return print "not measured: $why\n" if $why;
	my $p = Coder::Provisioning->new($gateway);
	my $version = $p->import('starter', { 'main.tf' => slurp("$root/gateway/provisioner/starter/main.tf") });
	die "starter: $version->{error}" if $version->{status} ne 'succeeded';
	my $template = $p->template('bench', $version);
	my (@connected, @prompt, @sandbox, $ws, $agent);

	for my $i (1 .. $runs)
	{
		my $began = time;
		system('bwrap', '--unshare-pid', '--ro-bind', '/', '/', '--proc', '/proc', 'true');
		push @sandbox, time - $began;
		$began = time;
		(my $status, $ws) = $client->post('/api/v2/users/me/workspaces', { template_id => $template->{id}, name => "bench$i" });
		die "workspace: $status" if $status != 201;
		my $path = "/api/v2/workspacebuilds/$ws->{latest_build}{id}";
		$gateway->wait_for(60, sub {
			my $build = $client->get($path);
			($agent) = grep { $_->{status} eq 'connected' } map { @{ $_->{agents} // [] } } @{ $build->{resources} // [] };
			return $agent;
		}) or die 'no agent: ' . $gateway->log;
		push @connected, time - $began;
		prompt($gateway, $client->{token}, $agent->{id});
		push @prompt, time - $began;
	}
	row('POST to agent connected', ms(median(@connected)), ms(median(@sandbox)), 'an empty sandbox', median(@connected) / median(@sandbox), '');
	row('POST to shell prompt', ms(median(@prompt)), ms(median(@sandbox)), 'an empty sandbox', median(@prompt) / median(@sandbox), '<= 1000 ms');
	return $ws->{name};
}

# The commands a person runs against that workspace, each by the CLI given.
sub client_environment
{
	my ($gateway, $client) = @_;
	return { CODER_URL => $gateway->url, CODER_SESSION_TOKEN => $client->{token}, CODER_CONFIG_DIR => "$dir/cli", HOME => $dir };
}

sub ssh_figures
{
	my ($env, $program, $who, $ws, $url, $goals) = @_;
	my (@times, @memory, @curl);

	for (1 .. 10)
	{
		my ($time, $memory) = run_watched($env, $program, 'ssh', $ws, '--', 'true');
		push @times, $time;
		push @memory, $memory;
		push @curl, (run_watched({}, 'curl', '-fs', '-o', '/dev/null', "$url/healthz"))[0];
	}
	row("$who ssh -- true (median of 10)", ms(median(@times)), ms(median(@curl)), 'curl /healthz', median(@times) / median(@curl), $goals->[0]);
	row("$who ssh -- true, its memory", mb(median(@memory)), '-', '', '-', $goals->[1]);
	return;
}

# Mbit/s of zeros out of the workspace through SSH.
sub ssh_throughput
{
	my ($env, $program, $ws) = @_;
	my $megabytes = 100;
	my ($time) = run_watched($env, $program, 'ssh', $ws, '--', "head -c ${megabytes}000000 /dev/zero");

	return $megabytes * 8 / $time;
}

sub agent_figures
{
	my ($gateway) = @_;
	my $agent = find_process(qr/^\S*coder\0agent\0\z/, 'CODER_AGENT_URL=' . $gateway->url);

	row('agent resident', mb($agent ? memory($agent) : 0), '-', '', '-', '<= 8 MB');
	row('agent binary', mb((-s $cli) / 1024), '-', '', '-', '<= 6 MB');
	return;
}

sub commands
{
	my ($gateway, $client, $ws) = @_;
	my $env = client_environment($gateway, $client);
	my $url = $gateway->url;

	section('Command line and agent');
	agent_figures($gateway);
	ssh_figures($env, $cli, 'coder', $ws, $url, [ '<= 100 ms', '<= 8 MB' ]);
	ssh_figures($env, $official, 'official coder', $ws, $url, [ 'reference 140-190 ms', 'reference 57 MB' ]) if $official;
	my $mbits = ssh_throughput($env, $cli, $ws);
	row('coder ssh, 100 MB through the relay', sprintf('%.0f Mbit/s', $mbits), '-', '', '-', '');
	return unless $official;
	local %ENV = (%ENV, %$env);
	my $out = `'$official' speedtest --time 5s '$ws' 2>&1`;
	my ($speed) = $out =~ /(?:total|\d)\s[^\n]*?([\d.]+)\s*Mbits\/sec\s*\z/i;
	row('official coder speedtest', defined $speed ? "$speed Mbit/s" : 'failed', '304 Mbit/s', 'the reference', defined $speed ? $speed / 304 : '-', '>= 304');
	print $out unless defined $speed;
	return;
}

my $small = <<'TF';
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "terraform_data" "ws" {
  count = data.coder_workspace.me.start_count
  input = coder_agent.main.id
}
TF

sub terraform
{
	my ($gateway, $client) = @_;
	my %terraform = (grep { -x "$_/terraform" } split /:/, $ENV{PATH}) ? Coder::Provisioning::terraform_env($dir) : ();
	my (@create, @plain);

	section("Terraform (median of $runs)");
	return print "not measured: terraform or the provider is not here\n" unless %terraform;
	my $p = Coder::Provisioning->new($gateway);
	my $version = $p->import('small', { 'main.tf' => $small });
	die "small: $version->{error}" if $version->{status} ne 'succeeded';
	$p->template('small', $version);
	for my $i (1 .. $runs)
	{
		push @create, (run_watched(client_environment($gateway, $client), $cli, 'create', "tf$i", '--template', 'small', '--yes'))[0];
		mkdir "$dir/tf$i";
		open my $file, '>', "$dir/tf$i/main.tf" or die $!;
		print $file $small;
		close $file;
		push @plain, (run_watched({%terraform}, 'sh', '-c',
			"cd '$dir/tf$i' && terraform init -no-color && terraform plan -no-color -out p && terraform apply -no-color p"))[0];
	}
	row('coder create, small template', ms(median(@create)), ms(median(@plain)), 'terraform init, plan, apply',
		median(@create) / median(@plain), 'reference 1900 ms');
	return;
}

chomp(my $commit = `git -C '$root' rev-parse --short HEAD 2>/dev/null` || 'none');
chomp(my $cores = `nproc`);
my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
printf "commit %s, %d x %s, load %s\n", $commit, $cores, $model // 'unknown processor', load();
printf "%-44s %14s %14s %-30s %7s  %s\n", 'figure', 'measured', 'baseline', '', 'ratio', 'to reach';
my $gateway = start_times();
my $client = $gateway->first_user;
section('Memory');
rest_memory($gateway, 'at rest');
rates($gateway, $client->{token});
rest_memory($gateway, 'after load');
my $ws = starter($gateway, $client);
commands($gateway, $client, $ws) if $ws;
terraform($gateway, $client);
$gateway->stop;
lists();
