# Telemetry: nothing leaves the machine unless it is turned on with a URL; then the deployment and the snapshot, again later when the receiver fails, by one gateway.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $double = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	return ($mode->{broken} ? 503 : 202, {}, '');
});
my $node = PostgreSQL::Test::Cluster->new('telemetry');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;

# On, but with no URL; and a URL, but off: the double hears nothing.
for my $env ({ CODER_TELEMETRY_ENABLE => 'true' }, { CODER_TELEMETRY_URL => $double->url })
{
	my $gateway = Coder::Gateway->start(node => $node, env => $env);
	sleep 3;
	is($node->safe_psql('postgres', 'SELECT coder.telemetry_next() IS NULL'), 't', 'nothing is due: ' . join ' ', keys %$env);
	$gateway->stop;
}
is(scalar(my @none = $double->requests), 0, 'nothing was sent');

$double->mode(broken => 1);
my %on = (CODER_TELEMETRY_ENABLE => 'true', CODER_TELEMETRY_URL => $double->url, CODER_TELEMETRY_RETRY => '2s', CODER_TELEMETRY_INTERVAL => '1h');
my @gateways = map { Coder::Gateway->start(node => $node, env => \%on) } 1 .. 2;
my $owner = $gateways[0]->first_user;
my $state = sub { $node->safe_psql('postgres', "SELECT $_[0] FROM coder.telemetry_state") || 0 };	# no row before the first
ok($gateways[0]->wait_for(20, sub { $state->('attempts') >= 1 }), 'the receiver fails: it is noted');
is($state->('error'), 'deployment: 503', 'with its answer');
is(scalar(grep { $_->{path} eq '/snapshot' } $double->requests), 0, 'the snapshot stays here');
$double->mode(broken => 0);
ok($gateways[0]->wait_for(30, sub { $state->('sent') == 1 }), 'it is tried again, and accepted');
my @seen = $double->requests;
my ($snapshot) = grep { $_->{path} eq '/snapshot' } @seen;
is(scalar(grep { $_->{path} eq '/snapshot' } @seen), 1, 'by one of the two gateways');
is($snapshot->{method}, 'POST', 'a POST');
ok($snapshot->{headers}{'x-coder-version'}, 'with the version');
my $sent = decode_json($snapshot->{body});
is($sent->{deployment_id}, $node->safe_psql('postgres', q{SELECT coder.site_config('deployment_id', '')}), 'the deployment');
is(scalar @{ $sent->{users} }, 1, 'its user');
unlike($snapshot->{body}, qr/\@?admin|"username"|"name"/i, 'without a name');
cmp_ok($state->('next_at > clock_timestamp() + interval \'50 minutes\''), 'eq', 't', 'the next one is due after the interval');
is(ref $owner->get('/api/v2/buildinfo') && $owner->get('/api/v2/buildinfo')->{telemetry} ? 1 : 0, 1, 'buildinfo says that it is on');

# A gateway that dies in the middle: its claim ends, another one goes on.
# Periods of boundary usage that nobody was told of are told then, all of them.
$node->safe_psql('postgres', q{INSERT INTO coder.boundary_usage_periods (period, opened_at, closed_at, unique_users, allowed_requests)
	SELECT -n, now() - (n + 1) * interval '1 hour', now() - n * interval '1 hour', n - 1, 10 * n FROM generate_series(1, 3) n;
	UPDATE coder.telemetry_state SET next_at = now(), claimed_until = now() + interval '3 s'});
ok($gateways[0]->wait_for(30, sub { $state->('sent') == 2 }), 'the claim of one that died ends');
my @told = grep { $_ } map { decode_json($_->{body})->{boundary_usage_summary} } grep { $_->{path} eq '/snapshot' } $double->requests;
is(join(' ', map { "$_->{period}:$_->{unique_users}:$_->{allowed_requests}" } @told), '-3:2:30 -2:1:20 -1:0:10', 'S7 S11 Q6: three periods are left over: all are told at once, each once, also that without users');
is($node->safe_psql('postgres', 'SELECT count(*) FROM coder.boundary_usage_unsent()'), 0, 'and kept as told');
$_->stop for @gateways;
done_testing();
