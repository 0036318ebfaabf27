# An agent that hangs, a runner that is killed while it reads, a workspace that goes: what a chat takes from its workspace comes late, or once.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Processes ();
use Coder::Provisioning ();
use Coder::WebSocket;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();

my $model = Coder::Model->start;
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->latin1;

my $ws;
sub text { return [{ type => 'text', text => $_[0] }] }
sub create { return ($owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text($_[0]) }))[1] }
sub wait_done { my ($in) = @_; return $server->wait_for(60, sub { $owner->get("$chats/$in->{id}")->{status} =~ /waiting|error/ }) }
sub say_to { my ($in, $text) = @_; $owner->post("$chats/$in->{id}/messages", { content => text($text) }); wait_done($in); return }
sub contexts { return $server->sql("SELECT count(*) FROM coder.chat_messages WHERE chat_id = '$_[0]{id}' AND coder.chat_is_context(content)") }
sub told { my ($request) = @_; return $json->encode([grep { $_->{role} eq 'system' } @{ $request->{body}{messages} }]) }
sub agents { return Coder::Processes::find($server->{pid}, qr/^\S*coder\S* agent$/) }
sub runner { return (Coder::Processes::find($server->{pid}, qr/coder-server chat-runner/))[0] }

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 800000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
my $first = create('hello');
wait_done($first);
say_to($first, 'tool:execute ' . $json->encode({ command => 'mkdir -p ~/.coder && echo Use tabs. > ~/.coder/AGENTS.md' }));
my @agents = agents();
ok(@agents > 0, 'the agent\'s process is found') or BAIL_OUT(join "\n", map { Coder::Processes::command_line($_) } Coder::Processes::descendants($server->{pid}));

# an agent that hangs
kill 'STOP', @agents;
my $began = time;
my $chat = create('hello there');
wait_done($chat);
my $took = time - $began;
ok($took >= 4 && $took < 20, 'an agent that hangs delays a turn by some seconds') or diag $took;
is($owner->get("$chats/$chat->{id}")->{status}, 'waiting', 'which is answered without it');
is(contexts($chat), 0, 'and is told nothing');
kill 'CONT', @agents;
say_to($chat, 'go on');
is(contexts($chat), 1, 'the next turn reads what the first could not');
like(told($model->requests->[-1]), qr/Use tabs/, 'and tells it');

# a runner that is killed while it reads
kill 'STOP', @agents;
$chat = create('hello again');
$server->wait_for(20, sub { $server->sql("SELECT count(*) FROM coder.chat_agent_tickets t JOIN coder.chats c ON c.id = '$chat->{id}' AND c.agent_id = t.agent_id WHERE c.status = 'running'") > 0 });
my $old = runner();
kill 'KILL', $old;
kill 'CONT', @agents;
# A dead runner's chats are taken again when its heart has not beaten for ten seconds.
$server->sql("UPDATE coder.chats SET heartbeat_at = heartbeat_at - interval '10 seconds' WHERE id = '$chat->{id}' AND status = 'running'");
wait_done($chat);
isnt(runner(), $old, 'another runner has come');
is(contexts($chat), 1, 'what it reads is stored once');
my @mine = grep { ($_->{body}{messages}[-1]{content} // '') eq 'hello again' } @{ $model->requests };
is(scalar @mine, 1, 'the model is asked once');
like(told($mine[0]), qr/Use tabs/, 'with what the workspace says');

# an interrupt while it is read
kill 'STOP', @agents;
$chat = create('never mind');
$server->wait_for(20, sub { $owner->get("$chats/$chat->{id}")->{status} eq 'running' });
$began = time;
$owner->post("$chats/$chat->{id}/interrupt");
ok($server->wait_for(4, sub { $server->sql("SELECT worker_id IS NULL AND status = 'waiting' FROM coder.chats WHERE id = '$chat->{id}'") eq 't' }), 'an interrupt does not wait for it');
kill 'CONT', @agents;
is(scalar(grep { ($_->{body}{messages}[-1]{content} // '') eq 'never mind' } @{ $model->requests }), 0, 'and nothing is asked');

# a stream of changes whose workspace goes
my $watch = Coder::WebSocket->open($server->url, "$chats/$first->{id}/stream/git", token => $owner->{token}) or die $@;
ok(defined $watch->message(10), 'changes are followed');
$p->build($ws, 'stop');
my $message = $watch->message(30) // '';
ok($message eq '' && ($watch->{close} || !$watch->more(1)), 'until the workspace stops');
my @answer = $owner->request('GET', "$chats/$first->{id}/stream/git");
is($answer[0], 400, 'then there is nothing to follow');
like($answer[1]{message}, qr/^(Agent state is "\w+", it must be in the "connected" state|Chat workspace has no agents)\.$/, 'which is said') or diag explain $answer[1];
say_to($first, 'still there?');
is($owner->get("$chats/$first->{id}")->{status}, 'waiting', 'the chat goes on without it');
done_testing();
