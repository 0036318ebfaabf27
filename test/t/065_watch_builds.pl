# Who watches all builds gets the end of each once and in order; a plain member sees her own; a slow watcher holds nobody up.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use IO::Select;
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time sleep);

my $path = '/api/experimental/watch-all-workspacebuilds';
my ($watchers, $workspaces, $rounds) = (5, 3, 10);
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir));
my $owner = $gateway->first_user;
my ($status, $body) = $owner->get($path);
is($status, 403, 'without the experiment: forbidden');
like($body->{message}, qr/'workspace-build-updates'/, 'and the message names it');
$gateway->{env}{CODER_EXPERIMENTS} = 'workspace-build-updates';
$gateway->restart;
is(($owner->get($path))[0], 426, 'with the experiment it wants a WebSocket');
is(($gateway->client->get($path))[0], 401, 'and a session');

my $p = Coder::Provisioning->new($gateway);
my $version = $p->import('small', { 'main.tf' => qq(data "coder_workspace" "me" {}\n) });
my $template = $p->template('small', $version);
my %user = (email => 'ann@example.com', username => 'ann', password => 'SomeSecurePassword!', organization_ids => [ $p->{organization} ]);
is(($owner->post('/api/v2/users', \%user))[0], 201, 'a plain member');
my $ann = $gateway->login('ann@example.com', $user{password});

sub watch { my ($client) = @_; return Coder::WebSocket->open($gateway->url, $path, token => $client->{token}) // die $@ }
# Messages until there are so many, or nobody sends any more.
sub events
{
	my ($ws, $n, $seconds) = @_;
	my @events;
	while (@events < $n) { push @events, decode_json($ws->message($seconds // 30) // last) }
	return @events;
}
sub text { return join ' ', map { "$_->{workspace_name}/$_->{build_number}/$_->{transition}/$_->{job_status}" } @_ }

my @all = map { watch($owner) } 1 .. $watchers;
my $hers = watch($ann);
my @ws;
for my $n (1 .. $workspaces)
{
	my $client = $n == 1 ? $ann : $owner;
	my ($code, $ws) = $client->post('/api/v2/users/me/workspaces', { template_id => $template->{id}, name => "ws$n" });
	is($code, 201, "workspace $n") or diag $ws->{message};
	push @ws, $ws;
}

# The workspaces build side by side, each one build after the other.
my @left = map { $rounds - 1 } @ws;
my @number = map { 1 } @ws;
ok($gateway->wait_for(45, sub {
	for my $i (grep { $left[$_] > 0 } 0 .. $#ws)
	{
		my ($code) = $owner->post("/api/v2/workspaces/$ws[$i]{id}/builds", { transition => $number[$i] % 2 ? 'stop' : 'start' });
		next if $code == 409;
		die "build: $code" unless $code == 201;
		$left[$i]--;
		$number[$i]++;
	}
	return !grep { $_ > 0 } @left;
}), 'all builds are asked for');
my @first = events($all[0], $workspaces * $rounds);
is(scalar @first, $workspaces * $rounds, 'the first watcher gets an event for each build');
for my $n (1 .. $workspaces)
{
	is(text(grep { $_->{workspace_name} eq "ws$n" } @first),
		join(' ', map { "ws$n/$_/" . ($_ % 2 ? 'start' : 'stop') . '/succeeded' } 1 .. $rounds), "those of workspace $n in their order");
}
is_deeply([ sort keys %{ $first[0] } ], [ sort qw(workspace_id workspace_name transition job_status build_number build_id) ], 'with its fields');
my $order = $gateway->sql(q{SELECT string_agg(payload::jsonb->>'build_id', ' ' ORDER BY seq) FROM coder.events WHERE channel = 'workspace_updates:all'});
is(join(' ', map { $_->{build_id} } @first), $order, 'in the order of the commits');
is_deeply([ events($all[$_], $workspaces * $rounds) ], \@first, "watcher $_ gets the same") for 1 .. $#all;
is(text(events($hers, $rounds)), text(grep { $_->{workspace_name} eq 'ws1' } @first), 'a member gets her own, in order');

# Builds that fail or are cancelled end as well.
my $broken = $p->import('broken', { 'main.tf' => <<'TF' });
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = data.coder_workspace.me.name == "broken" ? element([], 0) : "amd64"
}
TF
SKIP:
{
	skip "the import found it: $broken->{error}", 1 if $broken->{status} ne 'succeeded';
	my ($ws, $build) = $p->create($p->template('broken', $broken), 'broken');
	is(text(events($all[0], 1)), 'broken/1/start/failed', 'a build that fails has its event');
	events($_, 1) for @all[ 1 .. $#all ];
}
is(scalar events($_, 1, 0.5), 0, 'and there is nothing more') for @all, $hers;

# A slow watcher: its socket is full, and it is cut off with the reason.
my $lazy = watch($owner);
for my $round (1 .. 12)
{
	$gateway->sql(qq{SELECT count(coder.emit('workspace_updates:all', format('{"workspace_id":"%s","pad":"%s"}', '$ws[0]{id}', repeat('x', 100000)))) FROM generate_series(1, 20)});
	for my $ws (@all, $hers)
	{
		for (1 .. 20) { defined $ws->message(30) or die 'a watcher misses events' }
	}
}
pass('those who read get 24 MB each beside one who does not');
1 while defined $lazy->message(3);
is($lazy->{close} && $lazy->{close}[0], 1008, 'who is cut off');
like($lazy->{close} ? $lazy->{close}[1] : '', qr/slow consumer/, 'with the reason');
undef $lazy;
@all = ();

# One workspace's watch: SSE and WebSocket.
my $ws = Coder::WebSocket->open($gateway->url, "/api/v2/workspaces/$ws[0]{id}/watch-ws", token => $ann->{token});
ok($ws, 'a WebSocket of one workspace') or diag $@;
my $sse = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}");
$sse->syswrite("GET /api/v2/workspaces/$ws[0]{id}/watch HTTP/1.1\r\nHost: x\r\nCoder-Session-Token: $ann->{token}\r\n\r\n");
my $text = '';
sub sse_until
{
	my ($re) = @_;
	my $end = time + 15;
	while ($text !~ $re && time < $end) { IO::Select->new($sse)->can_read(1) && ($sse->sysread($text, 65536, length $text) || last) }
	return $text =~ $re;
}
sub ws_until
{
	my ($re) = @_;
	while (defined(my $message = $ws->message(15))) { return 1 if $message =~ $re }
	return 0;
}
ok(ws_until(qr/"type":"data".*"name":"ws1"/), 'tells its state at once');
ok(sse_until(qr/event: data\ndata: \{.*"name":"ws1"/), 'and so do server-sent events');
is(($ann->post("/api/v2/workspaces/$ws[0]{id}/builds", { transition => 'start' }))[0], 201, 'a build');
ok(ws_until(qr/"build_number":11\b.*"status":"succeeded"|"status":"succeeded".*"build_number":11\b/), 'is seen to its end on the WebSocket');
ok(sse_until(qr/"build_number":11\b/), 'and by server-sent events');
is(($gateway->login('ann@example.com', $user{password})->get("/api/v2/workspaces/$ws[1]{id}/watch"))[0], 404, 'the workspace of another is not there');
is($gateway->stop, 0, 'the server ends well');
done_testing();
