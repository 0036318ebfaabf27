# Names with quotes, newlines, backslashes, of ten kilobytes, and bytes that are no text: the exposition stays whole, and what is told is what is there.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Encode qw(decode encode FB_CROAK);
use FindBin;
use Test::More;

my $port = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_PROMETHEUS_ENABLE => 'true', CODER_PROMETHEUS_ADDRESS => "127.0.0.1:$port", CODER_PROMETHEUS_COLLECT_AGENT_STATS => 'true',
	CODER_PROMETHEUS_COLLECT_DB_METRICS => 'true' });
my $owner = $gateway->first_user;
my $socket = "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder";
is(system(Coder::Gateway::bindir() . '/psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=8', '-o', '/dev/null', '-f', "$FindBin::Bin/../pgtap/support/workspaces.psql", $socket), 0, 'eight workspaces');

my %hostile = (
	quote => 'a"} 1' . "\n" . 'evil{x="y',
	newline => "line\nline\r\n\n# TYPE evil counter\nevil 1\n",
	backslash => 'ends with \\',
	brace => '{}=,~!"\\"\\n',
	control => join('', map { chr } 1 .. 31, 127, 0x85, 0x2028),
	wide => "\x{1F600}\x{10FFFD}\x{E9}",
	long => 'x' x 10_240,
	wide_long => "ab" . "\x{1F600}" x 2560,
);
# As the text of a label says it: at most 512 bytes, in whole characters.
sub shown
{
	my $bytes = encode('UTF-8', $_[0]);
	$bytes = substr $bytes, 0, 512;
	$bytes = substr $bytes, 0, -1 until eval { my $copy = $bytes; decode('UTF-8', $copy, FB_CROAK); 1 };
	return decode('UTF-8', $bytes);
}
sub literal { my ($text) = @_; return "repeat('" . substr($text, 0, 1) . "', " . length($text) . ')' if $text =~ /^(\w)\1+$/; return "('ab' || repeat(" . literal("\x{1F600}") . ', 2560))' if length $text == 2562; return "convert_from('\\x" . unpack('H*', encode('UTF-8', $text)) . "', 'UTF8')" }

# By SQL everywhere that a label comes from: names of users, workspaces, templates, versions, agents, apps, presets, organizations, relays, parameters.
my @kinds = sort keys %hostile;
for my $i (0 .. $#kinds)
{
	my $text = literal($hostile{ $kinds[$i] });
	my $short = literal(substr $hostile{ $kinds[$i] }, 0, 60);
	$gateway->sql(qq{SET session_replication_role = replica;
		UPDATE coder.workspaces SET name = $short || $i WHERE id = md5('workspace$i')::uuid;
		UPDATE coder.workspace_agents SET name = $short, last_connected_at = now(), first_connected_at = now(), disconnected_at = NULL WHERE id = md5('agent$i')::uuid;
		UPDATE coder.workspace_apps SET display_name = $short WHERE agent_id = md5('agent$i')::uuid;
		UPDATE coder.template_versions SET name = $short || $i WHERE id = md5('version' || $i)::uuid;
		UPDATE coder.templates SET name = $short || $i WHERE id = md5('template' || $i)::uuid;
		INSERT INTO coder.workspace_agent_nodes (agent_id, node, latency) VALUES (md5('agent$i')::uuid, jsonb_build_object('id', $text), jsonb_build_object($text, '{"preferred": true, "latency_ms": 1}'::jsonb))
			ON CONFLICT (agent_id) DO UPDATE SET node = excluded.node, latency = excluded.latency;
		UPDATE coder.workspace_builds SET created_at = now() WHERE id = md5('build$i')::uuid;
		INSERT INTO coder.workspace_build_parameters (workspace_build_id, name, value) VALUES (md5('build$i')::uuid, $text, $text)});
}
$gateway->sql('SET session_replication_role = replica; UPDATE coder.users SET username = ' . literal($hostile{quote}) . q{ WHERE id = md5('user0')::uuid;
	UPDATE coder.organizations SET name = } . literal($hostile{brace}) . ' WHERE is_default');

# By the wire: what an agent reports of itself, valid and not.
my $agent = Coder::AgentRpc->open($gateway->url, $gateway->sql(q{SELECT auth_token FROM coder.workspace_agents WHERE id = md5('agent1')::uuid})) or die $@;
sub metric { my ($name, @labels) = @_; return Coder::AgentRpc::field(12, Coder::AgentRpc::field(1, $name) . "\x10\x01\x19" . pack('d<', 7)
	. join '', map { Coder::AgentRpc::field(4, Coder::AgentRpc::field(1, $_->[0]) . Coder::AgentRpc::field(2, $_->[1])) } @labels) }
sub report { return $agent->call('UpdateStats', Coder::AgentRpc::field(1, "\x10\x02" . join '', @_)) }
ok(defined report(map { metric("agent_$_", [ kind => encode('UTF-8', $hostile{$_}) ]) } @kinds), 'a report of an agent with such labels');
my $refused = report(metric('agent_bytes', [ kind => "\xff\xfe bytes \xc3" ]));
ok(defined report(metric('agent_after', [ kind => 'good' ])) || do {
	$agent = Coder::AgentRpc->open($gateway->url, $gateway->sql(q{SELECT auth_token FROM coder.workspace_agents WHERE id = md5('agent1')::uuid}));
	defined report(metric('agent_after', [ kind => 'good' ]));
}, 'bytes that are no text do not keep the agent from reporting');
ok(defined report(metric("agent_name\n1", [ kind => 'x' ]), metric('agent_label', [ "k\"} 1\nevil" => 'x' ]), metric('', [ '' => '' ]), metric('coderd_agents_up', [ username => 'x' ])), 'nor do bad names');

my ($status, $text) = Coder::Client->new(url => "http://127.0.0.1:$port")->get('/metrics');
is($status, 200, 'a scrape');
my $plain = eval { decode('UTF-8', my $copy = $text, FB_CROAK) } // eval { utf8::is_utf8($text) ? $text : undef };
ok(defined $plain, 'is UTF-8');
my @lines = split /\n/, $plain;
my $value = qr/"(?:[^"\\\n]|\\[\\n"])*"/;
my @bad = grep { !/^(?:# (?:HELP|TYPE) \S+ .*|[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[a-zA-Z_][a-zA-Z0-9_]*=$value,?)*\})? (?:[-+]?[0-9.e+-]+|[+-]Inf|NaN))$/ } @lines;
is(scalar @bad, 0, 'each line is what it ought to be') or diag join "\n", map { substr $_, 0, 200 } @bad;
is(scalar(grep { /^evil/ } @lines), 0, 'no line is one of theirs');
is((sort { $b <=> $a } map { map { length encode('UTF-8', $_) } /($value)/g } @lines)[0] <= 2 + 2 * 512, 1, 'no value is longer than 512 bytes and its escapes');
my %heads;
$heads{$_}++ for map { /^# TYPE (\S+)/ ? $1 : () } @lines;
is(join(' ', grep { $heads{$_} > 1 } sort keys %heads), '', 'no family comes twice, whatever agents call theirs');
my %series;
$series{$_}++ for map { /^([^#].*) \S+$/ ? $1 : () } @lines;
is(scalar(grep { $_ > 1 } values %series), 0, 'nor does a series');

# What is told is what is there.
sub plain { my ($v) = @_; my %of = (n => "\n"); $v =~ s/\\(.)/$of{$1} \/\/ $1/ge; return $v }
sub values_of { my ($family, $label) = @_; my %v; for (@lines) { $v{ plain($1) }++ if /^\Q$family\E\{(?:.*,)?$label="((?:[^"\\]|\\.)*)"/ } return \%v }
for my $kind (@kinds)
{
	my $want = shown($hostile{$kind});
	is(join(' ', grep { !values_of(@$_)->{ substr $hostile{$kind}, 0, 60 } } [qw(coderd_agents_connections agent_name)], [qw(coderd_agents_apps app_name)]) ? 'missing' : '', '', "$kind: agent, app");
	is(join(' ', grep { !values_of(@$_)->{$want} } [qw(coderd_agents_connections tailnet_node)],
		[qw(coderd_agents_connection_latencies_seconds derp_region)]) ? 'missing' : '', '', "$kind: node, relay");
}
cmp_ok(scalar(keys %{ values_of('coderd_insights_parameters', 'parameter_name') }), '>=', 1, 'parameters, too');
is(values_of('coderd_workspace_creation_total', 'organization_name')->{ $hostile{brace} } ? 1 : 0, 1, 'an organization');

SKIP:
{
	my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
	skip 'promtool (Debian package prometheus) is not installed', 1 unless $promtool;
	open my $out, '>:raw', "$gateway->{dir}/metrics.txt" or die;
	print $out encode('UTF-8', $plain);
	close $out;
	my $said = `$promtool check metrics < $gateway->{dir}/metrics.txt 2>&1`;
	unlike($said, qr/error while linting|parsing|invalid/, 'promtool reads it') or diag substr $said, 0, 500;
}
$gateway->stop;
done_testing();
