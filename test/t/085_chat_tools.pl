# Tools of chats that the server itself runs: templates, workspaces, other agents; always as the chat's owner.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Provisioning ();
use JSON::PP ();
use Test::More;

Coder::Provisioning::need_agent();

my $model = Coder::Model->start;
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';

sub text { return [{ type => 'text', text => $_[0] }] }
sub create { return ($owner->post($chats, { organization_id => $p->{organization}, content => text($_[0]) }))[1] }
sub wait_done { my ($id) = @_; $server->wait_for(60, sub { $owner->get("$chats/$id")->{status} =~ /waiting|error/ }) }

# What a tool answers in a chat: a new one, or one that is there.
sub tool
{
	my ($name, $args, $chat) = @_;
	my $line = "tool:$name " . JSON::PP->new->canonical->encode($args);
	if ($chat) { $owner->post("$chats/$chat->{id}/messages", { content => text($line) }) }
	else { $chat = create($line) }
	wait_done($chat->{id});
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $owner->get("$chats/$chat->{id}/messages")->{messages} };
	return ($part->{result}, $part->{is_error} // JSON::PP::false, $chat);
}

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my $other = $p->template('second', $p->import('second', Coder::Provisioning::starter()));

# templates
my ($result, $failed, $chat) = tool('list_templates', { query => 'start' });
is_deeply([map { $_->{name} } @{ $result->{templates} }], ['starter'], 'templates are found by a word');
is($result->{total_count}, 1, 'and counted');
my $id = $result->{templates}[0]{id};
($result) = tool('read_template', { template_id => $id });
is($result->{parameters}[0]{name}, 'greeting', 'a template tells its parameters');
$owner->put("$chats/config/template-allowlist", { template_ids => [$id] });
($result) = tool('list_templates', {});
is($result->{total_count}, 1, 'only those that chats may use are listed');
my ($second) = grep { $_->{name} eq 'second' } @{ $owner->get('/api/v2/templates') };
($result, $failed) = tool('create_workspace', { template_id => $second->{id} });
ok($failed && $result->{error} =~ /no template/, 'and can be used');

# a workspace
($result, $failed, $chat) = tool('start_workspace', {});
ok($failed && $result->{error} =~ /has no workspace/, 'no workspace, nothing to start');
($result, $failed) = tool('create_workspace', { template_id => $id, name => 'made-by-chat', parameters => { greeting => 'hi' } }, $chat);
is_deeply([@$result{qw(created workspace_name agent_status lifecycle_state)}], [JSON::PP::true, 'made-by-chat', 'connected', 'ready'], 'a workspace is made, and runs') or diag explain $result;
my $ws = $owner->get('/api/v2/users/me/workspace/made-by-chat');
is($owner->get("$chats/$chat->{id}")->{workspace_id}, $ws->{id}, 'it is the chat\'s');
($result) = tool('create_workspace', { template_id => $id }, $chat);
is($result->{created}, JSON::PP::false, 'a chat makes one');
($result) = tool('start_workspace', {}, $chat);
is_deeply([@$result{qw(started no_build)}], [JSON::PP::true, JSON::PP::true], 'what runs is not built again');
$p->build($ws, 'stop');
($result) = tool('start_workspace', {}, $chat);
is_deeply([@$result{qw(started agent_status no_build)}], [JSON::PP::true, 'connected', undef], 'what is stopped is started') or diag explain $result;

# other agents
my $root;
($result, $failed, $root) = tool('spawn_agent', { prompt => 'look at this', title => 'Looker' });
my $child = $result->{chat_id};
is($result->{title}, 'Looker', 'an agent is spawned');
($result) = tool('wait_agent', { chat_id => $child }, $root);
is_deeply([@$result{qw(report status)}], ['this at look ', 'waiting'], 'its report is what it said last');
is($owner->get("$chats/$child")->{parent_chat_id}, $root->{id}, 'it is a chat below the first');
my ($asked) = grep { ($_->{body}{messages}[-1]{content} // '') eq 'look at this' } @{ $model->requests };
ok(!(grep { $_->{function}{name} =~ /agent|workspace/ } @{ $asked->{body}{tools} }), 'it may neither spawn others nor make workspaces');
($result) = tool('message_agent', { chat_id => $child, message => 'slow:200 a b c d e f g h' }, $root);
is($result->{interrupted}, JSON::PP::false, 'it is told more');
($result) = tool('close_agent', { chat_id => $child }, $root);
is($result->{terminated}, JSON::PP::true, 'and closed');
($result, $failed) = tool('wait_agent', { chat_id => $chat->{id} }, $root);
ok($failed, 'a chat that is not its agent is none of its business');

done_testing();
