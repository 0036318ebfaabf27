# The branch that a chat works on: told by git in the workspace, looked at on the git server with the owner's token, shown with its diff.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use Coder::Provisioning ();
use Coder::WebSocket;
use JSON::PP ();
use Test::More;

Coder::Provisioning::need_agent();
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my $pr = { number => 7, state => 'open', title => 'Add maps', html_url => 'https://hub.example/maps/app/pull/7', draft => $true, merged => $false, additions => 3, deletions => 1,
	changed_files => 2, commits => 4, user => { login => 'dora', avatar_url => 'https://hub.example/a.png' }, base => { ref => 'main' }, head => { ref => 'feature' } };
my $host = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	my ($path, $query) = @$request{qw(path query)};
	my $diff = ($request->{headers}{accept} // '') =~ /diff/;
	return (401, {}, {}) if ($request->{headers}{authorization} // '') ne 'Bearer good-1';
	return (200, {}, { id => 1, login => 'dora' }) if $path eq '/user';
	return (403, { 'X-RateLimit-Remaining' => 0 }, {}) if $mode->{limited};
	return (500, {}, 'broken') if $mode->{broken};
	return (200, {}, { default_branch => 'main' }) if $path eq '/api/repos/maps/app';
	return (200, {}, [ $mode->{none} || $query->{head} ne 'maps:feature' ? () : ($mode->{pr} ? () : { %$pr, number => 3, state => 'closed' }, { %$pr, %{ $mode->{pr} // {} } }) ]) if $path eq '/api/repos/maps/app/pulls';
	return (200, {}, "diff --git a/x b/x\n+pull\n") if $diff && $path eq '/api/repos/maps/app/pulls/7';
	return (200, {}, "diff --git a/x b/x\n+branch\n") if $diff && $path eq '/api/repos/maps/app/compare/main...feature';
	return (200, {}, { %$pr, %{ $mode->{pr} // {} } }) if $path eq '/api/repos/maps/app/pulls/7';
	return (200, {}, [ { state => 'CHANGES_REQUESTED', user => { login => 'a' } }, { state => 'APPROVED', user => { login => 'a' } }, { state => 'APPROVED', user => { login => 'b' } } ])
	  if $path eq '/api/repos/maps/app/pulls/7/reviews';
	return (404, {}, {});
});
my $model = Coder::Model->start;
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents',
	CODER_EXTERNAL_AUTH_0_ID => 'hub', CODER_EXTERNAL_AUTH_0_TYPE => 'github', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'hush0',
	CODER_EXTERNAL_AUTH_0_AUTH_URL => $host->url . '/a', CODER_EXTERNAL_AUTH_0_TOKEN_URL => $host->url . '/t', CODER_EXTERNAL_AUTH_0_VALIDATE_URL => $host->url . '/user',
	CODER_EXTERNAL_AUTH_0_REGEX => '^(https?://)?hub\.example(/.*)?$', CODER_EXTERNAL_AUTH_0_API_BASE_URL => $host->url . '/api');
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
sub text { return [{ type => 'text', text => $_[0] }] }
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
my (undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text('hello') });
my $inside = $server->client($server->sql('SELECT auth_token FROM coder.workspace_agents WHERE lifecycle_state = \'ready\''));
my $watch = Coder::WebSocket->open($server->url, "$chats/watch", token => $owner->{token}) or die $@;

sub ask { my ($branch, $origin, $id) = @_; return $inside->get("/api/v2/workspaceagents/me/external-auth?match=https://hub.example/maps/app&git_branch=$branch&git_remote_origin=$origin&chat_id=$id") }
sub row { return $owner->get("$chats/$chat->{id}")->{diff_status} }
sub again { $server->sql("UPDATE coder.chat_diff_statuses SET stale_at = now() - interval '1 second', refreshed_at = NULL WHERE chat_id = '$chat->{id}'; SELECT coder.emit('chat:git')"); return }
sub refreshed { return $server->wait_for(30, sub { $server->sql("SELECT count(*) FROM coder.chat_diff_statuses WHERE refreshed_at IS NOT NULL AND chat_id = '$chat->{id}'") == 1 }) }

# before anything is known
is_deeply(scalar $owner->get("$chats/$chat->{id}/diff"), { chat_id => $chat->{id} }, 'nothing is known');

# without a token
my $answer = ask('feature', 'https://me:secret@hub.example/maps/app.git', $chat->{id});
like($answer->{url}, qr{/external-auth/hub$}, 'there is no token yet') or diag explain $answer;
is($server->sql('SELECT git_branch, git_remote_origin FROM coder.chat_diff_statuses'), 'feature|https://hub.example/maps/app.git', 'the branch is known, without a password');
ok($server->wait_for(30, sub { $server->sql("SELECT stale_at > now() + interval '9 minutes' FROM coder.chat_diff_statuses") eq 't' }), 'without a token it is looked at again much later');
is_deeply(scalar $owner->get("$chats/$chat->{id}/diff"), { chat_id => $chat->{id}, provider => 'github', remote_origin => 'https://hub.example/maps/app.git', branch => 'feature' }, 'and has no diff');
my $strange = '11111111-1111-1111-1111-111111111111';
ask('feature', 'https://hub.example/maps/app.git', $_) for $strange, 'no-uuid', '';
ask($_, 'https://hub.example/maps/app.git', $chat->{id}) for 'HEAD', '', 'a%20b', 'x' x 300;
is($server->sql('SELECT count(*), max(git_branch) FROM coder.chat_diff_statuses'), '1|feature', 'what is no branch of a chat here changes nothing');

# with one
my $owner_id = $owner->get('/api/v2/users/me')->{id};
$server->sql("INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry) VALUES ('hub', '$owner_id', 'good-1', '', '0001-01-01')");
is(ask('feature', 'https://hub.example/maps/app.git', $chat->{id})->{access_token}, 'good-1', 'git gets the token');
ok(refreshed(), 'the branch is looked at');
my $got = row();
is_deeply([@$got{qw(url pull_request_state pull_request_title pull_request_draft pr_number additions deletions changed_files commits author_login base_branch head_branch approved changes_requested reviewer_count)}],
	[$pr->{html_url}, 'open', 'Add maps', $true, 7, 3, 1, 2, 4, 'dora', 'main', 'feature', $true, $false, 2], 'its pull request is known') or diag explain $got;
is($server->sql("SELECT stale_at > now() + interval '90 seconds' FROM coder.chat_diff_statuses"), 't', 'and looked at again in two minutes');
my $event;
while (my $message = $watch->message(10)) { $event = JSON::PP::decode_json($message); last if $event->{kind} eq 'diff_status_change' }
is($event->{chat}{diff_status}{pr_number}, 7, 'lists are told') or diag explain $event;
my $diff = $owner->get("$chats/$chat->{id}/diff");
is_deeply([@$diff{qw(provider pull_request_url diff)}], ['github', $pr->{html_url}, "diff --git a/x b/x\n+pull\n"], 'its diff') or diag explain $diff;

# it goes on
$host->mode(pr => { state => 'closed', merged => $true, html_url => 'javascript:alert(1)' });
again();
ok(refreshed(), 'it is looked at again');
is_deeply([@{ row() }{qw(pull_request_state url)}], ['merged', undef], 'merged, and an address that is none is not shown') or diag explain row();
is($owner->get("$chats/$chat->{id}/diff")->{diff}, "diff --git a/x b/x\n+branch\n", 'then the branch\'s diff is shown');

# a git server that does not answer
$host->mode(limited => 1);
again();
ok($server->wait_for(30, sub { $server->sql("SELECT stale_at > now() + interval '9 minutes' FROM coder.chat_diff_statuses") eq 't' }), 'who wants fewer requests gets fewer');
is(row()->{pr_number}, 7, 'what was known stays');
$host->mode(broken => 1);
is($owner->get("$chats/$chat->{id}/diff")->{message}, 'Failed to get chat diff.', 'a diff that does not come');

# another branch, without a pull request
$host->mode(none => 1);
ask('other', 'https://hub.example/maps/app.git', $chat->{id});
is_deeply([@{ row() }{qw(pr_number pull_request_title)}], [undef, ''], 'of another branch nothing is known yet');
ok(refreshed(), 'it is looked at');
is($server->sql("SELECT stale_at < now() + interval '16 seconds' FROM coder.chat_diff_statuses"), 't', 'a pull request is looked for often at first');

# tickets
is(($server->client->request('POST', '/api/experimental/chat-git'))[0], 404, 'without a ticket there is nothing');
unlike($server->log, qr/good-1|secret\@/, 'no token is in the log');
diag join "\n", map { "$_->{method} $_->{path} " . JSON::PP->new->canonical->encode([$_->{query}, $_->{headers}]) } $host->requests unless Test::More->builder->is_passing;
done_testing();
