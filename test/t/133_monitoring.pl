# Dashboards and alerts: the rules are rules and do what their tests say, and every name in them, and in docs/METRICS.md, is served.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Reports qw(workspaces);
use Cwd qw(abs_path);
use FindBin;
use JSON::PP;
use Test::More;

my $docs = abs_path("$FindBin::Bin/../../docs");
my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
SKIP:
{
	skip 'promtool (Debian package prometheus) is not installed', 2 unless $promtool;
	my $said = `$promtool check rules $docs/monitoring/alerts.yml 2>&1`;
	is($?, 0, 'promtool: the alerts are rules') or diag $said;
	$said = `$promtool test rules $docs/monitoring/alerts_test.yml 2>&1`;
	is($?, 0, 'promtool: they fire when they should') or diag $said;
}

my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port",
	CODER_PROMETHEUS_COLLECT_DB_METRICS => 'true', CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true' });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
workspaces($gateway, 5);
# An agent reports what the reference's agents do.
$gateway->sql(q{SELECT coder.agent_metrics_store(a.id, '[{"name": "coderd_agentstats_currently_reachable_peers", "type": "GAUGE", "value": 1, "labels": [{"name": "connection_type", "value": "derp"}]},
	{"name": "coderd_agentstats_startup_script_seconds", "type": "GAUGE", "value": 2, "labels": [{"name": "success", "value": "true"}]}]', clock_timestamp()) FROM coder.workspace_agents a LIMIT 1});
my ($status, $text) = Coder::Client->new(url => "http://127.0.0.1:$port")->get('/metrics');
is($status, 200, 'a scrape');
my %served = map { $_ => 1 } $text =~ /^# TYPE (\S+) /mg;

sub missing
{
	my ($words) = @_;
	my %seen;
	return join ' ', sort grep { my $plain = s/_(?:bucket|count|sum)$//r; !$served{$_} && !$served{$plain} && !$seen{$_}++ } $words =~ /\b((?:coderd?|process|promhttp)_[a-z0-9_]+)\b/g;
}
sub slurp { my ($file) = @_; open my $in, '<', $file or die "$file: $!"; local $/; return scalar <$in> }

my $dashboard = decode_json(slurp("$docs/monitoring/grafana.json"));
my @queries = map { $_->{expr} } map { @{ $_->{targets} // [] } } @{ $dashboard->{panels} };
cmp_ok(scalar @queries, '>', 25, 'a dashboard');
is(missing("@queries"), '', 'every name of the dashboard is served');
is(missing(join "\n", slurp("$docs/monitoring/alerts.yml") =~ /expr: (.*)/g), '', 'every name of the alerts');

# docs/METRICS.md: what is said to be there is, what is said not to be is not.
my @there = grep { !/^\|[^|]*\| no \|/ } slurp("$docs/METRICS.md") =~ /^(\| `.*)$/mg;
is(missing(join ' ', map { my ($names) = /^\|([^|]*)\|/; $names =~ /`((?:coderd?|process|promhttp)_[a-z0-9_]+)`/g } @there), '', 'every name of docs/METRICS.md');
my @absent = grep { $served{$_} } map { my ($names) = /^\|([^|]*)\| no \|/; $names ? $names =~ /`([a-z0-9_]+)`/g : () } slurp("$docs/METRICS.md") =~ /^(\| `.*)$/mg;
is("@absent", '', 'and none of those that it says are not there');

# Names of the reference's public dashboard, but for those of its language's runtime.
is(missing('coderd_api_requests_processed_total coderd_provisionerd_num_daemons coderd_provisionerd_jobs_current coderd_db_query_latencies_seconds_count
	coderd_db_query_latencies_seconds_bucket coderd_api_request_latencies_seconds_bucket process_cpu_seconds_total coderd_api_active_users_duration_hour
	coderd_agents_up coderd_agents_connection_latencies_seconds'), '', 'names of the reference\'s dashboard');
cmp_ok(scalar(grep { /^coderd_|^coder_pubsub|^coder_derp|^coder_servertailnet/ } keys %served), '>=', 70, 'families with the reference\'s names');
done_testing();
