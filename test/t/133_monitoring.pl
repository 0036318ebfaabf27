# Dashboards and alerts: the rules are rules and do what their tests say, and every name in them, and in docs/METRICS.md, is served.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
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

# On a live server no panel is empty, nor does an alert ask for a label that is not there.
SKIP:
{
	my ($prometheus) = grep { -x } map { "$_/prometheus" } split /:/, $ENV{PATH};
	skip 'prometheus (Debian package) is not installed', 3 unless $prometheus;
	my $own = Coder::Gateway::free_port();
	my $folder = "$gateway->{dir}/prometheus";
	mkdir $folder or die;
	open my $config, '>', "$folder/prometheus.yml" or die;
	print $config "global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n  - { job_name: coder, static_configs: [ { targets: [ '127.0.0.1:$port' ] } ] }\n";
	close $config;
	my $pid = fork // die;
	if ($pid == 0)
	{
		open STDOUT, '>', "$folder/log" or die;
		open STDERR, '>&', \*STDOUT or die;
		exec $prometheus, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/data", "--web.listen-address=127.0.0.1:$own", '--log.level=warn';
	}
	my $api = Coder::Client->new(url => "http://127.0.0.1:$own");
	my $ask = sub {
		my ($text) = @_;
		my ($code, $answer) = $api->get('/api/v1/query?query=' . ($text =~ s/([^A-Za-z0-9_])/sprintf '%%%02X', ord $1/ger));
		return 'refused' unless $code == 200;
		$answer = decode_json($answer) unless ref $answer;
		return scalar @{ $answer->{data}{result} };
	};
	# A rate needs two scrapes, and a build that ends between two more.
	$gateway->wait_for(30, sub { $ask->('count_over_time(up{job="coder"}[1m])') =~ /^1$/ && $ask->('rate(coderd_api_requests_processed_total[1m])') =~ /^[1-9]/ });
	# The purge is due every ten minutes, since the cluster was made.
	$gateway->sql(q{DELETE FROM coder.tick_state WHERE name = 'purge'});
	my $agent = Coder::AgentRpc->open($gateway->url, $gateway->sql(q{SELECT auth_token FROM coder.workspace_agents WHERE id = md5('agent1')::uuid}));
	# What nobody has asked for on this server: requests to others.
	my %may_be_empty = map { $_ => 1 } 'Requests to providers';
	my $empty;
	$gateway->wait_for(40, sub {
		$owner->get('/api/v2/users/me');
		$empty = join "\n", map { my $panel = $_; map { "$panel->{title}: $_" } grep { my $q = s/\$instance/.*/gr; $ask->($q) !~ /^[1-9]/ } map { $_->{expr} } @{ $panel->{targets} // [] } }
			grep { !$may_be_empty{ $_->{title} } } @{ $dashboard->{panels} };
		return $empty eq '';
	});
	is($empty, '', 'no panel of the dashboard is empty');
	my $refused = join "\n", grep { $ask->($_) eq 'refused' } map { s/\$instance/.*/gr } @queries;
	is($refused, '', 'and all are queries');
	my @wrong;
	for my $expr (slurp("$docs/monitoring/alerts.yml") =~ /expr: (.*)/g)
	{
		while ($expr =~ /\b((?:coderd?|process)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)
		{
			my ($name, $matchers) = ($1, $2 // '');
			push @wrong, "$name: $_" for grep { $ask->("$name\{$_!=\"\"}") !~ /^[1-9]/ } $matchers =~ /(\w+)[=!]/g;
		}
	}
	is("@wrong", '', 'every label that an alert asks for is there');
	kill 'KILL', $pid;
	waitpid $pid, 0;
}
done_testing();
