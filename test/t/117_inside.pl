# Commands for use within a workspace: passwords and keys for git, tokens of other services, what chats are told.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use Coder::Provisioning ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;

Coder::Provisioning::need_agent();

# A git server without any program on its side, which wants the token as a user's name.
my $host = Coder::HttpDouble->start(sub {
	my ($request) = @_;
	my $good = ($request->{headers}{authorization} // '') eq 'Basic ' . encode_base64('good-1:good-1', '') || ($request->{headers}{authorization} // '') eq 'Bearer good-1';
	return (401, { 'WWW-Authenticate' => 'Basic realm="x"' }, 'no') unless $good;
	return (200, {}, { id => 1, login => 'dora' }) if $request->{path} eq '/user';
	return (200, { 'Content-Type' => 'text/plain' }, '1' x 40 . "\trefs/heads/main\n") if $request->{path} eq '/maps/app.git/info/refs';
	return (404, {}, {});
});
(my $port) = $host->url =~ /:(\d+)$/;
my $model = Coder::Model->start;
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents',
	CODER_EXTERNAL_AUTH_0_ID => 'hub', CODER_EXTERNAL_AUTH_0_TYPE => 'github', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'hush0',
	CODER_EXTERNAL_AUTH_0_AUTH_URL => $host->url . '/a', CODER_EXTERNAL_AUTH_0_TOKEN_URL => $host->url . '/t', CODER_EXTERNAL_AUTH_0_VALIDATE_URL => $host->url . '/user',
	CODER_EXTERNAL_AUTH_0_REGEX => "^http://127\\.0\\.0\\.1:$port(/.*)?\$", CODER_EXTERNAL_AUTH_0_API_BASE_URL => $host->url . '/api');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->latin1;
sub text { return [{ type => 'text', text => $_[0] }] }
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 800000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
my (undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text('hello') });
sub wait_done { $server->wait_for(60, sub { $owner->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ }) }
wait_done();

# A command that the chat runs: its output and its exit code.
sub run
{
	my ($command) = @_;
	$owner->post("$chats/$chat->{id}/messages", { content => text('tool:execute ' . $json->encode({ command => $command, timeout => '30s' })) });
	wait_done();
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $owner->get("$chats/$chat->{id}/messages")->{messages} };
	return ($part->{result}{output} // '', $part->{result}{exit_code});
}

# passwords
my ($home) = run('printf %s "$HOME"');
run("git init -q -b feature $home/repo && cd $home/repo && git config user.email a\@b && git config user.name a && git commit -q --allow-empty -m 1 && git remote add origin http://me:x\@127.0.0.1:$port/maps/app.git");
my ($out, $code) = run("cd $home/repo && git ls-remote http://127.0.0.1:$port/maps/app.git");
isnt($code, 0, 'without a link git gets no password');
like($out, qr{must sign in at \S+/external-auth/hub}, 'and the model reads who must do what');
my $owner_id = $owner->get('/api/v2/users/me')->{id};
$server->sql("INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry, oauth_extra) VALUES ('hub', '$owner_id', 'good-1', '', '0001-01-01', '{\"team\": {\"id\": 7}}')");
($out, $code) = run("cd $home/repo && git ls-remote http://127.0.0.1:$port/maps/app.git");
is($code, 0, 'with one it does') or diag $out;
like($out, qr{refs/heads/main}, 'and the server answers');
is($server->sql('SELECT chat_id, git_branch, git_remote_origin FROM coder.chat_diff_statuses'), "$chat->{id}|feature|http://127.0.0.1:$port/maps/app.git", 'the chat\'s branch is known by that');
($out, $code) = run("cd / && git ls-remote http://127.0.0.1:1/elsewhere.git 2>&1; \$GIT_ASKPASS \"Username for 'http://elsewhere.example': \"; echo \$?");
like($out, qr/No matching external auth provider.*\n1\n\z/s, 'of another server nothing is known') or diag $out;

# tokens
is_deeply([run('coder external-auth access-token hub')], ["good-1\n", 0], 'a token');
is_deeply([run('coder external-auth access-token hub --extra team.id')], ["7\n", 0], 'what came beside it');
($out, $code) = run('coder external-auth access-token nowhere');
is($code, 1, 'of no provider');

# keys
run("mkdir -p $home/bin $home/.ssh && touch $home/.ssh/id_ed25519 && printf '#!/bin/sh\\necho \"\$\@\"; for last in \"\$\@\"; do case \$last in */coder-gitsshkey-*) stat -c %%a \$last; head -1 \$last; echo \$last > $home/used;; esac; done; exit 255\\n' > $home/bin/ssh && chmod +x $home/bin/ssh");
($out, $code) = run("PATH=$home/bin:\$PATH; \$GIT_SSH_COMMAND -p 22 git\@host upload 2>&1; echo \$?; ls \$(cat $home/used)");
like($out, qr{^-i $home/\.ssh/id_ed25519 -i \S+/coder-gitsshkey-\S+ -p 22 git\@host upload\n600\n-----BEGIN}m, 'ssh gets the owner\'s key behind one\'s own') or diag $out;
like($out, qr/ssh-ed25519 \S+.*\n255\n/s, 'a refused key is shown');
like($out, qr/cannot access|No such file/, 'the key does not stay');

# what chats are told
run("mkdir -p $home/repo/.agents/skills/fix && printf 'Be quick.\\n' > $home/repo/AGENTS.md && printf -- '---\\nname: fix\\ndescription: Mends it\\n---\\n' > $home/repo/.agents/skills/fix/SKILL.md");
($out, $code) = run("cd $home/repo && coder exp chat context add");
is($out, "Added 2 files and skills to chat $chat->{id}.\n", 'a folder is told');
run('true');
my $told = $json->encode($model->requests->[-1]{body}{messages});
ok($told =~ /Be quick/ && $told =~ /fix: Mends it/, 'and the model reads it');
($out, $code) = run("coder exp chat context add --dir $home/bin");
ok($code == 1 && $out =~ /neither an AGENTS.md nor skills/, 'a folder that says nothing');
($out, $code) = run("coder exp chat context add --dir $home/none");
ok($code == 1 && $out =~ /No such file/, 'a folder that there is not');
is((run('coder exp chat context clear'))[0], "Cleared what chat $chat->{id} was told.\n", 'and taken back');
is((run('coder exp chat context clear'))[0], "There was nothing to clear.\n", 'once');
run('true');
unlike($json->encode([grep { $_->{role} eq 'system' } @{ $model->requests->[-1]{body}{messages} }]), qr/Be quick/, 'the model reads it no more');
($out, $code) = run('CODER_AGENT_TOKEN= coder exp chat context clear');
ok($code == 1 && $out =~ /within a workspace/, 'elsewhere there is no agent');
done_testing();
