# External authentication: links by code and by device, validation, refresh, revocation; templates, builds, agents; tokens are sealed.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Provisioning ();
use Digest::SHA qw(sha256);
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64 decode_base64url encode_base64 encode_base64url);
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_sandbox();
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $host = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	my ($path, $query, $form) = @$request{qw(path query form)};
	my $bearer = ($request->{headers}{authorization} // '') =~ /^Bearer (.*)/ ? $1 : '';

	if ($path eq '/oauth/authorize')
	{
		return (302, { Location => "$query->{redirect_uri}?code=" . encode_base64url(JSON::PP::encode_json($query)) . "&state=$query->{state}" }, '');
	}
	if ($path eq '/oauth/token')
	{
		return ($mode->{status} // 400, {}, { error => $mode->{error} }) if $mode->{error};
		return (200, {}, { access_token => 'device-1', token_type => 'bearer' }) if ($form->{device_code} // '') eq 'dc1';
		return (401, {}, { error => 'invalid_client' }) if $form->{client_id} ne 'id0' || ($form->{client_secret} // '') ne 'hush0';
		return (200, {}, { access_token => 'access-2', refresh_token => 'refresh-2', expires_in => 3600 }) if ($form->{refresh_token} // '') eq 'refresh-1';
		return (400, {}, { error => 'invalid_grant' }) if $form->{grant_type} eq 'refresh_token';
		my $asked = JSON::PP::decode_json(decode_base64url($form->{code}));
		return (400, {}, { error => 'invalid_grant' }) if $asked->{code_challenge} ne encode_base64url(sha256($form->{code_verifier}));
		return (200, {}, { access_token => 'access-1', refresh_token => 'refresh-1', expires_in => $mode->{expires_in} // 3600, team => { id => 7 }, secret => 1 });
	}
	return (200, {}, { device_code => 'dc1', user_code => 'WXYZ', verification_uri => 'https://host.example/device', expires_in => 900, interval => 5 }) if $path eq '/device';
	return (200, {}, {}) if $path eq '/oauth/revoke' && $form->{token} eq 'access-2';
	return (204, {}, '') if $path eq '/revoke' && $request->{method} eq 'DELETE' && decode_base64(($request->{headers}{authorization} // '') =~ /^Basic (.*)/ ? $1 : '') eq 'id1:hush1';
	return ($mode->{validate} // ($bearer ? 200 : 401), { 'X-RateLimit-Remaining' => $mode->{left} // 1 }, { id => 4711, login => 'dora', name => 'Dora', html_url => 'https://host.example/dora', avatar_url => '' })
	  if $path eq '/oauth/token/info' || $path eq '/user';
	return (200, {}, { installations => [ { id => 3, html_url => 'https://host.example/i/3', account => { id => 9, login => 'maps' } } ] }) if $path eq '/installations';
	return (404, {}, 'none');
});
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => { %{ Coder::Provisioning::env($dir) }, CODER_EVENT_LOOPS => 1,
	CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS => encode_base64('k' x 32, ''),
	CODER_EXTERNAL_AUTH_0_ID => 'lab', CODER_EXTERNAL_AUTH_0_TYPE => 'gitlab', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'hush0',
	CODER_EXTERNAL_AUTH_0_AUTH_URL => $host->url . '/oauth/authorize', CODER_EXTERNAL_AUTH_0_EXTRA_TOKEN_KEYS => 'team',
	CODER_EXTERNAL_AUTH_1_TYPE => 'github', CODER_EXTERNAL_AUTH_1_CLIENT_ID => 'id1', CODER_EXTERNAL_AUTH_1_CLIENT_SECRET => 'hush1',
	CODER_EXTERNAL_AUTH_1_DEVICE_FLOW => 'true', CODER_EXTERNAL_AUTH_1_DEVICE_CODE_URL => $host->url . '/device', CODER_EXTERNAL_AUTH_1_TOKEN_URL => $host->url . '/oauth/token',
	CODER_EXTERNAL_AUTH_1_VALIDATE_URL => $host->url . '/user', CODER_EXTERNAL_AUTH_1_APP_INSTALLATIONS_URL => $host->url . '/installations',
	CODER_EXTERNAL_AUTH_1_REVOKE_URL => $host->url . '/revoke', CODER_EXTERNAL_AUTH_1_APP_INSTALL_URL => 'https://host.example/install' });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }
my $p = Coder::Provisioning->new($gateway);
my $admin = $p->{client};
my $browser = Coder::Browser->new(url => $gateway->url);
$browser->{cookies}{ $gateway->url } = { coder_session_token => $gateway->{token} };

# What is there before anything is linked.
my ($status, $list) = $admin->get('/api/v2/external-auth');
is($status, 200, 'the list');
is_deeply([ map { $_->{id} } @{ $list->{providers} } ], [qw(lab github)], 'both providers, in order');
is_deeply($list->{providers}[0], { id => 'lab', type => 'gitlab', device => $false, display_name => 'GitLab', display_icon => '/icon/gitlab.svg', allow_refresh => $true,
		allow_validate => $true, supports_revocation => $true, code_challenge_methods_supported => ['S256'] }, 'what is not set follows from the type');
is_deeply($list->{links}, [], 'no links');
is(($admin->get('/api/v2/external-auth/nowhere'))[0], 404, 'another provider there is not');
my $got = ($admin->get('/api/v2/external-auth/lab'))[1];
is_deeply($got, { authenticated => $false, device => $false, display_name => 'GitLab', supports_revocation => $true, user => undef, app_installable => $false,
		installations => [], app_install_url => '' }, 'not linked');
is(($admin->delete('/api/v2/external-auth/lab'))[0], 404, 'nothing to unlink');
is(($admin->get('/api/v2/external-auth/lab/device'))[1]{message}, 'Git auth device flow not supported.', 'no device flow');
my $config = ($admin->get('/api/v2/deployment/config'))[1]{config}{external_auth};
is($config->[0]{token_url}, $host->url . '/oauth/token', 'the configuration is shown');
unlike(JSON::PP::encode_json($config), qr/hush/, 'without secrets');
my $anyone = Coder::Browser->new(url => $gateway->url);
($status, undef, my $headers) = $anyone->get('/external-auth/lab/callback');
is($status, 303, 'who is not signed in is sent to do so');
like($headers->{location}, qr{^/login\?.*redirect=%2Fexternal-auth%2Flab%2Fcallback}, 'and back');

# By code.
($status, undef, $headers) = $browser->get('/external-auth/lab/callback?redirect=/x');
my $asked = Coder::HttpDouble::form($headers->{location} =~ s/^[^?]*\?//r);
is_deeply([ $status, @$asked{qw(client_id response_type scope code_challenge_method redirect_uri)} ],
	[ 307, 'id0', 'code', 'write_repository read_api', 'S256', $gateway->url . '/external-auth/lab/callback' ], 'to the provider');
is(($browser->get("/external-auth/lab/callback?code=x&state=wrong"))[1]{message}, 'State mismatched.', 'a strange state is refused');
is(($browser->get('/external-auth/github/callback'))[0], 404, 'a provider by device has no way back');
($status, undef, $headers) = $browser->follow('/external-auth/lab/callback', 2, qr/redirected/);
is_deeply([ $status, $headers->{location} ], [ 307, '/external-auth/lab?redirected=true' ], 'and back to its page');
is(($admin->get('/api/v2/external-auth/lab'))[1]{authenticated}, $true, 'linked');
my $link = ($admin->get('/api/v2/external-auth'))[1]{links}[0];
is_deeply([ @$link{qw(provider_id has_refresh_token authenticated validate_error)} ], [ 'lab', $true, $true, '' ], 'in the list');
is($gateway->sql(q{SELECT count(*) FROM coder.external_auth_links l WHERE l::text ~ 'access-1|refresh-1'}), 0, 'sealed in the table');
is($gateway->sql(q{SELECT count(*) FROM coder.external_auth_links WHERE oauth_access_token_key_id IS NOT NULL}), 1, 'with a key');

# What the provider says of the token.
for my $case ([ 401, $false, 200 ], [ 403, $false, 200 ], [ 429, $true, 200 ], [ 500, undef, 500 ])
{
	$host->mode(validate => $case->[0]);
	my ($got_status, $body) = $admin->get('/api/v2/external-auth/lab');
	is_deeply([ $got_status, $body->{authenticated} ], [ @$case[ 2, 1 ] ], "validation answers $case->[0]");
}
$host->mode(validate => 403, left => 0);
is(($admin->get('/api/v2/external-auth/lab'))[1]{authenticated}, $true, 'a rate limit says nothing');
$host->mode;

# Refresh.
$gateway->sql(q{UPDATE coder.external_auth_links SET oauth_expiry = now() - interval '1 minute'});
$host->mode(error => 'temporarily_unavailable', status => 503);
is(($admin->get('/api/v2/external-auth'))[1]{links}[0]{authenticated}, $false, 'expired, and the provider is away');
is($gateway->sql(q{SELECT oauth_refresh_token <> '' FROM coder.external_auth_links}), 't', 'which is no reason to give up');
$host->mode;
is(($admin->get('/api/v2/external-auth'))[1]{links}[0]{authenticated}, $true, 'then it is refreshed');
$host->forget;
$admin->get('/api/v2/external-auth');
is(scalar(grep { $_->{path} eq '/oauth/token' } $host->requests), 0, 'once');

# By device.
my $device = ($admin->get('/api/v2/external-auth/github/device'))[1];
is_deeply([ @$device{qw(device_code user_code verification_uri interval)} ], [ 'dc1', 'WXYZ', 'https://host.example/device', 5 ], 'a code to type');
for my $error (qw(authorization_pending slow_down expired_token access_denied))
{
	$host->mode(error => $error, status => 200);
	my ($s, $body) = $admin->post('/api/v2/external-auth/github/device', { device_code => 'dc1' });
	is_deeply([ $s, @$body{qw(message detail)} ], [ 400, 'Failed to exchange device code.', $error ], "polling: $error");
}
$host->mode;
is(($admin->post('/api/v2/external-auth/github/device', { device_code => 'dc1' }))[0], 204, 'typed');
$got = ($admin->get('/api/v2/external-auth/github'))[1];
is_deeply($got, { authenticated => $true, device => $true, display_name => 'GitHub', supports_revocation => $true, app_installable => $true, app_install_url => 'https://host.example/install',
		user => { id => 4711, login => 'dora', avatar_url => '', profile_url => 'https://host.example/dora', name => 'Dora' },
		installations => [ { id => 3, configure_url => 'https://host.example/i/3', account => { id => 9, login => 'maps', avatar_url => '', profile_url => '', name => '' } } ] },
	'linked, with the user and where the application is installed');

# Templates and builds.
my $tf = <<'TF';
data "coder_external_auth" "lab" {
  id = "lab"
}
data "coder_external_auth" "github" {
  id       = "github"
  optional = true
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "coder_env" "token" {
  agent_id = coder_agent.main.id
  name     = "LAB_TOKEN"
  value    = data.coder_external_auth.lab.access_token
}
resource "sandbox_process" "workspace" {
  agent_token = coder_agent.main.token
}
TF
my $version = $p->import('linked', { 'main.tf' => $tf });
is($version->{status}, 'succeeded', 'a template with both') or diag $version->{error};
my ($of_version) = ($admin->get("/api/v2/templateversions/$version->{id}/external-auth"))[1];
my %by_id = map { $_->{id} => $_ } @$of_version;
is_deeply($by_id{lab}, { id => 'lab', type => 'gitlab', display_name => 'GitLab', display_icon => '/icon/gitlab.svg', authenticate_url => $gateway->url . '/external-auth/lab',
		authenticated => $true }, 'tells what it needs');
is($by_id{github}{optional}, $true, 'and what it can do without');
my $strange = $p->import('strange', { 'main.tf' => "data \"coder_external_auth\" \"x\" {\n  id = \"nowhere\"\n}\n" });
is_deeply([ @$strange{qw(status error)} ], [ 'failed', 'external auth provider "nowhere" is not configured' ], 'a template with another provider fails');
my $template = $p->template('linked', $version);
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace') or diag $build->{error} . $build->{log};
like($gateway->sql(q{SELECT string_agg(environment_variables::text, '') FROM coder.workspace_agents}), qr/access-2/, 'whose build had the token');

# Agents.
my $token = $gateway->sql('SELECT auth_token FROM coder.workspace_agents WHERE NOT deleted ORDER BY created_at DESC LIMIT 1');
my $agent = $gateway->client($token);
($status, my $answer) = $agent->get('/api/v2/workspaceagents/me/external-auth?id=lab');
is_deeply([ $status, $answer ], [ 200, { access_token => 'access-2', token_extra => { team => { id => 7 } }, url => '', type => 'gitlab', username => 'oauth2', password => 'access-2' } ], 'an agent gets the token')
  or diag explain $answer;
$admin->get('/api/v2/users/me/gitsshkey');
like(($agent->get('/api/v2/workspaceagents/me/gitsshkey'))[1]{private_key}, qr/^-----BEGIN OPENSSH PRIVATE KEY-----/, 'and the SSH key of its owner');
is($gateway->sql(q{SELECT count(*) FROM coder.gitsshkeys WHERE private_key LIKE '%OPENSSH%'}), 0, 'which is sealed too');
is(($agent->get('/api/v2/workspaceagents/me/external-auth?match=https://github.com/coder/coder'))[1]{username}, 'device-1', 'by the address of a repository');
is(($agent->get('/api/v2/workspaceagents/me/gitauth?url=' . $host->url . '/group/project'))[1]{access_token}, 'access-2', 'by the old name too');
is(($agent->get('/api/v2/workspaceagents/me/external-auth?match=https://elsewhere.example/x'))[0], 404, 'no provider of that address');
is(($agent->get('/api/v2/workspaceagents/me/external-auth?id=lab&match=x'))[0], 400, 'one of the two');
is(($agent->get('/api/v2/workspaceagents/me/external-auth'))[0], 400, 'at least');
SKIP:
{
	my $cli = $ENV{CODER_OFFICIAL_CLI};
	skip 'CODER_OFFICIAL_CLI is not set', 2 unless $cli && -x $cli;
	local %ENV = (PATH => $ENV{PATH}, HOME => $dir, CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token);
	is(`$cli external-auth access-token lab`, 'access-2', 'the reference\'s client prints it');
	is($? >> 8, 0, 'and ends well');
}

# Unlinking, and an agent that waits for a new link.
is_deeply(($admin->delete('/api/v2/external-auth/lab'))[1], { token_revoked => $true }, 'unlinked and revoked');
is_deeply(($admin->delete('/api/v2/external-auth/github'))[1], { token_revoked => $true }, 'as GitHub wants it');
is_deeply(($agent->get('/api/v2/workspaceagents/me/external-auth?id=lab'))[1],
	{ access_token => '', token_extra => undef, type => '', username => '', password => '', url => $gateway->url . '/external-auth/lab' }, 'an agent is told where to get a token');
is(($admin->get("/api/v2/templateversions/$version->{id}/external-auth"))[1][0]{authenticated}, $false, 'the template says so too');
my $pid = fork // die $!;
if ($pid == 0)
{
	my ($s, $body) = $gateway->client($token)->get('/api/v2/workspaceagents/me/external-auth?id=lab&listen=true');
	open my $file, '>', "$dir/listened" or die $!;
	print $file "$s $body->{access_token}";
	close $file;
	POSIX::_exit(0);
}
$host->forget;
my $began = time;
$browser->follow('/external-auth/lab/callback', 2, qr/redirected/);
waitpid $pid, 0;
open my $file, '<', "$dir/listened" or die $!;
is(scalar <$file>, '200 access-1', 'one that listens gets the new one');
cmp_ok(time - $began, '<', 5, 'soon');
is(($agent->get('/api/v2/workspaceagents/me/external-auth?id=lab'))[1]{token_extra}{team}{id}, 7, 'with what is kept beside it');
ok(!exists(($agent->get('/api/v2/workspaceagents/me/external-auth?id=lab'))[1]{token_extra}{secret}), 'and nothing else');

# A build refreshes what has expired.
$gateway->sql(q{UPDATE coder.external_auth_links SET oauth_expiry = now() - interval '1 minute'});
$build = $p->build($ws, 'start');
is($build->{status}, 'succeeded', 'a build with a token that has expired') or diag $build->{error} . $build->{log};
like($gateway->sql(q{SELECT environment_variables::text FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1}), qr/access-2/, 'has a new one');
$gateway->sql(q{UPDATE coder.external_auth_links SET oauth_expiry = now() - interval '1 minute', oauth_refresh_token = 'refresh-1', oauth_refresh_token_key_id = NULL});
(my $second, $build) = $p->create($template, 'second');
is($build->{status}, 'succeeded', 'a new workspace') or diag $build->{error} . $build->{log};
like($gateway->sql(q{SELECT environment_variables::text FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1}), qr/access-2/, 'too');

# So does one that nobody asked for, in the database's own time, where there are no keys: the job waits for a gateway.
sub expire { $gateway->sql(q{UPDATE coder.external_auth_links SET oauth_expiry = now() - interval '1 minute', oauth_refresh_token = 'refresh-1', oauth_refresh_token_key_id = NULL}); return }
sub scheduled
{
	$gateway->sql(q{UPDATE coder.workspaces SET next_start_at = now() - interval '1 minute', autostart_schedule = 'CRON_TZ=UTC 0 0 * * *' WHERE name = 'second'; SELECT coder.tick()});
	my $id;
	$gateway->wait_for(30, sub { $id = $gateway->sql(q{SELECT b.id FROM coder.workspace_builds b JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'second' AND b.reason = 'autostart' AND b.created_at > now() - interval '30 seconds' ORDER BY b.build_number DESC LIMIT 1}) });
	return $p->finish_build($id);
}
is($p->build($second, 'stop')->{status}, 'succeeded', 'stopped');
$host->mode;
expire();
$host->forget;
$build = scheduled();
is($build->{status}, 'succeeded', 'a build of a schedule with a token that has expired') or diag $build->{error} . $build->{log};
like($gateway->sql(q{SELECT environment_variables::text FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1}), qr/access-2/, 'has a new one as well');
is(scalar(grep { $_->{path} eq '/oauth/token' } $host->requests), 1, 'which was asked for once');
is($gateway->sql('SELECT count(*) FROM coder.build_holds'), 0, 'nothing waits any more');
is($gateway->sql(q{SELECT count(*) FROM coder.external_auth_links l WHERE l::text ~ 'access-2|refresh-2'}), 0, 'and it is sealed');

# A provider that does not answer: the build goes on without.
$p->build($second, 'stop');
expire();
$host->mode(error => 'temporarily_unavailable', status => 503);
$began = time;
$build = scheduled();
isnt($build->{status}, 'pending', 'a build whose token cannot be refreshed begins');
cmp_ok(time - $began, '<', 14, 'before its time to wait is over');
unlike($gateway->sql(q{SELECT coalesce((SELECT environment_variables::text FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1), '')}), qr/access-2/, 'without it');
$host->mode;

# A refresh token that is no good any more.
$gateway->sql(q{UPDATE coder.external_auth_links SET oauth_expiry = now() - interval '1 minute'});
$host->mode(error => 'invalid_grant');
$link = ($admin->get('/api/v2/external-auth'))[1]{links}[0];
is_deeply([ @$link{qw(authenticated has_refresh_token validate_error)} ], [ $false, $false, 'invalid_grant' ], 'is given up, and it says why');
# All that was asked of providers is counted by purpose and answer.
my ($said, $text) = $gateway->client->get('/metrics');
my %asked;
$asked{$2}{$3} += $4 while $text =~ /^coderd_oauth2_external_requests_total\{name="([^"]*)",source="(\w+)",status_code="(\d+)"\} (\d+)$/mg;
is(join(' ', sort keys %asked), 'AppInstallations AuthorizeDevice Exchange Revoke TokenSource ValidateToken', 'purposes of requests to providers');
cmp_ok($asked{Exchange}{200} // 0, '>=', 1, 'exchanges that were answered');
ok((grep { $_ >= 400 } keys %{ $asked{TokenSource} }), 'and renewals that were refused');
unlike($gateway->log, qr/hush|access-[12]|refresh-[12]|device-1/, 'nothing of it is in the log');
done_testing;
