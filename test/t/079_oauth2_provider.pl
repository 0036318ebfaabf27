# This server as an OAuth 2.0 provider: applications, consent, codes with PKCE, tokens, refresh, revocation, registration.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Digest::SHA qw(sha256);
use MIME::Base64 qw(encode_base64 encode_base64url);
use Test::More;

my $server = Coder::Gateway->start;
my $owner = $server->first_user;
my $public = $server->client;
my $form = 'application/x-www-form-urlencoded';

sub encoded { my %f = @_; return join '&', map { my $v = $f{$_}; $v =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge; "$_=$v" } sort keys %f }
sub form { my ($path, $fields, %headers) = @_; return $public->post($path, encoded(%$fields), 'Content-Type' => $form, %headers) }
sub is_error { my ($answer, $status, $code, $name) = @_; is("$answer->[0] $answer->[1]{error}", "$status $code", $name) or diag explain $answer }

# metadata
my ($status, $body, $headers) = $public->get('/.well-known/oauth-authorization-server');
is($status, 200, 'the metadata is public');
is($body->{token_endpoint}, $server->url . '/oauth2/tokens', 'and names the token endpoint');
is_deeply($body->{code_challenge_methods_supported}, ['S256'], 'PKCE is S256');
($status, $body) = $public->get('/.well-known/oauth-protected-resource/api/v2');
is_deeply([$status, $body->{authorization_servers}], [200, [$server->url]], 'a protected resource names its server');

# applications
($status, my $app) = $owner->post('/api/v2/oauth2-provider/apps', {name => 'app1', callback_url => 'http://localhost:9/cb', icon => '/i.svg'});
is($status, 201, 'an application is made');
my $apps = "/api/v2/oauth2-provider/apps/$app->{id}";
is(($owner->post('/api/v2/oauth2-provider/apps', {name => 'app1', callback_url => 'http://localhost:9'}))[0], 409, 'its name is taken');
($status, $body) = $owner->post('/api/v2/oauth2-provider/apps', {name => '', callback_url => 'zz'});
is_deeply([$status, map { $_->{detail} } @{$body->{validations}}],
	[400, 'Validation failed for tag "required" with value: ""', 'Validation failed for tag "http_url" with value: "zz"'], 'broken rules are named');
is(($owner->get('/api/v2/oauth2-provider/apps/00000000-0000-0000-0000-000000000001'))[1]{message}, 'OAuth2 application not found.', 'there is no other');
($status, my $secret) = $owner->post("$apps/secrets");
is($status, 201, 'a secret is made');
like($secret->{client_secret_full}, qr/^coder_[A-Za-z0-9]{10}_[A-Za-z0-9]{40}$/, 'of the form that clients know');
($status, $body) = $owner->get("$apps/secrets");
is($body->[0]{client_secret_truncated}, substr($secret->{client_secret_full}, -6), 'of which its end is shown');
is($server->sql('SELECT count(*) FROM coder.oauth2_provider_app_secrets s WHERE s::text LIKE \'%' . substr($secret->{client_secret_full}, -40) . '%\''), 0, 'and nothing is kept');

# a member may see applications, not change them
$owner->post('/api/v2/users', {email => 'bob@example.com', username => 'bob', password => 'SomeSecurePassword!', organization_ids => [$owner->get('/api/v2/organizations')->[0]{id}]});
my $bob = $server->login('bob@example.com', 'SomeSecurePassword!');
is(scalar @{$bob->get('/api/v2/oauth2-provider/apps')}, 1, 'a member sees it');
is(($bob->put($apps, {name => 'mine', callback_url => 'http://localhost:9'}))[0], 403, 'and may not change it');
is(($bob->post("$apps/secrets"))[0], 403, 'nor make a secret');
isnt(($bob->get("$apps/secrets"))[0], 200, 'nor see them');

# consent
my $verifier = 'v' x 43;
my $challenge = encode_base64url(sha256($verifier));
my %ask = (response_type => 'code', client_id => $app->{id}, state => 'a&b', code_challenge => $challenge, code_challenge_method => 'S256');
sub authorize_path { return '/oauth2/authorize?' . encoded(%ask, @_) }
($status, undef, $headers) = $public->get(authorize_path());
is($status, 303, 'one who is signed out');
like($headers->{location}, qr{^/login\?message=.*redirect=%2Foauth2%2Fauthorize%3F.*client_id}, 'signs in first');
my $cookie = "coder_session_token=$bob->{token}";
($status, my $page, $headers) = $public->get(authorize_path(), undef, Cookie => $cookie);
is($status, 200, 'the user is asked');
like($page, qr/Let app1 use your account.*<strong>bob/s, 'with the names of both');
like($headers->{'content-security-policy'}, qr/frame-ancestors 'none'/, 'in a page that nobody frames');
is(($public->get(authorize_path(redirect_uri => 'http://evil.example/'), undef, Cookie => $cookie))[0], 400, 'a code is sent nowhere else');
is(($public->get(authorize_path(redirect_uri => 'http://localhost:9/cb/../x'), undef, Cookie => $cookie))[0], 400, 'nor below it');
is(($public->get(authorize_path(code_challenge => ''), undef, Cookie => $cookie))[0], 400, 'PKCE is mandatory');
is(($public->get(authorize_path(code_challenge_method => 'plain'), undef, Cookie => $cookie))[0], 400, 'and not plain');
is(($public->get(authorize_path(response_type => 'token'), undef, Cookie => $cookie))[0], 400, 'nothing is implicit');
is(($public->get(authorize_path(resource => 'relative'), undef, Cookie => $cookie))[0], 400, 'a resource is an absolute URI');
is(($public->get(authorize_path(nonsense => 1), undef, Cookie => $cookie))[0], 400, 'unknown parameters are refused');
unlike(($public->get(authorize_path(client_id => '<script>'), undef, Cookie => $cookie))[1], qr/<script>/, 'and nothing is echoed as HTML');

# the form: its token, from our own page only
my ($token) = $page =~ /name="csrf_token" value="([^"]+)"/;
$token =~ s/&#?\w+;/+/g;
my ($csrf) = ref $headers->{'set-cookie'} ? '' : ($headers->{'set-cookie'} // '') =~ /csrf_token=([^;]+)/;
my %browser = (Cookie => "$cookie; csrf_token=$csrf", Origin => $server->url);
is((form(authorize_path(), {}, %browser))[0], 400, 'without the form\'s token nothing is granted');
is((form(authorize_path(), {csrf_token => $token}, %browser, Origin => 'http://evil.example'))[0], 400, 'nor from another page');
is((form(authorize_path(), {csrf_token => $token}, %browser, 'Sec-Fetch-Site' => 'cross-site'))[0], 400, 'nor where the browser says so');
($status, undef, $headers) = form(authorize_path(), {csrf_token => $token}, %browser);
is($status, 302, 'the user agrees');
like($headers->{location}, qr{^http://localhost:9/cb\?code=coder_\w+&state=a%26b$}, 'and the code goes to the application');

sub code
{
	my ($uri) = ($bob->post(authorize_path(@_)))[2]{location} =~ /code=([^&]+)/;
	return $uri;
}
my %client = (client_id => $app->{id}, client_secret => $secret->{client_secret_full});
my %grant = (grant_type => 'authorization_code', %client, code_verifier => $verifier);

# what is refused
my $code = code();
is_error([form('/oauth2/tokens', {%grant, code => $code, code_verifier => 'w' x 43})], 400, 'invalid_grant', 'another verifier');
is_error([form('/oauth2/tokens', {%grant, code => $code, code_verifier => ''})], 400, 'invalid_grant', 'no verifier');
is_error([form('/oauth2/tokens', {%grant, code => $code, client_secret => 'coder_' . 'a' x 10 . '_' . 'b' x 40})], 401, 'invalid_client', 'another secret');
is_error([form('/oauth2/tokens', {%grant, code => $code, client_secret => ''})], 401, 'invalid_client', 'no secret');
is_error([form('/oauth2/tokens', {%grant, code => $code, grant_type => 'password'})], 400, 'unsupported_grant_type', 'a password grant');
is_error([form('/oauth2/tokens', {%grant, code => $code, redirect_uri => 'http://evil.example'})], 400, 'invalid_grant', 'another redirect_uri');
is_error([form('/oauth2/tokens', {%grant, code => $code, resource => 'https://other.example'})], 400, 'invalid_target', 'another resource');
is_error([form('/oauth2/tokens', {%grant, code => $code, nonsense => 1})], 400, 'invalid_request', 'an unknown parameter');
is_error([form('/oauth2/tokens', {%grant})], 400, 'invalid_request', 'no code');
is_error([form('/oauth2/tokens', {%grant, code => 'coder_x_y'})], 400, 'invalid_grant', 'a code that is none');
is_error([form('/oauth2/tokens', {%grant, code => $code}, Authorization => 'Basic ' . encode_base64("$app->{id}:other", ''))], 400, 'invalid_request', 'two sets of credentials');
is_error([form('/oauth2/tokens', {grant_type => 'authorization_code'}, Authorization => 'Basic !!')], 401, 'invalid_client', 'credentials that are none');

# tokens
($status, my $tokens, $headers) = form('/oauth2/tokens', {%grant, code => $code});
is($status, 200, 'the code becomes tokens') or diag explain $tokens;
is($headers->{'cache-control'}, 'no-store', 'which no cache keeps');
is($tokens->{token_type}, 'Bearer', 'of the bearer type');
my $api = $server->client;
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $tokens->{access_token}"))[1]{username}, 'bob', 'the access token is the user');
is_error([form('/oauth2/tokens', {%grant, code => $code})], 400, 'invalid_grant', 'a code is good once');
is(scalar @{$bob->get('/api/v2/oauth2-provider/apps?user_id=' . $bob->get('/api/v2/users/me')->{id})}, 1, 'the user sees whom they let in');

my $basic = 'Basic ' . encode_base64("$app->{id}:$secret->{client_secret_full}", '');
($status, my $second) = form('/oauth2/tokens', {grant_type => 'refresh_token', refresh_token => $tokens->{refresh_token}}, Authorization => $basic);
is($status, 200, 'a refresh gives new ones') or diag explain $second;
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $tokens->{access_token}"))[0], 401, 'the old access token ends');
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $second->{access_token}"))[0], 200, 'the new one is good');
is_error([form('/oauth2/tokens', {grant_type => 'refresh_token', refresh_token => $tokens->{refresh_token}, %client})], 400, 'invalid_grant', 'a refresh token is good once');
is_error([form('/oauth2/tokens', {grant_type => 'refresh_token', refresh_token => $second->{refresh_token}, client_id => $app->{id}})], 401, 'invalid_client', 'and needs the client');

# a token for another server is none here
my %elsewhere = (resource => 'https://other.example/mcp');
my $foreign = (form('/oauth2/tokens', {%grant, code => code(%elsewhere), %elsewhere}))[1];
($status, $body) = $api->get('/api/v2/users/me', undef, Authorization => "Bearer $foreign->{access_token}");
is("$status $body->{message}", '403 Token audience validation failed', 'a token of another audience is refused');
my $own = (form('/oauth2/tokens', {%grant, code => code(resource => uc($server->url) . '/')}))[1];
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $own->{access_token}"))[0], 200, 'one of this server is good, however it is spelled');
$second = $own;

# another grant of the same user replaces it
my $third = (form('/oauth2/tokens', {%grant, code => code()}))[1];
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $second->{access_token}"))[0], 401, 'one token for each user and application');

# revocation
is((form('/oauth2/revoke', {client_id => $app->{id}, token => 'coder_' . 'a' x 10 . '_' . 'b' x 40}))[0], 200, 'an unknown token is as good as revoked');
is_error([form('/oauth2/revoke', {client_id => $app->{id}, token => 'x'})], 400, 'invalid_request', 'what is no token is told');
is_error([form('/oauth2/revoke', {client_id => $app->{id}, client_secret => 'no', token => $third->{access_token}})], 401, 'invalid_client', 'a wrong secret too');
is((form('/oauth2/revoke', {client_id => $app->{id}, token => $bob->{token}}))[0], 200, 'the user\'s own session is no token of the client');
is(($bob->get('/api/v2/users/me'))[0], 200, 'and goes on');
is((form('/oauth2/revoke', {%client, token => $third->{access_token}}))[0], 200, 'an access token is revoked');
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $third->{access_token}"))[0], 401, 'and ends');
is_error([form('/oauth2/tokens', {grant_type => 'refresh_token', refresh_token => $third->{refresh_token}, %client})], 400, 'invalid_grant', 'its refresh token too');

# the user takes leave of an application; a suspended user's code is nothing
my $fourth = (form('/oauth2/tokens', {%grant, code => code()}))[1];
is(($bob->delete("/oauth2/tokens?client_id=$app->{id}"))[0], 204, 'the user takes the right back');
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $fourth->{access_token}"))[0], 401, 'at once');
$code = code();
$owner->put('/api/v2/users/bob/status/suspend');
is_error([form('/oauth2/tokens', {%grant, code => $code})], 400, 'invalid_grant', 'a suspended user\'s code is refused');
$owner->put('/api/v2/users/bob/status/activate');

# a code that is too old; a secret that is gone; an application that is gone
$server->sql("UPDATE coder.oauth2_provider_app_codes SET expires_at = now()");
is_error([form('/oauth2/tokens', {%grant, code => $code})], 400, 'invalid_grant', 'a code that has expired');
my $fifth = (form('/oauth2/tokens', {%grant, code => code()}))[1];
is(($owner->delete("$apps/secrets/$secret->{id}"))[0], 204, 'a secret is deleted');
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $fifth->{access_token}"))[0], 401, 'with the tokens that it gave');

# dynamic registration
sub register { return $public->post('/oauth2/register', {redirect_uris => ['https://app.example/cb'], client_name => 'An app', @_}) }
for my $case (['http://app.example/cb', 'https'], ['javascript:alert(1)', 'dangerous scheme'], ['https://app.example/#x', 'fragment'], ['', 'empty'], ['/cb', 'scheme'])
{
	($status, $body) = register(redirect_uris => [$case->[0]]);
	is("$status $body->{error}", '400 invalid_client_metadata', "not to \"$case->[0]\"");
	like($body->{error_description}, qr/redirect_uri.*$case->[1]/, 'and why');
}
is((register(@$_))[0], 400, "not with @{[map { ref ? \"[@$_]\" : $_ } @$_]}") for ['grant_types', ['password']], ['grant_types', ['refresh_token']],
	['response_types', ['token']], ['token_endpoint_auth_method', 'private_key_jwt'], ['client_uri', 'nowhere'], ['redirect_uris', []], ['contacts', 'me'];
($status, my $client) = register(client_name => 'x' x 100, contacts => ['a@example.com']);
is($status, 201, 'a program registers itself') or diag explain $client;
is(length $client->{client_name}, 64, 'its name is cut');
my %mine = (Authorization => "Bearer $client->{registration_access_token}");
is(($public->get("/oauth2/clients/$client->{client_id}", undef, %mine))[1]{redirect_uris}[0], 'https://app.example/cb', 'and reads what it registered');
is_error([$public->get("/oauth2/clients/$client->{client_id}", undef, Authorization => 'Bearer x')], 401, 'invalid_token', 'with its own token only');
is_error([$public->get("/oauth2/clients/$client->{client_id}")], 401, 'invalid_token', 'not without');
is_error([$public->get("/oauth2/clients/$app->{id}", undef, %mine)], 403, 'invalid_token', 'and not others');
is(($public->put("/oauth2/clients/$client->{client_id}", {redirect_uris => ['com.example.app://cb'], token_endpoint_auth_method => 'none'}, %mine))[0], 200, 'it becomes a public client');
%ask = (%ask, client_id => $client->{client_id});
($status, $body) = form('/oauth2/tokens', {grant_type => 'authorization_code', client_id => $client->{client_id}, code => code(), code_verifier => $verifier});
is($status, 200, 'which needs PKCE and no secret') or diag explain $body;
is(($public->delete("/oauth2/clients/$client->{client_id}", undef, %mine))[0], 204, 'and leaves');
is(($api->get('/api/v2/users/me', undef, Authorization => "Bearer $body->{access_token}"))[0], 401, 'with its tokens');

is(($owner->delete($apps))[0], 204, 'an application is deleted');
is($server->sql('SELECT count(*) FROM coder.oauth2_provider_app_codes') + $server->sql(q(SELECT count(*) FROM coder.api_keys WHERE login_type = 'oauth2_provider_app')), 0,
	'nothing of it is left');
done_testing();
