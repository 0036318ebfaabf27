# A model uses the workspace's desktop: a subagent of its own sees the screen, and what it does reaches the X server.
use strict;
use warnings FATAL => 'all';
use utf8;
use Coder::Gateway;
use Coder::Model;
use Coder::Provisioning ();
use Encode ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use Test::More;

Coder::Provisioning::need_agent();
for my $program (qw(Xtigervnc openbox xterm xdotool ffmpeg))
{
	plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

my $model = Coder::Model->start;
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->latin1;

my $chat;
sub text { return [{ type => 'text', text => $_[0] }] }
sub messages { return @{ $owner->get("$chats/$_[0]{id}/messages")->{messages} } }
sub wait_done { my ($in) = @_; return $server->wait_for(60, sub { $owner->get("$chats/$in->{id}")->{status} =~ /waiting|error/ }) }
sub say_to { my ($words) = @_; $owner->post("$chats/$chat->{id}/messages", { content => text($words) }); wait_done($chat) }
sub tool
{
	my ($name, $args) = @_;
	say_to("tool:$name " . $json->encode($args));
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } messages($chat);
	return ($part->{result}, $part->{is_error} // JSON::PP::false);
}
sub offered { my ($request) = @_; return map { $_->{function}{name} // $_->{name} } @{ $request->{body}{tools} } }
sub last_of { my ($id) = @_; my @all = grep { ($_->{'x-coder-subchat-id'} // $_->{chat}) eq $id } @{ $model->requests }; return $all[-1] }
sub is_offered { say_to('hello'); return scalar grep { $_ eq 'spawn_computer_use_agent' } offered(last_of($chat->{id})) }

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 2000000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
(undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, content => text('hello'), workspace_id => $ws->{id} });
wait_done($chat);

# who is offered it
is(is_offered(), 0, 'nobody is offered a desktop');
my ($r, $failed) = tool('spawn_computer_use_agent', { prompt => 'look' });
ok($failed, 'nor given one');
$owner->put("$chats/config/desktop-enabled", { enable_desktop => JSON::PP::true });
is(is_offered(), 0, 'without a key of Anthropic\'s there is none either');
my (undef, $anthropic) = $owner->post("$chats/providers", { provider => 'anthropic', api_key => 'key-of-anthropic', base_url => $model->url });
is(is_offered(), 1, 'with one it is offered');
$owner->patch("$chats/providers/$anthropic->{id}", { allow_user_api_key => JSON::PP::true, central_api_key_enabled => JSON::PP::false });
is(is_offered(), 0, 'where only users\' own keys count it is not');
my @kept = $owner->put("$chats/user-provider-configs/$anthropic->{id}", { api_key => 'key-of-the-user' });
is(is_offered(), 1, 'unless the owner has one') or diag explain \@kept;

# a screenshot
my ($spawned) = tool('spawn_computer_use_agent', { prompt => 'tool:computer {"action": "screenshot"}', title => 'A look' });
is_deeply([$spawned->{title}, $spawned->{status}], ['A look', 'pending'], 'a subagent is begun') or diag explain $spawned;
my $child = { id => $spawned->{chat_id} };
wait_done($child);
is($server->sql("SELECT mode || ' ' || status FROM coder.chats WHERE id = '$child->{id}'"), 'computer_use waiting', 'it uses the computer, and ends well')
	or diag $server->sql("SELECT last_error FROM coder.chats WHERE id = '$child->{id}'");
my $asked = last_of($child->{id});
is_deeply([@$asked{qw(path anthropic-beta x-api-key)}, $asked->{body}{model}], ['/v1/messages?beta=true', 'computer-use-2025-11-24', 'key-of-the-user', 'claude-opus-4-6'],
	'Anthropic\'s model is asked, with the owner\'s key') or diag explain [@$asked{qw(path anthropic-beta x-api-key)}];
my ($defined) = grep { ($_->{type} // '') eq 'computer_20251124' } @{ $asked->{body}{tools} };
is_deeply($defined, { type => 'computer_20251124', name => 'computer', display_width_px => 1280, display_height_px => 720 }, 'which knows the tool');
ok((grep { $_ eq 'execute' } offered($asked)) && !(grep { /^spawn_/ } offered($asked)), 'it has the workspace\'s tools, and no agents of its own');
my ($result) = map { @{ $_->{content} } } grep { $_->{role} eq 'user' && ($_->{content}[0]{type} // '') eq 'tool_result' } @{ $asked->{body}{messages} };
is_deeply([map { $_->{type} } @{ $result->{content} }], ['text', 'image'], 'the model is shown the picture') or diag explain $result;
is_deeply([@{ $result->{content}[1]{source} }{qw(type media_type)}], ['base64', 'image/png'], 'as a PNG');
my $png = decode_base64($result->{content}[1]{source}{data});
is_deeply([substr($png, 0, 8), unpack 'N2', substr $png, 16, 8], ["\x89PNG\r\n\x1a\n", 1280, 720], 'of the size that it was told');
my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } messages($child);
is_deeply([@$part{qw(tool_name is_media)}, $part->{result}{mime_type}], ['computer', JSON::PP::true, 'image/png'], 'people are, too');
ok(!(grep { $_ eq 'computer' } offered(last_of($chat->{id}))), 'the chat itself has no such tool');

# mouse and keyboard
my ($started) = tool('execute', { command => 'exec xterm -u8 -fa Mono -geometry 100x30+0+0 -e sh -c "cat > typed.txt"', run_in_background => JSON::PP::true });
($r) = tool('execute', { command => 'for i in $(seq 100); do xdotool search --onlyvisible --class xterm && break; sleep 0.1; done', timeout => '15s' });
like($r->{output} // '', qr/\d/, 'a window is there');
my $typed = 'Grüße, 世界 & "all"';
my @steps = ({ action => 'left_click', coordinate => [200, 150] }, { action => 'type', text => "$typed\n" }, { action => 'key', text => 'ctrl+d' },
	{ action => 'mouse_move', coordinate => [640, 360] }, { action => 'cursor_position' }, { action => 'fly' }, { action => 'wait', duration => 3 });
($spawned) = tool('spawn_computer_use_agent', { prompt => join "\n", map { 'tool:computer ' . JSON::PP->new->canonical->ascii->encode($_) } @steps });
$child = { id => $spawned->{chat_id} };
my ($waited) = tool('wait_agent', { chat_id => $child->{id}, timeout_seconds => 60 });
is($waited->{status}, 'waiting', 'it is waited for') or diag explain $waited;
($r) = tool('execute', { command => 'cat typed.txt; xdotool getmouselocation' });
my $output = $r->{output};
like($output, qr/^\Q$typed\E$/m, 'what it typed has arrived, in the order of its calls') or diag explain $output;
like($output, qr/^x:96[01] y:54[01] /m, 'and the pointer is where it was moved');
my @results = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } reverse messages($child);
is_deeply([map { $_->{is_media} ? 'picture' : $_->{is_error} ? 'error' : 'text' } @results], [('picture') x 4, 'text', 'error', 'picture'], 'each action is answered with what came of it')
	or diag explain [map { +{ %$_, result => '' } } @results];
is($results[4]{result}{output}, 'x=640,y=360', 'a place is told in words');
is($results[5]{result}{error}, 'Unknown action: fly', 'and what cannot be done');
is($results[0]{result}{text}, 'left_click action performed', 'a picture says of what it is');

# the film of it
for my $file ([recording_file_id => 'video/mp4', qr/^....ftyp/s], [thumbnail_file_id => 'image/jpeg', qr/^\xff\xd8\xff/])
{
	my ($name, $type, $magic) = @$file;
	my ($status, $body, $headers) = $owner->request('GET', "$chats/files/" . ($waited->{$name} // 'none'));
	is_deeply([$status, $headers->{'content-type'}], [200, $type], "$name is a file") or diag explain $waited;
	like($body, $magic, 'and is what it says');
}
is_deeply([sort map { $_->{mime_type} } @{ $owner->get("$chats/$chat->{id}")->{files} }], ['image/jpeg', 'video/mp4'], 'both are the chat\'s')
	or diag explain $owner->get("$chats/$chat->{id}")->{files};
my (undef, $other) = $owner->post('/api/v2/users', { email => 'o@example.com', username => 'other', password => 'SomeSecurePassword!', organization_ids => [$p->{organization}] });
my $stranger = $server->client($server->login('o@example.com', 'SomeSecurePassword!')->{token});
is(($stranger->request('GET', "$chats/files/$waited->{recording_file_id}"))[0], 404, 'and nobody else\'s');

# stopped in the middle of a long action
($spawned) = tool('spawn_computer_use_agent', { prompt => 'tool:computer {"action": "hold_key", "text": "shift", "duration": 50}' });
$child = { id => $spawned->{chat_id} };
$server->wait_for(15, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$child->{id}'") > 0 });
my ($closed) = tool('close_agent', { chat_id => $child->{id} });
is($closed->{terminated}, JSON::PP::true, 'it is closed');
($spawned) = tool('spawn_computer_use_agent', { prompt => 'tool:computer {"action": "screenshot"}' });
ok(wait_done({ id => $spawned->{chat_id} }), 'the next has the screen at once');

done_testing;
