# Words of a turn come to the streams of another gateway with their events: in order, none missed or twice, and without a call for each.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Processes;
use Coder::WebSocket;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $model = Coder::Model->start;
my %env = (CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true');
my $server = Coder::Gateway->start(env => \%env);
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 800000 });
$server->sql('ALTER SYSTEM SET track_functions = pl');
$server->sql('SELECT pg_reload_conf()');
my $other = Coder::Gateway->start(env => { %env, CODER_PG_CONNECTION_URL => "host=$server->{dir}/config/postgres/run user=coder dbname=coder" });
my $idle;
$other->wait_for(20, sub { ($idle) = Coder::Processes::find($other->{pid}, qr/chat-runner/); $idle }) or die 'no second runner';
kill STOP => $idle;	# so that the words come by way of the first gateway's
END { local $?; kill CONT => $idle if $idle }

sub text { return { content => [{ type => 'text', text => $_[0] }] } }
sub create { my ($said) = @_; return ($owner->post($chats, { organization_id => $org, %{ text($said) } }))[1]{id} }
sub stream { my ($chat, $token) = @_; return Coder::WebSocket->open($other->url, "$chats/$chat/stream", token => $token // $owner->{token}) || die $@ }
sub answer_to { return join '', map { "$_ " } reverse split / /, $_[0] }
sub parts { return join '', map { $_->{message_part}{part}{text} // '' } grep { $_->{type} eq 'message_part' } @_ }
sub kind { my ($e) = @_; return $e->{type} eq 'status' ? $e->{status}{status} : $e->{type} eq 'message' ? $e->{message}{role} : $e->{type} }

# Reads until the chat waits again; all events.
sub read_all
{
	my ($stream) = @_;
	my @events;
	until (grep { kind($_) eq 'waiting' } @events)
	{
		my $message = $stream->message // last;
		push @events, @{ JSON::PP::decode_json($message) };
	}
	return @events;
}

sub order { my $last = ''; return join ' ', grep { my $new = $_ ne $last; $last = $_; $new } map { kind($_) } @_ }

# many words, watched from the beginning, by two at once
my $chat = create('begin');
$server->wait_for(20, sub { $owner->get("$chats/$chat")->{status} eq 'waiting' });
my @streams = map { stream($chat) } 1 .. 2;
$_->message for @streams;
my $said = 'slow:25 ' . join ' ', map { "w$_" } 1 .. 80;
$owner->post("$chats/$chat/messages", text($said));
for my $stream (@streams)
{
	my @events = read_all($stream);
	like(order(@events), qr/^user (pending )?running message_part assistant waiting$/, 'events in their order') or diag order(@events);
	is(parts(@events), answer_to($said), 'all words, none twice');
	is(scalar(grep { $_->{chat_id} ne $chat } @events), 0, 'of this chat');
}
undef @streams;
# What is counted is told by backends late, if at all: words that had asked would be 160.
cmp_ok($server->sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'chat_stream'"), "<", 60, "few of them asked");

# a statement of the runner that waits in the database holds up no word
{
	my $stream = stream($chat);
	$stream->message;
	$owner->post("$chats/$chat/messages", text('slow:50 ' . join ' ', map { "x$_" } 1 .. 80));
	$server->wait_for(10, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$chat' AND event->>'type' = 'message_part'") > 2 });
	my $holder = fork // die "fork: $!";
	if (!$holder) { $server->sql('BEGIN; LOCK TABLE coder.chats IN SHARE MODE; SELECT pg_sleep(2.8); COMMIT'); POSIX::_exit(0) }
	ok($server->wait_for(10, sub { $server->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coder chat runner' AND query LIKE '%chat_take%' AND wait_event_type = 'Lock'") }), 'to take chats waits');
	my ($last, $gap) = (time, 0);
	my $end = $last + 1.5;
	while (time < $end)
	{
		$stream->frame(0.02) or next;
		$gap = time - $last if time - $last > $gap;
		$last = time;
	}
	$gap = $end - $last if $end - $last > $gap;
	cmp_ok($gap, '<', 1, 'words do not');
	waitpid $holder, 0;
	$owner->post("$chats/$chat/interrupt");
	ok($server->wait_for(10, sub { $owner->get("$chats/$chat")->{status} eq 'waiting' }), 'it ends');
}

# a stream that is opened in the middle has all so far, and goes on from there
$said = 'slow:25 ' . join ' ', map { "v$_" } 1 .. 70;
my $whole = answer_to($said);
$owner->post("$chats/$chat/messages", text($said));
$server->wait_for(10, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$chat' AND event->>'type' = 'message_part'") > 2 });
my ($opened, $wrong, $longest) = (0, 0, 0);
while ($server->sql("SELECT status FROM coder.chats WHERE id = '$chat'") eq 'running')
{
	my $stream = stream($chat);
	my ($got, $until) = ('', time + 0.2);
	while (time < $until)
	{
		my (undef, $payload) = $stream->frame(0.05) or next;
		my @events = @{ JSON::PP::decode_json($payload) };
		last if grep { kind($_) eq 'waiting' } @events;
		$got .= parts(@events);
		$wrong++ if $got ne substr $whole, 0, length $got;
	}
	$opened++;
	$longest = length $got if length $got > $longest;
}
cmp_ok($opened, '>', 3, "opened again and again: $opened times");
is($wrong, 0, 'each has had the answer from its beginning');
cmp_ok($longest, '>', length($whole) / 2, 'however late it came');

# a piece that is too long for an event, and small ones behind it
$chat = create('begin');
$server->wait_for(20, sub { $owner->get("$chats/$chat")->{status} eq 'waiting' });
my $stream = stream($chat);
$stream->message;
$owner->post("$chats/$chat/messages", text('huge:40 slow:20 a b c d e f g h'));
my @events = read_all($stream);
my ($stored) = map { join '', map { $_->{text} // '' } @{ $_->{message}{content} } } grep { kind($_) eq 'assistant' } @events;
cmp_ok(length $stored, '>', 40 * 1024, 'a long answer');
ok(parts(@events) eq $stored, 'comes whole');

# an answer that failed in the middle is begun anew
$owner->post("$chats/$chat/messages", text('mid:500 slow:20 a b c d e f g h'));
@events = read_all($stream);
like(order(@events), qr/^user (pending )?running (message_part )?retry message_part assistant waiting$/, 'a retry is told where it was');
my ($i) = grep { $events[$_]{type} eq 'retry' } 0 .. $#events;
($stored) = map { join '', map { $_->{text} // '' } @{ $_->{message}{content} } } grep { kind($_) eq 'assistant' } @events;
is(parts(@events[$i .. $#events]), $stored, 'behind it is the whole answer');
undef $stream;

# who may not read any more is not told for long, though no word asks
my $second = $server->login('admin@example.com', 'SomeSecurePassword!');
my $token = $second->{token};
$owner->post("$chats/$chat/messages", text('slow:100 ' . join ' ', map { "u$_" } 1 .. 150));
$stream = stream($chat, $token);
my $words = 0;
while ($words < 5) { $words += grep { $_->{type} eq 'message_part' } @{ JSON::PP::decode_json($stream->message) } }
$second->post('/api/v2/users/logout');
my $began = time;
1 while time < $began + 14 && defined $stream->message;
cmp_ok(time - $began, '<', 13, 'a session that ended ends its stream');
$owner->post("$chats/$chat/interrupt");

done_testing;
