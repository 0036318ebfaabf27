# Reports that wait together are counted together; one that the database does not take harms nobody else's.
use strict;
use warnings FATAL => 'all';
use Coder::AgentRpc;
use Coder::Gateway;
use Coder::Reports qw(workspaces total);
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 1 });
$gateway->first_user;
my @tokens = workspaces($gateway, 20);
# A report of a workspace that was stopped since its agent connected.
my $stopped = shift @tokens;

sub together { my ($reports, @requests) = @_; return Coder::AgentRpc::together($gateway->url, 'ReportBoundaryLogs', $reports, sub { 1 }, @requests) }
my $good = Coder::AgentRpc::boundary_logs(2, 1);
my $many = Coder::AgentRpc::boundary_logs(5000, 5000, undef, undef, '');
my $late = Coder::AgentRpc->open($gateway->url, $stopped) or die $@;
my @requests = map { [$tokens[$_], $good] } 0 .. 11;
my @answers = together(40, @requests);
is_deeply([map { $_->[0] } @answers], [(40) x 12], 'twelve agents at once: all is acknowledged');
is(total($gateway), '480 960 480', 'and counted once');
cmp_ok($gateway->sql(q{SELECT count(DISTINCT xmin::text) FROM coder.boundary_reports}), '<', 480, 'some in the same transaction');

# A batch id that is none, texts with a NUL, ten thousand entries, and a workspace that was stopped, among the others.
my $before = (split ' ', total($gateway))[0];
$gateway->sql(q{SET session_replication_role = replica; UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE id = (SELECT b.workspace_id FROM coder.workspace_builds b
	JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE a.auth_token = '} . $stopped . q{')});
is($late->call('ReportBoundaryLogs', $good), undef, 'a workspace that was stopped');
like($@, qr/not authorized/, 'hears so');
@answers = together(15, @requests[0 .. 5], [$tokens[6], Coder::AgentRpc::boundary_logs(1, 0, 'short')],
	[$tokens[7], Coder::AgentRpc::boundary_logs(1, 0, undef, undef, Coder::AgentRpc::field(1, "G\0T") . Coder::AgentRpc::field(2, "http://\0/"))], [$tokens[8], $many]);
is_deeply([map { $_->[0] } @answers[0 .. 5]], [(15) x 6], 'others among which there are bad ones are acknowledged');
is($answers[6][0], 0, 'a batch id that is none is refused');
like($answers[6][1], qr/batch id is 16 bytes/, 'with words');
is($answers[8][0], 15, 'ten thousand entries in one report are taken');
my $odd = $answers[7][0];
ok($odd == 0 || $odd == 15, "texts with a NUL are taken or refused, always the same ($odd)");
is(total($gateway), join(' ', $before + 90 + $odd + 15, 960 + 180 + $odd + 75000, 480 + 90 + 75000), 'each is counted as it was answered');
done_testing();
