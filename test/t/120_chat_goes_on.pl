# What a provider said goes back to it as it said it: thoughts with signatures, its own searches, sealed items; and what it keeps is not told again.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use IO::Socket::INET;
use JSON::PP ();
use Test::More;

my $model = Coder::Model->start;
# one client may have as many streams as it likes where no limits are wanted
my $server = Coder::Gateway->start(args => ['--max-connections-per-address', 12], env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my ($root) = $model->url =~ m{^(.*)/v1$};
my $json = JSON::PP->new->canonical;
my %search = (web_search_enabled => JSON::PP::true);

sub text { return [{ type => 'text', text => $_[0] }] }
sub settled { my ($id) = @_; $server->wait_for(20, sub { $owner->get("$chats/$id")->{status} =~ /^(?:waiting|error)$/ }); return $owner->get("$chats/$id") }
sub parts { my ($id) = @_; return [map { @{ $_->{content} // [] } } grep { $_->{role} eq 'assistant' } reverse @{ $owner->get("$chats/$id/messages")->{messages} }] }
sub asked { my ($said) = @_; return [map { $_->{body} } grep { $_->{said} eq $said } @{ $model->requests }] }

sub setup
{
	my ($provider, $name, $base, $options) = @_;
	$owner->post("$chats/providers", { provider => $provider, api_key => 'k', base_url => $base });
	my ($status, $config) = $owner->post("$chats/model-configs", { provider => $provider, model => $name, context_limit => 100000, model_config => { provider_options => $options } });
	is($status, 201, "$provider: a model");
	return $config->{id};
}

sub create { my ($config, $text) = @_; my $id = ($owner->post($chats, { organization_id => $org, content => text($text), model_config_id => $config }))[1]{id}; settled($id); return $id }
sub say_more { my ($id, $text) = @_; $owner->post("$chats/$id/messages", { content => text($text) }); return settled($id) }

# Anthropic
my $config = setup(anthropic => 'claude-test', $root, { anthropic => { %search, allowed_domains => ['found.example'] } });
my $id = create($config, 'think first');
say_more($id, 'search second');
say_more($id, 'third');
my @parts = @{ parts($id) };
is(join(' ', map { $_->{type} } @parts), 'reasoning text tool-call tool-result text source text', 'Anthropic: what clients see, in its order');
my ($source) = grep { $_->{type} eq 'source' } @parts;
is($source->{url}, 'https://found.example/', 'Anthropic: the page that was found');
is_deeply([map { [$_->{tool_name}, $_->{provider_executed} ? 1 : 0] } grep { $_->{type} =~ /^tool/ } @parts], [['web_search', 1], ['web_search', 1]], 'Anthropic: its own search');
unlike($json->encode(\@parts), qr/sealed|provider_metadata/, 'Anthropic: what is only its own is told to nobody');
my $body = asked('third')->[0];
my @told = map { @{ $_->{content} } } grep { $_->{role} eq 'assistant' } @{ $body->{messages} };
is(join(' ', map { $_->{type} } @told), 'thinking text server_tool_use web_search_tool_result text', 'Anthropic: it is told all again');
is($told[0]{signature}, 'signed', 'Anthropic: thoughts with their signature');
is($told[3]{content}[0]{encrypted_content}, 'sealed', 'Anthropic: what it found, as it gave it');
is_deeply($body->{tools}[-1], { type => 'web_search_20250305', name => 'web_search', allowed_domains => ['found.example'] }, 'Anthropic: it may search');
is(scalar(grep { $_->{cache_control} } map { @{ $_->{content} } } @{ $body->{messages} }), 2, 'Anthropic: the last two messages are for its cache');

# OpenAI keeps its answers
$config = setup(openai => 'gpt-5', "$root/v1", { openai => { %search, search_context_size => 'low' } });
$id = create($config, 'think one');
say_more($id, 'search two');
$body = asked('search two')->[0];
is($body->{previous_response_id}, 'resp_1', 'OpenAI: it goes on from its last answer');
is($json->encode($body->{input}), '[{"content":[{"text":"search two","type":"input_text"}],"role":"user"}]', 'OpenAI: and is told only what is new');
is(scalar(grep { $_ eq 'reasoning.encrypted_content' } @{ $body->{include} }), 1, 'OpenAI: it seals its thoughts');
is((grep { $_->{type} eq 'source' } @{ parts($id) })[0]{title}, 'Found', 'OpenAI: the page that was found');
say_more($id, 'forgotten three');
my @requests = @{ asked('forgotten three') };
is(join(' ', map { $_->{previous_response_id} // 'whole' } @requests), 'resp_1 whole', 'OpenAI: an answer that it has forgotten is told again, at once');
like($json->encode($requests[1]{input}), qr/think one.*search two.*forgotten three/, 'OpenAI: all of it');
is(parts($id)->[-1]{text}, 'three forgotten ', 'OpenAI: and answered');
$owner->put("$chats/config/user-prompt", { custom_prompt => 'be kind' });
say_more($id, 'four');
is(asked('four')->[0]{previous_response_id}, undef, 'OpenAI: other instructions are not those that it knows');
like($json->encode(asked('four')->[0]{input}), qr/be kind/, 'OpenAI: it is told them');
say_more($id, 'five');
is(asked('five')->[0]{previous_response_id}, 'resp_1', 'OpenAI: and knows them then');
$id = ($owner->post($chats, { organization_id => $org, content => text('slow:400 a b c d e f g h i j'), model_config_id => $config }))[1]{id};
$server->wait_for(20, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$id' AND event->>'type' = 'message_part'") > 0 });
$owner->post("$chats/$id/messages", { content => text('six'), busy_behavior => 'interrupt' });
$server->wait_for(20, sub { @{ asked('six') } && settled($id) });
like(parts($id)->[0]{text}, qr/^j /, 'OpenAI: what it said is kept');
is(asked('six')->[0]{previous_response_id}, undef, 'OpenAI: it cannot go on from an answer that was stopped');

# a provider that keeps nothing
$owner->patch("$chats/model-configs/$config", { model_config => { provider_options => { openai => { store => JSON::PP::false } } } });
$id = create($config, 'think seven');
say_more($id, 'eight');
$body = asked('eight')->[0];
is($body->{previous_response_id}, undef, 'OpenAI, without store: it is told all');
like($json->encode($body->{input}), qr/\{"encrypted_content":"sealed","id":"rs_1","summary":\[\{"text":"hm","type":"summary_text"\}\],"type":"reasoning"\}/, 'OpenAI, without store: its thoughts too');

# Google
$config = setup(google => 'gemini-test', $root, { google => \%search });
$id = create($config, 'search nine');
is((grep { $_->{type} eq 'source' } @{ parts($id) })[0]{url}, 'https://found.example/', 'Google: the page that was found');
is_deeply(asked('search nine')->[0]{tools}[-1], { googleSearch => {} }, 'Google: it may search');

# what one provider said, to another
my $claude = (grep { $_->{provider} eq 'anthropic' } @{ $owner->get("$chats/model-configs") })[0]{id};
$id = create($claude, 'think ten');
$owner->post("$chats/$id/messages", { content => text('search eleven'), model_config_id => $config });
settled($id);
unlike($json->encode(asked('search eleven')->[0]), qr/signed/, 'another provider gets no signature that it did not make');
$owner->post("$chats/$id/messages", { content => text('twelve'), model_config_id => $claude });
is(settled($id)->{status}, 'waiting', 'and back');
like($json->encode(asked('twelve')->[0]{messages}), qr/"signature":"signed".*eleven.*twelve/, 'the first one gets its own again');

my @held = map { IO::Socket::INET->new(PeerAddr => $server->url =~ s{^http://}{}r) } 1 .. 40;
print { $_ } "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" for @held;
is(scalar(grep { defined && readline($_) =~ /200/ } @held), 40, 'connections of one address are not counted without limits');
done_testing();
