# A chat that nearly fills its model's context goes on from a summary.
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

sub text { return [{ type => 'text', text => $_[0] }] }
sub create { return ($owner->post($chats, { organization_id => $org, content => text($_[0]) }))[1] }
sub wait_done { my ($id) = @_; $server->wait_for(30, sub { $owner->get("$chats/$id")->{status} =~ /waiting|error/ }) }
sub parts { return map { @{ $_->{content} } } reverse @{ $owner->get("$chats/$_[0]/messages")->{messages} } }

# A model of the tests says that it has read 10 tokens.
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
my ($status, $config) = $owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 12, compression_threshold => 80 });
is($status, 201, 'a model with a small context');

my $chat = create('tool:nothing {}');
wait_done($chat->{id});
my @parts = parts($chat->{id});
is(join(' ', map { $_->{tool_name} || $_->{type} } @parts), 'text nothing nothing chat_summarized chat_summarized text chat_summarized chat_summarized',
	'people see all that was said, and where it was summed up') or diag explain [map { [$_->{type}, $_->{tool_name}] } @parts];
my ($call, $result) = @parts[3, 4];
like($call->{tool_call_id}, qr/^chat_summarized_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/, 'as a call of its own');
is($result->{tool_call_id}, $call->{tool_call_id}, 'with its result');
my $summary = delete $result->{result}{summary};
ok(length $summary, 'the summary');
is(sprintf('%.1f', delete $result->{result}{usage_percent}), '83.3', 'how full it was');
is_deeply($result->{result}, { source => 'automatic', threshold_percent => 80, context_tokens => 10, context_limit_tokens => 12 }, 'and what was allowed');

my @asked = map { $_->{body} } @{ $model->requests };
is(scalar @asked, 4, 'a step, a summary, a step, a summary');
is($asked[1]{tool_choice}, 'none', 'a summary is asked for without calls');
is_deeply($asked[1]{tools}, $asked[0]{tools}, 'of a model that knows what the calls so far are of');
is(join(' ', map { $_->{role} } @{ $asked[1]{messages} }), 'system system user assistant tool user', 'of all that was said');
is(join(' ', grep { $_ ne 'system' } map { $_->{role} } @{ $asked[2]{messages} }), 'user', 'then the model reads the summary only');
like($asked[2]{messages}[-1]{content}, qr/\Q$summary\E/, 'which is that one');

$owner->put("$chats/config/user-compaction-thresholds/$config->{id}", { threshold_percent => 100 });
my $before = @{ $model->requests };
$owner->post("$chats/$chat->{id}/messages", { content => text('go on') });
wait_done($chat->{id});
@asked = map { $_->{body} } @{ $model->requests };
is(@asked - $before, 1, 'who wants no summaries gets none');
is(join(' ', grep { $_ ne 'system' } map { $_->{role} } @{ $asked[-1]{messages} }), 'user user', 'a later turn reads the last summary and what came after it');

# no summary can be had: the chat goes on without
$owner->delete("$chats/config/user-compaction-thresholds/$config->{id}");
my $failing = create('nosummary hello');
wait_done($failing->{id});
is($owner->get("$chats/$failing->{id}")->{status}, 'waiting', 'a summary that fails is no failure of the turn');
ok(!(grep { ($_->{tool_name} // '') eq 'chat_summarized' } parts($failing->{id})), 'and nothing is summed up');
done_testing();
