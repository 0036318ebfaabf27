# Who did what is told: by the API, by psql, what was refused, builds when they end, and who connected to a workspace.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Test::More;

Coder::Provisioning::need_agent();

my ($gateway, $p) = Coder::Provisioning::with_agent();
my $owner = $p->{client};

# The rows of a search, newest first, in short.
sub rows
{
	my ($q, $client) = @_;
	my ($status, $page) = ($client // $owner)->get("/api/v2/audit?limit=50&q=$q");
	return $status if $status != 200;
	return join '; ', map { "$_->{action} $_->{resource_type} $_->{resource_target} $_->{status_code} by " . ($_->{user}{username} // $_->{additional_fields}{database_role} // '?') } @{ $page->{audit_logs} };
}

is(rows('action:create'), 'create user admin 201 by admin', 'a new server tells of its first user only');

# A build.
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace') or diag $build->{error};
is(rows('resource_type:workspace'), 'create workspace dev 201 by admin', 'is told when it is asked for');
ok($gateway->wait_for(5, sub { rows('resource_type:workspace_build') ne '' }), 'its build');
is(rows('resource_type:workspace_build%20action:start'), 'start workspace_build  200 by admin', 'when it has ended');
my ($row) = @{ $owner->get('/api/v2/audit?q=resource_type:workspace_build')->{audit_logs} };
is("$row->{ip} $row->{additional_fields}{workspace_name} $row->{additional_fields}{build_number} $row->{resource_link}", '127.0.0.1 dev 1 /@admin/dev/builds/1', 'with where it came from');
is(rows('resource_type:api_key%20action:create'), '', 'the key that its agent has is part of it');

# What is refused.
is(($owner->post('/api/v2/users', { username => 'mel', email => 'mel@example.com', password => 'SomeSecurePassword!', organization_ids => [ $p->{organization} ] }))[0], 201, 'a member');
my $mel = $gateway->login('mel@example.com', 'SomeSecurePassword!');
is(($mel->patch("/api/v2/templates/$template->{id}", { name => 'mine' }))[0], 404, 'who may not change a template');
is(($mel->put('/api/v2/users/me/profile', { username => 'not a name' }))[0], 400, 'and asks for a bad name');
is(($mel->get('/api/v2/audit'))[0], 403, 'nor reads the log');
ok($gateway->wait_for(5, sub { my $told = rows('username:mel%20action:write'); $told =~ /template/ && $told =~ / 400 / }), 'is told of, in a transaction of its own');
is(join('; ', sort split /; /, rows('username:mel%20action:write%20resource_type:template') . '; ' . rows('username:mel%20action:write%20resource_type:user') =~ s/; write user mel 201 by mel//r),
	'write template starter 404 by mel; write user mel 400 by mel', 'with the status');
is(($mel->post('/api/v2/users/login', { email => 'mel@example.com', password => 'wrong' }))[0], 401, 'a wrong password');
like(rows('action:login%20username:mel'), qr/^login api_key  401 by mel; login api_key  201 by mel$/, 'is told too');

# By SQL.
$gateway->sql(q{UPDATE coder.users SET rbac_roles = '{owner}', hashed_password = 'stolen' WHERE username = 'mel'});
is(rows('resource_target:mel%20action:write%20organization:none'), '', 'not of an organization');
my ($sql) = grep { $_->{additional_fields}{database_role} } @{ $owner->get('/api/v2/audit?q=resource_target:mel')->{audit_logs} };
is_deeply($sql->{diff}, { rbac_roles => { old => [], new => ['owner'], secret => JSON::PP::false }, hashed_password => { old => '', new => '', secret => JSON::PP::true } }, 'a change by psql, without the secret');
is($sql->{additional_fields}{database_role} . (defined $sql->{user} ? ' somebody' : ''), 'coder', 'by a role of the database');
ok(!eval { $gateway->sql('DELETE FROM coder.audit_logs'); 1 }, 'nobody deletes a row');
ok(!eval { $gateway->sql(q{UPDATE coder.audit_logs SET diff = '{}'}); 1 }, 'or changes one');

# Who connects.
sub connections { return $owner->get("/api/v2/connectionlog?q=$_[0]")->{connection_logs} }
ok($gateway->wait_for(20, sub { ($p->run_coder('ssh', 'dev', '--', 'exit 3'))[1] == 3 }), 'ssh');
ok($gateway->wait_for(10, sub { grep { ($_->{ssh_info}{exit_code} // -1) == 3 } @{ connections('type:ssh%20status:completed') } }), 'is in the connection log, with its end');
is(connections('type:ssh')->[0]{workspace_name}, 'dev', 'of the workspace');
$owner->get('/@admin/dev/apps/9999') for 1 .. 3;
my ($web, @more) = @{ connections('type:port_forwarding') };
is(join(' ', $web->{web_info}{slug_or_port}, $web->{web_info}{status_code}, $web->{web_info}{user}{username}, scalar @more), '9999 200 admin 0', 'three requests for a port are one session');

# The export.
my (undef, $text) = $owner->get('/api/v2/audit/export?format=csv');
like($text, qr/\Aid,time,user_id,.*\n(?:.*\n)*.*,write,200,/, 'the log as CSV');
$gateway->stop;
done_testing();
