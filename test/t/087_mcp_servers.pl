# The configuration of MCP servers: who sees what, and what bad input gets.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use JSON::PP ();
use Test::More;

my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $path = '/api/experimental/mcp/servers';
my %base = (display_name => ' Tracker ', slug => 'tracker', transport => 'streamable_http', url => 'https://mcp.example/mcp', auth_type => 'none', availability => 'default_on');

my ($status, $made) = $owner->post($path, { %base, enabled => JSON::PP::true, tool_deny_list => ['drop'] });
is($status, 201, "a server") or diag $server->log;
is_deeply([@$made{qw(display_name slug url has_api_key has_custom_headers tool_deny_list)}, $made->{auth_connected} ? 1 : 0],
	['Tracker', 'tracker', 'https://mcp.example/mcp', JSON::PP::false(), JSON::PP::false(), ['drop'], 1], 'as it was given');
sub refused
{
	my ($status, $message, %more) = @_;
	my ($got, $body) = $owner->post($path, { %base, slug => 'other', %more });
	is("$got $body->{message}", "$status $message", $message);
}
refused(409, 'MCP server config already exists.', slug => 'tracker');
refused(400, 'Invalid MCP server config.', transport => 'pigeon');
refused(400, 'API key auth type requires api_key_header and api_key_value.', auth_type => 'api_key', api_key_header => 'X-Key');
refused(400, 'Custom headers auth type requires at least one custom header.', auth_type => 'custom_headers');
is(($owner->post($path, { %base, slug => 'o', auth_type => 'oauth2', oauth2_client_id => 'x' }))[0], 400, 'a part of OAuth2 is not enough');

my $patched;
($status, $patched) = $owner->patch("$path/$made->{id}", { auth_type => 'custom_headers', custom_headers => { 'X-A' => 'secret-1' } });
is("$status $patched->{has_custom_headers}", '200 1', 'headers are kept');
unlike(JSON::PP::encode_json($patched), qr/secret-1/, 'and not shown');
($status, $patched) = $owner->patch("$path/$made->{id}", { auth_type => 'none' });
ok(!$patched->{has_custom_headers}, 'another way of signing in drops them');
is(scalar @{ $owner->get($path) }, 1, 'the list');
is(($owner->request("GET", "$path/nonsense"))[1]{message}, "Invalid MCP server config ID.", "a bad id");
is(($owner->request('DELETE', "$path/$made->{id}"))[0], 204, 'deleted');
is(($owner->request('GET', "$path/$made->{id}"))[0], 404, 'and gone');
done_testing();
