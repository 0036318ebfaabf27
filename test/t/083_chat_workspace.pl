# Tools of chats that work in their workspace: files and commands, through the gateway and the tunnel to the agent.
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
my $json = JSON::PP->new->canonical->latin1;

my $chat;
sub text { return [{ type => 'text', text => $_[0] }] }
sub results { return map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $owner->get("$chats/$_[0]{id}/messages")->{messages} } }
sub say_to
{
	my ($in, $text) = @_;
	$owner->post("$chats/$in->{id}/messages", { content => text($text) });
}
sub wait_done { my ($in) = @_; $server->wait_for(60, sub { $owner->get("$chats/$in->{id}")->{status} =~ /waiting|error/ }) }

# What a tool answers in the chat: (result, has it failed).
sub tool
{
	my ($name, $args, $in) = @_;
	$in //= $chat;
	say_to($in, "tool:$name " . $json->encode($args));
	wait_done($in);
	my ($part) = results($in);
	return ($part->{result}, $part->{is_error} // JSON::PP::false);
}

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
(undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text('hello') });
wait_done($chat);
my ($status, $lone) = $owner->post($chats, { organization_id => $p->{organization}, content => text('hello') });
wait_done($lone);

# commands
my ($r, $failed) = tool('execute', { command => 'echo "$HOME"; echo err >&2; echo "$PAGER $TERM $CODER_CHAT_ID"; exit 3' });
my ($home) = split /\n/, $r->{output} // '';
is($r->{exit_code}, 3, 'a command\'s exit code') or diag explain $r;
is($r->{success}, JSON::PP::false, 'which was no success');
is($r->{output}, "$home\nerr\ncat dumb $chat->{id}\n", 'its output and its errors, in its environment');
($r, $failed) = tool('execute', { command => 'pwd', workdir => '/tmp' });
is($r->{output}, "/tmp\n", 'in a folder');
($r, $failed) = tool('execute', { command => 'pwd', workdir => '/nowhere' });
ok($failed && $r->{error} =~ m{/nowhere}, 'a folder that there is not') or diag explain $r;
($r) = tool('execute', { command => 'read x; echo "got $x"' });
is($r->{output}, "got \n", 'nobody answers questions');
($r) = tool('execute', { command => 'head -c 100000 /dev/zero | tr "\\\\0" x | fold -w 100; echo; echo the end' });
is($r->{truncated}{strategy}, 'head_tail', 'of much output beginning and end are kept');
like($r->{output}, qr/the end\n$/, 'the end');
($r) = tool('execute', { command => 'printf "a\\\\377b"' });
is($r->{output}, "a\x{fffd}b", 'bytes that are no text');

# longer than one waits
($r) = tool('execute', { command => 'echo begun; sleep 60; echo over', timeout => '1s' });
my $id = $r->{background_process_id};
ok($id && $r->{error} && !$r->{success}, 'what takes longer runs on') or diag explain $r;
is($r->{output}, "begun\n", 'with what it said so far');
($r) = tool('process_output', { process_id => $id, wait_timeout => '0s' });
is($r->{note}, 'process is still running', 'it runs');
($r) = tool('process_list', {});
is($r->{processes}[0]{id}, $id, 'it is listed');
($r, $failed) = tool('process_output', { process_id => $id, wait_timeout => '0s' }, $lone);
ok($failed, 'another chat does not see it');
($r) = tool('process_signal', { process_id => $id, signal => 'terminate' });
is($r->{success}, JSON::PP::true, 'a signal');
($r) = tool('process_output', { process_id => $id, wait_timeout => '10s' });
isnt($r->{exit_code}, 0, 'ends it');
($r, $failed) = tool('process_signal', { process_id => $id, signal => 'kill' });
ok($failed && $r->{error} =~ /not run/, 'once');
($r) = tool('execute', { command => 'sleep 30 &' });
ok($r->{success} && $r->{background_process_id}, 'an ampersand is the background');

# files
is_deeply((tool('write_file', { path => "$home/a/b/c.txt", content => "one\n  two\nthree\ntwo\n" }))[0], { ok => JSON::PP::true }, 'a file is written, with its folders');
($r) = tool('read_file', { path => "$home/a/b/c.txt" });
is($r->{content}, "1\tone\n2\t  two\n3\tthree\n4\ttwo", 'and read') or diag explain $r;
($r) = tool('read_file', { path => "$home/a/b/c.txt", offset => 2, limit => 1 });
is_deeply([@$r{qw(content lines_read total_lines)}], ["2\t  two", 1, 4], 'a part of it');
my $edit = sub { tool('edit_files', { files => [{ path => "$home/a/b/c.txt", edits => [@_] }] }) };
($r, $failed) = $edit->({ search => 'two', replace => '2' });
ok($failed && $r->{error} =~ /more than once/, 'what is found twice is not guessed');
($r, $failed) = $edit->({ search => 'three', replace => '3' }, { search => 'four', replace => '4' });
ok($failed, 'all edits or none');
($r, $failed) = $edit->({ search => "one\ntwo", replace => "1\n2" }, { search => 'three', replace => "dr\x{e9}i" });
is($failed, JSON::PP::false, 'blanks around a line do not matter where nothing else is found') or diag explain $r;
($r) = tool('execute', { command => "cat $home/a/b/c.txt" });
is($r->{output}, "1\n2\ndr\x{e9}i\ntwo\n", 'the file is as it was edited');
($r, $failed) = tool('read_file', { path => "$home/none" });
ok($failed && $r->{error} =~ /No such file/, 'a file that there is not');
($r, $failed) = tool('write_file', { path => 'relative', content => '' });
ok($failed && $r->{error} =~ /absolute/, 'a path that is not absolute');
($r, $failed) = tool('write_file', { path => '/etc/passwd', content => '' });
ok($failed, 'a file that is not the user\'s');

# who may
($r, $failed) = tool('read_file', { path => '/etc/hosts' }, $lone);
ok($failed && $r->{error} =~ /no workspace/, 'a chat without a workspace');
my $agent_id = $server->sql('SELECT id FROM coder.workspace_agents LIMIT 1');
is(($owner->request('GET', "/api/experimental/chat-agents/$agent_id/api/v0/processes/list"))[0], 404, 'without a ticket there is nothing');

# an interrupt ends the wait, not the world
say_to($chat, 'tool:execute ' . $json->encode({ command => 'echo x; sleep 50', timeout => '60s' }));
$server->wait_for(20, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$chat->{id}' AND event->'message_part'->'part'->>'type' = 'tool-call'") > 0 });
$owner->post("$chats/$chat->{id}/interrupt");
ok($server->wait_for(20, sub { ((results($chat))[0]{result}{error} // '') eq 'tool call was interrupted before it produced a result' }), 'an interrupted call ends');
$p->build($ws, 'stop');
($r, $failed) = tool('execute', { command => 'true' });
ok($failed && $r->{error} =~ /does not run/, 'a stopped workspace');
done_testing();
