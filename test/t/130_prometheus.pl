# Prometheus scrapes the server: what it has is what the API and the tables say at the same instant.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use FindBin;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

my ($prometheus) = grep { -x } map { "$_/prometheus" } split /:/, $ENV{PATH};
plan skip_all => 'prometheus (Debian package) is not installed' unless $prometheus;

my ($port, $own) = map { Coder::Gateway::free_port() } 1 .. 2;
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port",
	CODER_PROMETHEUS_COLLECT_DB_METRICS => 'true', CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true' });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
my $psql = Coder::Gateway::bindir() . '/psql';
is(system($psql, '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=500', '-o', '/dev/null', '-f', "$FindBin::Bin/../pgtap/support/workspaces.psql", $socket), 0,
	'five hundred workspaces');

# Five agents are connected, by the wire; one says good-bye at the very time of its last beat.
my @agents;
for my $i (1 .. 5)
{
	my $token = $gateway->sql(qq{SELECT a.auth_token FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
		JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'workspace-$i'});
	push @agents, Coder::AgentRpc->open($gateway->url, $token) // die $@;
}
my $connected = q{SELECT count(*) FROM coder.workspace_agents a WHERE coder.agent_status(a, clock_timestamp()) = 'connected'};
ok($gateway->wait_for(15, sub { $gateway->sql($connected) == 5 }), 'five agents are connected');
$gateway->sql(q{UPDATE coder.workspace_agents a SET disconnected_at = a.last_connected_at
	 WHERE a.id = (SELECT x.id FROM coder.workspace_agents x WHERE x.last_connected_at > now() - interval '1 minute' ORDER BY x.id LIMIT 1)});

# A server of our own, in its own folder.
my $folder = "$gateway->{dir}/prometheus";
mkdir $folder or die;
open my $file, '>', "$folder/prometheus.yml" or die;
print $file <<"YAML";
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - { job_name: coder, static_configs: [ { targets: [ '127.0.0.1:$port' ] } ] }
YAML
close $file;
my $pid = fork // die;
if ($pid == 0)
{
	open STDOUT, '>', "$folder/log" or die;
	open STDERR, '>&', \*STDOUT or die;
	exec $prometheus, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/data", "--web.listen-address=127.0.0.1:$own", '--log.level=warn';
}
END { if ($pid) { local $?; kill 'TERM', $pid; waitpid $pid, 0 } }
my $api = Coder::Client->new(url => "http://127.0.0.1:$own");

sub query
{
	my ($text) = @_;
	my ($status, $answer) = $api->get('/api/v1/query?query=' . ($text =~ s/([^A-Za-z0-9_])/sprintf '%%%02X', ord $1/ger));
	return [] unless $status == 200;
	$answer = decode_json($answer) unless ref $answer;
	return $answer->{data}{result};
}
sub value { my $result = query(@_); return @$result == 1 ? $result->[0]{value}[1] : 'none' }
sub by { my ($label, $text) = @_; return { map { $_->{metric}{$label} => $_->{value}[1] + 0 } @{ query($text) } } }
sub table { return { map { split /\|/ } split /\n/, $gateway->sql($_[0]) } }

ok($gateway->wait_for(30, sub { value('up{job="coder"}') eq '1' && value('count(coderd_agents_connections)') eq '500' }), 'Prometheus has scraped it');
is(value('scrape_samples_post_metric_relabeling{job="coder"} == scrape_samples_scraped{job="coder"}') ne 'none' ? 1 : 0, 1, 'and dropped no sample');
is(-s "$folder/log", 0, 'nor does it complain');

# Three views of one instant: while nothing changes they are the same.
my $status_sql = q{SELECT coder.agent_status(a, clock_timestamp()), count(*) FROM coder.workspace_agents a GROUP BY 1};
my ($table, $metric, $list);
sub agents_of_api
{
	my %seen;
	for (my $offset = 0; $offset < 500; $offset += 100)
	{
		my $page = $owner->get("/api/v2/workspaces?limit=100&offset=$offset");
		$seen{ $_->{status} }++ for map { @{ $_->{agents} // [] } } map { @{ $_->{latest_build}{resources} } } @{ $page->{workspaces} };
	}
	return \%seen;
}
$gateway->wait_for(40, sub {
	$table = table($status_sql);
	$metric = by('status', 'sum by (status) (coderd_agents_connections)');
	$list = agents_of_api();
	my ($t, $m, $l) = map { my $view = $_; join ' ', map { "$_=$view->{$_}" } sort keys %$view } $table, $metric, $list;
	return $t eq $m && $t eq $l;
});
is_deeply($metric, $table, 'agents by status: Prometheus and the table');
is_deeply($metric, $list, 'Prometheus and the API');
cmp_ok($metric->{connected} // 0, '>=', 4, 'connected ones among them');
is_deeply(by('status', 'coderd_api_workspace_latest_build'), table(q{SELECT j.job_status, count(*) FROM coder.workspaces w
	JOIN coder.workspace_builds b ON b.id = w.latest_build_id JOIN coder.provisioner_jobs j ON j.id = b.job_id WHERE NOT w.deleted GROUP BY 1}), 'workspaces by their latest build');
is(value('sum(coderd_agents_up)'), 500, 'agents of workspaces');
is(value('sum(coderd_workspace_builds_total)'), $gateway->sql('SELECT count(*) FROM coder.workspace_builds'), 'builds');
is(value('sum(coderd_api_concurrent_websockets{path="/api/v2/workspaceagents/me/rpc"})'), 5, 'WebSockets of agents');
is(value('coder_pubsub_connected'), 1, 'events come');
ok($gateway->wait_for(15, sub { my $v = value('coder_pubsub_receive_latency_seconds'); $v ne 'none' && $v > 0 && $v < 5 }), 'and it is known how long they take');
cmp_ok(value('sum(coderd_db_tx_executions_count{success="true"})'), '>', 10, 'statements');
$owner->get('/api/v2/users/me') for 1 .. 40;
ok($gateway->wait_for(15, sub { value('sum(coder_cache_lookups_total{cache="subject"})') > 10 }), 'lookups of subjects');
cmp_ok(value('coderd_lifecycle_autobuild_execution_duration_seconds_count'), '>', 2, 'ticks');
cmp_ok(value('sum(coderd_db_query_latencies_seconds_count)'), '>', 10, 'by name');
cmp_ok(value('coderd_db_query_counts_total{route="/api/v2/workspaces",method="GET"}'), '>=', 5, 'and by route');
cmp_ok(value('process_cpu_seconds_total'), '>', 0, 'the process');

# One that is killed is called gone within its timeout and one interval (an answer of the database is kept for half a second).
my $gone = $gateway->sql(q{SELECT w.name FROM coder.workspaces w WHERE w.name = 'workspace-5'});
$gateway->sql(q{UPDATE coder.workspace_agents a SET last_connected_at = clock_timestamp() - interval '28 s', disconnected_at = NULL FROM coder.workspace_resources r,
	coder.workspace_builds b, coder.workspaces w WHERE a.resource_id = r.id AND r.job_id = b.job_id AND b.workspace_id = w.id AND w.name = 'workspace-9'});
my $since = time - 28;
ok($gateway->wait_for(16, sub { value('coderd_agents_connections{workspace_name="workspace-9",status="disconnected"}') eq '1' }), 'an agent that is silent is called gone');
cmp_ok(time - $since, '<=', 30 + 2 + 2, 'within its timeout and one interval');
done_testing();
