# Configuration of chats that is read once and never stale: it changes a thousand times under load, by psql and the API, and
# no turn that began after a commit used the old value; without changes, turns cost no reads of it.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use File::Temp ();
use IPC::Open2;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $CHANGES = 1000;
my $WORKERS = 4;
my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my $me = $owner->get('/api/v2/users/me')->{id};

sub text { return [{ type => 'text', text => $_[0] }] }

sub wait_for_turn
{
	my ($id) = @_;
	for (1 .. 3000) { my $s = $owner->get("$chats/$id")->{status}; return if $s eq 'waiting'; die "the chat failed" if $s eq 'error'; sleep 0.01 }
	die 'the turn does not end';
}

# n turns in chats of ten; each says what $say answers at that moment
sub turns
{
	my ($say, $n) = @_;
	my $id;
	for my $i (0 .. $n - 1)
	{
		my $text = text($say->());
		if ($i % 10 == 0) { $id = ($owner->post($chats, { organization_id => $org, content => $text }))[1]{id} }
		else { $owner->post("$chats/$id/messages", { content => $text }) }
		wait_for_turn($id);
	}
}

# The same by workers at once.
sub turns_of_workers
{
	my ($say, $n, $while) = @_;
	my @pids = map { my $pid = fork // die; if (!$pid) { my $ok = eval { do { turns($say, $n) } while ($while && $while->()); 1 }; print STDERR $@ unless $ok; POSIX::_exit($ok ? 0 : 1) } $pid } 1 .. $WORKERS;
	my $failed = 0;
	for (@pids) { waitpid $_, 0; $failed ||= $? }
	$? = 0;
	return !$failed;
}

sub reads { return $server->sql("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE schemaname = 'coder' AND funcname IN ('chat_run_providers', 'chat_run_model', 'chat_run_model_and_providers', 'chat_run_default_model', 'chat_run_prompt')") }

# what a session did is counted a second later at the latest
sub settled_reads { my $n = -1; my $next; while (($next = reads()) != $n) { $n = $next; sleep 1.1 } return $n }

$server->sql("ALTER SYSTEM SET track_functions = 'all'");
$server->sql('SELECT pg_reload_conf()');
my (undef, $provider) = $owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-0', base_url => $model->url });
my (undef, $config) = $owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000, model_config => { max_output_tokens => 1000 } });
$owner->put("$chats/config/user-prompt", { custom_prompt => 'prompt-0.' });
turns(sub { 'warm' }, 1);

# many turns without a change, for longer than an entry lives
my $before = settled_reads();
ok($before > 0, 'reads are counted');
my $until = time + 11;
ok(turns_of_workers(sub { 'same' }, 10, sub { time < $until }), 'turns');
my $ran = $server->sql(q{SELECT count(*) FROM coder.chat_messages WHERE role = 'user' AND content @> '[{"text": "same"}]'});
my $spent = settled_reads() - $before;
cmp_ok($spent, '<=', 10, "$ran turns over 11 s cost $spent reads of configuration");
cmp_ok($ran, '>=', 100, 'enough turns');

# what the cache counts is told to the database
sub counted { return $server->sql("SELECT count FROM coder.stat_counters() WHERE name = 'chat_$_[0]'") }
ok($server->wait_for(10, sub { counted('hit') >= 2 * $ran }), 'lookups that found what they wanted') or diag counted('hit');
cmp_ok(counted('miss'), '>=', 1, 'and some that did not');
cmp_ok(counted('miss'), '<', counted('hit') / 10, 'which are few');
cmp_ok($server->sql(q{SELECT hit_ratio FROM coder.stat_cache WHERE cache = 'chat'}), '>', 0.9, 'as coder.stat_cache says');
my ($invalidations, $emptied) = (counted('invalidation'), counted('emptied'));
cmp_ok($emptied, '>=', 1, 'it was empty at the beginning');

# the notification cannot come: the backend that would send it stands still
my $listener = $server->sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'coder chat runner' AND query LIKE 'LISTEN%'");
like($listener, qr/^\d+$/, 'one connection of the runner listens');
kill STOP => $listener;
$server->sql("UPDATE coder.chat_providers SET api_key = 'key-unheard', api_key_key_id = NULL");
$owner->patch("$chats/model-configs/$config->{id}", { model_config => { max_output_tokens => 1001 } });
$owner->put("$chats/config/user-prompt", { custom_prompt => 'prompt-unheard.' });
turns(sub { 'unheard' }, 1);
kill CONT => $listener;
my ($unheard) = grep { $_->{said} eq 'unheard' } @{ $model->requests };
is($unheard->{authorization}, 'Bearer key-unheard', 'a turn that began before the notification came has the new key');
is($unheard->{body}{max_tokens}, 1001, 'and the new model');
like(JSON::PP::encode_json($unheard->{body}{messages}), qr/prompt-unheard/, 'and the new prompt');

ok($server->wait_for(10, sub { counted('invalidation') >= $invalidations + 3 }), 'three changes dropped entries');
is(counted('emptied'), $emptied, 'and not all of them');
$server->sql("SELECT pg_terminate_backend($listener)");
ok($server->wait_for(10, sub { counted('emptied') > $emptied }), 'a listener that is lost empties it');
like(join("\n", $server->sql('SELECT coder.metrics_work()')), qr/^coder_cache_lookups_total\{cache="chat",result="hit"\} [1-9].*^coder_cache_invalidations_total\{cache="chat"\} [1-9].*^coder_cache_emptied_total\{cache="chat"\} [1-9]/ms, 'all of it as metrics');

# a thousand changes under load.  What is committed is in a file before the next change begins.
my $committed = File::Temp->new;
my $write = sub { sysseek $committed, 0, 0; syswrite $committed, sprintf '%06d %06d %06d', @_ };
my $read = sub { open my $in, '<', $committed->filename or die; sysread $in, my $line, 20; return $line };
my $stop = File::Temp->new;
my @now = (0, 1001, 0);
my $first = settled_reads();
$server->sql("UPDATE coder.chat_providers SET api_key = 'key-0', api_key_key_id = NULL");
$owner->put("$chats/config/user-prompt", { custom_prompt => 'prompt-0.' });
$write->(@now);
my $load = fork // die;
POSIX::_exit(turns_of_workers(sub { 'after ' . $read->() }, 10, sub { -s $stop->filename ? 0 : 1 }) ? 0 : 1) unless $load;
my $psql = open2(my $out, my $in, Coder::Gateway::bindir() . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', "host=$server->{dir}/config/postgres/run user=coder dbname=coder");
$in->autoflush(1);
my $run = sub { print $in "$_[0];\n\\echo done\n"; my $line = <$out> // ''; die "psql: $line" unless $line eq "done\n" };
for my $i (1 .. $CHANGES)
{
	my $kind = $i % 3;
	my $by_api = $i % 10 == 0;
	my $n = $kind == 1 ? 1001 + $i : $i;
	if ($kind == 0) { $by_api ? $owner->patch("$chats/providers/$provider->{id}", { api_key => "key-$n" }) : $run->("UPDATE coder.chat_providers SET api_key = 'key-$n', api_key_key_id = NULL") }
	elsif ($kind == 1) { $by_api ? $owner->patch("$chats/model-configs/$config->{id}", { model_config => { max_output_tokens => $n } }) : $run->("UPDATE coder.chat_model_configs SET options = '{\"max_output_tokens\": $n}'") }
	else { $by_api ? $owner->put("$chats/config/user-prompt", { custom_prompt => "prompt-$n." }) : $run->("UPDATE coder.user_configs SET value = 'prompt-$n.' WHERE user_id = '$me' AND key = 'chat_custom_prompt'") }
	$now[$kind] = $n;
	$write->(@now);
	sleep 0.003;
}
close $in;
waitpid $psql, 0;
syswrite $stop, 'x';
waitpid $load, 0;
is($?, 0, 'all turns under load went well');
my ($turns, $changing) = (0, 0);
my @stale;
my %seen;
for my $request (@{ $model->requests })
{
	my ($key, $options, $prompt) = $request->{said} =~ /^after (\d+) (\d+) (\d+)$/ or next;
	my ($used_key) = $request->{authorization} =~ /key-(\d+)/;
	my ($used_prompt) = JSON::PP::encode_json($request->{body}{messages}) =~ /prompt-(\d+)\./;
	$turns++;
	$seen{$used_key}++;
	push @stale, "$request->{said}: $used_key $request->{body}{max_tokens} $used_prompt" if $used_key < $key || $request->{body}{max_tokens} < $options || $used_prompt < $prompt;
}
cmp_ok($turns, '>=', 100, "$turns turns under load");
cmp_ok(scalar keys %seen, '>=', 20, 'they saw ' . keys(%seen) . ' different keys');
is(scalar @stale, 0, 'no turn that began after a commit used an old value') or diag "@stale[0 .. 2]";
# a change of providers drops the model too, which brings them: one read, as of the others
my $reads = settled_reads() - $first;
my $most = $CHANGES + 10;
cmp_ok($reads, '<=', $most, "$reads reads for $CHANGES changes and $turns turns");
cmp_ok($reads, '<=', 3 * $turns, 'no more than turns asked for');
done_testing();
