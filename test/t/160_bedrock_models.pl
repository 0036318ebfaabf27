# Models of any vendor at AWS Bedrock take turns: text, thoughts, tools, pictures, failures in the middle, counted tokens.
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
my %tools = (unsafe_dynamic_tools => [{ name => 'mine', description => 'x', input_schema => { type => 'object', properties => {} } }]);
my $json = JSON::PP->new->canonical;
my $config;

is(($owner->post("$chats/providers", { provider => 'bedrock', api_key => 'key-bedrock', base_url => $root }))[0], 201, 'a provider');

sub use_model
{
	my ($status, $made) = $owner->post("$chats/model-configs", { provider => 'bedrock', model => $_[0], context_limit => 8000, compression_threshold => 100 });
	is($status, 201, "$_[0] is configured");
	$config = $made->{id};
}

sub ask
{
	my ($text, %more) = @_;
	my $files = delete $more{files} // [];
	my ($status, $chat) = $owner->post($chats, { organization_id => $org, model_config_id => $config, content => [{ type => 'text', text => $text }, @$files], %more });
	is($status, 201, "asked: $text") or diag $json->encode($chat);
	return $chat->{id};
}

sub ends
{
	my ($id, $wanted) = @_;
	my $chat;
	$server->wait_for(20, sub { $chat = $owner->get("$chats/$id"); $chat->{status} eq $wanted });
	return $chat;
}

sub parts { return [map { $_->{role} eq 'user' ? () : @{ $_->{content} // [] } } reverse @{ $owner->get("$chats/$_[0]/messages")->{messages} }] }
sub asked { my ($said) = @_; return [grep { $_->{said} eq $said } @{ $model->requests }] }

for my $name ('amazon.nova-test:0', 'meta.llama-test', 'arn:aws:bedrock:us-east-1:1:application-inference-profile/abc')
{
	use_model($name);
	my $id = ask("think one $name");
	ends($id, 'waiting');
	my @parts = @{ parts($id) };
	is(join(' ', map { $_->{type} } @parts), 'reasoning text', "$name: thoughts and text");
	is($parts[-1]{text}, "$name one think ", "$name: the model answers");
	my $request = asked("think one $name")->[0];
	(my $path = $name) =~ s{([:/])}{sprintf '%%%02X', ord $1}ge;
	is($request->{path}, "/model/$path/converse-stream", "$name: by Converse");
	is($request->{authorization}, 'Bearer key-bedrock', "$name: with the key");
	is($server->sql("SELECT concat_ws(' ', input_tokens, output_tokens, cache_read_tokens, total_tokens) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'assistant' AND NOT deleted"),
		'7 5 3 15', "$name: tokens are counted");

	my $tool = ask("tool:mine {\"name\":\"$name\"}", %tools);
	ends($tool, 'requires_action');
	my ($call) = grep { $_->{type} eq 'tool-call' } @{ parts($tool) };
	is($call->{args}{name}, $name, "$name: the client's tool is called");
	is(($owner->post("$chats/$tool/tool-results", { results => [{ tool_call_id => $call->{tool_call_id}, output => { got => $name } }] }))[0], 204, "$name: the client answers");
	ends($tool, 'waiting');
	my ($last) = grep { ref $_->{toolResult} } @{ $model->requests->[-1]{body}{messages}[-1]{content} };
	is($last->{toolResult}{toolUseId}, $call->{tool_call_id}, "$name: the result is that of the call");
	is($last->{toolResult}{content}[0]{text}, $json->encode({ got => $name }), "$name: and the model has it");
}

# failures, before the answer and in it
for my $bad ('once:429', 'once:503', 'mid:429', 'mid:500', 'cut', 'cutcall')
{
	my $id = ask("$bad again");
	ends($id, 'waiting');
	is(join('', map { $_->{text} // '' } grep { $_->{type} eq 'text' } @{ parts($id) }), "again $bad ", "$bad: asked once more, and stored once");
	is(scalar @{ asked("$bad again") }, 2, "$bad: twice in all");
}
is(ends(ask('fail:401'), 'error')->{last_error}, 'Authentication with AWS Bedrock failed. Check the API key, permissions, and billing settings.', 'a bad key');
is(ends(ask('fail:400'), 'error')->{last_error}, 'AWS Bedrock returned an unexpected error (HTTP 400).', 'a request that is refused');
my $found = ask('search for it');
ends($found, 'waiting');
is_deeply([map { $_->{url} } grep { $_->{type} eq 'source' } @{ parts($found) }], ['https://found.example/'], 'a page that the answer rests on');

unlike($server->log, qr/key-bedrock/, 'no key is in the log');
done_testing();
