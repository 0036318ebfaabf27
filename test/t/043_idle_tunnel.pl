# The server's own tunnel to a workspace goes some time after its last connection, not while there is one, and comes again.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();

my ($gateway, $p) = Coder::Provisioning::with_agent(CODER_TUNNEL_IDLE_SECONDS => 2);
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace runs') or diag $build->{error};
my $agent = $gateway->sql('SELECT id FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');

sub tunnels { return ($gateway->client->get('/metrics'))[1] =~ /^coder_gateway_tailnet_tunnels (\d+)$/m ? $1 : 'none' }

# A terminal that answers.
sub terminal
{
	my $id = sprintf '%08x-0000-4000-8000-%012x', rand 2**31, rand 2**31;
	my $pty = Coder::WebSocket->open($gateway->url, "/api/v2/workspaceagents/$agent/pty?reconnect=$id&width=80&height=24&command=sh", token => $gateway->{token})
	  or die $@;
	return $pty;
}
sub answers
{
	my ($pty, $what) = @_;
	my $seen = '';
	my $end = time + 10;

	$pty->send_frame(2, JSON::PP::encode_json({ data => "echo $what-\$((1+1))\r" }));
	while (time < $end && $seen !~ /$what-2/) { $seen .= $pty->message(1) // '' }
	return $seen =~ /$what-2/;
}

$gateway->wait_for(20, sub { ($p->{client}->get("/api/v2/workspaceagents/$agent"))[1]{status} eq 'connected' });
is(tunnels(), 0, 'nobody needs a tunnel yet');
my $pty = terminal();
ok(answers($pty, 'first'), 'a terminal');
is(tunnels(), 1, 'makes one');
my $long = time;
select undef, undef, undef, 5;
is(tunnels(), 1, 'which stays while it is open, though nothing is typed for longer than the time');
ok(answers($pty, 'still'), 'and works');
close $pty->{socket};
my $closed = time;
ok($gateway->wait_for(10, sub { tunnels() == 0 }), 'it goes when the last connection has gone');
cmp_ok(time - $closed, '>', 1.5, 'not at once');
ok(answers(terminal(), 'again'), 'and another makes it again');
is(tunnels(), 1, 'as before');
done_testing;
