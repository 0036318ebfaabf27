# kill -9 of any one process, with a workspace that runs: all comes back within seconds, and no build is lost or doubled.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes qw(slurp state command_line descendants);
use Coder::Provisioning ();
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();

my ($gateway, $p) = Coder::Provisioning::with_agent();
my $owner = $p->{client};
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws, $first) = $p->create($template, 'dev');
is($first->{status}, 'succeeded', 'a workspace runs') or diag $first->{error};

sub name { return slurp("/proc/$_[0]/comm") =~ s/\n\z//r }
sub shell { return join '|', $p->run_coder(qw(ssh dev -- echo there)) }
is(shell(), "there\n|0", 'and there is a shell');

my $builds = 1;
sub ended
{
	my ($id) = @_;
	my $end;
	$gateway->wait_for(30, sub {
		(my $status, $end) = $owner->get("/api/v2/workspacebuilds/$id");
		return $status == 200 && $end->{job}{status} =~ /^(succeeded|failed|canceled)$/;
	}) or return 'never';
	return $end->{job}{status};
}

# A workspace at rest: what dies is replaced, and there is a shell again.
sub survives
{
	my ($what, $pid, $up) = @_;
	ok($pid, "$what: found") or return;
	kill 'KILL', $pid;
	my $began = time;
	$up->() if $up;
	ok($gateway->wait_for(5, sub { state($pid) eq '' || Coder::Processes::parent($pid) == 0 }), '  is gone, and no zombie');
	ok($gateway->wait_for(30, sub { shell() eq "there\n|0" }), '  after kill -9 there is a shell again');
	diag sprintf '%s: %.1f s', $what, time - $began;
	return;
}

# A build that runs while something dies ends once, and another can follow.
sub ends_once
{
	my ($what, $pid, $up) = @_;
	ok($pid, "$what during a build: found") or return;
	my ($code, $build) = $owner->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'start' });
	is($code, 201, '  a build begins') and $builds++;
	kill 'KILL', $pid;
	$up->() if $up;
	my $end = ended($build->{id});
	like($end, qr/^(succeeded|failed)$/, "  it ends: $end");
	if ($end eq 'failed')
	{
		($code, $build) = $owner->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'start' });
		is($code, 201, '  another may be started') and $builds++;
		is(ended($build->{id}), 'succeeded', '  and succeeds');
	}
	ok($gateway->wait_for(30, sub { shell() eq "there\n|0" }), '  there is a shell');
	return;
}

sub worker { return (grep { name($_) =~ /^coder-worker/ || command_line($_) =~ /^coder-worker/ } descendants($gateway->{pid}))[0] }
sub provisioner
{
	return (grep { command_line($_) =~ /coder-server provisioner/ } Coder::Processes::children($gateway->{pid}))[0];
}
sub agents { return grep { command_line($_) =~ m{^/opt/coder/bin/coder agent} } descendants($gateway->{pid}) }
sub restart { $gateway->wait_for(10, sub { $gateway->ended }); return $gateway->up }
sub tree { return join "\n", map { join ' ', $_, Coder::Processes::parent($_), state($_), name($_), command_line($_) } @_ }

survives('the agent in the sandbox', (agents())[0]);
survives('bwrap', (grep { command_line($_) =~ /^bwrap / } descendants($gateway->{pid}))[0]);
survives('a backend of PostgreSQL', $gateway->sql("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'coder-server'"));
survives('the postmaster', $gateway->postmaster);
ends_once('a worker of the provisioner', worker());
ends_once('the provisioner', provisioner());
my @before = descendants($gateway->{pid});
ends_once('the server', $gateway->{pid}, \&restart);
ok($gateway->wait_for(15, sub { !grep { state($_) ne '' } @before }), 'nothing of the killed server is left')
  or diag tree(grep { state($_) ne '' } @before);

my $build = $p->build($ws, 'start');
is($build->{status}, 'succeeded', 'the next build succeeds') or diag $build->{error};
$builds++;
is(shell(), "there\n|0", 'and its shell is there');
is($gateway->sql('SELECT count(*), max(build_number), count(DISTINCT job_id) FROM coder.workspace_builds'), "$builds|$builds|$builds",
	'no build is lost or doubled');
is($gateway->sql("SELECT count(*) FROM coder.provisioner_jobs WHERE completed_at IS NULL"), 0, 'no job is left over');
ok($gateway->wait_for(10, sub { agents() == 1 }), 'one agent runs');
is(join(' ', grep { state($_) eq 'Z' } descendants($gateway->{pid})), '', 'there is no zombie');

@before = ($gateway->{pid}, descendants($gateway->{pid}));
is($gateway->stop, 0, 'the server ends well');
ok($gateway->wait_for(5, sub { !grep { state($_) ne '' } @before }), 'and leaves no process')
  or diag tree(grep { state($_) ne '' } @before);
done_testing();
