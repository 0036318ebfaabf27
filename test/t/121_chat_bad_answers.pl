# What providers do wrong, in each wire format: failures with and without Retry-After, silence, answers that are cut off anywhere,
# malformed, or huge; tools that there are not.  What is stored and told is right, and keys are nowhere.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Json;
use Coder::Model;
use JSON::PP ();
use Test::More;

my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true',
	CODER_CHAT_FIRST_PART_SECONDS => 15, CODER_CHAT_SILENCE_SECONDS => 17 });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my ($root) = $model->url =~ m{^(.*)/v1$};
my $json = JSON::PP->new->canonical;

my @formats = (
	[anthropic => 'claude-test', $root, 'Anthropic'],
	[bedrock => 'anthropic.claude-test', $root, 'AWS Bedrock'],
	[openai => 'gpt-5', "$root/v1", 'OpenAI'],
	[google => 'gemini-test', $root, 'Google'],
	[openrouter => 'some/model', "$root/v1", 'OpenRouter']);

my $failed = 'The chat request failed unexpectedly.';
# What is said, the status in the end, then the text or the error; how often the provider is asked, and the kind of the retry.
my @cases = (
	['bytes a b', 'waiting', 'b a bytes ', 1],
	['cut a b', 'waiting', 'b a cut ', 2, 'timeout'],
	["cutchar a b", 'waiting', 'b a cutchar ', 2, 'timeout'],
	['cutcall a', 'waiting', 'a cutcall ', 2, 'timeout'],
	['once:429 a', 'waiting', 'a once:429 ', 2, 'rate_limit'],
	['once:429 after:3 a', 'waiting', 'a after:3 once:429 ', 2, 'rate_limit'],
	['once:500 a', 'waiting', 'a once:500 ', 2, 'generic'],
	['once:503 leak a', 'waiting', 'a leak once:503 ', 2, 'timeout'],
	['once:529 a', 'waiting', 'a once:529 ', 2, 'overloaded'],
	['once:529 after:3 a', 'waiting', 'a after:3 once:529 ', 2, 'overloaded'],
	['mid:429 a b', 'waiting', 'b a mid:429 ', 2, 'rate_limit'],
	['mid:500 a b', 'waiting', 'b a mid:500 ', 2, 'generic'],
	['mid:529 a b', 'waiting', 'b a mid:529 ', 2, qr/^(?:overloaded|timeout)$/],
	['fail:401 leak', 'error', 'Authentication with %s failed. Check the API key, permissions, and billing settings.', 1],
	['fail:403', 'error', 'Authentication with %s failed. Check the API key, permissions, and billing settings.', 1],
	['fail:400 leak', 'error', '%s returned an unexpected error (HTTP 400).', 1],
	['nobody once a', 'waiting', 'a once nobody ', 2, 'timeout'],
	['hang once a', 'waiting', 'a once hang ', 2, 'startup_timeout'],
	['stall once a', 'waiting', 'a once stall ', 2, 'timeout'],
	['badchar a b', 'error', $failed, 1],
	['silent', 'waiting', '', 1],
	['huge:2048', 'waiting', 'huge:2048 ' . 'x' x 2097152 . ' ', 1],
	['huge:20480', 'error', $failed, 1],
	['many:2000', 'waiting', join('', map { "w$_ " } 1 .. 2000), 1],
	['tool:nosuch {"a":1}', 'waiting', qr/^\S/, 2],
	['badargs', 'waiting', qr/^\S/, 2]);

# All at once: what waits, waits together.
my %config;
my @running;
for my $format (@formats)
{
	my ($provider, $name, $base) = @$format;
	$owner->post("$chats/providers", { provider => $provider, api_key => "sk-secret-$provider", base_url => $base });
	$config{$provider} = ($owner->post("$chats/model-configs", { provider => $provider, model => $name, context_limit => 10_000_000 }))[1]{id};
	for my $case (@cases)
	{
		my ($status, $chat) = $owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => $case->[0] }], model_config_id => $config{$provider} });
		push @running, { id => $chat->{id}, format => $format, case => $case };
	}
}
my $open = join ',', map { "'$_->{id}'" } @running;
ok($server->wait_for(90, sub { $server->sql("SELECT count(*) FROM coder.chats WHERE id IN ($open) AND status NOT IN ('waiting', 'error')") == 0 }), 'all come to an end')
	or diag $server->sql("SELECT string_agg(id || ' ' || status, ', ') FROM coder.chats WHERE id IN ($open) AND status NOT IN ('waiting', 'error')");

my @requests = @{ $model->heads };
# What each chat has in the end, by one question.
my %end = map { $_->{id} => $_ } @{ Coder::Json::decode($server->sql("SELECT jsonb_agg(jsonb_build_object('id', c.id,
	'text', coalesce((SELECT string_agg(p->>'text', '' ORDER BY m.id) FROM coder.chat_messages m, jsonb_array_elements(m.content) p
		WHERE m.chat_id = c.id AND m.role = 'assistant' AND NOT m.deleted AND p->>'type' = 'text'), ''),
	'retries', coalesce((SELECT string_agg(DISTINCT e.event->'retry'->>'kind', ' ') FROM coder.chat_stream_events e WHERE e.chat_id = c.id AND e.event->>'type' = 'retry'), ''),
	'tools', (SELECT string_agg((p->>'is_error') || ' ' || (p->'result'->>'error'), '; ') FROM coder.chat_messages m, jsonb_array_elements(m.content) p
		WHERE m.chat_id = c.id AND m.role = 'tool'))) FROM coder.chats c WHERE c.id IN ($open)")) };
for my $run (@running)
{
	my ($provider, $name, $base, $display) = @{ $run->{format} };
	my ($said, $status, $answer, $times, $kind) = @{ $run->{case} };
	my $chat = $owner->get("$chats/$run->{id}");
	my ($text, $retries) = @{ $end{ $run->{id} } }{qw(text retries)};
	my @asked = grep { $_->{chat} eq $run->{id} } @requests;
	my $got = join '|', $chat->{status}, ($status eq 'error' ? $chat->{last_error} : length $text > 60 ? length $text : $text), scalar @asked, $retries;
	my $wanted = join '|', $status, ($status eq 'error' ? $answer =~ s{%s}{$display}r : ref $answer ? $text =~ $answer ? length $text > 60 ? length $text : $text : 'some text' : length $answer > 60 ? length $answer : $answer), $times, ref $kind ? $retries =~ $kind ? $retries : 'a retry' : $kind // '';
	is($got, $wanted, "$provider: $said");
	is($text, $answer, "$provider: $said, all of it") if $status eq 'waiting' && !ref $answer && length $answer > 60 && $got eq $wanted;
	cmp_ok($asked[1]{at} - $asked[0]{at}, '>=', 2.9, "$provider: $said: it waits as long as it is asked to") if $said =~ /after:3/;
	if ($said =~ /^(?:tool:nosuch|badargs)/)
	{
		is($end{ $run->{id} }{tools}, $said eq 'badargs' ? 'true The arguments are no JSON object.' : 'true Tool not found: nosuch', "$provider: $said: what the model is told");
	}
}

# a silent provider is left alone within a second
for my $format (@formats)
{
	my $id = ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => "stall $format->[0]" }], model_config_id => $config{ $format->[0] } }))[1]{id};
	$server->wait_for(10, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$id' AND event->>'type' = 'message_part'") > 0 });
	$owner->post("$chats/$id/interrupt");
	ok($server->wait_for(1, sub { $server->sql("SELECT count(*) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'assistant' AND NOT deleted") == 1 }), "$format->[0]: an interrupted answer is kept at once");
}

# no key is anywhere
for my $table (qw(chats chat_messages chat_stream_events chat_debug_runs chat_debug_steps chat_title_requests audit_logs))
{
	is($server->sql("SELECT count(*) FROM coder.$table x WHERE x::text LIKE '%sk-secret%'"), 0, "no key in coder.$table");
}
unlike($server->log, qr/sk-secret/, 'no key in the log');
is(scalar(grep { $json->encode($owner->get("$chats/$_->{id}/messages")) =~ /sk-secret/ || $json->encode($owner->get("$chats/$_->{id}")) =~ /sk-secret/ } grep { $_->{case}[0] =~ /leak/ } @running), 0, 'nor in what clients see');
done_testing();
