# What models are asked and answer is written down where debug logging is on, and only there; without keys.  What titles take is booked.
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
my $json = JSON::PP->new->canonical;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'sk-secret-debug', base_url => $model->url });
my $config = ($owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm', context_limit => 8000,
	model_config => { cost => { input_price_per_million_tokens => '100', output_price_per_million_tokens => '1000' } } }))[1]{id};

sub create { return ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => $_[0] }], model_config_id => $config }))[1]{id} }
sub settled { my ($id) = @_; $server->wait_for(20, sub { $owner->get("$chats/$id")->{status} =~ /^(?:waiting|error)$/ }); return $id }
sub runs { my ($id, $kind) = @_; return [grep { $_->{kind} eq ($kind // 'chat_turn') } @{ $owner->get("$chats/$id/debug/runs") }] }
sub over { my ($id, $kind) = @_; my $runs; $server->wait_for(10, sub { $runs = runs($id, $kind); @$runs && $runs->[0]{status} ne 'in_progress' }); return scalar $owner->get("$chats/$id/debug/runs/$runs->[0]{id}") }

# off
is_deeply(scalar $owner->get("$chats/config/debug-logging"), { allow_users => $false, forced_by_deployment => $false }, 'it is off');
is_deeply(scalar $owner->get("$chats/config/user-debug-logging"), { debug_logging_enabled => $false, user_toggle_allowed => $false, forced_by_deployment => $false }, 'and users cannot turn it on');
is(($owner->put("$chats/config/user-debug-logging", { debug_logging_enabled => $true }))[0], 403, 'indeed');
my $quiet = settled(create('say nothing of this'));
is_deeply(scalar $owner->get("$chats/$quiet/debug/runs"), [], 'nothing is written down');

# on
is(($owner->put("$chats/config/debug-logging", { allow_users => $true }))[0], 204, 'users may turn it on');
is(($owner->put("$chats/config/debug-logging", { allow_users => 1 }))[0], 400, 'by a word, not a number');
my $still = settled(create('still nothing'));
is_deeply(scalar $owner->get("$chats/$still/debug/runs"), [], 'it is not on by that');
is(($owner->put("$chats/config/user-debug-logging", { debug_logging_enabled => $true }))[0], 204, 'one does');
is($owner->get("$chats/config/user-debug-logging")->{debug_logging_enabled}, $true, 'it is on');

my $id = settled(create('once:503 leak a b'));
my $run = over($id);
is($run->{status}, 'completed', 'a run is over');
is_deeply($run->{summary}, { steps => 1, failed_attempts => 1, input_tokens => 10, output_tokens => 5 }, 'what it took');
is("$run->{provider} $run->{model}", 'openai-compat m', 'who was asked');
ok($run->{trigger_message_id} && $run->{history_tip_message_id}, 'by which message');
my $step = $run->{steps}[0];
is_deeply([@$step{qw(step_number operation status)}], [1, 'stream', 'completed'], 'its step');
like($json->encode($step->{normalized_request}{messages}), qr/once:503 leak a b/, 'what was asked');
is_deeply($step->{normalized_response}{content}, [{ type => 'text', text => 'b a leak once:503 ' }], 'what was answered');
is($step->{usage}{output_tokens}, 5, 'what it took');
is($step->{attempts}[0]{status_code}, 503, 'the attempt that failed');
like($step->{attempts}[0]{message}, qr/^asked to fail: \*+ is not accepted/, 'in the words of the provider, without the key');
is($server->sql("SELECT role FROM coder.chat_messages WHERE id = $step->{assistant_message_id}"), 'assistant', 'the message that it became');

is(over(settled(create('tool:read_file {"path":"x"}')))->{summary}{steps}, 2, 'a step each time that it is asked');
my $bad = over(settled(create('fail:400 leak')));
is_deeply([$bad->{status}, $bad->{steps}[0]{status}, $bad->{steps}[0]{error}{status_code}], ['error', 'error', 400], 'one that failed');
$id = create('slow:300 a b c d e f g');
$server->wait_for(10, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$id' AND event->>'type' = 'message_part'") > 0 });
$owner->post("$chats/$id/interrupt");
my $stopped = over($id);
is_deeply([$stopped->{status}, $stopped->{steps}[0]{status}], ['interrupted', 'interrupted'], 'one that was stopped');
like($stopped->{steps}[0]{normalized_response}{content}[0]{text}, qr/^g /, 'with what it said');
is(over($id, 'title_generation')->{steps}[0]{operation}, 'generate', 'titles too');
is($server->sql("SELECT count(*) FROM coder.chat_debug_runs r, coder.chat_debug_steps s WHERE concat(r::text, s::text) LIKE '%sk-secret%'"), 0, 'no key is written down');

# who may read them
$owner->post('/api/v2/users', { username => 'reader', email => 'reader@example.com', password => 'SomeSecurePassword!', login_type => 'password', organization_ids => [$org] });
my $member = $server->login('reader@example.com', 'SomeSecurePassword!');
is(($member->request('GET', "$chats/$id/debug/runs"))[0], 404, 'a chat that one may not see has none');
is(($member->request('PUT', "$chats/config/debug-logging", { allow_users => $true }))[0], 403, 'and not everybody says who may');
is(($owner->request('GET', "$chats/$id/debug/runs/$run->{id}"))[0], 404, 'nor has a chat those of another');
is(($owner->request('GET', "$chats/$id/debug/runs/x"))[0], 400, 'a run has an id');

# an edit takes back what was asked with the old words
my ($first) = grep { $_->{role} eq 'user' } @{ $owner->get("$chats/$run->{chat_id}/messages")->{messages} };
$owner->patch("$chats/$run->{chat_id}/messages/$first->{id}", { content => [{ type => 'text', text => 'other words' }] });
settled($run->{chat_id});
over($run->{chat_id});
unlike($json->encode(runs($run->{chat_id})), qr/$run->{id}/, 'an edit takes back what was asked');

# they do not stay for ever
is($owner->get("$chats/config/debug-retention-days")->{debug_retention_days}, 30, 'a month');
is(($owner->put("$chats/config/debug-retention-days", { debug_retention_days => 3651 }))[0], 400, 'at most ten years');
is(($owner->put("$chats/config/debug-retention-days", { debug_retention_days => 1 }))[0], 204, 'a day');
$server->sql("SELECT coder.chat_debug_purge(now() + interval '2 days')");
is($server->sql('SELECT count(*) FROM coder.chat_debug_runs'), 0, 'then they go');

# titles
my $booked = $server->sql("SELECT concat_ws(' ', count(*), sum(input_tokens), sum(output_tokens), sum(total_cost_micros)) FROM coder.chat_messages WHERE chat_id = '$quiet' AND deleted AND role = 'assistant'");
is($booked, '1 10 5 6000', 'what a first title took is booked, at the price of its model');
is($owner->get("$chats/cost/me/summary")->{by_model}[0]{display_name}, 'm', 'and in the costs');
my $seen = (scalar $owner->get("$chats/$quiet/messages"))->{messages};
is(scalar(@$seen), 2, 'nobody sees it among what was said');
done_testing();
