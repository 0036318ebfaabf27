# Sign-in with OpenID Connect: accounts, claims, who may; and every answer of a hostile provider is refused.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::OidcDouble;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $idp = Coder::OidcDouble->start;
my %base = (CODER_EVENT_LOOPS => 1, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_OIDC_ISSUER_URL => $idp->url,
	CODER_OIDC_CLIENT_ID => 'coder', CODER_OIDC_CLIENT_SECRET => 'hush!:');
my $gateway = Coder::Gateway->start(env => {%base});
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }
my $callback = '/api/v2/users/oidc/callback';

sub browser { return Coder::Browser->new(url => $gateway->url) }

# From the button to the callback's answer, as a browser goes.
sub sign_in { my ($browser, $redirect) = @_; return $browser->follow($callback . ($redirect ? "?redirect=$redirect" : ''), 2) }

# Another set of settings, as after a restart.
sub settings
{
	my (%more) = @_;
	$gateway->sql('SELECT coder.configure($j$' . JSON::PP::encode_json(\%more) . '$j$)');
	return;
}

# Before anything else: what is asked, and what the first one gets.
is_deeply((browser()->get('/api/v2/users/authmethods'))[1]{oidc}, { enabled => JSON::PP::true, signInText => 'OpenID Connect', iconUrl => '' }, 'the method is offered');
my $first = browser();
my ($status, $body, $headers) = $first->get("$callback?redirect=https://evil.example/templates");
is($status, 307, 'without a code the browser goes to the provider') or diag explain($body), $gateway->log;
my $asked = Coder::HttpDouble::form($headers->{location} =~ s/^[^?]*\?//r);
like($headers->{location}, qr{^\Q@{[$idp->url]}\E/auth\?}, 'at its authorization endpoint');
is_deeply([ @$asked{qw(client_id response_type scope access_type code_challenge_method redirect_uri)} ],
	[ 'coder', 'code', 'openid profile email', 'offline', 'S256', $gateway->url . $callback ], 'with the right questions');
is(length $asked->{state}, 32, 'a state of 32 characters');
is($first->cookie('oauth_state'), $asked->{state}, 'which is in a cookie');
ok((grep { /^oauth_state=.*HttpOnly/ && !/Max-Age/ } @{ $headers->{'set-cookie'} }), 'of this session, out of reach of scripts');
my ($back) = ($first->get($headers->{location}))[2]{location};
($status, undef, $headers) = $first->get($back);
is($status, 307, 'back with a code');
is($headers->{location}, '/templates', 'to the page, never to another host');
ok(!defined $first->cookie('oauth_state'), 'the cookies of the sign-in are gone');
my $me = ($first->get('/api/v2/users/me'))[1];
is_deeply([ @$me{qw(username email name login_type status)} ], [qw(dora dora@example.com Dora oidc active)], 'the account is as claimed');
is($me->{roles}[0]{name}, 'owner', 'the first owns the deployment');
is(($first->get('/api/v2/debug/me/debug-link'))[1]{id_token_claims}{sub}, 'u1', 'and shown to who looks for a mistake');
is(($first->get('/api/v2/users/oidc-claims'))[1]{claims}{preferred_username}, 'dora', 'its claims are kept');
is(($first->get($back))[0], 401, 'the same answer does not work twice');
is((browser()->get($back))[0], 401, 'nor in another browser');

$first->get("$callback?oidc_merge_state=known");
isnt($first->cookie('oauth_state'), 'known', 'nobody chooses another\'s state');

SKIP:
{
	my $cli = $ENV{CODER_OFFICIAL_CLI};
	skip 'CODER_OFFICIAL_CLI is not set', 2 unless $cli && -x $cli;
	local %ENV = (PATH => $ENV{PATH}, HOME => $gateway->{dir}, CODER_URL => $gateway->url, CODER_SESSION_TOKEN => $first->cookie('coder_session_token'));
	like(`$cli users oidc-claims -o json`, qr/"preferred_username": "dora"/, 'the reference\'s client shows the claims');
	like(`$cli whoami`, qr/dora/, 'and who it is');
}

# The second half on its own.
my $stranger = browser();
is(($stranger->get("$callback?code=x"))[1]{message}, 'State must be provided.', 'no state');
is(($stranger->get("$callback?code=x&state=y"))[1]{message}, 'Cookie "oauth_state" must be provided.', 'no cookie');
$stranger->get($callback);
is(($stranger->get("$callback?code=x&state=y"))[1]{message}, 'State mismatched.', 'another state');
my ($state) = $stranger->cookie('oauth_state');
is(($stranger->get("$callback?error=access_denied&error_description=no&state=$state"))[1]{message}, 'Encountered error in oidc process: access_denied', 'the provider says no');
delete $stranger->{cookies}{ $gateway->url }{oauth_pkce_verifier};
is(($stranger->get("$callback?code=x&state=$state"))[1]{message}, 'PKCE challenge must be provided.', 'without the verifier');

# Hostile and broken answers.
sub refused
{
	my ($what, $want_status, $want, %mode) = @_;
	my $browser = browser();

	$idp->mode(%mode);
	my ($got, $body) = sign_in($browser);
	is($got, $want_status, "$what: refused");
	like(ref $body ? join(' ', map { $_ // '' } @$body{qw(message detail)}) : $body, $want, "$what: and it says why");
	ok(!defined $browser->cookie('coder_session_token'), "$what: no session");
	return;
}
my $bad = qr/Failed to verify OIDC token/;
refused('alg none', 400, qr/$bad.*"none"/, alg => 'none');
refused('a secret of the public key', 400, qr/$bad.*"HS256"/, alg => 'HS256');
refused('an unpublished key', 400, qr/$bad.*does not publish/, key => 'spare');
refused('an unpublished key under a published name', 400, qr/$bad.*signature is wrong/, key => 'spare', kid => 'rs');
refused('a key of another algorithm', 400, qr/$bad/, alg => 'ES256', kid => 'rs');
refused('an expired token', 400, qr/$bad.*expired/, token => { exp => time - 10 });
refused('a token for another client', 400, qr/$bad.*another client/, token => { aud => 'other' });
refused('a token of another issuer', 400, qr/$bad.*issued by/, token => { iss => 'https://evil.example' });
refused('another nonce', 400, qr/$bad.*nonce/, token => { nonce => 'x' });
refused('no nonce', 400, qr/$bad.*nonce/, token => { nonce => undef });
refused('no subject', 400, qr/sub/, token => { sub => undef });
refused('no JWT at all', 400, $bad, raw => 'x.y.z');
refused('no ID token', 400, qr/id_token not found in response payload/, no_id_token => 1);
refused('a token endpoint that fails', 500, qr/Failed exchanging Oauth code/, fail => '/token');
refused('UserInfo that fails', 500, qr/Failed to obtain user information/, fail => '/userinfo');
refused('UserInfo of another user', 400, qr/another user/, info => { sub => 'u2' });
refused('no e-mail address', 400, qr/No email found in OIDC payload!/, claims => { email => undef, preferred_username => 'nobody' });
refused('an address that is none', 400, qr/malformed/, claims => { email => 'a b' });
refused('an unverified address', 403, qr/Email not verified/, claims => { email_verified => JSON::PP::false });
$gateway->sql(q{UPDATE coder.oidc_providers SET jwks = NULL, jwks_tried_at = '-infinity'});
refused('a huge set of keys', 500, qr/too_large/, huge => '/keys');
refused('keys that are none', 500, qr/no set of keys|status/, fail => '/keys');
$gateway->sql(q{DELETE FROM coder.oidc_providers});
refused('discovery of another issuer', 500, qr/issuer/, discovery => { issuer => 'https://evil.example' });
refused('discovery without keys', 500, qr/jwks_uri/, discovery => { jwks_uri => undef });
refused('discovery with a strange endpoint', 500, qr/token_endpoint/, discovery => { token_endpoint => 'file:///etc/passwd' });
refused('a huge discovery', 500, qr/too_large/, huge => '/.well-known/openid-configuration');
{
	my $began = time;
	refused('a discovery that hangs', 500, qr/timeout/, hang => '/.well-known/openid-configuration');
	cmp_ok(time - $began, '<', 14, 'not for long');
}

# Keys: every algorithm, and a new key without a restart.
for my $alg (qw(ES256 EdDSA RS256))
{
	$idp->mode(alg => $alg);
	is((sign_in(browser()))[0], 307, "$alg is accepted");
}
$idp->forget;
$idp->mode(key => 'next', published => ['next']);
$gateway->sql(q{UPDATE coder.oidc_providers SET jwks_tried_at = '-infinity'});
is((sign_in(browser()))[0], 307, 'a new key is fetched when it is used');
is((sign_in(browser()))[0], 307, 'and kept');
is(scalar(grep { $_->{path} eq '/keys' } $idp->requests), 1, 'with one request');
$idp->mode(key => 'spare', published => ['next']);
sign_in(browser()) for 1 .. 3;
is(scalar(grep { $_->{path} eq '/keys' } $idp->requests), 1, 'unknown keys do not make it be asked again and again');

# Accounts.
$idp->mode;
$gateway->sql(q{DELETE FROM coder.oidc_providers});
my $browser = browser();
$idp->mode(claims => { sub => 'u2', email => 'boots@example.com', preferred_username => 'dora', name => ' Boots ', picture => 'https://pictures.example/1.png' });
is((sign_in($browser))[0], 307, 'a second user');
my $boots = ($browser->get('/api/v2/users/me'))[1];
like($boots->{username}, qr/^dora-[0-9a-z]{5}$/, 'a taken name gets an end');
is_deeply([ @$boots{qw(name avatar_url)}, scalar @{ $boots->{roles} } ], [ 'Boots', 'https://pictures.example/1.png', 0 ], 'no roles');
$idp->mode(claims => { sub => 'u2', email => 'monkey@example.com', preferred_username => 'monkey', name => 'Monkey' });
sign_in($browser);
is_deeply([ @{ ($browser->get('/api/v2/users/me'))[1] }{qw(id username email name)} ], [ $boots->{id}, $boots->{username}, 'monkey@example.com', 'Monkey' ],
	'a later sign-in refreshes address and name, never the user name');
refused('an identity with another\'s address', 403, qr/linked to another identity/, claims => { sub => 'u3' });
$idp->mode(claims => { sub => 'u4', email => undef, preferred_username => 'swiper.fox@example.com', name => undef });
$browser = browser();
sign_in($browser);
is_deeply([ @{ ($browser->get('/api/v2/users/me'))[1] }{qw(username email)} ], [ 'swiperfox', 'swiper.fox@example.com' ], 'a user name that is an address');
is($gateway->sql(q{SELECT count(*) FROM coder.audit_logs WHERE action = 'register'}), 3, 'registrations are audited');

$gateway->sql(qq{UPDATE coder.users SET login_type = 'github' WHERE id = '$boots->{id}'});
refused('an account of another login type', 403, qr/Incorrect login type/, claims => { sub => 'u2', email => 'monkey@example.com' });
$gateway->sql(qq{UPDATE coder.users SET login_type = 'oidc', status = 'suspended' WHERE id = '$boots->{id}'});
refused('a suspended account', 401, qr/suspended/, claims => { sub => 'u2', email => 'monkey@example.com' });
is($gateway->sql(qq{SELECT string_agg(status_code::text, ',' ORDER BY status_code) FROM coder.audit_logs WHERE action = 'login' AND user_id = '$boots->{id}' AND status_code >= 400}),
	'401,403', 'what was refused is audited');
$gateway->sql(qq{UPDATE coder.users SET status = 'dormant' WHERE id = '$boots->{id}'});
$idp->mode(claims => { sub => 'u2', email => 'monkey@example.com' });
is((sign_in(browser()))[0], 307, 'a dormant account');
is($gateway->sql(qq{SELECT status FROM coder.users WHERE id = '$boots->{id}'}), 'active', 'wakes');

# Who may.
settings(oidc_allow_signups => 'false', oidc_signups_disabled_text => 'Ask <Tico>.');
refused('a stranger while sign-ups are off', 403, qr/Signups are disabled.*Ask &lt;Tico&gt;\./s, claims => { sub => 'u9', email => 'tico@example.com' });
settings(oidc_allow_signups => 'true', oidc_email_domain => 'Good.example, other.example');
refused('a strange domain', 403, qr/Unauthorized email/, claims => { sub => 'u9', email => 'tico@example.com' });
$idp->mode(claims => { sub => 'u9', email => 'tico@gooD.example', preferred_username => 'tico' });
is((sign_in(browser()))[0], 307, 'a domain of the list, in any case');
settings(oidc_email_domain => undef, oidc_allowed_groups => 'staff,admins', oidc_group_field => 'teams');
refused('a user without groups', 403, qr/Not a member of an allowed group/, claims => { sub => 'u9', email => 'tico@gooD.example' });
refused('a user of another group', 403, qr/Not a member of an allowed group/, claims => { sub => 'u9', email => 'tico@gooD.example', teams => ['guests'] });
$idp->mode(claims => { sub => 'u9', email => 'tico@gooD.example', teams => [ 'guests', 'staff' ] });
is((sign_in(browser()))[0], 307, 'a member of an allowed group');
settings(oidc_allowed_groups => undef, oidc_ignore_email_verified => 'true');
$idp->mode(claims => { sub => 'u9', email => 'tico@good.example', email_verified => JSON::PP::false });
is((sign_in(browser()))[0], 307, 'an unverified address where that is ignored');

# Where claims come from.
settings(oidc_username_field => 'nick', oidc_name_field => 'full', oidc_email_field => 'mail');
$idp->mode(claims => { sub => 'u10', nick => 'benny', full => 'Benny B.', mail => 'benny@example.com', email => undef }, info => { full => 'Benny Bull' });
$browser = browser();
sign_in($browser);
is_deeply([ @{ ($browser->get('/api/v2/users/me'))[1] }{qw(username email name)} ], [ 'benny', 'benny@example.com', 'Benny Bull' ], 'other claims; UserInfo wins');
settings(oidc_username_field => undef, oidc_name_field => 'full', oidc_email_field => 'mail', oidc_ignore_userinfo => 'true');
$idp->forget;
sign_in($browser);
is(($browser->get('/api/v2/users/me'))[1]{name}, 'Benny B.', 'UserInfo is not asked when it is ignored');
is(scalar(grep { $_->{path} eq '/userinfo' } $idp->requests), 0, 'not once');
settings(oidc_name_field => undef, oidc_email_field => undef, oidc_ignore_userinfo => undef, oidc_sign_in_text => 'Maps', oidc_icon_url => '/icon.svg',
	oidc_scopes => 'openid,email,groups', oidc_auth_url_params => '{"prompt":"login"}');
is_deeply((browser()->get('/api/v2/users/authmethods'))[1]{oidc}, { enabled => JSON::PP::true, signInText => 'Maps', iconUrl => '/icon.svg' }, 'the button\'s text');
$asked = Coder::HttpDouble::form(((browser()->get($callback))[2]{location}) =~ s/^[^?]*\?//r);
is_deeply([ @$asked{qw(scope prompt access_type)} ], [ 'openid email groups', 'login', undef ], 'other scopes and parameters');

# A provider without PKCE, and logging out.
$gateway->sql(q{DELETE FROM coder.oidc_providers});
$idp->mode(discovery => { code_challenge_methods_supported => undef }, claims => { sub => 'u9', email => 'tico@good.example' });
is((sign_in($browser = browser()))[0], 307, 'a provider without PKCE');
my $csrf = $browser->cookie('coder_session_token');
is(($browser->post('/api/v2/users/logout', undef, 'Coder-Session-Token' => $csrf))[0], 200, 'logged out');
is(($browser->get('/api/v2/users/me'))[0], 401, 'the session is over');

# The provider's token behind a session: renewed when it ends, and the session ends with it.
$idp->mode(claims => { sub => 'u9', email => 'tico@good.example' });
$gateway->sql(q{DELETE FROM coder.oidc_providers});
sign_in($browser = browser());
my $tico = $gateway->sql(q{SELECT user_id FROM coder.user_links WHERE linked_id LIKE '%u9'});
my $ends = sub
{
	$gateway->sql("UPDATE coder.user_links SET oauth_expiry = now() - interval '1 minute'$_[0] WHERE user_id = '$tico'");
};
$ends->('');
$idp->forget;
is(($browser->get('/api/v2/users/me'))[0], 200, 'a token that has ended is renewed');
is_deeply([ map { $_->{form}{grant_type} } grep { $_->{path} eq '/token' } $idp->requests ], ['refresh_token'], 'with the refresh token, once');
is(($browser->get('/api/v2/users/me/login-type'))[0], 200, 'then the session goes on');
ok($gateway->sql("SELECT oauth_expiry > now() + interval '50 minutes' FROM coder.user_links WHERE user_id = '$tico'"), 'with a new end');
$ends->('');
$idp->forget;
my @askers = map {
	my $pid = fork // die $!;
	if ($pid == 0) { POSIX::_exit(($gateway->client($browser->cookie('coder_session_token'))->get('/api/v2/users/me'))[0] == 200 ? 0 : 1) }
	$pid;
} 1 .. 8;
is(scalar(grep { waitpid $_, 0; $? != 0 } @askers), 0, 'eight requests at once all go on');
is(scalar(grep { $_->{path} eq '/token' } $idp->requests), 1, 'and one of them renews it');
$ends->('');
$idp->mode(fail => '/token');
my ($renewed, $why) = $browser->get('/api/v2/users/me');
is($renewed, 401, 'a provider that does not renew it ends the session');
like($why->{detail}, qr/did not renew the session/, 'and it says so');
$idp->mode;
$ends->(q{, oauth_refresh_token = ''});
($renewed, $why) = $browser->get('/api/v2/users/me');
is($renewed, 401, 'without a refresh token too');
like($why->{detail}, qr/^OpenID Connect session expired at "[^"]+". Try signing in again\.$/, 'in the right words');
$idp->mode(claims => { sub => 'u9', email => 'tico@good.example' });
is((sign_in($browser))[0], 307, 'until one signs in again');
is(($browser->get('/api/v2/users/me'))[0], 200, 'and goes on');
$gateway->sql("DELETE FROM coder.user_links WHERE user_id = '$tico'");
($renewed, $why) = $browser->get('/api/v2/users/me');
is($renewed, 401, 'a session without its link is none');
is($why->{detail}, 'You must re-authenticate with the login provider.', 'and says what to do');
is((sign_in($browser))[0], 307, 'the link comes back') or diag explain [ sign_in($browser) ];

# A password account becomes one of the provider.
my ($owner) = $first->cookie('coder_session_token');
my $admin = $gateway->client($owner);
my $org = ($admin->get('/api/v2/organizations/default'))[1]{id};
is(($admin->post('/api/v2/users', { username => 'isa', email => 'isa@example.com', password => 'SomeSecurePassword!', organization_ids => [$org], login_type => 'password' }))[0],
	201, 'an account with a password');
is(($admin->post('/api/v2/users', { username => 'benny2', email => 'benny2@example.com', organization_ids => [$org], login_type => 'oidc' }))[0], 201, 'an account for somebody who will come by the provider');
my $isa = $gateway->login('isa@example.com', 'SomeSecurePassword!');
refused('the provider\'s word for a password account', 403, qr/Incorrect login type/, claims => { sub => 'u11', email => 'isa@example.com' });
$browser = browser();
$browser->{cookies}{ $gateway->url } = { coder_session_token => $isa->{token} };
my $convert;
($status, $convert) = $browser->post('/api/v2/users/me/convert-login', { to_type => 'oidc', password => 'SomeSecurePassword!' }, 'Coder-Session-Token' => $isa->{token});
is($status, 201, 'a conversion begins');
my $other = browser();
$idp->mode(claims => { sub => 'u11', email => 'isabel@example.com' });
is(($other->follow("$callback?oidc_merge_state=$convert->{state_string}", 2))[0], 400, 'not in a browser without its cookie');
$idp->mode(claims => { sub => 'u9', email => 'tico@good.example' });
is(($browser->follow("$callback?oidc_merge_state=$convert->{state_string}", 2))[0], 403, 'not to an identity that another has');
is(($isa->get('/api/v2/users/me'))[1]{login_type}, 'password', 'nothing has changed');
$idp->mode(claims => { sub => 'u11', email => 'isabel@example.com' });
($status, undef, $headers) = $browser->follow("$callback?oidc_merge_state=$convert->{state_string}&redirect=/settings/security", 2);
is_deeply([ $status, $headers->{location} ], [ 307, '/settings/security' ], 'it ends at the page');
is(($isa->get('/api/v2/users/me'))[0], 401, 'the old session is over');
is((sign_in($browser))[0], 307, 'the provider signs in from now on');
is(($browser->get('/api/v2/users/me'))[1]{username}, 'isa', 'the same account');
is(($gateway->client->post('/api/v2/users/login', { email => 'isabel@example.com', password => 'SomeSecurePassword!' }))[0], 401, 'the password does not');

unlike($gateway->log, qr/hush/, 'the secret is not in the log');
done_testing;
