# Workspaces by the command line: apps and editors that open, logs that are followed, how fast bytes go.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use JSON::PP ();
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();
my ($gateway, $p) = Coder::Provisioning::with_agent(CODER_WILDCARD_ACCESS_URL => '*.apps.example.com');
my $dir = $gateway->{dir};
my $url = $gateway->url;
sub coder { my ($text, $status) = $p->run_coder(@_); return "$status $text" }
sub slurp { open my $in, '<', $_[0] or return ''; local $/; return scalar <$in> }

my $main = Coder::Provisioning::starter()->{'main.tf'} . <<'HCL';
resource "coder_app" "web" {
  agent_id = coder_agent.main.id
  slug     = "web"
  url      = "http://localhost:8080"
}
resource "coder_app" "sub" {
  agent_id  = coder_agent.main.id
  slug      = "sub"
  url       = "http://localhost:8081"
  subdomain = true
}
resource "coder_app" "top" {
  agent_id = coder_agent.main.id
  slug     = "top"
  command  = "top"
}
resource "coder_app" "away" {
  agent_id = coder_agent.main.id
  slug     = "away"
  url      = "other://x?token=$SESSION_TOKEN"
  external = true
}
HCL
my $template = $p->template('starter', $p->import('starter', { 'main.tf' => $main }));
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace') or BAIL_OUT("$build->{error}\n$build->{log}");
my ($owner, $agent) = split /\|/, $gateway->sql("SELECT u.username, a.name FROM coder.workspaces w JOIN coder.users u ON u.id = w.owner_id
	JOIN coder.workspace_builds b ON b.id = w.latest_build_id JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id");

# Apps.  Nothing opens addresses here but what this test puts there.
mkdir "$dir/bin"; mkdir "$dir/none";
symlink $_, "$dir/none/" . (split m{/}, $_)[-1] for '/usr/bin/timeout';
$ENV{PATH} = "$dir/none";
like(coder('open', 'app', 'dev'), qr/^0 Apps of "dev": (?:(?:away|monitor|sub|top|web)(?:, )?){5}$/, 'apps');
like(coder('open', 'app', 'dev', 'web'), qr{^0 Open this.*\n\Q$url\E/\@$owner/dev\.$agent/apps/web/$}, 'one below the server\'s own address');
like(coder('open', 'app', 'dev', 'sub'), qr{^0 .*\nhttp://sub--dev--\Q$owner\E\.apps\.example\.com/$}, 'one with a host of its own');
like(coder('open', 'app', 'dev', 'top'), qr{^0 .*\n\Q$url\E/\@$owner/dev\.$agent/terminal\?app=top$}, 'one in a terminal');
like(coder('open', 'app', "dev.$agent", 'away'), qr{^0 .*\nother://x\?token=\Q$p->{client}{token}\E$}, 'one elsewhere, which the template trusts with a token');
like(coder('open', 'app', 'dev', 'none'), qr/^1 error: workspace "dev" has no app "none"; it has: /, 'none of that name');
like(coder('open', 'app', 'dev.none', 'web'), qr/^1 error: workspace "dev" has no agent "none"/, 'no agent of that name');
like(coder('open', 'app', 'dev', 'web', '--region', 'mars'), qr/^1 error: there is no region "mars"/, 'no such region');

# An editor.
my $keys = 'SELECT count(*) FROM coder.api_keys';
my $n = $gateway->sql($keys);
my $home = $gateway->sql('SELECT expanded_directory FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
my $escaped = $home =~ s{([^\w.~-])}{sprintf '%%%02X', ord $1}gre;
(my $server = $url) =~ s{([^\w.~-])}{sprintf '%%%02X', ord $1}ge;
like(coder('open', 'vscode', 'dev'), qr{^0 Open.*\nvscode://coder\.coder-remote/open\?agent=$agent(?:&folder=\Q$escaped\E)?&owner=$owner&url=\Q$server\E&workspace=dev$}, 'an editor: an address without a token');
is($gateway->sql($keys), $n, 'and without a key that is left over');
like(coder('open', 'vscode', 'dev', '/srv/a b', '--generate-token'), qr{folder=%2Fsrv%2Fa%20b&.*&token=\S{10}-\S{22}$}, 'with a token, where one is asked for');
is($gateway->sql($keys), $n + 1, 'which is kept');
open my $opener, '>', "$dir/bin/xdg-open" or die; print $opener "#!/bin/sh\necho \"\$1\" >> $dir/opened\n"; close $opener;
chmod 0755, "$dir/bin/xdg-open";
$ENV{PATH} = "$dir/bin:/usr/bin:/bin";
is(coder('open', 'vscode', 'dev', '/srv'), '0 ', 'an editor that opens');
my ($token) = slurp("$dir/opened") =~ m{^vscode://\S*folder=%2Fsrv&\S*&token=(\S+)$}m;
is(($gateway->client($token)->get('/api/v2/users/me'))[1]{username}, $owner, 'gets a token that works');
is(coder('open', 'app', 'dev', 'web'), '0 ', 'a browser that opens');
like(slurp("$dir/opened"), qr{/apps/web/$}m, 'gets the address');

# How fast bytes go.
like(coder('speedtest', 'dev', '-t', '1500ms'), qr/^1 error: --time/, 'a time that is none');
like(coder('speedtest', 'dev', '--direction', 'left'), qr/^1 error: unknown direction/, 'a direction that is none');
like(coder('speedtest', 'dev', '-t', '2s'), qr/^0 Measuring.*\nINTERVAL +THROUGHPUT\n(?:\d+\.\d\d-\d+\.\d\d sec +[1-9]\d*\.\d{4} Mbits\/sec\n){3,}$/, 'from the workspace');
for my $way (qw(up down))
{
	my ($json) = coder('speedtest', 'dev', '-t', '1s', '--direction', $way, '-o', 'json') =~ /^0 [^\n]*\n(.*)\z/s;
	my $result = JSON::PP::decode_json($json);
	cmp_ok($result->{overall}{throughput_mbits}, '>', 1, "$way: megabits");
	cmp_ok($result->{overall}{end_time_seconds}, '>=', 1, "$way: as long as it was wanted");
}

# Logs that are followed: those of a build that runs, then its agent's, until another build comes.
my $pid = fork // die;
if ($pid == 0)
{
	@ENV{qw(CODER_URL CODER_SESSION_TOKEN CODER_CONFIG_DIR)} = ($url, $p->{client}{token}, "$dir/client");
	open STDOUT, '>', "$dir/followed" or POSIX::_exit(1);
	exec Coder::Provisioning::coder(), qw(logs dev -f) or POSIX::_exit(1);
}
sub lines { my $n = () = slurp("$dir/followed") =~ /\[\Q$agent\E\] a line of later$/mg; return $n }
$gateway->wait_for(20, sub { $gateway->sql(q{SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'}) > 0 });
my $of_agent = $gateway->client($gateway->sql('SELECT auth_token FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1'));
is(($of_agent->patch('/api/v2/workspaceagents/me/logs', { log_source_id => '3b579bf4-1ed8-4b99-87a8-e9a1e3410410',
	logs => [{ created_at => '2030-01-01T00:00:00Z', output => 'a line of later', level => 'info' }] }))[0], 200, 'an agent writes');
ok($gateway->wait_for(20, sub { lines() }), 'whoever follows reads');
is(waitpid($pid, WNOHANG), 0, 'and waits for more');
is($p->build($ws, 'stop')->{status}, 'succeeded', 'another build');
ok($gateway->wait_for(20, sub { waitpid($pid, WNOHANG) == $pid }), 'ends that');
is($?, 0, 'well');
is(lines(), 1, 'every line was printed once');
like(slurp("$dir/followed"), qr/^\S+ \[build\] /m, 'of the build too');
like(coder('logs', 'dev', '-n', '-1'), qr/\[\Q$agent\E\] a line of later$/m, 'the build before the last');
like(coder('logs', 'dev', '-n', '1x'), qr/^1 error: "1x" is no number/, 'no number');
unlike(coder('logs', 'dev', '-f'), qr/a line of later/, 'one that has ended is not waited for');
like(coder('speedtest', 'dev'), qr/^1 error: workspace "dev" is stopped/, 'a workspace that is stopped');
$gateway->stop;
done_testing();
