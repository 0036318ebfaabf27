# Signing in to MCP servers: metadata and registration, PKCE and state, tokens a user, refreshed once, revoked; and what hostile servers get.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::McpServer;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);

my $mcp = Coder::McpServer->start;
my $key = encode_base64('k' x 32, '');
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS => $key });
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $server->first_user;
my $path = '/api/experimental/mcp/servers';
my %base = (display_name => 'Tracker', transport => 'streamable_http', url => $mcp->url . '/mcp', auth_type => 'oauth2', availability => 'default_on', enabled => JSON::PP::true);
my $n = 0;

sub add { my (%more) = @_; return $owner->post($path, { %base, slug => 's' . ++$n, %more }) }
sub browser
{
	my $browser = Coder::Browser->new(url => $server->url);
	$browser->{cookies}{ $server->url }{coder_session_token} = $owner->{token};
	return $browser;
}

# discovery
$mcp->mode(oauth => 1);
my ($status, $made) = add();
is($status, 201, 'a server whose metadata say all') or diag explain $made;
is_deeply([@$made{qw(oauth2_client_id oauth2_auth_url oauth2_token_url oauth2_scopes)}], ['client-1', $mcp->url . '/authorize', $mcp->url . '/token', 'read write'], 'is set up by them');
ok(!$made->{auth_connected}, 'nobody has signed in yet');
my ($registration) = grep { $_->{path} eq '/register' } $mcp->requests;
my $asked = JSON::PP::decode_json($registration->{body});
is_deeply($asked->{redirect_uris}, [ $server->url . "$path/$made->{id}/oauth2/callback" ], 'registered with its own callback');
is($asked->{token_endpoint_auth_method}, 'none', 'as a public client');

sub fails
{
	my ($why, $what, %mode) = @_;
	$mcp->mode(oauth => 1, %mode);
	my $began = time;
	my ($status, $body) = add(transport => $mode{transport} // 'streamable_http');
	is($status, 400, $what) or diag explain $body;
	like($body->{message} . $body->{detail}, qr/^OAuth2 auto-discovery failed\..*$why/s, '... and why');
	cmp_ok(time - $began, '<', 15, '... soon');
}
fails('another authorization server', 'metadata of somebody else', discovery => { issuer => 'https://evil.example' });
fails('no usable', 'an endpoint that is no web address', discovery => { token_endpoint => 'file:///etc/passwd' });
fails('no usable', 'a script for the browser', discovery => { authorization_endpoint => 'javascript:alert(1)' });
fails('no usable', 'an address with a user in it', discovery => { token_endpoint => 'http://127.0.0.1@10.0.0.1/token' });
fails('PKCE', 'no PKCE', discovery => { code_challenge_methods_supported => ['plain'] });
fails('does not register', 'no registration', discovery => { registration_endpoint => undef });
fails('did not register', 'a registration elsewhere in a private network', discovery => { registration_endpoint => 'http://10.255.255.1/register' });
fails('did not register', 'a client id that is none', client => { client_id => "a\nb" });
fails('has no metadata', 'an authorization server in a private network', resource => { authorization_servers => ['http://localhost:' . $mcp->{port}] });
fails('has no metadata', 'a redirect is not followed', redirect => '/.well-known/oauth-authorization-server');
fails('has no metadata', 'metadata without end', huge => '/.well-known/oauth-authorization-server');
fails('has no metadata', 'nobody answers', no_issuer => 1, hang => '/.well-known/oauth-protected-resource/mcp');
is(scalar @{ $owner->get($path) }, 1, 'none of them was kept');
$mcp->mode(oauth => 1, no_resource => 1);
is((add())[0], 201, 'a server of before RFC 9728');
$mcp->mode(oauth => 1, no_resource => 1, named => $mcp->url . '/elsewhere');
is((add())[0], 201, 'metadata at a place that only the server names');
$mcp->mode(oauth => 1, named => $mcp->url . '/elsewhere', resource => { resource => 'https://other.example/mcp' });
is((add())[0], 201, 'metadata of another resource do not count');
is((add(slug => 's1'))[0], 409, 'a slug that is taken');
is((add(transport => 'pigeon'))[0], 400, 'what is wrong is said at once');

# connect
$mcp->mode(oauth => 1);
my $at = "$path/$made->{id}/oauth2";
my $browser = browser();
my (undef, undef, $headers) = $browser->get("$at/connect");
my ($back) = ($browser->get($headers->{location}))[2]{location};
my $form = Coder::HttpDouble::form($headers->{location} =~ s/^[^?]*\?//r);
is_deeply([@$form{qw(client_id response_type scope code_challenge_method resource redirect_uri)}],
	['client-1', 'code', 'read write', 'S256', $mcp->url . '/mcp', $server->url . "$at/callback"], 'the browser is sent there with the right questions');
my @set = ref $headers->{'set-cookie'} ? @{ $headers->{'set-cookie'} } : $headers->{'set-cookie'};
is(scalar(grep { m{^mcp_oauth2_(state|verifier)_$made->{id}=\S+; Path=\Q$at\E/callback; Max-Age=600; HttpOnly; SameSite=Lax} } @set), 2, 'state and verifier are in cookies of the callback') or diag explain \@set;

sub message { my ($who, $query) = @_; return ($who->get("$at/callback?$query"))[1]{message} // '' }
is(message($browser, 'error=access_denied&error_description=no'), 'OAuth2 provider returned an error.', 'the provider says no');
is(message($browser, 'state=x'), 'Missing authorization code.', 'no code');
is(message($browser, 'code=x&state=wrong'), 'Invalid or missing OAuth2 state parameter.', 'another state');
is(message(browser(), $back =~ s/^[^?]*\?//r), 'Invalid or missing OAuth2 state parameter.', 'in another browser');
is((Coder::Browser->new(url => $server->url)->get($back))[0], 401, 'nobody who is not signed in');
$mcp->mode(oauth => 1, token => { access_token => "at-\r\nX-Evil: 1" });
($status, my $body) = $browser->get($back);
is("$status $body->{message}", '502 Failed to exchange authorization code for token.', 'a token that is none') or diag explain $body;
$mcp->mode(oauth => 1, fail => '/token');
(undef, undef, $headers) = $browser->get("$at/connect");
($back) = ($browser->get($headers->{location}))[2]{location};
($status, $body) = $browser->get($back);
is($status, 502, 'a token endpoint that fails');
is(($browser->get($back))[0], 400, 'its state is used up');

sub connect_user
{
	my (undef, undef, $headers) = $browser->get("$at/connect");
	my ($back) = ($browser->get($headers->{location}))[2]{location};
	return $browser->get($back);
}
$mcp->mode(oauth => 1);
($status, $body, $headers) = connect_user();
is($status, 200, 'signed in') or diag explain $body;
like($body, qr/postMessage\(\{type:"mcp-oauth2-complete",serverID:"$made->{id}"\},"\Q@{[$server->url]}\E"\)/, 'the page tells the one that opened it');
like($headers->{'content-security-policy'}, qr/default-src 'none'; script-src 'sha256-/, 'and runs nothing else');
ok($owner->get("$path/$made->{id}")->{auth_connected}, 'connected');
unlike($server->sql('SELECT access_token || refresh_token FROM coder.mcp_server_user_tokens'), qr/at-first|rt-first/, 'the tokens are sealed');
unlike($server->log, qr/at-first|rt-first/, 'and in no log');

# another user has none of it
$owner->post('/api/v2/users', { username => 'bob', email => 'bob@example.com', password => 'SomeSecurePassword!', organization_ids => [ $server->sql('SELECT id FROM coder.organizations') ] });
my $bob = $server->login('bob@example.com', 'SomeSecurePassword!');
is(($bob->get("$path/$made->{id}"))[1]{auth_connected}, JSON::PP::false(), 'another user is not');
is(($bob->get("$path/$made->{id}"))[1]{url}, '', 'nor told where it is');

# refreshing
sub expire { $server->sql("UPDATE coder.mcp_server_user_tokens SET expiry = now() - interval '1 minute'") }
expire();
$mcp->mode(oauth => 1, slow_token => 0.6);
my @clients;
for (1 .. 6)
{
	pipe my $in, my $out or die $!;
	my $pid = fork // die $!;
	if ($pid == 0) { my $got = eval { $owner->get("$path/$made->{id}")->{auth_connected} }; syswrite $out, $got ? 'yes' : 'no'; POSIX::_exit(0) }
	close $out;
	push @clients, [ $pid, $in ];
}
my @got = map { my ($pid, $in) = @$_; sysread $in, my $text, 10; waitpid $pid, 0; $text } @clients;
is_deeply(\@got, [ ('yes') x 6 ], 'six at once are all connected');
is($mcp->count('refresh'), 1, 'by one refresh');
expire();
$mcp->mode(oauth => 1, fail => '/token');
ok(!$owner->get("$path/$made->{id}")->{auth_connected}, 'a refresh that gets no answer');
$mcp->mode(oauth => 1);
ok((grep { $_->{id} eq $made->{id} } @{ $owner->get($path) })[0]{auth_connected}, 'is tried again');
expire();
$mcp->mode(oauth => 1, refuse => 1);
ok(!$owner->get("$path/$made->{id}")->{auth_connected}, 'one that is refused');
my $before = $mcp->count('refresh');
ok(!$owner->get("$path/$made->{id}")->{auth_connected}, 'is not');
is($mcp->count('refresh'), $before, 'asked for again');

# away
$mcp->mode(oauth => 1);
connect_user();
is(($owner->request('DELETE', "$at/disconnect"))[0], 204, 'disconnected');
is($mcp->count('revoked'), 2, 'and told so: both tokens');
ok(!$owner->get("$path/$made->{id}")->{auth_connected}, 'it is');
is(($owner->request('DELETE', "$at/disconnect"))[0], 204, 'twice is no error');
is(($owner->request('DELETE', "$path/nonsense/oauth2/disconnect"))[1]{message}, 'Invalid MCP server config ID.', 'an id that is none');

# an administrator's address counts as it is, also where metadata might not name it
$owner->patch("$path/$made->{id}", { oauth2_token_url => "http://localhost:$mcp->{port}/token" });
is((connect_user())[0], 200, 'a token endpoint that an administrator has set');
$owner->patch("$path/$made->{id}", { display_name => 'Renamed' });
ok($owner->get("$path/$made->{id}")->{auth_connected}, 'a change of its name signs nobody out');
$owner->patch("$path/$made->{id}", { url => "http://localhost:$mcp->{port}/mcp" });
ok(!$owner->get("$path/$made->{id}")->{auth_connected}, 'another address does: no token goes to another server');
is($server->sql('SELECT count(*) FROM coder.mcp_server_user_tokens'), 0, 'it is gone');

# by hand, with a client's secret that is wanted in a header
($status, my $manual) = add(oauth2_client_id => 'me:1', oauth2_client_secret => 'hush', oauth2_auth_url => $mcp->url . '/authorize', oauth2_token_url => $mcp->url . '/token', oauth2_scopes => ' a  b ');
is("$status $manual->{has_oauth2_secret}", '201 1', 'a server set up by hand');
$at = "$path/$manual->{id}/oauth2";
$mcp->mode(basic => 'me%3A1:hush');
is((connect_user())[0], 200, 'the secret goes where the server wants it') or diag explain [ map { $_->{path} } $mcp->requests ];
$owner->patch("$path/$manual->{id}", { enabled => JSON::PP::false });
is(($browser->get("$at/connect"))[1]{message}, 'MCP server is not enabled.', 'a server that is off');
$owner->patch("$path/$manual->{id}", { enabled => JSON::PP::true, auth_type => 'none' });
is(($browser->get("$at/connect"))[1]{message}, 'MCP server does not use OAuth2 authentication.', 'one without OAuth');
$owner->patch("$path/$manual->{id}", { auth_type => 'oauth2' });
is(($browser->get("$at/connect"))[1]{message}, 'MCP server OAuth2 authorization URL is not configured.', 'one that is not set up');
done_testing();
