# Titles of chats: the first by itself, another when asked for; its cost, its lock, its failures.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::WebSocket;
use JSON::PP ();
use Test::More;

my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};

sub create { return ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => $_[0] }] }))[1] }
sub title { return $owner->get("$chats/$_[0]")->{title} }
sub wait_waiting { my ($id) = @_; $server->wait_for(20, sub { $owner->get("$chats/$id")->{status} eq 'waiting' }) }

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000,
	model_config => { cost => { input_price_per_million_tokens => '1', output_price_per_million_tokens => '2' } } });

my $watch = Coder::WebSocket->open($server->url, "$chats/watch", token => $owner->{token}) or die $@;
my $chat = create('please repair the login page');
is($chat->{title}, 'please repair the login page', 'at first a chat is named by its words');
$server->wait_for(20, sub { title($chat->{id}) ne $chat->{title} });
is(title($chat->{id}), 'About page', 'then a model names it: one line, without quotes');
my $told = '';
$told = JSON::PP::decode_json($watch->message) until ref $told && $told->{kind} eq 'title_change';
is($told->{chat}{title}, 'About page', 'which its owner is told');
my $asked = $model->title_requests->[-1]{body};
is($asked->{messages}[-1]{content}, 'please repair the login page', 'it read the words');
is($asked->{max_tokens}, 256, 'and may not say much');
wait_waiting($chat->{id});

# a name that somebody gave is kept
my $named = create('slow:500 named by hand');
$server->sql("UPDATE coder.chats SET title = 'Mine' WHERE id = '$named->{id}'");
wait_waiting($named->{id});
is(title($named->{id}), 'Mine', 'a name that somebody gave is kept');

# another message makes no new title
my $n = @{ $model->title_requests };
$owner->post("$chats/$chat->{id}/messages", { content => [{ type => 'text', text => 'and the logout' }] });
wait_waiting($chat->{id});
is(scalar @{ $model->title_requests }, $n, 'a second message asks for no title');

# asked for
my ($status, $body) = $owner->post("$chats/$chat->{id}/title/regenerate");
is($status, 200, 'a new title') or diag explain $body;
is($body->{title}, 'About and', 'made of what was said last');
like($model->title_requests->[-1]{body}{messages}[-1]{content}, qr/user: please repair the login page.*assistant: .*user: and the logout.*assistant: /s, 'the first words and the last');
is($server->sql("SELECT total_cost_micros, deleted, role FROM coder.chat_messages WHERE chat_id = '$chat->{id}' AND deleted"), "20|t|assistant\n20|t|assistant", 'it has its cost, as the first one has');
is($server->sql("SELECT worker_id IS NULL FROM coder.chats WHERE id = '$chat->{id}'"), 't', 'nothing is locked afterwards');

# under way already; stale after a minute
$server->sql("UPDATE coder.chats SET worker_id = coder.chat_title_worker(), started_at = now() WHERE id = '$chat->{id}'");
($status, $body) = $owner->post("$chats/$chat->{id}/title/regenerate");
is("$status $body->{message}", '409 Title regeneration already in progress for this chat.', 'one at a time');
$server->sql("UPDATE coder.chats SET started_at = now() - interval '2 minutes' WHERE id = '$chat->{id}'");
is(($owner->post("$chats/$chat->{id}/title/regenerate"))[0], 200, 'a lock that was left is passed over');

# the provider fails
$server->sql("UPDATE coder.chat_providers SET base_url = 'http://127.0.0.1:1/'");
($status, $body) = $owner->post("$chats/$chat->{id}/title/regenerate");
is("$status $body->{message}", '500 Failed to regenerate chat title.', 'a failure is told');
is(title($chat->{id}), 'About and', 'and the title kept');
is($server->sql("SELECT worker_id IS NULL FROM coder.chats WHERE id = '$chat->{id}'"), 't', 'the lock is gone');

# OpenAI's models are held to a schema, where others call a tool
my $by_tool = $model->title_requests->[-1]{body};
is($by_tool->{tool_choice}{function}{name}, 'propose_title', 'a tool gives the title');
$owner->post("$chats/providers", { provider => 'openai', api_key => 'key-2', base_url => $model->url });
my $other = create('what is a quine');
$server->wait_for(20, sub { title($other->{id}) ne $other->{title} });
is(title($other->{id}), 'About quine', 'a title that is an answer');
my $by_schema = $model->title_requests->[-1];
is($by_schema->{path}, '/v1/responses', 'of a small model of OpenAI');
is($by_schema->{body}{text}{format}{name}, 'propose_title', 'in a format');
is_deeply($by_schema->{body}{text}{format}{schema}{required}, ['title'], 'that wants it');
ok(!$by_schema->{body}{tools} && !$by_schema->{body}{tool_choice}, 'and no tool');
done_testing();
