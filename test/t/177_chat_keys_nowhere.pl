# Keys of models and MCP servers are where they are kept and sent, and nowhere else: not in logs, whatever fails (broken requests,
# constraints, time-outs, providers that repeat the key, servers that are killed), events, messages, errors, debug runs, audit,
# statistics, telemetry, metrics, or the support bundle.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use Coder::Processes;
use Coder::Provisioning ();
use File::Find ();
use IO::Socket::INET;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep);

my $json = JSON::PP->new->utf8->canonical;
my $chats = '/api/experimental/chats';
my $servers = '/api/experimental/mcp/servers';
my $mark = 'cAnArY4711';
my $like = "LIKE '%cAnArY' || '4711%'";	# not itself a key in a log
my $marked = join '|', $mark, unpack('H*', $mark);	# the gateway's requests are bytes
my $n = 0;
sub key { return "sk-$mark-" . ++$n . '-' . $_[0] }

my $model = Coder::Model->start;
# Who repeats all that it was told, as some do where they refuse it.
my $echo = Coder::HttpDouble->start(sub { my ($request) = @_; return (401, { 'Content-Type' => 'application/json', 'WWW-Authenticate' => "Bearer error=\"" . ($request->{headers}{authorization} // '') . "\"" }, $json->encode({ error => { message => 'refused: ' . $json->encode($request->{headers}) } })) });
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => '127.0.0.1:' . Coder::Gateway::free_port(), CODER_VERBOSE => 'true' });
$server->sql("ALTER SYSTEM SET $_") for "shared_preload_libraries = 'coder', 'pg_stat_statements'", "log_min_duration_statement = 0", "log_min_messages = 'info'";
my $owner = $server->first_user;
$server->restart;
$server->sql('CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
$owner = $server->client($server->{token});
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my ($root) = $model->url =~ m{^(.*)/v1$};
$owner->put("$chats/config/debug-logging", { allow_users => JSON::PP::true });
$owner->put("$chats/config/user-debug-logging", { debug_logging_enabled => JSON::PP::true });

# Requests that are wrong ------------------------------------------------------------------

my %is_json = ('Content-Type' => 'application/json');
sub raw { my ($method, $path, $body) = @_; return ($owner->request($method, $path, $body, %is_json))[0] }
my %bad = (
	'broken behind the key' => '{"provider": "openai", "api_key": "' . key('a') . '", broken',
	'broken in the key' => '{"provider": "openai", "api_key": "' . key('b'),
	'a control character' => '{"provider": "openai", "api_key": "' . key('c') . "\x01\"}",
	'U+0000' => '{"provider": "openai", "api_key": "' . key('d') . '\u0000"}',
	'half a surrogate' => '{"provider": "openai", "api_key": "' . key('e') . '\ud800"}',
	'no UTF-8' => '{"provider": "openai", "api_key": "' . key('f') . "\xff\xfe\"}",
	'a member twice' => '{"provider": "openai", "api_key": "' . key('g') . '", "api_key": 7}',
	'a list of keys' => '{"provider": "openai", "api_key": ["' . key('h') . '"]}',
	'an unknown provider' => '{"provider": "' . key('i') . '", "api_key": "' . key('i') . '"}',
	'no address' => '{"provider": "openai", "api_key": "' . key('j') . '", "base_url": "' . key('j') . '"}',
	'no name' => '{"provider": "openai", "api_key": "' . key('k') . '", "display_name": 1}',
	'a policy of nobody' => '{"provider": "openai", "api_key": "' . key('l') . '", "central_api_key_enabled": false}',
	'a key that is too long' => $json->encode({ provider => 'openai', api_key => key('m') x 1000 }));
like(raw(POST => "$chats/providers", $bad{$_}), qr/^4\d\d$/, "a provider: $_") for sort keys %bad;
like(raw(POST => $servers, $json->encode({ display_name => 'x', slug => 'x', transport => 'none', url => 'http://127.0.0.1:1/', auth_type => 'api_key', api_key_header => 'X-Key', api_key_value => key('n') })), qr/^4\d\d$/, 'an MCP server of no kind');
like(raw(POST => $servers, $json->encode({ display_name => 'x', slug => 'x y', transport => 'sse', url => 'http://127.0.0.1:1/', auth_type => 'custom_headers', custom_headers => { 'Bad Header' => key('o') } })), qr/^4\d\d$/, 'a header that is none');

my %address = ('openai-compat' => $model->url, openai => "$root/v1", anthropic => $root, google => $root, openrouter => $model->url);
my %name = (openai => 'gpt-5', anthropic => 'claude-test', google => 'gemini-test');
my (%provider, %config);
for my $provider (sort keys %address)
{
	$provider{$provider} = ($owner->post("$chats/providers", { provider => $provider, api_key => key($provider), base_url => $address{$provider}, allow_user_api_key => JSON::PP::true, allow_central_api_key_fallback => JSON::PP::true }))[1]{id};
	$config{$provider} = ($owner->post("$chats/model-configs", { provider => $provider, model => $name{$provider} // 'm', context_limit => 100000 }))[1]{id};
}
is(($owner->post("$chats/providers", { provider => 'openai', api_key => key('twice') }))[0], 409, 'a provider that there is');
is(($owner->patch("$chats/providers/$provider{openai}", { api_key => key('never'), central_api_key_enabled => JSON::PP::false, allow_user_api_key => JSON::PP::false }))[0], 400, 'a change against the rules');
is(($owner->put("$chats/user-provider-configs/$provider{openrouter}", { api_key => key('own') }))[0], 200, 'a user has a key');
like(raw(PUT => "$chats/user-provider-configs/$provider{openrouter}", '{"api_key": "' . key('p') . '\u0000"}'), qr/^4\d\d$/, 'and a bad one');

# A request that its time-out ends, and one whose backend is killed: the database's log tells of both.
{
	my $locker = fork // die;
	if (!$locker) { eval { $server->sql('BEGIN; LOCK coder.chat_providers; SELECT pg_sleep(4)') }; POSIX::_exit(0) }
	$server->wait_for(5, sub { $server->sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'coder.chat_providers'::regclass AND granted") });
	is(($owner->patch("$chats/providers/$provider{openai}", { api_key => key('late') }))[0], 504, 'one comes too late');
	waitpid $locker, 0;
	$? = 0;
}

# Failures of providers, who repeat the key -------------------------------------------------------

my @ids;
sub chat { my ($text, %more) = @_; my $id = ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => $text }], %more }))[1]{id}; push @ids, $id; return $id }
for my $provider (sort keys %config)
{
	chat($_, model_config_id => $config{$provider}) for "once:503 leak a", 'fail:400 leak', 'fail:401 leak', 'fail:429 leak', 'tool:nothing {"a": 1}', 'cut a', 'html', 'a b';
}
my $echoed = ($owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'echo', context_limit => 8000 }))[1]{id};
my ($status, $mcp) = $owner->post($servers, { display_name => 'Echo', slug => 'echo', transport => 'streamable_http', url => $echo->url . '/mcp', auth_type => 'api_key', api_key_header => 'Authorization', api_key_value => 'Bearer ' . key('mcp'), availability => 'default_on', enabled => JSON::PP::true });
is($status, 201, 'an MCP server that repeats what it hears') or diag explain $mcp;
my (undef, $other) = $owner->post($servers, { display_name => 'Other', slug => 'other', transport => 'sse', url => $echo->url . '/sse', auth_type => 'custom_headers', custom_headers => { 'X-Own' => key('custom') }, availability => 'default_on', enabled => JSON::PP::true });
chat('tool:echo__echo {"text": "x"}', mcp_server_ids => [$mcp->{id}, $other->{id}], model_config_id => $config{'openai-compat'});
# a key that cannot be a header
$owner->patch("$chats/providers/$provider{anthropic}", { api_key => key("two\r\nX-Evil: 1") });
chat('a', model_config_id => $config{anthropic});
my $open = join ',', map { "'$_'" } @ids;
$server->wait_for(12, sub { $server->sql("SELECT count(*) FROM coder.chats WHERE id IN ($open) AND status NOT IN ('waiting', 'error')") == 5 });
$owner->post("$chats/$_/interrupt") for @ids;
# who repeats it is a provider
$owner->patch("$chats/providers/$provider{'openai-compat'}", { base_url => $echo->url });
my $id = chat('a', model_config_id => $echoed);
$server->wait_for(10, sub { $owner->get("$chats/$id")->{status} eq 'error' });
is($owner->get("$chats/$id")->{status}, 'error', 'who repeats the key has failed');
$owner->post("$chats/$id/title/regenerate");

# Somebody dies ----------------------------------------------------------------------------------

for my $who (qr/chat-runner/, qr/^postgres: coder coder/)
{
	my ($pid) = Coder::Processes::find($$, $who);
	kill KILL => $pid;
	$server->wait_for(20, sub { Coder::Processes::state($pid) eq '' && ($owner->get('/api/v2/users/me'))[0] == 200 });
}

# Where they could be ----------------------------------------------------------------------------

ok($server->sql("SELECT count(*) FROM coder.chat_providers WHERE api_key $like") >= 4, 'keys are where they are kept');
my %kept = map { $_ => 1 } qw(chat_providers user_chat_provider_keys mcp_server_configs);
for my $table (split /\n/, $server->sql("SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'm') ORDER BY 1"))
{
	next if $kept{$table};
	my $found = $server->sql("SELECT count(*) FROM coder.$table x WHERE x::text $like");
	is($found, 0, "coder.$table") or diag $server->sql("SELECT x::text FROM coder.$table x WHERE x::text $like LIMIT 1");
}
is($server->sql("SELECT count(*) FROM $_ s WHERE s::text $like AND s::text NOT LIKE '%pg_stat%'"), 0, $_) for qw(pg_stat_statements pg_stat_activity pg_prepared_statements);
is($server->sql("SELECT coder.telemetry_snapshot()::text $like"), 'f', 'telemetry');
is($server->sql('SELECT count(*) FROM coder.chat_debug_steps') > 20, 1, 'debug runs were written');
my @found;
File::Find::find({ no_chdir => 1, wanted => sub {
	$File::Find::prune = 1 if m{/data/(?:base|global|pg_wal|pg_stat|pg_stat_tmp)$};
	return unless -f && -s;
	open my $in, '<', $_ or return;
	local $/;
	push @found, $_ . ': ' . substr($&, 0, 300) if (<$in> // '') =~ /.{0,200}(?:$marked).{0,100}/s;
} }, $server->{dir});
is("@found", '', 'no file of the server, least of all a log');
@found = ();
ok(-s $server->{log_file}, 'there is a log');
like($server->log, qr/canceling statement|statement timeout|terminated by signal 9/, 'with the failures in it');

for my $path ('/api/v2/audit?limit=100', "$chats/providers", "$chats/model-configs", "$chats/models", "$chats/user-provider-configs", $servers, $chats, "$chats/cost/me/summary", '/api/v2/deployment/config', '/api/v2/debug/health',
	(map { my $id = $_; ("$chats/$id", "$chats/$id/messages", "$chats/$id/debug/runs", map { "$chats/$id/debug/runs/$_->{id}" } @{ $owner->get("$chats/$id/debug/runs") }) } @ids))
{
	my ($status, $body) = $owner->get($path);
	my $text = ref $body ? $json->encode($body) : $body // '';
	push @found, "$path: " . ($text =~ /(.{0,100}$mark.{0,60})/)[0] if $text =~ /$mark/;
}
is(join("\n", @found), '', 'no answer of the API');
my (undef, $metrics) = Coder::Client->new(url => "http://$server->{env}{CODER_PROMETHEUS_ADDRESS}")->get('/');
like($metrics, qr/coderd_/, 'there are metrics');
unlike($metrics, qr/$mark/, 'without keys');
my (undef, $code) = Coder::Provisioning::command($server, $owner->{token}, 'support', 'bundle', '-y', '-O', "$server->{dir}/bundle.zip");
is($code, 0, 'a support bundle');
unlike(join('', `unzip -p $server->{dir}/bundle.zip 2>/dev/null`) || slurp_zip("$server->{dir}/bundle.zip"), qr/$mark/, 'without keys as well');
sub slurp_zip { require IO::Uncompress::Unzip; my $zip = IO::Uncompress::Unzip->new($_[0]) or die; my $all = ''; do { local $/; $all .= <$zip> // '' } while ($zip->nextStream > 0); return $all }
# Who hears them are those that they are for.
like($json->encode($model->all_requests), qr/$mark/, 'models had their keys');
unlike($json->encode([map { $_->{body} } @{ $model->all_requests }]), qr/$mark/, 'but not in what is said');
done_testing();
