# Branches of chats at Gitea, Bitbucket (cloud and server) and Azure DevOps: pull requests, reviews, sizes, diffs.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use JSON::PP ();
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $diff = "diff --git a/x b/x\n+one\n";
my $web = 'https://git.example';
my %answers = (
	'/validate' => {},
	# Gitea lists pull requests of all branches
	'/gitea/repos/maps/app' => { default_branch => 'main' },
	'/gitea/repos/maps/app/pulls' => [{ number => 9, state => 'open', head => { ref => 'another' } }, { number => 7, state => 'open', html_url => "$web/7", head => { ref => 'feature' } }],
	'/gitea/repos/maps/app/pulls/7' => { number => 7, state => 'open', title => 'Add maps', html_url => "$web/7", draft => $true, merged => $false, additions => 3, deletions => 1, changed_files => 2,
		user => { login => 'dora', avatar_url => "$web/a.png" }, base => { ref => 'main' }, head => { ref => 'feature' } },
	'/gitea/repos/maps/app/pulls/7/reviews' => [{ state => 'REQUEST_CHANGES', user => { login => 'a' } }, { state => 'APPROVED', user => { login => 'a' } }, { state => 'COMMENT', user => { login => 'b' } },
		{ state => 'REQUEST_CHANGES', dismissed => $true, user => { login => 'c' } }],
	'/gitea/repos/maps/app/pulls/7.diff' => \$diff,

	'/cloud/repositories/maps/app' => { mainbranch => { name => 'main' } },
	'/cloud/repositories/maps/app/pullrequests' => { values => [{ id => 6, state => 'DECLINED' }, { id => 7, state => 'OPEN', links => { html => { href => "$web/7" } }, source => { branch => { name => 'feature' } }, destination => { branch => { name => 'main' } } }] },
	'/cloud/repositories/maps/app/pullrequests/7' => { id => 7, state => 'OPEN', title => 'Add maps', draft => $true, links => { html => { href => "$web/7" } }, source => { branch => { name => 'feature' } },
		destination => { branch => { name => 'main' } }, author => { nickname => 'dora', links => { avatar => { href => "$web/a.png" } } },
		participants => [{ user => { nickname => 'a' }, state => 'approved' }, { user => { nickname => 'b' }, state => undef }, { user => { nickname => 'c' }, state => 'approved' }] },
	'/cloud/repositories/maps/app/diffstat/feature..main' => { values => [{ lines_added => 2, lines_removed => 1 }, { lines_added => 1, lines_removed => 0 }] },
	'/cloud/repositories/maps/app/diff/feature..main' => \$diff,

	'/server/projects/MAPS/repos/app/default-branch' => { displayId => 'main' },
	'/server/projects/MAPS/repos/app/pull-requests' => { values => [{ id => 7, state => 'OPEN', links => { self => [{ href => "$web/7" }] } }] },
	'/server/projects/MAPS/repos/app/pull-requests/7' => { id => 7, state => 'OPEN', title => 'Add maps', draft => $true, links => { self => [{ href => "$web/7" }] }, fromRef => { displayId => 'feature' }, toRef => { displayId => 'main' },
		author => { user => { name => 'dora' } }, reviewers => [{ user => { name => 'a' }, status => 'NEEDS_WORK' }, { user => { name => 'b' }, status => 'APPROVED' }, { user => { name => 'c' }, status => 'UNAPPROVED' }] },
	'/server/projects/MAPS/repos/app/pull-requests/7/changes' => { values => [{}, {}] },
	'/server/projects/MAPS/repos/app/pull-requests/7.diff' => \$diff,

	'/azure/org/my%20maps/_apis/git/repositories/app' => { defaultBranch => 'refs/heads/main' },
	'/azure/org/my%20maps/_apis/git/repositories/app/pullrequests' => { value => [{ pullRequestId => 7, status => 'active' }] },
	'/azure/org/my%20maps/_apis/git/repositories/app/pullrequests/7' => { pullRequestId => 7, status => 'active', title => 'Add maps', isDraft => $true, sourceRefName => 'refs/heads/feature', targetRefName => 'refs/heads/main',
		createdBy => { uniqueName => 'dora', imageUrl => "$web/a.png" }, reviewers => [{ uniqueName => 'a', vote => 10 }, { uniqueName => 'b', vote => 0 }, { uniqueName => 'c', vote => 5 }] },
	'/azure/org/my%20maps/_apis/git/repositories/app/pullrequests/7/commits' => { value => [{}, {}, {}] },
);
my $host = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	return (401, {}, {}) if ($request->{headers}{authorization} // '') ne 'Bearer good-1';
	return (203, { 'Content-Type' => 'text/html' }, '<html>sign in') if $mode->{page} && $request->{path} ne '/validate';
	my $answer = $answers{ $request->{path} };
	return (404, {}, {}) unless $answer;
	return (400, {}, { message => 'no version' }) if $request->{path} =~ m{^/azure} && ($request->{query}{'api-version'} // '') ne '7.1';
	return ref $answer eq 'SCALAR' ? (200, { 'Content-Type' => 'text/plain' }, $$answer) : (200, {}, $answer);
});
my @kinds = (
	# type, host, path of the API, remote; additions, deletions, files, commits; approved, changes requested, reviewers; the address; the diff
	['gitea', 'gitea.example', '/gitea', 'https://gitea.example/maps/app.git', [3, 1, 2, undef], [1, '', 2], "$web/7", $diff],
	['bitbucket-cloud', 'cloud.example', '/cloud', 'git@cloud.example:maps/app.git', [3, 1, 2, undef], [1, '', 2], "$web/7", $diff],
	['bitbucket-server', 'server.example', '/server', 'https://server.example/scm/MAPS/app.git', [0, 0, 2, undef], ['', 1, 2], "$web/7", $diff],
	['azure-devops', 'azure.example', '/azure', 'https://me@azure.example/org/my%20maps/_git/app', [0, 0, 0, 3], [1, '', 2], 'https://azure.example/org/my%20maps/_git/app/pullrequest/7', undef]);
my %env;
for my $n (0 .. $#kinds)
{
	my ($type, $name, $path) = @{ $kinds[$n] };
	my $p = "CODER_EXTERNAL_AUTH_${n}_";
	%env = (%env, "${p}ID" => "id-$type", "${p}TYPE" => $type, "${p}CLIENT_ID" => 'x', "${p}CLIENT_SECRET" => 'hush', "${p}AUTH_URL" => $host->url . '/authorize', "${p}TOKEN_URL" => $host->url . '/token',
		"${p}VALIDATE_URL" => $host->url . '/validate', "${p}REGEX" => "^(https?://)?\Q$name\E(/.*)?\$", "${p}API_BASE_URL" => $host->url . $path);
}
my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', %env });
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my $me = $owner->get('/api/v2/users/me')->{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000 });

sub known { my ($id) = @_; return $owner->get("$chats/$id")->{diff_status} }

for (@kinds)
{
	my ($type, undef, undef, $origin, $size, $review, $url, $wanted) = @$_;
	my (undef, $chat) = $owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => "of $type" }] });
	$server->sql("INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry) VALUES ('id-$type', '$me', 'good-1', '', '0001-01-01');
		INSERT INTO coder.chat_diff_statuses (chat_id, git_branch, git_remote_origin, marked_at) VALUES ('$chat->{id}', 'feature', coder.git_clean_origin('$origin'), now()); SELECT coder.emit('chat:git')");
	ok($server->wait_for(30, sub { known($chat->{id})->{pr_number} }), "$type: a pull request is found") or diag explain $host->requests;
	my $got = known($chat->{id});
	is_deeply([@$got{qw(pr_number url pull_request_state pull_request_title pull_request_draft author_login base_branch head_branch)}], [7, $url, 'open', 'Add maps', $true, 'dora', 'main', 'feature'], "$type: what it is")
	  or diag explain $got;
	is_deeply([@$got{qw(additions deletions changed_files commits)}], $size, "$type: how much it changes");
	is_deeply([map { $_ // '' } @$got{qw(approved changes_requested reviewer_count)}], [map { $_ eq '' ? $false : $_ eq '1' ? $true : $_ } @$review], "$type: what reviewers say");
	my $told = $owner->get("$chats/$chat->{id}/diff");
	is_deeply([@$told{qw(provider pull_request_url diff)}], [$type, $url, $wanted], "$type: its diff") or diag explain $told;
	$host->mode(page => 1);
	is($owner->get("$chats/$chat->{id}/diff")->{message}, 'Failed to get chat diff.', "$type: a server that shows a page instead");
	$host->mode;
}
unlike($server->log, qr/good-1/, 'no token is in the log');
done_testing();
