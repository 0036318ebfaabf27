# Chats with each provider's wire format: text, thoughts, a tool of the client's, failures, keys and counted tokens.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use JSON::PP ();
use Test::More;

my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my ($root) = $model->url =~ m{^(.*)/v1$};
my @tools = (unsafe_dynamic_tools => [{ name => 'mine', description => 'x', input_schema => { type => 'object', properties => {} } }]);

sub text { return [{ type => 'text', text => $_[0] }] }

sub wait_status
{
	my ($id, $wanted) = @_;
	my $chat;
	$server->wait_for(20, sub { $chat = $owner->get("$chats/$id"); $chat->{status} eq $wanted });
	return $chat;
}

sub parts { my ($id) = @_; return [map { $_->{role} eq 'user' ? () : @{ $_->{content} // [] } } reverse @{ $owner->get("$chats/$id/messages")->{messages} }] }
sub asked { my ($said) = @_; return [grep { $_->{said} eq $said } @{ $model->requests }] }

my @providers = (
	[anthropic => 'claude-test', $root, '/v1/messages', 'x-api-key', 'Anthropic'],
	[bedrock => 'anthropic.claude-test:0', $root, '/model/us.anthropic.claude-test%3A0/invoke-with-response-stream', 'authorization', 'AWS Bedrock'],
	[openai => 'gpt-5', "$root/v1", '/v1/responses', 'authorization', 'OpenAI'],
	[google => 'gemini-test', $root, '/v1beta/models/gemini-test:streamGenerateContent?alt=sse', 'x-goog-api-key', 'Google'],
	[azure => 'gpt-test', $root, '/openai/v1/chat/completions', 'api-key', 'Azure OpenAI'],
	[vercel => 'some/model', "$root/v1", '/v1/chat/completions', 'authorization', 'Vercel AI Gateway']);

for (@providers)
{
	my ($provider, $name, $base, $path, $header, $display) = @$_;
	my ($status) = $owner->post("$chats/providers", { provider => $provider, api_key => "key-$provider", base_url => $base });
	is($status, 201, "$provider: a provider");
	my (undef, $config) = $owner->post("$chats/model-configs", { provider => $provider, model => $name, context_limit => 8000 });
	my $create = sub { my ($text, %more) = @_; return ($owner->post($chats, { organization_id => $org, content => text($text), model_config_id => $config->{id}, %more }))[1]{id} };

	my $id = $create->("think one $provider");
	wait_status($id, 'waiting');
	my @parts = @{ parts($id) };
	is(join(' ', map { $_->{type} } @parts), 'reasoning text', "$provider: thoughts and text");
	is($parts[-1]{text}, "$provider one think ", "$provider: the model answers");
	my $request = asked("think one $provider")->[0];
	is($request->{path}, $path, "$provider: where it is asked");
	is($request->{$header}, ($header eq 'authorization' ? 'Bearer ' : '') . "key-$provider", "$provider: with the key");
	my $usage = $server->sql("SELECT concat_ws(' ', input_tokens, output_tokens, cache_read_tokens) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'assistant' AND NOT deleted");
	is($usage, $path =~ /completions/ ? '10 5' : '7 5 3', "$provider: tokens are counted");
	unlike(JSON::PP::encode_json($owner->get("$chats/$id/messages")), qr/key-$provider/, "$provider: the key is told to nobody");

	my $tool = $create->("tool:mine {\"provider\":\"$provider\"}", @tools);
	wait_status($tool, 'requires_action');
	my ($call) = grep { $_->{type} eq 'tool-call' } @{ parts($tool) };
	is($call->{args}{provider}, $provider, "$provider: the client's tool is called");
	is(($owner->post("$chats/$tool/tool-results", { results => [{ tool_call_id => $call->{tool_call_id}, output => { b => $provider } }] }))[0], 204, "$provider: the client answers");
	wait_status($tool, 'waiting');
	my $last = $model->requests->[-1]{body};
	like(JSON::PP->new->canonical->encode(($last->{messages} // $last->{input} // $last->{contents})->[-1]), qr/b\W+$provider/, "$provider: the model has the result");
	like(JSON::PP->new->canonical->encode($last), qr/signed/, "$provider: and its signature again") if $provider eq 'google';

	is(wait_status($create->("fail:401 $provider"), 'error')->{last_error}, "Authentication with $display failed. Check the API key, permissions, and billing settings.", "$provider: a bad key");
	my $cut = $create->("cut $provider");
	wait_status($cut, 'waiting');
	is(join('', map { $_->{text} } @{ parts($cut) }), "$provider cut ", "$provider: an answer that was cut off is asked for again, and stored once");
	is(scalar @{ asked("cut $provider") }, 2, "$provider: once more");
}

# a pair of AWS keys signs instead
my ($bedrock) = grep { $_->{provider} eq 'bedrock' } @{ $owner->get("$chats/providers") };
$owner->patch("$chats/providers/$bedrock->{id}", { api_key => Coder::Model::AWS_KEY });
my ($config) = grep { $_->{provider} eq 'bedrock' } @{ $owner->get("$chats/model-configs") };
my $ask = sub { return ($owner->post($chats, { organization_id => $org, content => text($_[0]), model_config_id => $config->{id} }))[1]{id} };
my $signed = $ask->('think it is signed');
wait_status($signed, 'waiting');
is(parts($signed)->[-1]{text}, 'signed is it think ', 'a signed request is answered');
like(asked('think it is signed')->[0]{authorization}, qr{^AWS4-HMAC-SHA256 Credential=AKIAEXAMPLEEXAMPLE12/\d{8}/us-east-1/bedrock/}, 'and was signed');
unlike(JSON::PP::encode_json($model->all_requests), qr/sec\/ret/, 'the secret is not sent');
$owner->patch("$chats/providers/$bedrock->{id}", { api_key => Coder::Model::AWS_KEY . 'x' });
like(wait_status($ask->('badly signed'), 'error')->{last_error}, qr/^Authentication with AWS Bedrock failed/, 'a wrong key signs nothing');

unlike($server->log, qr/sec\/ret/, 'nor logged');
unlike($server->log, qr/key-(anthropic|bedrock|openai|google|azure|vercel)/, 'no key is in the log');
done_testing();
