# A desktop whose programs are missing or die, and an agent that does: what is said, and what is left.  The agents run outside of sandboxes.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use Digest::SHA qw(sha256_hex);
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

Coder::Provisioning::need_agent();
for my $program (qw(Xtigervnc openbox ffmpeg bwrap))
{
	plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}
my $gateway = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $dir = $gateway->{dir};
my $coder = Coder::Provisioning::coder();
$gateway->first_user;
my ($token) = workspaces($gateway, 10);
my $id = $gateway->sql("SELECT id FROM coder.workspace_agents WHERE auth_token = '$token'");
my $ticket = 'a-ticket-of-the-test';
$gateway->sql("INSERT INTO coder.chat_agent_tickets (hash, agent_id, expires_at) VALUES ('\\x" . sha256_hex($ticket) . "', '$id', now() + interval '1 hour')");
mkdir "$dir/home";

my $agent;
END { local $?; kill 'KILL', $agent if $agent }

# The agent, by these words in front of it.
sub begin
{
	my (@front) = @_;
	$agent = fork // die;
	if ($agent == 0)
	{
		open STDERR, '>>', "$dir/agent.log";
		%ENV = (PATH => $ENV{PATH}, HOME => "$dir/home", CODER_AGENT_URL => $gateway->url, CODER_AGENT_TOKEN => $token, CODER_AGENT_LOG_DIR => $dir, CODER_AGENT_SCRIPT_DATA_DIR => $dir);
		exec @front, $coder, 'agent' or POSIX::_exit(127);
	}
	ok($gateway->wait_for(30, sub { (ask('POST', '/list-directory', { path => [], relativity => 'root' }))[0] == 200 }), 'an agent') or diag `tail -5 $dir/agent.log`;
	return $agent;
}
sub end { my ($signal) = @_; kill $signal, $agent; waitpid $agent, 0; undef $agent }
sub ask
{
	my ($method, $path, $body) = @_;
	return $gateway->client->request($method, "/api/experimental/chat-agents/$id/api/v0$path", $body, 'Coder-Chat-Ticket' => $ticket);
}
sub act { my ($action, %more) = @_; return ask('POST', '/desktop/action', { action => $action, %more }) }
# Processes that belong to a desktop of the agent with that number.
sub left { my ($pid) = @_; return grep { m{/tmp/coder-desktop-$pid/|^openbox} && !/defunct/ } map { s/^\s+//r } `ps -eo args` }
my $film = { recording_id => '11111111-2222-4333-8444-555555555555' };

# killed
my $first = begin();
is((act('screenshot'))[0], 200, 'a desktop');
is((ask('POST', '/desktop/recording/start', $film))[0], 200, 'and a film of it');
ok(-d "/tmp/coder-desktop-$first", 'it has a folder');
is((stat "/tmp/coder-desktop-$first")[2] & 07777, 0700, 'that nobody else enters');
is((stat "/tmp/coder-desktop-$first/vnc")[2] & 07777, 0600, 'with a socket that nobody else opens');
my @listening = grep { /Xtigervnc/ } `ss -ltnpH 2>/dev/null`;
is_deeply(\@listening, [], 'and no port');
end('KILL');
ok($gateway->wait_for(15, sub { !left($first) }), 'nothing of it runs when the agent has been killed') or diag join "\n", left($first);

# asked to end
my $second = begin();
ok(!-e "/tmp/coder-desktop-$first", 'the next agent tidies up when it begins');
is((act('screenshot'))[0], 200, 'the next agent has a desktop of its own');
ask('POST', '/desktop/recording/start', $film);
end('TERM');
ok($gateway->wait_for(15, sub { !left($second) && !-e "/tmp/coder-desktop-$second" }), 'who is asked to end leaves nothing') or diag join "\n", left($second), `ls -la /tmp/coder-desktop-$second`;

# an X server that dies in the middle of an action
my $third = begin();
is((act('screenshot'))[0], 200, 'a desktop');
my ($server) = map { /^\s*(\d+) / } grep { m{/tmp/coder-desktop-$third/} && /Xtigervnc/ } `ps -eo pid,args`;
my $child = open(my $from, '-|') // die;
if ($child == 0) { my ($status, $r) = act('hold_key', text => 'a', duration => 20_000); print "$status $r->{message}"; close STDOUT; POSIX::_exit(0) }
sleep 0.5;
kill 'KILL', $server;
my $began = time;
like(do { local $/; <$from> }, qr/^500 The desktop has ended\.$/, 'who waits is told');
cmp_ok(time - $began, '<', 5, 'at once');
is((act('screenshot'))[0], 200, 'and the next action begins it again');

# one that cannot start: what it said is told
($server) = map { /^\s*(\d+) / } grep { m{/tmp/coder-desktop-$third/} && /Xtigervnc/ } `ps -eo pid,args`;
kill 'KILL', $server;
end('TERM');
my @hidden = map { ('--ro-bind', '/dev/null', $_) } grep { -e && !-l } map { ("/usr/bin/$_", "/usr/local/bin/$_") } qw(Xtigervnc Xvnc);
my @only = ('bwrap', '--die-with-parent', '--dev-bind', '/', '/');
my $broken = "$dir/broken";
open my $script, '>', $broken or die;
print $script "#!/bin/sh\necho something else >&2\necho 'no keyboard here' >&2\nexit 3\n";
close $script;
chmod 0755, $broken;
begin(@only, map { $_ eq '/dev/null' ? $broken : $_ } @hidden);
my @answer = act('screenshot');
is($answer[0], 500, 'an X server that does not start');
is($answer[1]{message}, 'Failed to start desktop session.', 'is told of');
like($answer[1]{detail}, qr/status 3: no keyboard here$/, 'with its last words') or diag explain \@answer;
is((act('screenshot'))[0], 500, 'and tried again each time');
end('TERM');

# missing programs
begin(@only, @hidden, '--ro-bind', '/dev/null', '/usr/bin/ffmpeg');
@answer = act('screenshot');
is_deeply([$answer[0], $answer[1]{message}], [500, 'Failed to start desktop session.'], 'without an X server there is no desktop');
like($answer[1]{detail}, qr/apt-get install tigervnc-standalone-server/, 'and it is said how to get one');
@answer = ask('GET', '/desktop/vnc');
is($answer[0], 500, 'who wants to look hears the same');
like($answer[1]{detail}, qr/apt-get install/, 'as a plain answer');
is((ask('POST', '/desktop/recording/start', $film))[0], 500, 'and so does who wants a film');
end('TERM');
begin(@only, '--ro-bind', '/dev/null', '/usr/bin/ffmpeg');
is((act('screenshot'))[0], 200, 'a desktop without ffmpeg');
@answer = ask('POST', '/desktop/recording/start', $film);
is($answer[0], 500, 'has no films');
like($answer[1]{detail}, qr/apt-get install ffmpeg/, 'and it is said what is missing');
is((ask('POST', '/desktop/recording/stop', $film))[0], 404, 'there is nothing to stop');
end('TERM');

done_testing;
