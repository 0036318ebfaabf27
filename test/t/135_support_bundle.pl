# What the command line gives to who shall help: the bundle without secrets, whatever is missing; the network from here; figures of the machine.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use IO::Uncompress::Unzip ();
use JSON::PP ();
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $dir = $gateway->{dir};
my $token = $owner->{token};

# A command's status and what it prints.
sub coder { my ($text, $status) = Coder::Provisioning::command($gateway, $token, @_); return ($status, $text) }

sub files
{
	my $zip = IO::Uncompress::Unzip->new($_[0]) or die "$_[0] is no zip file";
	my %files;

	do { local $/; $files{ $zip->getHeaderInfo->{Name} } = <$zip> // '' } while ($zip->nextStream > 0);
	return \%files;
}

workspaces($gateway, 10);
$gateway->sql(q{UPDATE coder.workspace_agents SET environment_variables = '{"HARMLESS": "aXb81-unseen", "DB": "postgres://u:aXb82-unseen@host/db"}'});

my @reference = qw(agent/agent.json agent/agent_magicsock.html agent/client_magicsock.html agent/listening_ports.json agent/logs.txt agent/manifest.json agent/peer_diagnostics.json
	agent/ping_result.json agent/prometheus.txt agent/startup_logs.txt cli_logs.txt deployment/buildinfo.json deployment/config.json deployment/entitlements.json
	deployment/experiments.json deployment/health.json deployment/health_settings.json deployment/prometheus.txt deployment/stats.json deployment/workspaces.json
	license-status.txt logs.txt network/connection_info.json network/coordinator_debug.html network/interfaces.json network/netcheck.json network/tailnet_debug.html
	workspace/build_logs.txt workspace/parameters.json workspace/template.json workspace/template_file.zip workspace/template_version.json workspace/workspace.json);

# A deployment's.
my ($status, $text) = coder('support', 'bundle', '-y', '-O', "$dir/one.zip");
is($status, 0, 'a bundle') or diag $text;
like($text, qr/Wrote support bundle to \Q$dir\E\/one\.zip/, 'where it is, is told');
is((stat "$dir/one.zip")[2] & 0777, 0600, 'nobody else reads it');
my $files = files("$dir/one.zip");
is_deeply([sort keys %$files], [sort @reference], 'it has the files that readers look for');
is(JSON::PP::decode_json($files->{'deployment/health.json'})->{derp}{severity}, 'ok', 'the report of health');
ok(JSON::PP::decode_json($files->{'network/netcheck.json'})->{derp}{healthy}, 'the network as it is from here');
is($files->{'workspace/workspace.json'}, 'null', 'nothing of a workspace');

# One with a workspace.
($status, $text) = coder('support', 'bundle', 'member0/workspace-0', 'main', '-y', '-O', "$dir/two.zip");
is($status, 0, 'a bundle with a workspace') or diag $text;
$files = files("$dir/two.zip");
is(JSON::PP::decode_json($files->{'workspace/workspace.json'})->{name}, 'workspace-0', 'the workspace');
is(JSON::PP::decode_json($files->{'workspace/template.json'})->{name}, 'template-0', 'its template');
is(JSON::PP::decode_json($files->{'agent/agent.json'})->{environment_variables}{HARMLESS}, '***REDACTED***', 'its agent, without its environment');
my $all = join "\n", map { "$_ $files->{$_}" } sort keys %$files;
unlike($all, qr/aXb8\d-unseen/, 'nothing of which is anywhere');
unlike($all, qr/\Q$owner->{token}\E/, 'nor is the session');
like($files->{'cli_logs.txt'}, qr{GET /api/v2/workspaces/?\S*: 200|GET /api/v2/deployment/stats: 200}, 'what was asked is there');
is((coder('support', 'bundle', 'member0/workspace-0', 'other', '-y', '-O', "$dir/no.zip"))[0], 1, 'an agent that is not there');
ok(!-e "$dir/no.zip", 'leaves nothing');

# Where much may not be had.
$gateway->sql("UPDATE coder.users SET hashed_password = convert_to(coder.password_hash('a long password 1'), 'UTF8') WHERE username = 'member0'");
$token = $gateway->sql("SELECT coder.api_key_create((SELECT id FROM coder.users WHERE username = 'member0'), 'password', 3600)");
($status, $text) = coder('support', 'bundle', 'workspace-0', '-y', '-O', "$dir/three.zip");
is($status, 0, 'a member gets a smaller one') or diag $text;
like($text, qr/answers could not be had/, 'and is told so');
$files = files("$dir/three.zip");
is_deeply([sort keys %$files], [sort @reference], 'of the same files');
is($files->{'deployment/config.json'}, 'null', 'what may not be read is null');
like($files->{'cli_logs.txt'}, qr{GET /api/v2/deployment/config: 403}, 'and why, is told');
$token = $owner->{token};
is((coder('support', 'bundle', '-y', '-O', "$dir/none/x.zip"))[0], 1, 'a folder that is not there');
is((coder('support', 'bundle', '-O', "$dir/x.zip"))[0], 1, 'nobody to ask');

# The network.
($status, $text) = coder('netcheck');
is($status, 0, 'netcheck');
$text =~ s/\A[^{]*//;
my $report = JSON::PP::decode_json($text);
is($report->{derp}{netcheck}{PreferredDERP}, 999, 'the relay is within reach');
ok($report->{derp}{regions}{999}{node_reports}[0]{can_exchange_messages}, 'by messages');
is(ref $report->{interfaces}{interfaces}, 'ARRAY', 'and the interfaces');
my $double = Coder::HttpDouble->start(sub { (200, {}, 'a page') });
$gateway->sql("UPDATE coder.settings SET value = '" . $double->url . "' WHERE name = 'access_url'");
($status, $text) = coder('netcheck');
is($status, 1, 'a relay that is none');
like($text, qr/"severity": "error"/, 'is told');

# The machine.
($status, $text) = coder('stat', 'cpu', '--host');
like("$status $text", qr/^0 [\d.]+\/\d+ cores \(\d+%\)$/, 'stat cpu');
($status, $text) = coder('stat', 'mem', '--host', '--prefix', 'Mi');
like("$status $text", qr/^0 \d+\/\d+ MiB \(\d+%\)$/, 'stat mem');
($status, $text) = coder('stat', 'disk', '--path', $dir, '-o', 'json');
my $disk = JSON::PP::decode_json($text);
ok($disk->{unit} eq 'B' && $disk->{used} > 0 && $disk->{total} >= $disk->{used}, 'stat disk');
($status, $text) = coder('stat', '-o', 'json');
is_deeply([sort keys %{ JSON::PP::decode_json($text)->[0] }], [qw(container_cpu container_memory home_disk host_cpu host_memory)], 'stat');
is((coder('stat', 'mem', '--prefix', 'Zi'))[0], 1, 'an unknown unit');
is((coder('stat', 'disk', '--path', "$dir/none"))[0], 1, 'a disk that is not there');
$gateway->stop;
done_testing();
