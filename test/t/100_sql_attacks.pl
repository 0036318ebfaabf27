# People who come by SQL hold up nobody and pass by nothing: locks, open transactions, prepared ones, guessed
# passwords, settings, savepoints, read-only transactions.
use strict; use warnings FATAL => 'all';
use Coder::Documents;
use MIME::Base64 qw(encode_base64 encode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ntimezone = 'UTC'\nmax_prepared_transactions = 5\nlog_statement = none");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION coder; SELECT coder.seed(); BEGIN;"
	. Coder::Documents::read_text("$Coder::Documents::data/sample.sql") . "COMMIT;");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN IN ROLE coder_user;
	CREATE ROLE adm LOGIN IN ROLE coder_admin;
	CREATE ROLE stranger LOGIN;
	INSERT INTO coder.organization_members (user_id, organization_id)
	SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE o.is_default ON CONFLICT DO NOTHING;
	UPDATE coder.users SET hashed_password = convert_to(coder.password_hash('SuperSecret1!'), 'UTF8') WHERE username = 'ada'});

sub token
{
	my ($name) = @_;
	return $node->safe_psql('postgres', qq{SELECT coder.api_key_create(id, 'password', 86400) FROM coder.users WHERE username = '$name'});
}

sub session
{
	my ($role) = @_;
	return $node->background_psql('postgres', on_error_stop => 0, extra_params => ['-U', $role, '-v', 'VERBOSITY=verbose']);
}

# What a statement answers, or the SQLSTATE of its error.
sub ask
{
	my ($session, $sql) = @_;
	my $out = $session->query($sql);
	my $err = $session->{stderr} // '';

	$session->{stderr} = '';
	return $err =~ /(?:ERROR|FATAL):  (\w{5}):/ ? $1 : $out;
}

# The server's own statement, which must not wait.
sub server
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '10s'; $sql");
	return $status == 0 ? $out : "failed: $err";
}
my $bob = token('bob');
my $ann = session('ann');
my $adm = session('adm');
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'a member signs in');

# ---- locks by name ----
ask($ann, q{SELECT pg_advisory_lock(hashtextextended(n, 0)) FROM unnest('{coder.boundary_period,coder.chat_worker:x,coder.seed,coder.crypto_keys}'::text[]) n});
ask($ann, q{SELECT pg_advisory_lock(hashtext('coder.report'), hashtext('deployment_stats'))});
is(server(q{SELECT coder.boundary_lock(true)}), '', 'the count of usage does not wait for advisory locks of others');
is(server(q{SELECT coder.try_lock(n) FROM unnest('{coder.chat_worker:x,coder.report:deployment_stats}'::text[]) n}), "t\nt", 'nor do a runner that died, and reports');
ask($ann, 'SELECT pg_advisory_unlock_all()');
is(ask($ann, "SELECT coder.$_('coder.tick')"), '42501', "coder.$_ is the server's") for qw(lock lock_shared try_lock hold_lock);
my $runner = session('postgres');
ask($runner, q{SELECT coder.hold_lock('coder.chat_worker:y')});
ask($runner, 'BEGIN; COMMIT; ROLLBACK');
is(server(q{SELECT coder.try_lock('coder.chat_worker:y')}), 'f', 'a runner that lives is known, whatever its transactions do');
$runner->quit;
ok($node->poll_query_until('postgres', q{SELECT coder.try_lock('coder.chat_worker:y')}), 'and that it is gone');

# ---- transactions that stay open ----
$node->safe_psql('postgres', q{SELECT coder.configure('{"sql_transaction_limit": "3s"}'), coder.ensure_worker()});
my $position = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmin(pg_current_snapshot())');
ask($ann, q{BEGIN; UPDATE coder.users SET name = 'Bob the Slow'});
is(server(q{SELECT coder.emit('here', 'x')}) =~ /^\d+$/ ? 'told' : 'not', 'told', 'something happens meanwhile');
my $began = time;
$node->psql('postgres', "SELECT count(*) FROM coder.tick()", timeout => 60);
cmp_ok(time - $began, '<', 15, 'what is due by time waits for no row that somebody has locked');
my $log = -s $node->logfile;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'ann'"), 'a transaction that has written and stays open is ended');
like($node->safe_psql('postgres', "SELECT string_agg(channel, ' ') FROM coder.events_after('$position', 5000)"), qr/\bhere\b/, 'and events go on');
unlike($node->safe_psql('postgres', q{SELECT name FROM coder.users WHERE username = 'bob'}), qr/Slow/, 'without what it did');
like(slurp_file($node->logfile), qr/a transaction of role "ann" was ended/, 'the log tells');
$ann = session('ann');
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'who signs in again');
ask($ann, 'BEGIN; SELECT count(*) FROM coder.workspaces');
my $server = session('postgres');
ask($server, q{BEGIN; UPDATE coder.users SET name = 'Bob' WHERE username = 'bob'});
sleep 1 while time - $began < 12;
is(ask($ann, 'SELECT 1; COMMIT'), '1', 'may read for as long as it takes');
is(ask($server, 'SELECT 1; ROLLBACK'), '1', 'and the server may write');
$server->quit;
$node->safe_psql('postgres', q{SELECT coder.configure('{"sql_transaction_limit": "1h"}')});
is(ask($ann, q{BEGIN; UPDATE coder.users SET name = 'B'; PREPARE TRANSACTION 'stays'}), '42501', 'no transaction is left behind prepared');
ask($ann, 'ROLLBACK');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'none');
is(ask($adm, q{BEGIN; PREPARE TRANSACTION 'stays'}), '42501', 'not by an administrator either');
ask($adm, 'ROLLBACK');

# ---- passwords and codes ----
is(ask($ann, q{SELECT coder.api('POST', '/api/v2/users/login', '{"email": "ada@example.com", "password": "SuperSecret1!"}')}), '0A000', 'nobody tries passwords where nobody counts');
is(ask($ann, "SELECT coder.api('$_->[0]', '$_->[1]', '{}')"), '0A000', "$_->[0] $_->[1]") for ['post', '/api/v2/users/login'], ['POST', '/api/v2/users/otp/change-password'],
	['PUT', '/api/v2/users/me/password'], ['POST', '/api/v2/users/me/convert-login'];
is(ask($ann, q{SELECT coder.api('GET', '/api/v2/workspaceagents/me/gitsshkey')}), '0A000', 'nor is anybody an agent');
like(ask($ann, q{SELECT coder.api('GET', '/api/v2/users/me')->>'username'}), qr/^bob$/, 'other requests are made');

# ---- keys and secrets of the server ----
sub secrets { my ($key) = @_; return encode_base64url('{"keys": ["' . encode_base64($key x 32, '') . '"], "secrets": {"x_client_secret": "own"}}') }
is(ask($ann, "SET coder.secrets = '" . secrets('e') . "'; SELECT coder.api('PUT', '/api/v2/users/me/gitsshkey')->>'user_id' IS NOT NULL"), 't', 'whoever brings a key of their own');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coder.sealed_values() v WHERE v.key_id IS NOT NULL}), 0, 'seals nothing with it, which nobody could open');
$server = session('postgres');
ask($server, "SET coder.secrets = '" . secrets('s') . "'; SELECT coder.keys_start()");
is(ask($ann, "SELECT coder.api('PUT', '/api/v2/users/me/gitsshkey')"), '55000', 'and stores nothing in plain text where the server seals');
$server->quit;
$node->safe_psql('postgres', q{DELETE FROM coder.dbcrypt_keys;
	CREATE FUNCTION coder.t_fetch(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$ BEGIN
		RETURN coder.fetch('t_fetch', 'null', coder.fetch_form('https://idp.example/token', '{"client_secret": "hush"}')); END $$;
	INSERT INTO coder.routes (area, method, pattern, function) VALUES ('t', 'GET', '/api/v2/t/fetch', 't_fetch')});
is(ask($ann, q{SELECT coder.api('GET', '/api/v2/t/fetch')}), '0A000', 'what the server would say to others is not shown');
like(ask($ann, q{SELECT coder.schedule_next('CRON_TZ=UTC 30 9 * * 1-5', '2026-01-01')}), qr/^2026-01-01 09:30/, 'schedules are read');

# ---- settings that say a dump is restored ----
my $ada = token('ada');
is(ask($adm, "SELECT coder.login('$ada')"), 'ada', 'an owner signs in');
ask($adm, 'SET row_security = off; SET check_function_bodies = off');
is(ask($adm, q{SELECT coder.api('POST', '/api/v2/organizations', '{"name": "fresh"}')->>'name'}), 'fresh', 'as if a dump were restored, an organization');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coder.groups g JOIN coder.organizations o ON o.id = g.id WHERE o.name = 'fresh'}), 1, 'has its group Everyone all the same');
is(ask($adm, q{UPDATE coder.users SET status = 'suspended' WHERE username = 'bob'}), '42501', 'and nothing is changed by hand');
ask($adm, 'RESET row_security; RESET check_function_bodies; SELECT coder.logout()');

# ---- who one was comes back, whatever is rolled back ----
ask($ann, "BEGIN; SAVEPOINT a; SELECT coder.login('$ada')");
is(ask($ann, 'SELECT username FROM coder.whoami()'), 'ada', 'another login behind a savepoint');
is(ask($ann, 'ROLLBACK TO a; SELECT username FROM coder.whoami()'), 'bob', 'goes with it');
is(ask($ann, "RELEASE a; SAVEPOINT b; SELECT coder.login('$ada', true)"), 'ada', 'one of the transaction');
is(ask($ann, 'RELEASE b; SELECT username FROM coder.whoami()'), 'ada', 'outlives its savepoint');
is(ask($ann, 'COMMIT; SELECT username FROM coder.whoami()'), 'bob', 'but not the transaction');
ask($ann, "DO \$\$ BEGIN BEGIN PERFORM coder.login('$ada'); RAISE 'x'; EXCEPTION WHEN raise_exception THEN NULL; END; END \$\$");
is(ask($ann, 'SELECT username FROM coder.whoami()'), 'bob', 'nor does a block that failed leave one');

# ---- impersonation is told, or is not ----
my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM coder.audit_logs');
is(ask($adm, q{BEGIN READ ONLY; SELECT coder.become('bob')}), '25006', 'who cannot be audited becomes nobody');
ask($adm, 'ROLLBACK');
is(ask($adm, q{SET default_transaction_read_only = on; SELECT coder.become('bob')}), '25006', 'whatever makes the transaction read only');
is(ask($adm, q{SELECT login FROM coder.whoami()}), 'role', 'and stays who it is');
is($node->safe_psql('postgres', 'SELECT count(*) FROM coder.audit_logs'), $before, 'with nothing to tell');
is(ask($adm, q{RESET default_transaction_read_only; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT coder.become('bob'); COMMIT}), 'bob', 'who can');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coder.audit_logs WHERE additional_fields->>'by' = 'coder.become'}), 1, 'is told of');

# ---- strangers ----
my $stranger = session('stranger');
is(ask($stranger, "SELECT coder.login('$ada')"), '42501', 'a token helps no role that was not let in');
is(ask($stranger, q{SELECT pg_notify('chat:config_change', '{"kind": "x", "change": 1}')}), '', 'anybody can NOTIFY, and so nobody believes it');
$_->quit for $stranger, $ann, $adm;
$node->stop;
done_testing();
