# The edge: cookies, CSRF, headers and CORS as set up; limits count a user or an address wherever the requests come in, and
# made-up tokens are no way around; who signs in in vain learns nothing; SCIM's key.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use JSON::PP ();
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_API_RATE_LIMIT => 60, CODER_SCIM_AUTH_HEADER => 's3cret', CODER_STRICT_TRANSPORT_SECURITY => 60,
	CODER_STRICT_TRANSPORT_SECURITY_OPTIONS => 'includeSubDomains,preload', CODER_ADDITIONAL_CSP_POLICY => 'worker-src blob:' });
my $owner = $gateway->first_user;
my $org = $gateway->sql('SELECT id FROM coder.organizations');
my $database = "host=$gateway->{dir}/config/postgres/run port=5432 user=coder dbname=coder";
my $anonymous = $gateway->client;

# A user and tokens, made by SQL so that no limit is touched.
sub token
{
	my ($name) = @_;
	my $id = $gateway->sql("INSERT INTO coder.users (email, username, status) VALUES ('$name\@example.com', '$name', 'active') ON CONFLICT DO NOTHING RETURNING id")
	  || $gateway->sql("SELECT id FROM coder.users WHERE username = '$name'");
	$gateway->sql("INSERT INTO coder.organization_members (user_id, organization_id) VALUES ('$id', '$org') ON CONFLICT DO NOTHING");
	return $gateway->sql("SELECT coder.api_key_create('$id', 'password', 3600)");
}

# Headers of pages and of the API.
my ($status, $body, $h) = $anonymous->get('/nowhere');
SKIP: {
	skip 'the web pages are not built', 9 if $status == 404;
	is($h->{'strict-transport-security'}, 'max-age=60; includeSubDomains; preload', 'HSTS as set up');
	like($h->{'content-security-policy'}, qr{connect-src 'self' ws://127\.0\.0\.1:$gateway->{port} wss://127\.0\.0\.1:$gateway->{port}; worker-src blob:$}, 'pages connect to their own host');
	is($h->{'referrer-policy'}, 'no-referrer', 'no referrer leaves');
	(undef, undef, $h) = $anonymous->get('/nowhere', undef, Host => "evil.example'; script-src *");
	unlike($h->{'content-security-policy'}, qr/evil/, 'a malformed host is not repeated');
	for ('/agents', '/agents/x', '/agents/x/embedded', '/agents//embed', '/agents/x/embed')
	{
		(undef, undef, $h) = $anonymous->get($_);
		my $framed = m{x/embed\z};
		is($h->{'content-security-policy'} =~ /frame-ancestors 'none'/ ? 1 : 0, $framed ? 0 : 1, $framed ? 'an editor may frame a chat' : "nobody frames $_");
	}
}
($status, $body, $h) = $anonymous->get('/api/v2/buildinfo');
is($h->{'x-content-type-options'}, 'nosniff', 'types are not guessed');
my @vary = ref $h->{vary} ? @{ $h->{vary} } : split /, */, $h->{vary};
is_deeply([sort @vary], ['Cookie', 'Origin'], 'answers vary');
ok(!exists $h->{'access-control-allow-origin'}, 'no other origin reads them');

# CSRF: what a browser sends by itself changes nothing, by whichever path.
my $bob = token('bob');
token('derp');
my $cookie = "coder_session_token=$bob";
is(($anonymous->request(@$_[0, 1], {}, Cookie => $cookie))[0], 400, "a cookie alone: $_->[0] $_->[1]") for
	['POST', '/api/v2/users/me/keys'], ['PUT', '/api/v2/users/derp/profile'], ['DELETE', '/api/v2/users/me/keys/tokens'], ['PATCH', '/api/v2/users/first-of-all/profile'],
	['PUT', '/api/v2/users/me/appearance?x=/api/v2/csp/reports'], ['POST', '/api/v2/organizations/x/members/provisionerdaemons'], ['POST', '//api//v2/users/me/keys'];
($status, $body) = $anonymous->post('/api/v2/users/me/keys', {}, Cookie => $cookie, 'Coder-Session-Token' => 'abcdefghij-0123456789012345678901');
like("$status $body", qr/^400 CSRF error encountered.*values do not match/, 'another token in the header');
is(($anonymous->post('/api/v2/users/me/keys', undef, Cookie => $cookie, Authorization => "Bearer $bob"))[0], 201, 'a bearer is no browser');
is(($anonymous->post("/api/v2/users/me/keys?coder_session_token=$bob", undef, Cookie => $cookie))[0], 201, 'nor is the token in the query');

# CORS
($status, undef, $h) = $anonymous->request('OPTIONS', '/api/v2/users/me', undef, Origin => 'https://evil.example', 'Access-Control-Request-Method' => 'GET');
is($status . ($h->{'access-control-allow-origin'} // ''), '200', 'a preflight allows nothing');
($status, undef, $h) = $anonymous->request('OPTIONS', '/oauth2/tokens', undef, Origin => 'https://app.example', 'Access-Control-Request-Method' => 'POST');
is($h->{'access-control-allow-origin'} . ' ' . $h->{'access-control-max-age'}, '* 86400', 'but for OAuth2');

# SCIM's key is no session, and the database holds only its digest.
is(($anonymous->get('/scim/v2/Users', undef, Authorization => $_->[0]))[0], $_->[1], "SCIM with \"$_->[0]\"") for ['Bearer s3cret', 200], ['Bearer s3cre', 401], ["Bearer $bob", 401], ['', 401];
($status, $body) = $anonymous->post('/scim/v2/Users', { userName => 'sc', emails => [{ value => 'sc@example.com' }] }, Authorization => 'Bearer s3cret');
is("$status $body->{userName}", '201 sc', 'makes users');
is($gateway->sql(q{SELECT count(*) FROM coder.settings WHERE value LIKE '%s3cret%'}), 0, 'the key is not stored');

# Limits.  A second gateway serves the same database.
my $second = Coder::Gateway->start(dir => "$gateway->{dir}/second", env => { CODER_PG_CONNECTION_URL => $database, CODER_API_RATE_LIMIT => 60 }) if mkdir "$gateway->{dir}/second";

# A minute that begins between the requests halves nothing: the window slides.  Answers by status.
sub ask { my ($on, $n, $path, $token, @more) = @_; my %seen; my $c = $on->client($token); $seen{ ($c->get($path, undef, @more))[0] }++ for 1 .. $n; return \%seen }

my @carol = map { token('carol') } 1 .. 2;
ask($gateway, 1, '/api/v2/users/me', $_) for @carol;
is(ask($gateway, 58, '/api/v2/users/me', $carol[0])->{200}, 58, 'a user asks');
ok($gateway->wait_for(10, sub { ask($second, 1, '/api/v2/users/me', $carol[0])->{429} }), 'and is limited at another gateway, too')
	or diag $gateway->sql('SELECT who, minute, source, count FROM coder.rate_counts');
ok($gateway->wait_for(10, sub { ask($gateway, 1, '/api/v2/users/me', $carol[1])->{429} }), 'with another token, too');
is(ask($gateway, 1, '/api/v2/users/me/organizations', $carol[1])->{200}, 1, 'another path is another count');
is(ask($gateway, 1, '/api/v2/users/me', token('dave'))->{200}, 1, 'and so is another user');
is((ask($gateway, 1, '/api/v2/users/me', $carol[1], 'X-Coder-Bypass-Ratelimit' => 'true'))->{428}, 1, 'who is no owner does not turn it off');
is((ask($gateway, 80, '/api/v2/users/me', $gateway->{token}, 'X-Coder-Bypass-Ratelimit' => 'true'))->{200}, 80, 'an owner does');
my %made;
for my $i (1 .. 80) { $made{ ($gateway->client(sprintf 'made%06d-%s', $i, 'x' x 22)->get('/api/v2/users/me/preferences'))[0] }++ }
ok($made{401} <= 60 && $made{429} >= 20, 'made-up tokens count as their address') or diag join ' ', %made;
is(ask($gateway, 1, '/api/v2/users/me/preferences', token('erin'))->{429} // 0, 1, 'a token that nobody has used yet does as well');
is(ask($gateway, 1, '/api/v2/users/me/preferences', $carol[1])->{200}, 1, 'one that is somebody\'s does not');

sub sign_in { my ($on, $n) = @_; my %seen; $seen{ ($on->client->post('/api/v2/users/login', { email => 'bob@example.com', password => "guess$_" }))[0] }++ for 1 .. $n; return \%seen }
is(sign_in($gateway, 40)->{401}, 40, 'guesses');
my %elsewhere = (401 => 0, 429 => 0);
$gateway->wait_for(20, sub { my $s = sign_in($second, 2); $elsewhere{$_} += $s->{$_} // 0 for 401, 429; $elsewhere{429} });
ok($elsewhere{429} && $elsewhere{401} <= 45, 'are counted over all gateways') or diag join ' ', %elsewhere;
is($gateway->sql(q{SELECT count(*) > 40 FROM coder.audit_logs WHERE action = 'login' AND status_code = 401}), 't', 'and audited');
$second->stop;

# Behind a proxy the client is who the proxy says it is; whoever else says so is not believed.
sub address_of { my ($on, @headers) = @_; $on->client->post('/api/v2/users/login', { email => 'who@example.com', password => 'x' }, @headers);
	return $gateway->sql("SELECT host(ip) FROM coder.audit_logs WHERE action = 'login' ORDER BY time DESC LIMIT 1") }
my %behind = (CODER_PG_CONNECTION_URL => $database, CODER_PROXY_TRUSTED_HEADERS => 'X-Real-Ip,X-Forwarded-For');
my $proxied = Coder::Gateway->start(dir => "$gateway->{dir}/proxied", env => { %behind, CODER_PROXY_TRUSTED_ORIGINS => '127.0.0.0/8,10.0.0.0/8' }) if mkdir "$gateway->{dir}/proxied";
is(address_of($proxied, @$_[1 .. $#$_]), $_->[0], "behind a proxy: @$_[1 .. $#$_]") for ['127.0.0.1'], ['198.51.100.7', 'X-Forwarded-For' => '198.51.100.7'],
	['198.51.100.7', 'X-Forwarded-For' => '6.6.6.6, 198.51.100.7, 10.1.2.3'], ['203.0.113.9', 'X-Real-Ip' => '203.0.113.9', 'X-Forwarded-For' => '6.6.6.6'],
	['2001:db8::5', 'X-Forwarded-For' => '[2001:db8::5]:1234'], ['127.0.0.1', 'X-Forwarded-For' => 'unknown'], ['198.51.100.8', 'X-Real-Ip' => 'nonsense', 'X-Forwarded-For' => '198.51.100.8'];
my %network;
$network{ ($proxied->client->post('/api/v2/users/otp/request', {}, 'X-Forwarded-For' => sprintf '2001:db8:7:7::%x', $_))[0] }++ for 1 .. 70;
ok($network{400} <= 60 && $network{429} >= 10, 'addresses of one IPv6 network count together') or diag join ' ', %network;
is(($proxied->client->post('/api/v2/users/otp/request', {}, 'X-Forwarded-For' => '2001:db8:7:8::1'))[0], 400, 'another network does not');
$proxied->stop;
my $elsewhere = Coder::Gateway->start(dir => "$gateway->{dir}/elsewhere", env => { %behind, CODER_PROXY_TRUSTED_ORIGINS => '10.0.0.0/8' }) if mkdir "$gateway->{dir}/elsewhere";
is(address_of($elsewhere, 'X-Forwarded-For' => '6.6.6.6'), '127.0.0.1', 'a client\'s own word does not count');
$elsewhere->stop;

# Cookies with a prefix, for other sites.
my $third = Coder::Gateway->start(dir => "$gateway->{dir}/third", env => { CODER_PG_CONNECTION_URL => $database, CODER_HOST_PREFIX_COOKIE => 1, CODER_SAMESITE_AUTH_COOKIE => 'none' })
	if mkdir "$gateway->{dir}/third";
($status, $body, $h) = $third->client->post('/api/v2/users/login', { email => 'admin@example.com', password => 'SomeSecurePassword!' });
my @set = ref $h->{'set-cookie'} ? @{ $h->{'set-cookie'} } : $h->{'set-cookie'};
like(join("\n", sort @set), qr/^__Host-coder_session_token=[^;]+; Path=\/; Max-Age=31536000; HttpOnly; Secure; SameSite=None\n__Host-csrf_token=[^;]+; Path=\/; HttpOnly; SameSite=None; Secure$/,
	'both cookies are kept to this host');
is(($third->client->get('/api/v2/users/me', undef, Cookie => "__Host-coder_session_token=$body->{session_token}"))[0], 200, 'one is read');
($status, undef, $h) = $third->client->get('/api/v2/users/me', undef, Cookie => "coder_session_token=$body->{session_token}");
@set = ref $h->{'set-cookie'} ? @{ $h->{'set-cookie'} } : $h->{'set-cookie'};
is($status, 401, 'one without the prefix is not');
ok((grep { $_ eq 'coder_session_token=; Path=/; Max-Age=0; HttpOnly' } @set), 'and is to be dropped');
$third->stop;

done_testing;
