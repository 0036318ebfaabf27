# Prometheus, the API and the tables tell the same of every instant while agents come, fall silent and die, and builds begin and end.
# long: half a minute of changes, and few of them.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use FindBin;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my ($prometheus) = grep { -x } map { "$_/prometheus" } split /:/, $ENV{PATH};
plan skip_all => 'prometheus (Debian package) is not installed' unless $prometheus;

my $seconds = $ENV{CODER_TEST_CHANGES} // 30;
my $n = 100;
my ($port, $own) = map { Coder::Gateway::free_port() } 1 .. 2;
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port", CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
is(system(Coder::Gateway::bindir() . '/psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', "n=$n", '-o', '/dev/null', '-f', "$FindBin::Bin/../pgtap/support/workspaces.psql", $socket), 0,
	"$n workspaces");
my %token = map { split /\|/ } split /\n/, $gateway->sql(q{SELECT i, a.auth_token FROM generate_series(0, 9) i JOIN coder.workspace_agents a ON a.id = md5('agent' || i)::uuid});

my $folder = "$gateway->{dir}/prometheus";
mkdir $folder or die;
open my $file, '>', "$folder/prometheus.yml" or die;
print $file "global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n  - { job_name: coder, static_configs: [ { targets: [ '127.0.0.1:$port' ] } ] }\n";
close $file;
my %children;
sub child
{
	my ($code) = @_;
	my $pid = fork // die;
	if ($pid == 0)
	{
		%children = ();
		$code->();
		POSIX::_exit(0);
	}
	$children{$pid} = 1;
	return $pid;
}
sub end { my ($signal, @pids) = @_; kill $signal, @pids; waitpid $_, 0 for @pids; delete @children{@pids}; return }
END { if (%children) { local $?; end('KILL', keys %children) } }
my $server = child(sub {
	open STDOUT, '>', "$folder/log" or die;
	open STDERR, '>&', \*STDOUT or die;
	exec $prometheus, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/data", "--web.listen-address=127.0.0.1:$own", '--log.level=warn';
});
my $api = Coder::Client->new(url => "http://127.0.0.1:$own");
sub query
{
	my ($text) = @_;
	my ($status, $answer) = $api->get('/api/v1/query?query=' . ($text =~ s/([^A-Za-z0-9_])/sprintf '%%%02X', ord $1/ger));
	return [] unless $status == 200;
	$answer = decode_json($answer) unless ref $answer;
	return $answer->{data}{result};
}
ok($gateway->wait_for(30, sub { my $r = query('count(coderd_agents_connections)'); @$r && $r->[0]{value}[1] == $n }), 'Prometheus has all agents');

# The changes: of each workspace one in four seconds at most, so that none is undone unseen.
sub agent { my ($i, $set) = @_; return $gateway->sql("UPDATE coder.workspace_agents SET $set WHERE id = md5('agent$i')::uuid") }
my $changer = child(sub {
	my (%touched, %wire, %building);
	srand 7;
	my $random = sub {
		my ($from, $to) = @_;
		for (1 .. 50) { my $i = $from + int rand($to - $from + 1); if (($touched{$i} // 0) < time - 4) { $touched{$i} = time; return $i } }
		return;
	};
	local $SIG{TERM} = sub { kill 'KILL', values %wire; POSIX::_exit(0) };
	while (1)
	{
		sleep 0.15;
		my $what = int rand 6;
		if ($what == 0 && defined(my $i = $random->(0, 9)))
		{
			# By the wire: comes, or is killed.
			if (my $pid = delete $wire{$i}) { kill 'KILL', $pid; waitpid $pid, 0 }
			else { $wire{$i} = child(sub { my $agent = Coder::AgentRpc->open($gateway->url, $token{$i}) // POSIX::_exit(1); $agent->data(-1, 600) }) }
		}
		elsif ($what == 1 && defined(my $j = $random->(10, $n - 1))) { agent($j, 'first_connected_at = clock_timestamp(), last_connected_at = clock_timestamp(), disconnected_at = NULL') }
		elsif ($what == 2 && defined(my $k = $random->(10, $n - 1))) { agent($k, 'disconnected_at = clock_timestamp(), last_connected_at = clock_timestamp()') }
		elsif ($what == 3 && defined(my $l = $random->(10, $n - 1))) { agent($l, q{last_connected_at = clock_timestamp() - interval '28.5 s', disconnected_at = NULL}) }
		elsif ($what == 4 && keys %building < 12 && defined(my $m = $random->(10, $n - 1)))
		{
			my ($status, $build) = $owner->post('/api/v2/workspaces/' . $gateway->sql("SELECT md5('workspace$m')::uuid") . '/builds', { transition => 'stop' });
			$building{$m} = [ $build->{job}{id}, 0 ] if $status == 201;
		}
		elsif ($what == 5 && (my ($due) = grep { $touched{$_} < time - 4 } sort { $a <=> $b } keys %building))
		{
			my ($job, $begun) = @{ $building{$due} };
			my $failed = $due % 3 == 0 ? q{, error = 'no'} : '';
			$gateway->sql($begun ? "UPDATE coder.provisioner_jobs SET completed_at = clock_timestamp()$failed WHERE id = '$job'" : "UPDATE coder.provisioner_jobs SET started_at = clock_timestamp() WHERE id = '$job'");
			$touched{$due} = time;
			$begun ? delete $building{$due} : ($building{$due}[1] = 1);
		}
	}
});

# What the table and the API say, with when it was asked and answered: agents' states, builds that ended by workspace, workspaces by their latest build.
sub of_table
{
	my %view;
	for (split /\n/, $gateway->sql(q{SELECT 'agent ' || m.workspace_name, coder.agent_status(a, statement_timestamp()) FROM coder.metric_agents m JOIN coder.workspace_agents a ON a.id = m.id
		UNION ALL SELECT 'ended ' || workspace_name, count(completed_at)::text FROM coder.metric_builds GROUP BY workspace_name
		UNION ALL SELECT 'latest ' || job_status, count(*)::text FROM coder.metric_builds WHERE latest AND NOT deleted GROUP BY job_status}))
	{
		my ($key, $value) = split /\|/;
		$view{$key} = $value;
	}
	return \%view;
}
sub of_api
{
	my %view;
	# In one page: between two a workspace could change its place.
	my ($status, $page) = $owner->get("/api/v2/workspaces?limit=$n");
	die "workspaces: $status" unless $status == 200 && @{ $page->{workspaces} } == $n;
	for my $w (@{ $page->{workspaces} })
	{
		$view{"latest $w->{latest_build}{job}{status}"}++;
		$view{"agent $w->{name}"} = $_->{status} for map { @{ $_->{agents} // [] } } @{ $w->{latest_build}{resources} };
	}
	return \%view;
}
my (@table, @api);
my $until = time + $seconds;
while (time < $until)
{
	my $began = time;
	my $view = of_table();
	push @table, [ $began, time, $view ];
	$began = time;
	$view = of_api();
	push @api, [ $began, time, $view ];
}
my $end = time;
sleep 1.5; # the last scrape
end('TERM', $changer);

# What Prometheus has scraped, by the time of the scrape.
my (%scrape, %names);
for my $series (@{ query('coderd_agents_connections[' . ($seconds + 10) . 's]') })
{
	$scrape{ $_->[0] }{"agent $series->{metric}{workspace_name}"} = $series->{metric}{status} for @{ $series->{values} };
}
for my $series (@{ query('coderd_workspace_builds_total[' . ($seconds + 10) . 's]') })
{
	$scrape{ $_->[0] }{"ended $series->{metric}{workspace_name}"} += $_->[1] for @{ $series->{values} };
}
for my $series (@{ query('coderd_api_workspace_latest_build[' . ($seconds + 10) . 's]') })
{
	$scrape{ $_->[0] }{"latest $series->{metric}{status}"} = $_->[1] for @{ $series->{values} };
}
my %took;
for my $series (@{ query('scrape_duration_seconds[' . ($seconds + 10) . 's]') }) { $took{ $_->[0] } = $_->[1] for @{ $series->{values} } }
# An answer is half a second old at most.
my @scraped = map { [ $_ - 0.5, $_ + ($took{$_} // 1), $scrape{$_} ] } sort { $a <=> $b } grep { $_ > $table[0][1] + 0.6 && $_ < $end - 2 } keys %scrape;
cmp_ok(scalar @scraped, '>=', $seconds / 2, 'scrapes, with changes beside them');
cmp_ok(scalar(keys %took), '>', 0, 'and how long they took');

# Of two views: where one says the same before and after the other, the other says it, too.
sub compare
{
	my ($what, $those, $by) = @_;
	my ($same, @wrong) = (0);
	for my $view (@$those)
	{
		my ($before) = grep { $_->[1] <= $view->[0] } reverse @$by;
		my ($after) = grep { $_->[0] >= $view->[1] } @$by;
		next unless $before && $after && $after->[1] - $before->[0] < 3.5;
		my @between = grep { $_->[0] >= $before->[0] && $_->[1] <= $after->[1] } @$by;
		for my $key (grep { $by == \@table || !/^ended/ } keys %{ $before->[2] })
		{
			next if $key =~ /^ended/ && $those == \@api;
			my $value = $before->[2]{$key};
			next if grep { ($_->[2]{$key} // '') ne $value } @between;
			# A sum may be the same again in between.
			next if $key =~ /^latest/ && grep { my $v = $_; grep { /^latest/ && ($v->[2]{$_} // '') ne ($before->[2]{$_} // '') } keys %{ $v->[2] }, keys %{ $before->[2] } } @between;
			$same++;
			push @wrong, "$key: " . ($view->[2]{$key} // 'nothing') . " instead of $value" if ($view->[2]{$key} // '') ne $value;
		}
	}
	is(scalar @wrong, 0, "$what: $same times the same") or diag join "\n", @wrong > 10 ? @wrong[0 .. 9] : @wrong;
	cmp_ok($same, '>', 3 * $n, '  that is of most, several times');
	return;
}
compare('Prometheus and the table', \@scraped, \@table);
compare('Prometheus and the API', \@scraped, \@api);
compare('the API and the table', \@api, \@table);

# And there was change in all of them.
for ([ 'the table', \@table ], [ 'the API', \@api ], [ 'Prometheus', \@scraped ])
{
	my ($name, $views) = @$_;
	my %changes;
	for my $i (1 .. $#$views)
	{
		my ($old, $new) = map { $views->[$_][2] } $i - 1, $i;
		$changes{ (split / /)[0] }++ for grep { ($old->{$_} // '') ne $new->{$_} } keys %$new;
	}
	cmp_ok($changes{agent} // 0, '>', $seconds / 3, "agents change as seen by $name");
	cmp_ok($changes{latest} // 0, '>', $seconds / 6, '  and builds');
	cmp_ok($changes{ended} // 0, '>', 1, '  of which some end') unless $views == \@api;
}
my %kinds = map { ($_ => 1) } map { my $v = $_->[2]; map { $v->{$_} } grep { /^agent/ } keys %$v } @scraped;
is(join(' ', sort keys %kinds), 'connected disconnected', 'states of agents that came');
end('KILL', $server);
$gateway->stop;
done_testing();
