# The recipes of docs/SQL.md do what they say, for an administrator who comes by SQL, on a database with something in it.
use strict;
use warnings FATAL => 'all';
use Coder::Documents;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use Test::More;

my $root = abs_path(dirname(__FILE__) . '/../..');
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ntimezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coder; SELECT coder.seed(); BEGIN;'
	. Coder::Documents::read_text("$Coder::Documents::data/sample.sql")
	. Coder::Documents::read_text("$Coder::Documents::data/recipes.sql") . 'COMMIT; CREATE ROLE adm LOGIN IN ROLE coder_admin');

my $uuid = qr/[0-9a-f]{8}-[0-9a-f-]{27}/;
my $time = qr/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\+00/;
my $state = 'SELECT count(*) FROM coder.workspace_builds WHERE active';

# What each recipe answers (unaligned, columns by |), and what it has changed: a query of the role of the server and its answer.
my %expect = (
	'What runs now' => [qr/^dev\|bob\|running\|sandbox\|main connecting\/created\|$time$/m],
	'Builds that failed in the last week, and why' => [qr/^broken\|bob\|1\|start\|$time\|plan: no such image$/],
	'The log of the last failed build' => [qr/^$time\|error\|Planning\|no such image$/],
	'How long builds take, by template' => [qr/^sandbox\|start\|3\|[\d:.]+\|1$/m],
	'Who can reach this workspace, and why' => [qr/^ada\|.+\nbob\|.+\ngone\|.*list.*$/],
	'Why somebody may, or may not' => [qr/^behind\|false\|.+$/m, qr/^dev\|true\|.+$/m],
	'See what somebody sees' => [qr/^bob\n(?=.*^dev\|bob\|running\b)(?!.*\|ada\|)/ms, q{SELECT count(*) FROM coder.audit_logs WHERE additional_fields->>'by' = 'coder.become'}, 3],
	'Who became whom' => [qr/^$time\|adm\|bob\n$time\|adm\|ada$/],
	'A forgotten password' => [qr/^$/, q{SELECT coder.password_verify(convert_from(hashed_password, 'UTF8'), 'a new long password')
		AND NOT EXISTS (SELECT FROM coder.api_keys k WHERE k.user_id = u.id) FROM coder.users u WHERE username = 'bob'}, 't'],
	'Another owner' => [qr/^bob\|\{owner\}$/],
	'Who has which role' => [qr/^gone\|coder\|organization-auditor\nada\|site\|owner$/],
	'Somebody leaves' => [qr/^bob\n.+\ndev\|$uuid$/s, q{SELECT status, (SELECT count(*) FROM coder.api_keys k WHERE k.user_id = u.id) FROM coder.users u WHERE username = 'bob'}, 'suspended|0'],
	'People who were not here for 90 days' => [qr/^gone\|gone\@example.com\|active\|$time\|0$/],
	'New people, by week' => [qr/^\d{4}-\d\d-\d\d\|2\n\d{4}-\d\d-\d\d\|1$/],
	'Tokens: whose, until when, when used; and one taken away' => [qr/^gone\|forgotten\|\{coder:all\}\|$time\|$time\n.*^bob\|ci\|\{coder:all\}\|\|$time\ntokentoken$/ms],
	'Tokens that nobody uses' => [qr/^forgotten\|$time$/, q{SELECT count(*) FROM coder.api_keys WHERE token_name IN ('ci', 'forgotten')}, 1],
	'Stop everything idle for a week' => [qr/^bob\|dev\|$time\|$uuid$/, q{SELECT transition FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id WHERE w.name = 'dev'}, 'stop'],
	'Stop every running workspace of a template' => [qr/^bob\|dev\|$uuid$/, $state, 2],
	'More time before a running workspace stops' => [qr/^dev\|$time$/, q{SELECT b.deadline > now() + interval '2 hours' FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id WHERE w.name = 'dev'}, 't'],
	'Everybody\'s workspaces at nine' => [qr/^dev\|\d{4}-\d\d-\d\d 0[78]:00:00\+00$/m, q{SELECT count(*) FROM coder.workspaces WHERE autostart_schedule IS NOT NULL}, 4],
	'Shorter days: at most eight hours without activity' => [qr/^behind$/, q{SELECT max(ttl) FROM coder.workspaces}, 28800000000000],
	'Workspaces behind their templates, and one brought up to date' => [qr/^ada\|behind\|sandbox\|v1\n.*^$uuid$/ms,
		q{SELECT v.name, b.transition FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id JOIN coder.template_versions v ON v.id = b.template_version_id WHERE w.name = 'behind'}, 'v2|start'],
	'Dormant workspaces, and one woken' => [qr/^ada\|resting\|$time\n$/, q{SELECT count(*) FROM coder.workspaces WHERE dormant_at IS NOT NULL}, 0],
	'What workspaces are made of and cost a day' => [qr/^bob\|dev\|0\|\{"x vm"\}$/],
	'Agents that do not answer' => [qr/^bob\|dev\|main\|connecting\|created\|$/],
	'Who shares what with whom' => [qr/^bob\|dev\|gone\|\["read", "ssh"\]$/],
	'Templates that nobody uses, and one marked so' => [qr/^old\|coder\|ada\|$time\nold$/, q{SELECT deprecated FROM coder.templates WHERE name = 'old'}, 'Take sandbox instead.'],
	'Which versions a template had' => [qr/^v2\|$time\|ada\|\|t$/m, qr/^v1\|$time\|ada\|\|f$/m],
	'Which workspaces were built with which value' => [qr/^bob\|dev\|region\|eu$/],
	'What waits for a provisioner, and which could take it' => [qr/^$time\|workspace_build\|waiting\|\{.*\}\|\{builder\}$/],
	'End a build that hangs' => [qr/^waiting\|pending\|[\d:.]+\|t$/, $state, 0],
	'Who connected to what today' => [qr/^$time\|ssh\|dev\|main\|::1\|$/],
	'What boundaries let through and denied in a week, by owner' => [qr/^bob\|1\|14\|3\n?$/],
	'What boundaries denied, by template and day' => [qr/^sandbox\|\d{4}-\d\d-\d\d\|1\|1\nsandbox\|\d{4}-\d\d-\d\d\|2\|1\n?$/],
	'Who changed what' => [qr/^$time\|.*\|create\|workspace\|dev\|\{/m],
	'What did this user change' => [qr/^$time\|write\|template\|sandbox\|\{"display_name"/m],
	'What happened to this workspace' => [qr/^$time\|\w+\|create\|workspace\|\{.*"dev"/],
	'People in and out of a group' => [qr/^devs\|0$/m, q{SELECT count(*) FROM coder.audit_logs WHERE resource_type = 'group' AND diff::text LIKE '%members%'}, 2],
	'Any request of the API' => [qr/^ada\nbob\n$/, q{SELECT rbac_roles FROM coder.users WHERE username = 'bob'}, '{auditor}'],
	'What was changed in a week, as a file' => [qr/^\{".*"target": "dev"/m],
	'Is everything well' => [qr/^database\|ok\|f\|\|\|$time.*^derp\|unknown\|.*^provisioner_daemons\|warning\|f\|EPD02\|.*\|$time/ms],
	'What takes the room' => [qr/^\w+\|\d+ kB\|-?\d+$/m],
);
# Something that ada did, and somebody who was looked at.
$node->safe_psql('postgres', q{SELECT coder.become('ada'); UPDATE coder.templates SET display_name = 'Sandbox' WHERE name = 'sandbox';
	SELECT coder.become('bob')}, extra_params => ['-U', 'adm']);

my $page = Coder::Documents::read_text("$root/docs/SQL.md");
my @recipes = $page =~ /^### ([^\n]+)\n.*?^```sql\n(.*?)^```/msg;
cmp_ok(scalar @recipes / 2, '>=', 30, 'docs/SQL.md has thirty recipes');
while (my ($title, $sql) = splice @recipes, 0, 2)
{
	my $expect = delete $expect{$title};

	if (!defined $expect)
	{
		fail("recipe: $title has an answer here");
		next;
	}
	my ($pattern, $query, $answer) = @$expect;
	my @more = ref($query // '') eq 'Regexp' ? ($query) : ();
	($query, $answer) = () if @more;

	# In a transaction that is rolled back; on a copy where the recipe has transactions of its own.
	my ($status, $out, $err);
	if ($sql =~ /^COMMIT/m)
	{
		$node->safe_psql('template1', 'CREATE DATABASE recipe TEMPLATE postgres');
		($status, $out, $err) = $node->psql('recipe', $sql, on_error_stop => 1, extra_params => ['-U', 'adm']);
		$out .= "\n---\n" . (defined $query ? $node->safe_psql('recipe', $query) : '');
		$node->safe_psql('template1', 'DROP DATABASE recipe');
	}
	else
	{
		($status, $out, $err) = $node->psql('postgres',
			"BEGIN; SET SESSION AUTHORIZATION adm;\n$sql\nRESET SESSION AUTHORIZATION;\n\\echo ---\n" . ($query // 'SELECT') . ";ROLLBACK;", on_error_stop => 1);
	}
	my ($rows, $did) = ($out // '') =~ /^(.*?)\n?---\n?(.*)$/s;
	is("$status$err", '0', "recipe: $title");
	like($rows, $_, 'it answers what it says') for $pattern, @more;
	is($did, $answer, 'and does what it says') if defined $query;
}
is(join(', ', sort keys %expect), '', 'every recipe is in docs/SQL.md');
$node->stop;
done_testing();
