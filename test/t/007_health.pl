# What the server finds out about its own health, asked by its access URL; paths that it does not have.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $anonymous = $gateway->client;

sub health
{
	my ($status, $report) = $owner->get('/api/v2/debug/health');
	return $status == 200 ? $report : die "$status";
}

my $report = health();
is("$report->{access_url}{status_code} $report->{access_url}{healthz_response} $report->{access_url}{severity}", '200 OK ok', 'the access URL answers');
is("$report->{websocket}{code} $report->{websocket}{severity}", '101 ok', 'WebSockets open');
is($report->{derp}{regions}{999}{severity}, 'ok', 'the relay opens');
ok($report->{database}{reachable} && $report->{database}{latency_ms} < 1000, 'the database answers');
is("$report->{provisioner_daemons}{severity} $report->{provisioner_daemons}{warnings}[0]{code}", 'error EPD01', 'no provisioner works');
is("$report->{severity} " . ($report->{healthy} ? 'healthy' : 'ill'), 'error ill', 'so all is not well');

$gateway->sql(q{SELECT coder.provisioner_register('p', '{terraform}', '{}', coder.version())});
$report = health();
is("$report->{severity} " . ($report->{healthy} ? 'healthy' : 'ill'), 'ok healthy', 'with one it is');
$gateway->sql("UPDATE coder.provisioner_daemons SET version = 'v1.0.0'");
$report = health();
is("$report->{severity} " . ($report->{healthy} ? 'healthy' : 'ill') . " $report->{provisioner_daemons}{items}[0]{warnings}[0]{code}", 'warning healthy EPD02', 'an old one is warned of');
is(($owner->request('PUT', '/api/v2/debug/health/settings', { dismissed_healthchecks => ['ProvisionerDaemons'] }))[0], 200, 'the warning is dismissed');
$report = health();
ok($report->{provisioner_daemons}{dismissed} && !$report->{websocket}{dismissed}, 'and told as such');

# An access URL behind which is something else.
my $double = Coder::HttpDouble->start(sub { return $_[0]{path} eq '/healthz' ? (503, {}, 'closed') : (200, {}, 'a page') });
$gateway->sql("UPDATE coder.settings SET value = '" . $double->url . "' WHERE name = 'access_url'");
$report = health();
is("$report->{access_url}{status_code} $report->{access_url}{severity} $report->{access_url}{warnings}[0]{code}", '503 warning EACS04', 'another status');
is("$report->{websocket}{code} $report->{websocket}{severity}", '200 error', 'no WebSocket');
like($report->{websocket}{error}, qr/^EWS01/, 'with its code');
is("$report->{derp}{severity} $report->{derp}{regions}{999}{severity}", 'error error', 'no relay');
is("$report->{severity} " . ($report->{healthy} ? 'healthy' : 'ill'), 'error ill', 'it is ill');
my $closed = Coder::Gateway::free_port();
$gateway->sql("UPDATE coder.settings SET value = 'http://127.0.0.1:$closed' WHERE name = 'access_url'");
$report = health();
like($report->{access_url}{error}, qr/^EACS03.*connect/, 'nobody is there');
ok(!$report->{access_url}{reachable}, 'so it cannot be reached');

# The echo.
is(($anonymous->get('/api/v2/debug/ws'))[0], 401, 'the echo is not for everybody');
is(($anonymous->get('/api/v2/debug/ws', undef, 'Coder-Health-Ticket' => 'x.y.z'))[0], 401, 'nor with a ticket of one\'s own');
my (undef, $bob) = $owner->post('/api/v2/users', { username => 'bob', email => 'bob@example.com', password => 'SomeSecurePassword!', organization_ids => [$gateway->sql('SELECT id FROM coder.organizations')] });
my $member = $gateway->sql("SELECT coder.api_key_create('$bob->{id}', 'password', 3600)");
is(($gateway->client($member)->get($_))[0], 403, "not for members: $_") for '/api/v2/debug/ws', '/api/v2/debug/health';
my $ticket = $gateway->sql("SELECT coder.app_host_token('$bob->{id}', 'debug/ws')");
is(($anonymous->get('/api/v2/debug/ws', undef, 'Coder-Health-Ticket' => $ticket))[0], 401, 'nor by a ticket of theirs');

# Who is on the tailnet.
my $page = ($owner->get('/api/v2/debug/coordinator'))[1];
like($page, qr{<h2>0 peers</h2>.*<h2>0 tunnels</h2>}s, 'nobody is on the tailnet');
is(($gateway->client($member)->get('/api/v2/debug/coordinator'))[0], 403, 'members are not told');

# Paths that are not there.
my ($status, $body, $head) = $anonymous->get('/scim/v2/Users');
like("$status $head->{'content-type'}", qr{^(200 text/html|404 application/json)}, 'SCIM without its key: the pages');
unlike(ref $body ? $body->{message} : $body, qr/SCIM/, 'which tell nothing of it');
is(($anonymous->post('/scim/v2/Users', {}))[0], 404, 'and nothing is made');
($status, $body, $head) = $anonymous->get('/bin/nope');
like("$status $head->{'content-type'} $body", qr{^404 text/plain.*There is no such program}, 'a program that is not there');
($status, $body) = $anonymous->get('/swagger/');
is("$status $body->{message}", '404 Swagger documentation is disabled.', 'no description of the API');
is(($owner->get('/api/v2/tasks'))[1]{count}, 0, 'no tasks');
is(($owner->get("/api/v2/tasks/me/$bob->{id}$_"))[0], 404, "nor one of them$_") for '', '/logs';
is(($anonymous->get('/api/v2/tasks'))[0], 401, 'for who is signed in');
$gateway->stop;
done_testing();
