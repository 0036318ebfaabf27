# MCP servers inside a workspace: programs that its .mcp.json names, their tools in chats, and what happens when one dies or the file changes.
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
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->utf8;

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 1000000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });

sub text { return [{ type => 'text', text => $_[0] }] }
my ($status, $chat) = $owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text('hello') });
sub wait_done { $server->wait_for(60, sub { $owner->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ }) }
wait_done();
my $n = 0;
sub tool
{
	my ($name, $args) = @_;
	$owner->post("$chats/$chat->{id}/messages", { content => text("tool:$name " . $json->encode($args)) });
	wait_done();
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $owner->get("$chats/$chat->{id}/messages")->{messages} };
	return ($part->{result}, $part);
}
sub offered { return sort grep { /__/ } map { $_->{function}{name} } @{ $model->requests->[-1]{body}{tools} } }

is_deeply([ offered() ], [], 'a workspace without MCP servers offers no tools of theirs');

# A server in the workspace: it says what it is asked, and dies when it is told.
my $program = <<'PL';
use strict;
use JSON::PP;
$| = 1;
my $json = JSON::PP->new->canonical;
print STDERR "noise\n";
while (my $line = <STDIN>) {
	my $m = $json->decode($line);
	next unless defined $m->{id} && $m->{method};
	my $answer = sub { print $json->encode({ jsonrpc => '2.0', id => $m->{id}, @_ }), "\n" };
	my $say = sub { $answer->(result => { content => [ { type => 'text', text => $_[0] } ] }) };
	if ($m->{method} eq 'initialize') { $answer->(result => { protocolVersion => '2025-06-18', capabilities => {}, serverInfo => { name => 'x', version => 1 } }) }
	elsif ($m->{method} eq 'tools/list') {
		my @all = map { { name => $_, description => "Tool $_", inputSchema => { type => 'object', properties => { text => { type => 'string' } } } } } qw(echo env die picture);
		my $at = $m->{params}{cursor} // 0;
		$answer->(result => { tools => [ $all[$at] ], $at < $#all ? (nextCursor => '' . ($at + 1)) : () });
	}
	else {
		my ($tool, $args) = @{ $m->{params} }{qw(name arguments)};
		exit 3 if $tool eq 'die';
		if ($tool eq 'echo') { $say->($args->{text}) }
		elsif ($tool eq 'env') { $say->("$ENV{SAID} $ARGV[0]") }
		elsif ($tool eq 'picture') { $answer->(result => { content => [ { type => 'image', data => 'aGk=', mimeType => 'image/png' } ] }) }
		else { $answer->(error => { code => -32602, message => 'no such tool' }) }
	}
}
PL
my ($r) = tool('execute', { command => 'pwd' });
my $home = $r->{output} =~ s/\n//r;
tool('write_file', { path => "$home/server.pl", content => $program });
my %config = (mcpServers => { local => { command => 'perl', args => [ 'server.pl', "it's \$HOME" ], env => { SAID => 'from the file' } }, far => { type => 'http', url => 'http://127.0.0.1:1/' }, none => { command => '/nowhere/program' } });
tool('write_file', { path => "$home/.mcp.json", content => $json->encode(\%config) });
($r, my $part) = tool('local__echo', { text => 'in the workspace' });
is_deeply($r, { output => 'in the workspace' }, 'a tool of a program in the workspace') or diag explain $part;
is($part->{mcp_server_config_id}, undef, 'which no administrator has set up');
is_deeply([ offered() ], [ map { "local__$_" } qw(die echo env picture) ], 'its tools are offered, of all pages; others are left out');
is((tool('local__env', {}))[0]{output}, 'from the file it\'s $HOME', 'its environment and arguments are as the file says');
is((tool('local__picture', {}))[1]{is_media}, JSON::PP::true(), 'a picture');
($r, $part) = tool('local__die', {});
ok($part->{is_error} && $r->{error} =~ /has ended/, 'one that dies meanwhile') or diag explain $r;
is_deeply((tool('local__echo', { text => 'again' }))[0], { output => 'again' }, 'is started again');
$config{mcpServers} = { other => $config{mcpServers}{local} };
tool('write_file', { path => "$home/.mcp.json", content => $json->encode(\%config) });
is_deeply((tool('other__echo', { text => 'x' }))[0], { output => 'x' }, 'a change of the file counts');
is((tool('local__echo', { text => 'x' }))[0]{error}, 'Tool not found: local__echo', 'what it does not name any more is gone');
tool('write_file', { path => "$home/.mcp.json", content => '{"mcpServers": nonsense' });
is((tool('other__echo', { text => 'x' }))[0]{error}, 'Tool not found: other__echo', 'a file that is none names nothing');
($r) = tool('execute', { command => 'pgrep -fc "^perl server.pl" || true' });
like($r->{output}, qr/^0/, 'and nothing runs on') or diag explain $r;
done_testing();
