# Metrics at the address for Prometheus: they parse, agree with the API, and stay when the database is gone.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces);
use Test::More;

my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port" });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
workspaces($gateway, 12);
$gateway->sql(q{SET session_replication_role = replica; UPDATE coder.workspaces SET name = E'q"u\\\\o' WHERE name = 'workspace-8'});

my $prometheus = Coder::Client->new(url => "http://127.0.0.1:$port");
sub scrape { my ($status, $text) = $prometheus->get('/metrics'); die "answer $status" unless $status == 200; return $text }
sub value { my ($text, $series) = @_; return $text =~ /^\Q$series\E (\S+)$/m ? $1 : 'none' }

my $token = $gateway->sql(q{SELECT a.auth_token FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
	JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'workspace-1'});
my $agent = Coder::AgentRpc->open($gateway->url, $token) or die $@;
sub of_api
{
	my $list = $owner->get('/api/v2/workspaces?limit=100');
	return { map { my $w = $_; map { ($w->{name} => $_->{status}) } map { @{ $_->{agents} // [] } } @{ $w->{latest_build}{resources} } } @{ $list->{workspaces} } };
}
ok($gateway->wait_for(10, sub { of_api()->{'workspace-1'} eq 'connected' }), 'an agent is connected');

my $text = scrape();
my %metric = $text =~ /^coderd_agents_connections\{.*?workspace_name="((?:[^"\\]|\\.)*)",status="(\w+)"/mg;
my %by_name = map { my $plain = s/\\(.)/$1/gr; ($plain => $metric{$_}) } keys %metric;
is_deeply(\%by_name, of_api(), 'agents are what the API says they are');
is($by_name{'workspace-1'}, 'connected', 'the one that is connected, too');
is(value($text, 'coderd_api_workspace_latest_build{status="succeeded"}'), 12, 'workspaces');
cmp_ok(value($text, 'coderd_api_requests_processed_total{code="201",method="POST",path="/api/v2/users/login"}'), '>=', 1, 'requests by route');
like($text, qr/^coderd_api_request_latencies_seconds_bucket\{method="POST",path="\/api\/v2\/users\/login",le="\+Inf"\} \d+$/m, 'and their latencies');
is(value($text, 'coder_gateway_db_metrics_up'), 1, 'the database has answered');
like($text, qr/^coderd_build_info\{version="[^"]+",revision=""\} 1$/m, 'the version');
is(scalar(() = $text =~ /^# TYPE (\S+) /mg), scalar(keys %{ { map { $_ => 1 } $text =~ /^# TYPE (\S+) /mg } }), 'no family comes twice');

SKIP:
{
	my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
	skip 'promtool (Debian package prometheus) is not installed', 1 unless $promtool;
	my $file = "$gateway->{dir}/metrics.txt";
	open my $out, '>', $file or die;
	print $out $text;
	close $out;
	my $said = `$promtool check metrics < $file 2>&1`;
	# Its taste in names; these are the reference's.
	$said =~ s/^(?:coderd_api_total_user_count|coderd_db_tx_executions_count|coderd_notifications_retry_count|coder_derp_server_average_queue_duration_ms) .*\n//mg;
	is($said, '', 'promtool finds nothing');
}

# What is where.
is(($prometheus->get('/api/v2/buildinfo'))[0], 404, 'nothing else is served there');
is(($prometheus->post('/metrics', {}))[0], 404, 'nor taken');
unlike(scalar $gateway->client->get('/metrics') // '', qr/coderd_agents/, 'and names of users are not served to the world');

# Without the database.
my $postmaster = $gateway->postmaster;
kill 'STOP', $gateway->{pid};
kill 'KILL', $postmaster;
kill 'CONT', $gateway->{pid};
ok($gateway->wait_for(30, sub { my ($status, $t) = $prometheus->get('/metrics'); $status == 200 && value($t, 'coder_gateway_db_metrics_up') =~ /^[01]$/ }), 'kill -9 of PostgreSQL: there is an answer');
ok($gateway->wait_for(30, sub { value(scrape(), 'coder_gateway_db_metrics_up') == 1 }), 'and soon the whole again');
done_testing();
