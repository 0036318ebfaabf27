# Creating a chat, as a request: its size, what is no JSON, who asks; and creations of all kinds at once, none of which fails.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use JSON::PP ();
use Test::More;

my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $json = JSON::PP->new->utf8->canonical;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'k', base_url => 'http://127.0.0.1:1/v1' });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm', context_limit => 8000 });
sub user
{
	my ($name, @roles) = @_;
	my ($status, $user) = $owner->post('/api/v2/users', { username => $name, email => "$name\@example.com", password => 'SomeSecurePassword!', organization_ids => [$org] });
	die "user: $status" unless $status == 201;
	$owner->put("/api/v2/users/$user->{id}/roles", { roles => \@roles }) if @roles;
	return $server->login("$name\@example.com", 'SomeSecurePassword!');
}
my $eve = user('eve', 'agents-access');
my $bob = user('bob');

# 4.1, row 2
sub of_size
{
	my ($size) = @_;
	my $body = $json->encode({ organization_id => $org, content => [{ type => 'text', text => 'X' }] });
	return $body =~ s/X/'x' x ($size - length($body) + 1)/er;
}
sub post { my ($who, $body, $type) = @_; my ($status, $answer) = $who->request('POST', $chats, $body, 'Content-Type' => $type // 'application/json'); return "$status " . (ref $answer ? $answer->{message} // '' : '') }
is(length of_size(262144), 262144, 'a body of that size');
is(post($eve, of_size(262144)), '201 ', 'as long as may be');
is(post($eve, of_size(262145)), '400 Request body must be valid JSON.', 'a byte more');
is(post($eve, of_size(3_000_000)), '400 Request body must be valid JSON.', 'megabytes');
is(post($eve, $_), '400 Request body must be valid JSON.', 'no JSON: ' . substr $_, 0, 20) for '{"organization_id": "x', '', '[]', '"x"', 'null x', "{\"a\": \"\x01\"}", '{"organization_id": 7}', $json->encode({ organization_id => $org, content => 'text' }), '[' x 100_000;
is(post($eve, $json->encode({ organization_id => $org, content => [{ type => 'text', text => 'a' }] }), 'text/plain'), '201 ', 'whatever its type is said to be');
is(post($bob, '{"organization_id": "x'), '403 Forbidden.', 'row 1: who may not is told so first');
is(post($server->client, '{}'), '401 You are signed out or your session has expired. Please sign in again to continue.', 'nobody is nobody');

# Many at once, of all kinds: each is there once.
my %body = (organization_id => $org, content => [{ type => 'text', text => 'many' }]);
my $file = ($owner->request('POST', "$chats/files?organization=$org", 'text of a file', 'Content-Type' => 'text/plain', 'Content-Disposition' => 'attachment; filename="f.txt"'))[1]{id};
is(($owner->put("$chats/usage-limits", { spend_limit_micros => 1_000_000_000, period => 'month' }))[0], 200, 'there is a limit to what may be spent');
my @kinds = ({}, { labels => { a => 'b' } }, { content => [@{ $body{content} }, { type => 'file', file_id => $file }] }, { system_prompt => 'Be short.' }, { unsafe_dynamic_tools => [{ name => 't', input_schema => {} }] });
my @pids;
for my $n (1 .. 12)
{
	my $pid = fork // die "fork: $!";
	if (!$pid)
	{
		my $failed = 0;
		my $client = $server->client($n % 2 ? $owner->{token} : $eve->{token});
		for my $i (1 .. 20)
		{
			my %kind = %{ $kinds[$i % @kinds] };
			delete $kind{content} if !($n % 2);	# the file is the owner's
			$failed++ if ($client->post($chats, { %body, %kind }))[0] != 201;
		}
		POSIX::_exit($failed);
	}
	push @pids, $pid;
}
my $failed = 0;
for (@pids) { waitpid $_, 0; $failed += $? >> 8 }
$? = 0;
is($failed, 0, 'none fails');
is($server->sql(q{SELECT count(DISTINCT chat_id) || ' ' || count(*) FROM coder.chat_messages WHERE role = 'user' AND content->0->>'text' = 'many'}), '240 240', 'and each is there');
is($server->sql(q{SELECT count(*) FROM coder.chat_file_links}), 24, 'with their files');
done_testing();
