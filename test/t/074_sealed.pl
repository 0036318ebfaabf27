# Secrets at rest: tokens are sealed in the tables, keys are nowhere but in the server, and are changed while it runs.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::OidcDouble;
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64);
use Test::More;

my $dir = tempdir('coder-keys-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my %key = map { $_ => encode_base64($_ x 32, '') } 'a' .. 'c';
sub keys_are { open my $file, '>', "$dir/keys" or die $!; print $file join("\n", map { $key{$_} } @_), "\n"; close $file; return }

keys_are('a');
my $idp = Coder::OidcDouble->start;
my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 2, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_OIDC_ISSUER_URL => $idp->url,
		CODER_OIDC_CLIENT_ID => 'coder', CODER_OIDC_CLIENT_SECRET => 'hush!:', CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS_FILE => "$dir/keys" });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }
my $browser = Coder::Browser->new(url => $gateway->url);
is(($browser->follow('/api/v2/users/oidc/callback', 2))[0], 307, 'somebody signs in');

$gateway->sql(<<'SQL');
CREATE FUNCTION coder.test_token(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.reply(200, (SELECT jsonb_build_object('token', coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id)) FROM coder.user_links l));
END $$;
INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES ('test', 'GET', '/api/v2/test-token', 'test_token', 'none');
SQL
ok($gateway->wait_for(5, sub { ($gateway->client->post('/api/v2/test-token'))[0] == 405 }), 'the route is known');
sub token { my ($status, $body) = $gateway->client->get('/api/v2/test-token'); return $status == 200 ? $body->{token} : $status }
is(token(), 'refresh-1', 'functions have the token');
is($gateway->sql(q{SELECT count(*) FROM coder.user_links WHERE oauth_refresh_token LIKE '%refresh%' OR oauth_access_token LIKE '%access%'}), 0, 'the table does not');

# Where keys and secrets must not be: tables, the log, what an administrator's session can see.
my $tables = $gateway->sql(q{SELECT string_agg(query_to_xml(format('SELECT * FROM coder.%I', c.relname), true, true, '')::text, '')
	FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind = 'r'});
ok(length $tables > 10_000, 'all tables were read');
unlike($tables, qr/hush|\Q$key{a}\E|aaaaaaaa/, 'no table has a secret');
unlike($gateway->sql('SELECT string_agg(x::text, $$ $$) FROM pg_stat_activity x') . $gateway->sql('SELECT string_agg(x::text, $$ $$) FROM pg_settings x'),
	qr/coder\.secrets|hush|\Q$key{a}\E/, 'nor what the server shows of its sessions');
unlike($gateway->log, qr/hush|\Q$key{a}\E|coder\.secrets/, 'nor the log');
my $postgres_log = join '', map { local (@ARGV, $/) = $_; <> } glob "$gateway->{dir}/config/postgres/*log* $gateway->{dir}/config/postgres/data/log/*";
unlike($postgres_log, qr/hush|\Q$key{a}\E|coder\.secrets/, 'nor PostgreSQL\'s');

# A new key while it runs.
sub dbcrypt
{
	my (@args) = @_;
	local %ENV = (%{ $gateway->environment });
	my $program = Coder::Gateway::program();
	my $out = `$program dbcrypt @args 2>&1`;
	return ($? >> 8, $out);
}
sub reload
{
	my ($want) = @_;
	my $count = () = $gateway->log =~ /$want/g;
	kill 'HUP', $gateway->{pid};
	return $gateway->wait_for(10, sub { (() = $gateway->log =~ /$want/g) > $count });
}
my $id = $gateway->sql('SELECT oauth_refresh_token_key_id FROM coder.user_links');
keys_are('b');
ok(reload(qr/the keys stay as they are/), 'a file without the key that is needed is refused');
is(token(), 'refresh-1', 'and the old one works on');
keys_are('b', 'a');
ok(reload(qr/have been read again/), 'a new key and the old one');
is(token(), 'refresh-1', 'open what is there');
my ($status, $out) = dbcrypt('rotate');
is($status, 0, 'rotation') or diag $out;
like($out, qr/^\d+ values/, 'of all values');
isnt($gateway->sql('SELECT oauth_refresh_token_key_id FROM coder.user_links'), $id, 'under the new key');
keys_are('b');
ok(reload(qr/have been read again/), 'the old key goes');
is(token(), 'refresh-1', 'nothing is lost');
for (1 .. 20) { $status = token(); last if $status ne 'refresh-1' }
is($status, 'refresh-1', 'on any connection');

# A start without it.
$gateway->stop;
keys_are('c');
{
	my $length = length $gateway->log;
	eval { $gateway->up };
	like(substr($gateway->log, $length), qr/values in the database are sealed with the key \w+, which is not among CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS/, 'a start without the key is refused, and says so');
	isnt($gateway->{status}, 0, 'with an error');
}
delete $gateway->{pid};
open my $file, '>', "$dir/keys" or die $!;
print $file "not a key\n";
close $file;
eval { $gateway->up };
like($gateway->log, qr/key 1 of CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS is not 32 bytes in base64/, 'so is one with a malformed key');
unlike($gateway->log, qr/not a key/, 'which is not told');
delete $gateway->{pid};
keys_are('b');
$gateway->up;
is(token(), 'refresh-1', 'with the key it starts');
($status, $out) = dbcrypt('decrypt');
is($status, 0, 'sealing is given up') or diag $out;
$gateway->stop;
delete $gateway->{env}{CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS_FILE};
$gateway->up;
is(token(), 'refresh-1', 'then no key is needed');
is((dbcrypt('nonsense'))[0], 2, 'another command is none');

done_testing;
