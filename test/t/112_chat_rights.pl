# Tools of chats run with the rights of the chat's owner: what one may not is a clear error; a stale account elsewhere is renewed
# first; and browsers that want to know are told when a turn is over.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use Coder::Provisioning ();
use JSON::PP ();
use Test::More;

Coder::Provisioning::need_agent();

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $model = Coder::Model->start;
my $host = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	return (400, {}, { error => 'invalid_grant', error_description => 'revoked' }) if $request->{path} eq '/oauth/token' && $mode->{revoked};
	return (200, {}, { access_token => 'access-new', refresh_token => 'refresh-new', expires_in => 3600 }) if $request->{path} eq '/oauth/token';
	return (200, {}, {}) if $request->{path} eq '/oauth/token/info' && ($request->{headers}{authorization} // '') eq 'Bearer access-new';
	return (401, {}, 'none');
});
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents',
	CODER_EXTERNAL_AUTH_0_ID => 'lab', CODER_EXTERNAL_AUTH_0_TYPE => 'gitlab', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'hush0',
	CODER_EXTERNAL_AUTH_0_AUTH_URL => $host->url . '/oauth/authorize');
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->utf8;

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 100000 });
$owner->post('/api/v2/users', { username => 'bob', email => 'bob@example.com', password => 'SomeSecurePassword!', organization_ids => [ $p->{organization} ] });
my $bob = $server->login('bob@example.com', 'SomeSecurePassword!');
my $bob_id = $bob->get('/api/v2/users/me')->{id};
sub text { return [{ type => 'text', text => $_[0] }] }
my %new = (organization_id => $p->{organization}, content => text('hello'));
is(($bob->post($chats, \%new))[0], 403, 'who has no access to chats makes none');
$owner->put('/api/v2/users/bob/roles', { roles => ['agents-access'] });

sub wait_done { my ($chat) = @_; $server->wait_for(60, sub { $bob->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ }) }
sub tool
{
	my ($name, $args, $chat) = @_;
	my $line = text("tool:$name " . $json->encode($args));
	if ($chat) { $bob->post("$chats/$chat->{id}/messages", { content => $line }) }
	else { $chat = ($bob->post($chats, { %new, content => $line }))[1] }
	wait_done($chat);
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $bob->get("$chats/$chat->{id}/messages")->{messages} };
	return ($part->{result}, $part->{is_error} // $false, $chat);
}

# templates that others have
my $secret = $p->template('secret', $p->import('secret', Coder::Provisioning::starter()));
my $open = $p->template('open', $p->import('open', Coder::Provisioning::starter()));
my %template = map { $_->{name} => $_->{id} } @{ $owner->get('/api/v2/templates') };
is(($owner->patch("/api/v2/templates/$template{secret}/acl", { group_perms => { $p->{organization} => '' } }))[0], 200, 'a template for nobody but administrators');
my ($result, $failed) = tool('list_templates', {});
is_deeply([ map { $_->{name} } @{ $result->{templates} } ], ['open'], 'a member is told of the others');
($result, $failed) = tool('read_template', { template_id => $template{secret} });
is_deeply([ $failed, $result ], [ $true, { error => 'There is no template with this id that chats may use. list_templates tells which there are.' } ], 'reads no other');
($result, $failed) = tool('create_workspace', { template_id => $template{secret} });
ok($failed && $result->{error} =~ /^There is no template/, 'and makes nothing of it');

# nobody else's workspace
my ($ws) = $p->create($open, 'dev');
my (undef, undef, $chat) = tool('list_templates', {});
$server->sql("UPDATE coder.chats SET workspace_id = '$ws->{id}' WHERE id = '$chat->{id}'");
($result, $failed) = tool('execute', { command => 'id' }, $chat);
ok($failed && $result->{error} =~ /\w/ && !exists $result->{output}, 'no command runs in another\'s workspace') or diag explain $result;
($result, $failed) = tool('read_file', { path => '/etc/hostname' }, $chat);
ok($failed, 'no file is read there');
$p->build($ws, 'stop');
($result, $failed) = tool('start_workspace', {}, $chat);
ok($failed && $result->{error} =~ /\w/, 'and it is not started') or diag explain $result;

# who may make none
$owner->put("/api/v2/organizations/$p->{organization}/members/bob/roles", { roles => ['organization-workspace-creation-ban'] });
($result, $failed) = tool('create_workspace', { template_id => $template{open} });
is_deeply([ $failed, $result ], [ $true, { error => 'Unauthorized to create workspace.' } ], 'who may make no workspaces is told so');
is($server->sql("SELECT count(*) FROM coder.workspaces WHERE owner_id = '$bob_id'"), 0, 'and has none');
$owner->put("/api/v2/organizations/$p->{organization}/members/bob/roles", { roles => [] });

# an account elsewhere that has gone stale
my $tf = <<'TF';
data "coder_external_auth" "lab" {
  id = "lab"
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "coder_env" "token" {
  agent_id = coder_agent.main.id
  name     = "LAB_TOKEN"
  value    = data.coder_external_auth.lab.access_token
}
resource "sandbox_process" "workspace" {
  agent_token = coder_agent.main.token
}
TF
my $linked = $p->template('linked', $p->import('linked', { 'main.tf' => $tf }));
%template = map { $_->{name} => $_->{id} } @{ $owner->get('/api/v2/templates') };
my $stale = "UPDATE coder.external_auth_links SET oauth_access_token = 'access-old', oauth_refresh_token = 'refresh-old', oauth_expiry = now() - interval '1 hour'";
$server->sql("INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry) VALUES ('lab', '$bob_id', 'access-old', 'refresh-old', now() - interval '1 hour')");
($result, $failed, $chat) = tool('create_workspace', { template_id => $template{linked}, name => 'renewed' });
is_deeply([ @$result{qw(created workspace_name)} ], [ $true, 'renewed' ], 'is renewed before the workspace is made') or diag explain $result;
is($server->sql('SELECT oauth_access_token FROM coder.external_auth_links'), 'access-new', 'and kept');
my ($own) = @{ $bob->get('/api/v2/workspaces')->{workspaces} };
$p->build($own, 'stop');
$server->sql($stale);
($result, $failed) = tool('start_workspace', {}, $chat);
is($result->{started}, $true, 'so it is before it is started') or diag explain $result;
is($server->sql('SELECT oauth_access_token FROM coder.external_auth_links'), 'access-new', 'again');
$server->sql($stale);
$host->mode(revoked => 1);
($result, $failed) = tool('create_workspace', { template_id => $template{linked}, name => 'refused' });
is_deeply([ $failed, $result ], [ $true, { error => 'The owner of this chat must sign in first to: GitLab (' . $server->url . '/external-auth/lab)' } ], 'an account that cannot be renewed is a clear error') or diag explain $result;
is($server->sql("SELECT count(*) FROM coder.workspaces WHERE name = 'refused'"), 0, 'and nothing is made');

# a push that the network does not let through disturbs nothing
$server->sql("INSERT INTO coder.webpush_subscriptions (user_id, endpoint, endpoint_p256dh_key, endpoint_auth_key) VALUES ('$bob_id', 'https://127.0.0.1:1/push', 'BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4', 'BTBZMqHH6r4Tts7J_aSIgg')");
($result, $failed, $chat) = tool('list_templates', {});
is($failed, $false, 'a turn whose end is pushed');
tool('list_templates', {}, $chat);
is($server->sql('SELECT count(*) FROM coder.webpush_subscriptions'), 1, 'a push service that cannot be reached is no browser that is gone');
done_testing();
