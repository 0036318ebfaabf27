# The virtual desktop of a workspace: a screen to look at, and what is done on it reaches the X server.
use strict;
use warnings FATAL => 'all';
use utf8;
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use Digest::SHA qw(sha256_hex);
use Compress::Zlib ();
use Encode ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();
for my $program (qw(Xtigervnc openbox xterm xev xdotool))
{
	plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';

my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => 'http://127.0.0.1:9/v1' });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 2000000 });

# The agent's own API, as a runner reaches it.
my $agent_id = $server->sql('SELECT id FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
my $ticket = 'a-ticket-of-the-test';
$server->sql("INSERT INTO coder.chat_agent_tickets (hash, agent_id, expires_at) VALUES ('\\x" . sha256_hex($ticket) . "', '$agent_id', now() + interval '1 hour')");
our $anybody = $server->client;
sub to_agent
{
	my ($method, $path, $body) = @_;
	return $anybody->request($method, "/api/experimental/chat-agents/$agent_id/api/v0$path", $body, 'Coder-Chat-Ticket' => $ticket);
}
sub act { my ($action, %more) = @_; return to_agent('POST', '/desktop/action', { action => $action, %more }) }
sub run
{
	my ($command) = @_;
	my (undef, $started) = to_agent('POST', '/processes/start', { command => $command });
	my (undef, $r) = to_agent('GET', "/processes/$started->{id}/output?wait=true");
	return $r->{output};
}
sub begin { my ($command) = @_; return (to_agent('POST', '/processes/start', { command => $command, background => JSON::PP::true }))[1]{id} }
sub output { my ($id) = @_; return (to_agent('GET', "/processes/$id/output"))[1]{output} }

# a screenshot begins it
my ($status, $shot) = act('screenshot');
is($status, 200, 'a screenshot') or diag explain $shot;
is_deeply([@$shot{qw(output screenshot_width screenshot_height)}], ['screenshot', 1920, 1080], 'of the whole screen');
# Lines of red, green and blue of a PNG as the agent writes it.
sub picture
{
	my ($png) = @_;
	my ($w, $h) = unpack 'N2', substr $png, 16, 8;
	my ($n) = unpack 'N', substr $png, 33, 4;
	my $lines = Compress::Zlib::uncompress(substr $png, 41, $n);
	my @rows;

	is(substr($png, 0, 8), "\x89PNG\r\n\x1a\n", 'it is a PNG');
	is(length $lines, $h * (3 * $w + 1), 'with all its lines');
	is(unpack('N', substr $png, 41 + $n, 4), Compress::Zlib::crc32(substr $png, 37, $n + 4), 'and a sum that is right');
	return ($w, $h, $lines);
}
my ($w, $h, $lines) = picture(decode_base64($shot->{screenshot_data}));
is("$w $h", '1920 1080', 'of its size');
($status, $shot) = act('screenshot', scaled_width => 1280, scaled_height => 720);
is_deeply([@$shot{qw(screenshot_width screenshot_height)}], [1280, 720], 'a smaller one');
picture(decode_base64($shot->{screenshot_data}));
like(run('echo $DISPLAY; xdpyinfo | grep dimensions'), qr/\A:\d+\n.*1920x1080/s, 'commands of chats find the display');
like(run('env -u XAUTHORITY xdpyinfo 2>&1'), qr/unable to open display|Authorization required/i, 'which wants its key');
is($server->wait_for(10, sub { run('pgrep -c openbox') =~ /^1$/m }) ? 1 : 0, 1, 'windows are managed');

# the pointer
my @moved = act('mouse_move', coordinate => [640, 360], scaled_width => 1280, scaled_height => 720);
is($moved[1]{output}, 'mouse_move action performed', 'the pointer is moved') or diag explain \@moved;
like(run('xdotool getmouselocation'), qr/^x:96[01] y:54[01] /, 'the X server has it where it was put, in its own size');
is((act('cursor_position', scaled_width => 1280, scaled_height => 720))[1]{output}, 'x=640,y=360', 'and it is told where it is');
act('mouse_move', coordinate => [99999, -5]);
like(run('xdotool getmouselocation'), qr/^x:1919 y:0 /, 'beyond the screen it stays at its edge');

# keys
my $typed = 'typed.txt';
my $terminal = begin("xterm -u8 -fa Mono -geometry 100x30+0+0 -e sh -c 'cat > $typed'");
ok($server->wait_for(15, sub { run('xdotool search --onlyvisible --class xterm') =~ /\d/ }), 'a terminal');
act('left_click', coordinate => [300, 200]);
my $text = "Hello, World! ~\$[]{}|\\\n" . 'äöü ß é € Ж 漢字' . "\n" . join('', map { chr(33 + $_ % 90) } 1 .. 300) . "\n";
is((act('type', text => $text))[1]{output}, 'type action performed', 'text is typed');
my $bytes = '';
$server->wait_for(15, sub { $bytes = run("cat $typed"); $bytes = Encode::decode('UTF-8', $bytes) unless utf8::is_utf8($bytes); $bytes eq $text });
is($bytes, $text, 'every character of it arrives');
is((act('key', text => 'ctrl+d'))[1]{output}, 'key action performed', 'a chord is pressed');
ok($server->wait_for(10, sub { (to_agent('GET', "/processes/$terminal/output"))[1]{running} == JSON::PP::false }), 'and is one: the terminal ends');

# buttons
my $xev = begin('xev -geometry 1600x900+50+50 -event button -event keyboard');
ok($server->wait_for(15, sub { run('xdotool search --onlyvisible --name "Event Tester"') =~ /\d/ }), 'a window that tells what it gets');
sub events
{
	my @list = (output($xev) // '') =~ /^((?:Button|Key)(?:Press|Release)) event.*?(?:state 0x([0-9a-f]+), button (\d)|keysym 0x[0-9a-f]+, (\w+))/msg;
	my @told;
	while (my ($name, $state, $button, $key) = splice @list, 0, 4) { push @told, $name . ' ' . ($button // $key) }
	return @told;
}
my $seen = 0;
sub gets
{
	my ($wanted, $name) = @_;
	my @now;
	$server->wait_for(10, sub { @now = events(); @now >= $seen + @$wanted });
	is_deeply([@now[$seen .. $#now]], $wanted, $name);
	$seen = @now;
}
act('left_click', coordinate => [800, 500]);
gets(['ButtonPress 1', 'ButtonRelease 1'], 'a click');
act('right_click', coordinate => [800, 500]);
gets(['ButtonPress 3', 'ButtonRelease 3'], 'of the right button');
act('middle_click', coordinate => [800, 500]);
gets(['ButtonPress 2', 'ButtonRelease 2'], 'of the middle one');
act('double_click', coordinate => [800, 500]);
gets([('ButtonPress 1', 'ButtonRelease 1') x 2], 'twice');
act('triple_click', coordinate => [800, 500]);
gets([('ButtonPress 1', 'ButtonRelease 1') x 3], 'three times');
act('scroll', coordinate => [800, 500]);
gets([('ButtonPress 5', 'ButtonRelease 5') x 3], 'three down, where nothing is said');
act('scroll', coordinate => [800, 500], scroll_direction => 'up', scroll_amount => 2);
gets([('ButtonPress 4', 'ButtonRelease 4') x 2], 'two up');
act('left_click_drag', start_coordinate => [700, 400], coordinate => [900, 600]);
gets(['ButtonPress 1', 'ButtonRelease 1'], 'a drag');
like(run('xdotool getmouselocation'), qr/^x:900 y:600 /, 'which ends where it should');
act('left_mouse_down');
gets(['ButtonPress 1'], 'down');
act('left_mouse_up');
gets(['ButtonRelease 1'], 'and up');
act('left_click', coordinate => [800, 500], text => 'shift');
gets(['KeyPress Shift_L', 'ButtonPress 1', 'ButtonRelease 1', 'KeyRelease Shift_L'], 'a click with a key held');
my $began = time;
act('hold_key', text => 'a', duration => 600);
cmp_ok(time - $began, '>=', 0.6, 'a key is held as long as it is said');
gets(['KeyPress a', 'KeyRelease a'], 'and let go') unless ($server->wait_for(1, sub { events() > $seen + 2 }));
$seen = () = events();

$began = time;
{
	local $anybody = Coder::Client->new(url => $server->url, timeout => 1);
	is((act('hold_key', text => 'b', duration => 30_000))[0], 599, 'who goes away');
}
is((act('screenshot'))[0], 200, 'and waits no more');
cmp_ok(time - $began, '<', 10, 'keeps nobody waiting');
ok($server->wait_for(10, sub { (events())[-1] eq 'KeyRelease b' }), 'and holds no key') or diag explain [events()];

# what is no action
for my $bad ([{ action => 'dance' }, 'Unknown action: dance'], [{}, 'Unknown action: '], [{ action => 'key' }, 'Missing "text" for key action.'],
	[{ action => 'left_click' }, 'Missing "coordinate" for left_click action.'], [{ action => 'left_click', coordinate => ['a', 2] }, 'Invalid "coordinate" for left_click action.'],
	[{ action => 'scroll', coordinate => [1, 1], scroll_direction => 'in' }, 'Invalid scroll direction: in'],
	[{ action => 'scroll', coordinate => [1, 1], scroll_amount => 100000 }, 'Invalid "scroll_amount" for scroll action.'],
	[{ action => 'hold_key', text => 'a', duration => 10_000_000 }, 'Invalid "duration" for hold_key action.'],
	[{ action => 'key', text => 'NoSuchKey' }, 'There is no key "NoSuchKey".'], [{ action => 'screenshot', scaled_width => 100000 }, 'Invalid "scaled_width" for screenshot action.'])
{
	my @answer = to_agent('POST', '/desktop/action', $bad->[0]);
	is_deeply([$answer[0], $answer[1]{message}], [400, $bad->[1]], $bad->[1]);
}

# a person looks at it
my (undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, content => [{ type => 'text', text => 'hello' }], workspace_id => $ws->{id} });
sub look
{
	my $view = Coder::WebSocket->open($server->url, "$chats/$chat->{id}/stream/desktop", token => $owner->{token}) or die $@;
	my $have = '';
	my $take = sub { my ($n) = @_; while (length $have < $n) { $have .= $view->message(10) // return } return substr $have, 0, $n, '' };

	return ($view, $take, sub { $view->send_frame(2, $_[0]) });
}
my ($view, $take, $say) = look();
is($take->(12), "RFB 003.008\n", 'the screen\'s own protocol comes');
$say->("RFB 003.008\n");
is($take->(2), "\1\1", 'no password is wanted');
$say->("\1");
is($take->(4), "\0\0\0\0", 'nor is anything else');
$say->("\1");
my ($vw, $vh, $name) = unpack 'n2 x16 N', $take->(24);
is("$vw $vh", '1920 1080', 'the same screen');
$take->($name);
$say->(pack('C x n N', 2, 1, 0) . pack('C C n4', 3, 0, 0, 0, $vw, $vh));
my ($rectangles) = unpack 'x2 n', $take->(4);
my $size = 0;
for (1 .. $rectangles)
{
	my ($x, $y, $rw, $rh) = unpack 'n4', $take->(12);
	$size += length $take->($rw * $rh * 4);
}
is($size, $vw * $vh * 4, 'eight megabytes of pixels arrive');
$say->(pack('C C n n', 5, 0, 123, 321));
ok($server->wait_for(10, sub { run('xdotool getmouselocation') =~ /^x:123 y:321 / }), 'the person moves the pointer');

# films
SKIP:
{
	skip 'ffmpeg is not installed', 10 unless grep { -x "$_/ffmpeg" } split /:/, $ENV{PATH};
	my %film = (recording_id => '11111111-2222-4333-8444-555555555555');
	is_deeply([(to_agent('POST', '/desktop/recording/start', \%film))[0, 1]], [200, { message => 'Recording started.' }], 'a film begins');
	is((to_agent('POST', '/desktop/recording/start', \%film))[0], 200, 'and goes on where it has begun');
	act('mouse_move', coordinate => [100 * $_, 90 * $_], ) && run('sleep 0.2') for 1 .. 8;
	my ($code, $body, $headers) = to_agent('POST', '/desktop/recording/stop', \%film);
	my ($boundary) = $headers->{'content-type'} =~ m{^multipart/mixed; boundary=(\w+)$};
	is($code, 200, 'it is stopped') or diag explain $body;
	my @parts = split /(?:^|\r\n)--$boundary(?:--)?\r\n/, $body;
	is(scalar @parts, 3, 'and given back in two parts');
	like($parts[1], qr{^Content-Type: video/mp4\r\n\r\n....ftyp}s, 'a film');
	like($parts[2], qr{^Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff}s, 'and a picture of it');
	is((to_agent('POST', '/desktop/recording/stop', \%film))[2]{'content-length'}, $headers->{'content-length'}, 'who stops it again is given the same');
	is_deeply([map { (to_agent('POST', '/desktop/recording/stop', $_))[0] } {}, { recording_id => 'x' }, { recording_id => '11111111-2222-4333-8444-555555555556' }],
		[400, 400, 404], 'only one that was begun');
	is((to_agent('POST', '/desktop/recording/start', [1]))[0], 400, 'what is no object begins nothing');
	open my $out, '>', "$server->{dir}/film.mp4" or die;
	binmode $out;
	print $out $parts[1] =~ s/^.*?\r\n\r\n//sr;
	close $out;
	like(`ffprobe -v error -show_entries stream=codec_name,width -of csv=p=0 $server->{dir}/film.mp4 2>&1`, qr/^h264,1280/, 'players know it');
}

# an X server that dies
my ($pid) = run('pgrep Xtigervnc') =~ /(\d+)/;
run("kill -9 $pid");
is($view->message(10), undef, 'who looks sees the end');
is($view->{close}[0], 1011, 'and is told so');
($status, $shot) = act('screenshot');
is($status, 200, 'the next action begins it again') or diag explain $shot;
isnt(run('pgrep Xtigervnc') =~ /(\d+)/ ? $1 : $pid, $pid, 'it is another one');

# at the same time
my @parallel = map { my $n = $_; my $child = open(my $from, '-|') // die; if (!$child) { my ($s, $r) = act('mouse_move', coordinate => [100 + $n, 100 + $n]); print $s; exec 'true' } $from } 1 .. 8;
is_deeply([map { my $from = $_; my $s = <$from>; close $from; $s } @parallel], [(200) x 8], 'eight at once are done one after the other');

# who may not
my $cookie = { Cookie => "coder_session_token=$owner->{token}" };
ok(!Coder::WebSocket->open($server->url, "$chats/$chat->{id}/stream/desktop", headers => { %$cookie, Origin => 'https://elsewhere.example' }), 'another site\'s page does not see it');
like($@, qr{^HTTP/1.1 403}, 'it is told so');
ok(Coder::WebSocket->open($server->url, "$chats/$chat->{id}/stream/desktop", headers => { %$cookie, Origin => $server->url }), 'our own does');
my (undef, $made) = $owner->post('/api/v2/users', { email => 'o@example.com', username => 'other', password => 'SomeSecurePassword!', organization_ids => [$p->{organization}] });
is(($server->client($server->login('o@example.com', 'SomeSecurePassword!')->{token})->request('GET', "$chats/$chat->{id}/stream/desktop"))[0], 404, 'nor does another user');
is((($server->client->request('GET', "$chats/$chat->{id}/stream/desktop"))[0]), 401, 'who is nobody sees nothing');

# no leftovers
my $outside = sub { my @all = grep { /coder-desktop|Xtigervnc.*workspace/ } `ps -eo args`; return scalar @all };
cmp_ok($outside->(), '>=', 1, 'it runs now');
my ($agent_pid) = run('echo $PPID') =~ /(\d+)/;
to_agent("POST", "/processes/start", { command => "kill -9 $agent_pid" }) if $agent_pid;
ok($server->wait_for(15, sub { $outside->() == 0 }), 'nothing of it outlives the agent, however that ends') or diag `ps -eo pid,ppid,args | grep -i vnc`;

done_testing;
