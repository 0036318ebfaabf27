# A variable that is no longer given goes back to its default; what was set by SQL stays.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Test::More;

my %given = (CODER_AUDIT_LOGS_RETENTION => '720h', CODER_CONNECTION_LOGS_RETENTION => '48h', CODER_API_KEYS_RETENTION => '1h', CODER_WORKSPACE_AGENT_LOGS_RETENTION => '24h',
	CODER_EXPERIMENTS => 'workspace-usage', CODER_DISABLE_PASSWORD_AUTH => 'false', CODER_MAX_TOKEN_LIFETIME => '48h',
	CODER_EXTERNAL_AUTH_0_TYPE => 'gitlab', CODER_EXTERNAL_AUTH_0_ID => 'lab', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'x', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'y',
	CODER_ACCESS_URL => 'http://given.example.com', CODER_WILDCARD_ACCESS_URL => '*.apps.example.com', CODER_VERBOSE => 'true');
my $gateway = Coder::Gateway->start(env => {%given});
my $owner = $gateway->first_user;

sub names { return join ' ', sort map { lc s/^CODER_//r } @_ }
# Those that are in the table: all but the secret.
sub stored { return $gateway->sql(q{SELECT coalesce(string_agg(s.name, ' ' ORDER BY s.name COLLATE "C"), '') FROM coder.settings s WHERE s.name = ANY (string_to_array('} . names(keys %given) . q{', ' '))}) }
sub retention { return [ @{ ($owner->get('/api/v2/deployment/config'))[1]{config}{retention} }{qw(audit_logs connection_logs api_keys workspace_agent_logs)} ] }
sub providers { return scalar @{ ($owner->get('/api/v2/external-auth'))[1]{providers} } }

is(stored(), names(grep { !/SECRET$/ } keys %given), 'what is given is told to the database');
is_deeply(retention(), [ map { $_ * 3_600_000_000_000 } 720, 48, 1, 24 ], 'retention');
is(providers(), 1, 'a provider');

# An administrator sets one by SQL, and another that is given as well.
$gateway->sql(q{SELECT coder.configure('{"sql_transaction_limit": "5m"}')});
$gateway->sql(q{INSERT INTO coder.settings (name, value) VALUES ('boundary_usage_detail', '2h')});
sub by_sql { return $gateway->sql(q{SELECT string_agg(s.name || '=' || s.value, ' ' ORDER BY s.name) FROM coder.settings s WHERE s.name IN ('sql_transaction_limit', 'boundary_usage_detail')}) }

# The same again: nothing changes.
$gateway->restart;
is(stored(), names(grep { !/SECRET$/ } keys %given), 'a start with the same says the same');

# One less.
delete $gateway->{env}{CODER_CONNECTION_LOGS_RETENTION};
$gateway->restart;
is_deeply(retention(), [ map { $_ * 3_600_000_000_000 } 720, 0, 1, 24 ], 'one that is no longer given has its default');

# One empty, which is as if it were not given, and all of them, at a start after kill -9.
$gateway->{env} = { CODER_AUDIT_LOGS_RETENTION => '' };
$gateway->restart('KILL');
is(stored(), 'access_url verbose', 'nothing is left but what has a default in the gateway');
is($gateway->sql(q{SELECT s.value FROM coder.settings s WHERE s.name = 'verbose'}), 'false', 'which is what is told');
unlike($gateway->sql(q{SELECT s.value FROM coder.settings s WHERE s.name = 'access_url'}), qr/given/, 'and the own address');
is_deeply(retention(), [ 0, 0, map { $_ * 3_600_000_000_000 } 168, 168 ], 'retention by default');
is(providers(), 0, 'nor is there a provider');
is(by_sql(), 'boundary_usage_detail=2h sql_transaction_limit=5m', 'what was set by SQL is as it was');

# One that was set by SQL and then given is the environment's, and goes with it.
$gateway->{env} = { CODER_SQL_TRANSACTION_LIMIT => '7m' };
$gateway->restart;
is(by_sql(), 'boundary_usage_detail=2h sql_transaction_limit=7m', 'the environment wins over SQL');
$gateway->{env} = {};
$gateway->restart;
is(by_sql(), 'boundary_usage_detail=2h', 'and its value goes when it is given no more');

# By SQL: null takes away, and what is not named stays.
$gateway->sql(q{SELECT coder.configure('{"boundary_usage_detail": null, "a_name": "1"}')});
$gateway->sql(q{SELECT coder.configure('{"b_name": "2"}')});
is($gateway->sql(q{SELECT string_agg(s.name || s.given, ' ' ORDER BY s.name) FROM coder.settings s WHERE s.name IN ('a_name', 'b_name', 'boundary_usage_detail')}), 'a_namefalse b_namefalse', 'by SQL one by one');
$gateway->stop;
done_testing();
