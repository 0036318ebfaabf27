# The starter template's workspace runs in a sandbox of its own, and outlives every process of the server.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use Test::More;

Coder::Provisioning::need_sandbox();

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir));
my $p = Coder::Provisioning->new($gateway);

sub slurp { open my $file, '<', $_[0] or return ''; local $/; return <$file> // '' }

my $version = $p->import('starter', { 'main.tf' => slurp('../gateway/provisioner/starter/main.tf')
	  || slurp('gateway/provisioner/starter/main.tf') });
is($version->{status}, 'succeeded', 'the starter template is imported') or diag $version->{error};
my $template = $p->template('starter', $version);
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace starts') or diag $build->{error};
like($build->{log}, qr/Starting workspace: 1 sandbox is ready/, 'and its log says so');

my $home = "$gateway->{dir}/config/workspaces/$ws->{id}/home";
sub agent { return slurp("$home/agent.txt") }
sub starts { my $n = () = agent() =~ /^uid=/mg; return $n }
ok($gateway->wait_for(10, sub { starts() == 1 }), 'the agent runs');
my ($uid, $url, $token) = agent() =~ /^uid=(\d+) url=(\S+) token=([0-9a-f-]{36})$/m;
isnt($uid, 0, 'not as root');
is($url, $gateway->{url}, 'with the URL of the server');
is($token, $gateway->sql("SELECT auth_token FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1"), 'and the token the database has');
my ($processes) = agent() =~ /^(\d+)$/m;
cmp_ok($processes, '<', 12, 'it sees its own processes only');

$build = $p->build($ws, 'stop');
is($build->{status}, 'succeeded', 'it stops');
like(agent(), qr/^bye$/m, 'and the agent was told');
$build = $p->build($ws, 'start');
is($build->{status}, 'succeeded', 'it starts again');
ok($gateway->wait_for(10, sub { starts() == 2 }), 'in the same home');

# The provisioner is killed: the sandbox dies with it and comes back from the database.
my ($provisioner) = grep { slurp("/proc/$_/stat") =~ /^\d+ \(.*\) \S (\d+)/ && $1 == $gateway->{pid}
	  && slurp("/proc/$_/cmdline") =~ /provisioner/ } map { m{(\d+)$} } glob '/proc/[0-9]*';
ok($provisioner, 'the provisioner is a child of the server');
kill 'KILL', $provisioner;
ok($gateway->wait_for(20, sub { starts() == 3 }), 'a killed provisioner gives the sandbox back');

$gateway->restart('INT');
ok($gateway->wait_for(20, sub { starts() == 4 }), 'so does a new start of the server');
is(scalar(() = agent() =~ /^bye$/mg), 2, 'Ctrl-C lets the agent say good-bye');

# An agent that ends is started again; a stopped workspace's is not.
my ($sandboxed) = grep { slurp("/proc/$_/environ") =~ /CODER_AGENT_URL=\Q$gateway->{url}\E\0/ && slurp("/proc/$_/cmdline") =~ /coder\0agent/ }
  map { m{(\d+)$} } glob '/proc/[0-9]*';
kill 'KILL', $sandboxed;
ok($gateway->wait_for(20, sub { starts() == 5 }), 'an agent that dies is started again');

$build = $p->build($ws, 'delete');
is($build->{status}, 'succeeded', 'it is deleted');
ok($gateway->wait_for(10, sub { !-e $home }), 'and its home with it');

# An agent that cannot be run fails the build with the reason.
chmod 0644, "$dir/agent";
(undef, $build) = $p->create($template, 'broken');
is($build->{status}, 'failed', 'without an agent a build fails');
like($build->{error}, qr/agent's binary .* cannot be run/, 'and says why');
is($gateway->stop, 0, 'the server ends well');
done_testing();
