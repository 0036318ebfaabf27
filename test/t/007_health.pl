# What the server finds out about its own health, asked by its access URL; paths that it does not have.
use strict;
use warnings FATAL => 'all';
use utf8;
use Coder::Gateway;
use Coder::HttpDouble;
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $anonymous = $gateway->client;

sub health
{
	my ($status, $report) = $owner->get('/api/v2/debug/health?force=true');
	return $status == 200 ? $report : die "$status";
}

my $report = health();
is("$report->{access_url}{status_code} $report->{access_url}{healthz_response} $report->{access_url}{severity}", '200 OK ok', 'the access URL answers');
is("$report->{websocket}{code} $report->{websocket}{severity}", '101 ok', 'WebSockets open');
is($report->{derp}{regions}{999}{severity}, 'ok', 'the relay opens');
my $node = $report->{derp}{regions}{999}{node_reports}[0];
ok($node->{can_exchange_messages} && $node->{round_trip_ping} =~ /^[0-9.]+(µs|ms|s)$/ && !$node->{uses_websocket}, "and carries a message there and back in $node->{round_trip_ping}");
ok(!@{ $node->{client_errs}[0] } && @{ $node->{client_logs}[0] } && !$node->{stun}{Enabled}, 'without an error of its clients');
is("$report->{derp}{netcheck}{PreferredDERP} " . ($report->{derp}{netcheck}{RegionLatency}{999} > 0 ? 'near' : 'far') . ' ' . ($report->{derp}{netcheck}{UDP} ? 'udp' : 'tcp'), '999 near tcp', 'the report of the network');
is_deeply($report->{derp}{netcheck}{RegionV4Latency}, $report->{derp}{netcheck}{RegionLatency}, 'by IPv4');
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

# A report is kept.
$gateway->sql("UPDATE coder.provisioner_daemons SET version = coder.version()");
my $first = ($owner->get('/api/v2/debug/health'))[1];
is($first->{time}, $report->{time}, 'a report is kept');
is($first->{provisioner_daemons}{severity}, 'warning', 'as it was');
ok($first->{provisioner_daemons}{dismissed}, 'but for what is dismissed');
$owner->request('PUT', '/api/v2/debug/health/settings', { dismissed_healthchecks => [] });
ok(!($owner->get('/api/v2/debug/health'))[1]{provisioner_daemons}{dismissed}, 'or no longer');
isnt(health()->{time}, $first->{time}, 'until a new one is wanted');
$gateway->sql("UPDATE coder.kept_reports SET made_at = made_at - interval '11 minutes'");
isnt(($owner->get('/api/v2/debug/health'))[1]{time}, $first->{time}, 'or its time is over');
my ($code, $text, $fields) = $owner->get('/api/v2/debug/health?format=text');
like("$code $fields->{'content-type'} $text", qr{^200 text/plain.*\nderp: ok\n}s, 'as text');
is(($owner->get('/api/v2/debug/health?format=xml'))[0], 400, 'not in any form');
is(($owner->get('/api/v2/debug/health?force=maybe'))[0], 400, 'nor by any word');
is($gateway->sql("SELECT string_agg(section || ' ' || severity, ',' ORDER BY section) FROM coder.health()"),
	'access_url ok,database ok,derp ok,provisioner_daemons ok,websocket ok,workspace_proxy ok', 'at an SQL prompt');
$gateway->sql('DELETE FROM coder.provisioner_daemons');
is($gateway->sql("SELECT severity || ' ' || code FROM coder.health() WHERE section = 'provisioner_daemons'"), 'error EPD01', 'where what the database knows is of now');
is($gateway->sql("SELECT count(*) FROM coder.health() WHERE checked_at < now() - interval '1 minute'"), '0', 'and says from when it is');
$gateway->sql(q{SELECT coder.provisioner_register('p', '{terraform}', '{}', coder.version())});

# An access URL behind which is something else.
my $double = Coder::HttpDouble->start(sub { return $_[0]{path} eq '/healthz' ? (503, {}, 'closed') : (200, {}, 'a page') });
$gateway->sql("UPDATE coder.settings SET value = '" . $double->url . "' WHERE name = 'access_url'");
$report = health();
is("$report->{access_url}{status_code} $report->{access_url}{severity} $report->{access_url}{warnings}[0]{code}", '503 warning EACS04', 'another status');
is("$report->{websocket}{code} $report->{websocket}{severity}", '200 error', 'no WebSocket');
like($report->{websocket}{error}, qr/^EWS01/, 'with its code');
is("$report->{derp}{severity} $report->{derp}{regions}{999}{severity}", 'error error', 'no relay');
$node = $report->{derp}{regions}{999}{node_reports}[0];
ok(!$node->{can_exchange_messages} && $node->{error} && @{ $node->{client_errs}[0] }, "which its clients tell: $node->{error}");
is($report->{derp}{netcheck}{PreferredDERP}, 0, 'and no region is near');
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
