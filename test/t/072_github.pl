# Sign-in with GitHub, against a GitHub Enterprise server of the test: by code and by device; organizations, teams, addresses.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::HttpDouble;
use Digest::SHA qw(sha256);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64url);
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $github = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	my ($path, $query, $form) = @$request{qw(path query form)};
	my $user = { id => 4711, login => 'dora_explorer', name => 'Dora', avatar_url => 'https://pictures.example/d.png', %{ $mode->{user} // {} } };

	if ($path eq '/login/oauth/authorize')
	{
		return (302, { Location => "$query->{redirect_uri}?code=" . encode_base64url(JSON::PP::encode_json($query)) . "&state=$query->{state}" }, '');
	}
	return (200, {}, { device_code => 'dc1', user_code => 'ABCD-1234', verification_uri => 'https://github.example/device', expires_in => 899, interval => 5 })
	  if $path eq '/login/device/code' && ($form->{client_id} // '') eq 'id1';
	if ($path eq '/login/oauth/access_token')
	{
		return (200, {}, { error => $mode->{error}, error_description => 'not now' }) if $mode->{error};
		if (($form->{grant_type} // '') =~ /device_code$/) { return (200, {}, { error => 'bad_verification_code' }) if $form->{device_code} ne 'dc1' }
		else
		{
			my $asked = JSON::PP::decode_json(decode_base64url($form->{code}));
			return (200, {}, { error => 'bad_verification_code' })
			  if $form->{client_secret} ne 'hush' || $asked->{code_challenge} ne encode_base64url(sha256($form->{code_verifier}));
		}
		return (200, { 'Content-Type' => 'application/x-www-form-urlencoded' }, 'access_token=gho_1&token_type=bearer&scope=user') if $mode->{form};
		return (200, {}, { access_token => 'gho_1', token_type => 'bearer' });
	}
	return (401, {}, { message => 'Bad credentials' }) if ($request->{headers}{authorization} // '') ne 'Bearer gho_1';
	return (200, {}, $user) if $path eq '/api/v3/user';
	return (200, {}, $mode->{emails} // [ { email => 'old@example.com', verified => $true, primary => $false }, { email => 'dora@example.com', verified => $true, primary => $true } ])
	  if $path eq '/api/v3/user/emails';
	return (200, {}, [ map { { state => 'active', organization => { login => $_ } } } @{ $mode->{orgs} // [] } ]) if $path eq '/api/v3/user/memberships/orgs';
	return (200, {}, { state => $mode->{team} }) if $mode->{team} && $path eq '/api/v3/orgs/Maps/teams/readers/memberships/dora_explorer';
	return (404, {}, { message => 'Not Found' });
});
my $callback = '/api/v2/users/oauth2/github/callback';
my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 1, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_OAUTH2_GITHUB_CLIENT_ID => 'id1',
		CODER_OAUTH2_GITHUB_CLIENT_SECRET => 'hush', CODER_OAUTH2_GITHUB_ENTERPRISE_BASE_URL => $github->url . '/', CODER_OAUTH2_GITHUB_ALLOW_EVERYONE => 'true',
		CODER_OAUTH2_GITHUB_ALLOW_SIGNUPS => 'true' });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }

sub browser { return Coder::Browser->new(url => $gateway->url) }
sub settings { my (%more) = @_; $gateway->sql('SELECT coder.configure($j$' . JSON::PP::encode_json(\%more) . '$j$)'); return }
sub sign_in { my ($browser) = @_; return $browser->follow("$callback?redirect=/x", 2) }

sub refused
{
	my ($what, $want_status, $want, %mode) = @_;
	my $browser = browser();

	$github->mode(%mode);
	my ($got, $body) = sign_in($browser);
	is($got, $want_status, "$what: refused");
	like(ref $body ? join(' ', map { $_ // '' } @$body{qw(message detail)}) : $body, $want, "$what: and it says why");
	ok(!defined $browser->cookie('coder_session_token'), "$what: no session");
	return;
}

is_deeply((browser()->get('/api/v2/users/authmethods'))[1]{github}, { enabled => $true, default_provider_configured => $false }, 'the method is offered');
my $browser = browser();
my ($status, undef, $headers) = $browser->get($callback);
my $asked = Coder::HttpDouble::form($headers->{location} =~ s/^[^?]*\?//r);
like($headers->{location}, qr{^\Q@{[$github->url]}\E/login/oauth/authorize\?}, 'the browser goes to GitHub');
is_deeply([ @$asked{qw(client_id scope code_challenge_method redirect_uri)} ], [ 'id1', 'read:user read:org user:email', 'S256', $gateway->url . $callback ], 'with the right questions');
($status, undef, $headers) = sign_in($browser);
is_deeply([ $status, $headers->{location} ], [ 307, '/x' ], 'and comes back to its page');
my $me = ($browser->get('/api/v2/users/me'))[1];
is_deeply([ @$me{qw(username email name login_type avatar_url)} ], [ 'dora-explorer', 'dora@example.com', 'Dora', 'github', 'https://pictures.example/d.png' ], 'the account is as GitHub says');
is(($browser->get('/api/v2/users?q=github_com_user_id:4711'))[1]{count}, 1, 'found by its number');
$github->mode(form => 1);
is((sign_in(browser()))[0], 307, 'a token that comes as a form');
is($gateway->sql(q{SELECT count(*) FROM coder.users WHERE NOT is_system}), 1, 'the same account');

refused('an unverified address', 400, qr/Your primary email must be verified on GitHub!/, emails => [ { email => 'dora@example.com', verified => $false, primary => $true } ]);
refused('only another address', 400, qr/Your primary email must be verified/, emails => [ { email => 'old@example.com', verified => $true, primary => $false } ]);
refused('a user without a number', 500, qr/Github user/, user => { id => 'x' });
refused('a login with a path in it', 500, qr/Github user/, user => { login => '../../x' });
refused('a code that GitHub refuses', 500, qr/Failed exchanging Oauth code.*bad_code/, error => 'bad_code');
refused('a stranger with an address of ours', 403, qr/linked to another identity/, user => { id => 12 });

settings(oauth2_github_allow_everyone => 'false', oauth2_github_allowed_orgs => 'Maps,other');
refused('a user of no organization', 401, qr/aren&#39;t a member of the authorized Github organizations/);
$github->mode(orgs => [ 'x', 'mapS' ]);
is((sign_in(browser()))[0], 307, 'a member of an organization');
settings(oauth2_github_allowed_teams => 'Maps/readers,nowhere/none');
refused('a member of no team', 401, qr/aren&#39;t a member of an authorized team/, orgs => ['maps']);
refused('one who is only invited', 401, qr/aren&#39;t a member of an authorized team/, orgs => ['maps'], team => 'pending');
$github->mode(orgs => ['maps'], team => 'active');
is((sign_in(browser()))[0], 307, 'a member of a team');
settings(oauth2_github_allowed_orgs => undef, oauth2_github_allowed_teams => undef);
refused('anybody where nobody is named', 401, qr/aren&#39;t a member/, orgs => ['maps']);
settings(oauth2_github_allow_everyone => 'true', oauth2_github_allow_signups => 'false');
refused('a stranger while sign-ups are off', 403, qr/Signups are disabled/, user => { id => 13 }, emails => [ { email => 'n@example.com', verified => $true, primary => $true } ]);

# By device.
is(($browser->get('/api/v2/users/oauth2/github/device'))[1]{message}, 'Device flow is not enabled for Github OAuth2.', 'no devices yet');
settings(oauth2_github_device_flow => 'true');
$github->mode;
my $device = browser();
($status, undef, $headers) = $device->get("$callback?redirect=/y");
is($status, 307, 'the browser goes to the page of devices');
like($headers->{location}, qr{^/login/device\?(.*&)?state=\w{32}}, 'with a state');
my ($state) = $headers->{location} =~ /[?&]state=(\w+)/;
is_deeply((browser()->get('/api/v2/users/oauth2/github/device'))[1],
	{ device_code => 'dc1', user_code => 'ABCD-1234', verification_uri => 'https://github.example/device', expires_in => 899, interval => 5 }, 'a code to type');
for my $error (qw(authorization_pending slow_down expired_token access_denied))
{
	$github->mode(error => $error);
	my ($got, $body) = $device->get("$callback?code=dc1&state=$state");
	is_deeply([ $got, $body->{detail} ], [ 400, $error ], "polling: $error");
}
$github->mode;
is((browser()->get("$callback?code=dc1&state=$state"))[0], 401, 'another browser does not get it');
($status, my $body) = $device->get("$callback?code=dc1&state=$state");
is_deeply([ $status, $body ], [ 200, { redirect_url => '/y' } ], 'then it is done');
is(($device->get('/api/v2/users/me'))[1]{username}, 'dora-explorer', 'and signed in');

# The client for deployments that have set up none.
settings(oauth2_github_client_id => undef, oauth2_github_device_flow => undef, oauth2_github_allow_everyone => undef);
is((browser()->get('/api/v2/users/authmethods'))[1]{github}{enabled}, $false, 'without a client GitHub is not offered');
is((browser()->get($callback))[0], 400, 'nor does it work');
settings(oauth2_github_default_client_id => 'id1');
is_deeply((browser()->get('/api/v2/users/authmethods'))[1]{github}, { enabled => $true, default_provider_configured => $true }, 'with a default one it is');
like((browser()->get($callback))[2]{location}, qr{^/login/device\?}, 'by device');
settings(oauth2_github_default_provider_enable => 'false');
is((browser()->get($callback))[0], 400, 'unless that is turned off');

my ($said, $text) = $gateway->client->get('/metrics');
like($text, qr/^coderd_oauth2_external_requests_total\{name="github-login",source="$_",status_code="200"\} [1-9]/m, "$_ is counted")
	for qw(Exchange GitAPIAuthUser GitAPIListEmails GitAPIOrgMemberships GitAPITeamMemberships AuthorizeDevice);
done_testing;
