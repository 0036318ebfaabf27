# Runners and gateways are killed while hundreds of turns run: every stored message is what the model was asked and said, once.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Processes;
use Coder::WebSocket;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

my $CHATS = $ENV{CHATS} // 80;
my $KILLS = $ENV{KILLS} // 10;
my $MESSAGES = 3;
my $seed = srand($ENV{SEED} // time); # which is told where something fails

my $model = Coder::Model->start;
my %env = (CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true');
my $server = Coder::Gateway->start(env => \%env);
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 800000 });
my $other = Coder::Gateway->start(env => { %env, CODER_PG_CONNECTION_URL => "host=$server->{dir}/config/postgres/run user=coder dbname=coder" });

# What is said is of its own: chat, number, words; some answers are slow, some call a tool, some fail.
sub words_of
{
	my ($chat, $n) = @_;
	my $kind = ($chat + $n) % 8;
	return "fail:400 c$chat n$n" if $chat % 20 == 7 && $n == $MESSAGES;
	return 'tool:nothing {"of": "c' . $chat . 'n' . $n . '"}' if $kind == 3;
	return ($kind < 6 ? 'slow:' . (5 + 10 * $kind) . ' ' : '') . join ' ', "c$chat", "n$n", map { "w$_" } 1 .. 8;
}

# A request that may have been lost with its server is sent again only where it left nothing.
sub insist
{
	my ($post, $left) = @_;
	for (1 .. 200)
	{
		my ($status, $body) = eval { $post->($_ % 2 ? $server : $other) };
		return $body if ($status // 0) =~ /^20[01]$/;
		die "status $status " . JSON::PP::encode_json($body) if ($status // 0) =~ /^4/ && $status != 401;
		sleep 0.3;
		my $found = $left->();
		return $found if $found;
	}
	die 'no server takes it';
}

# A chat by what was said first: the database knows, whichever server is down.
sub sql { my ($sql) = @_; for (1 .. 100) { my $answer = eval { local *STDERR; open STDERR, '>', '/dev/null'; $server->sql($sql) }; return $answer if defined $answer; sleep 0.3 } die "the database is gone: $sql" }
sub said_in { my ($text, $chat) = @_; my $part = JSON::PP::encode_json([{ text => $text }]);
	return sql("SELECT chat_id FROM (SELECT chat_id, content FROM coder.chat_messages WHERE role = 'user' UNION ALL SELECT chat_id, content FROM coder.chat_queued_messages) m WHERE content @> '$part'" . ($chat ? " AND chat_id = '$chat'" : '') . ' LIMIT 1') }
sub text { return [{ type => 'text', text => $_[0] }] }
sub client { my ($gateway) = @_; return $gateway->client($server->{token}) }

# The killer: a process of its own, so that it kills whatever is going on.
my $count = File::Temp->new;
my $test = $$;
my $killer = fork // die "fork: $!";
if (!$killer)
{
	$SIG{$_} = 'DEFAULT' for qw(TERM INT);
	my ($killed, $end) = (0, time + 60);
	while ($killed < $KILLS && time < $end)
	{
		sleep 0.2 + rand 1;
		my @runners = Coder::Processes::find($test, qr/chat-runner/);
		kill KILL => $runners[rand @runners] and $killed++ if @runners;
	}
	open my $out, '>', $count->filename;
	print $out $killed;
	close $out;
	POSIX::_exit(0);
}

# The second gateway is killed too, and comes back; its runner goes with it.
my ($gateway_kills, $next_kill) = (0, time + 1.5);
sub maybe_kill_gateway
{
	return if time < $next_kill || $gateway_kills >= 4;
	kill KILL => $other->{pid};
	waitpid $other->{pid}, 0;
	delete $other->{pid};
	$other->launch;
	$gateway_kills++;
	$next_kill = time + 2 + rand 2;
}

my @ids;
for my $c (1 .. $CHATS)
{
	maybe_kill_gateway();
	my $text = words_of($c, 1);
	my $made = insist(sub { client($_[0])->post($chats, { organization_id => $org, content => text($text) }) }, sub { my $id = said_in($text); $id && { id => $id } });
	push @ids, $made->{id};
	# Half of the chats have all that is to be said at once: it waits in the queue.
	next if $c % 2;
	for my $n (2 .. $MESSAGES)
	{
		my $more = words_of($c, $n);
		insist(sub { client($_[0])->post("$chats/$made->{id}/messages", { content => text($more) }) }, sub { said_in($more, $made->{id}) });
	}
}
# The others hear the next when they have answered.
my %next = map { $_ => 2 } grep { $_ % 2 } 1 .. $CHATS;
my $deadline = time + 150;
while (%next && time < $deadline)
{
	maybe_kill_gateway();
	my %status = map { split /\|/ } split /\n/, sql('SELECT id, status FROM coder.chats');
	for my $c (keys %next)
	{
		next unless $status{ $ids[$c - 1] } =~ /^(waiting|error)$/;
		my $n = $next{$c}++;
		if ($n > $MESSAGES) { delete $next{$c}; next }
		my $more = words_of($c, $n);
		insist(sub { client($_[0])->post("$chats/$ids[$c - 1]/messages", { content => text($more) }) }, sub { said_in($more, $ids[$c - 1]) });
	}
	sleep 0.2;
}
# The first gateway with the database, once, in the middle of what is left.
kill KILL => $server->{pid};
waitpid $server->{pid}, 0;
delete $server->{pid};
$server->up;
waitpid $killer, 0;
my $killed = do { open my $in, '<', $count->filename; <$in> // 0 };
cmp_ok($killed, '>=', $KILLS / 2, "$killed runners and $gateway_kills gateways were killed, and the first with its database");
$server->wait_for(120, sub { sql("SELECT count(*) FROM coder.chats c WHERE status IN ('pending', 'running') OR EXISTS (SELECT FROM coder.chat_queued_messages q WHERE q.chat_id = c.id) AND status <> 'error'") == 0 });
my ($working, $queued) = split /\|/, sql("SELECT count(*), (SELECT count(*) FROM coder.chat_queued_messages) FROM coder.chats WHERE status IN ('pending', 'running')");
is($working, 0, 'all turns ended');

# What each chat must hold, what it holds, and what the model was asked.
sub heard { my ($text) = @_; return join('', map { "$_ " } reverse split ' ', $text) =~ s/ $//r }
my %stored;
push @{ $stored{ $_->[0] } }, $_->[1] for map { [split /\|/, $_, 2] } split /\n/,
	sql("SELECT m.chat_id, m.role || ':' || coalesce((SELECT string_agg(CASE p->>'type' WHEN 'tool-call' THEN '[' || (p->>'tool_name') || ']' WHEN 'tool-result' THEN '[result]' ELSE p->>'text' END, '' ORDER BY n)
		FROM jsonb_array_elements(m.content) WITH ORDINALITY e (p, n)), '') FROM coder.chat_messages m WHERE NOT m.deleted AND m.role <> 'system' ORDER BY m.chat_id, m.id");
for my $said (values %stored) { s{ +$}{} for @$said }
my (@doubled, @lost, @wrong, @untold, %of);
my $error = 'OpenAI Compatible returned an unexpected error (HTTP 400).';
for my $c (1 .. $CHATS)
{
	my @wanted;
	for my $n (1 .. $MESSAGES)
	{
		my $text = words_of($c, $n);
		push @wanted, "user:$text";
		push @wanted, $text =~ /^fail/ ? () : $text =~ /^tool/ ? ('assistant:[nothing]', 'tool:[result]', 'assistant:TOOL') : ('assistant:' . heard($text));
	}
	my @have = @{ $stored{ $ids[$c - 1] } // [] };
	my @same = map { $wanted[$_] && $wanted[$_] eq 'assistant:TOOL' && ($have[$_] // '') =~ /^assistant:.*Tool/ ? $have[$_] : $wanted[$_] } 0 .. $#wanted;
	push @lost, "chat $c: @have" if @have < @wanted;
	push @doubled, "chat $c: @have" if @have > @wanted;
	push @wrong, "chat $c: has @have, not @same" if @have == @wanted && "@have" ne "@same";
	$of{"c$c"} = \@have;
}
is(scalar @lost, 0, 'nothing is lost') or diag "seed $seed: ", join "\n", @lost[0 .. ($#lost < 3 ? $#lost : 3)];
is(scalar @doubled, 0, 'nothing is doubled') or diag "seed $seed: ", join "\n", @doubled[0 .. ($#doubled < 3 ? $#doubled : 3)];
is(scalar @wrong, 0, 'each answer is what was said') or diag "seed $seed: ", join "\n", @wrong[0 .. ($#wrong < 3 ? $#wrong : 3)];
for my $c (grep { $_ % 20 == 7 } 1 .. $CHATS)
{
	my $chat = client($server)->get("$chats/$ids[$c - 1]");
	push @untold, "$c: $chat->{status} " . ($chat->{last_error} // 'nothing') if $chat->{status} ne 'error' || ($chat->{last_error} // '') ne $error;
}
is("@untold", '', 'who has no answer is told why');
is(sql("SELECT count(*) FROM coder.chats WHERE status = 'error'"), scalar(grep { $_ % 20 == 7 } 1 .. $CHATS), 'and nobody else');

# Each question was the chat as it is stored, up to there: the model has never read anything twice, or missed any of it.
my ($asked, @strange) = (0);
my %answered;
for my $request (@{ $model->requests })
{
	my @messages = grep { $_->{role} ne 'system' } @{ $request->{body}{messages} };
	my @told = map {
		my $m = $_;
		my $content = ref $m->{content} ? join '', map { $_->{text} // '' } @{ $m->{content} } : $m->{content} // '';
		$m->{role} . ':' . ($m->{role} eq 'tool' ? '[result]' : ($content =~ s/ +$//r) . join '', map { "[$_->{function}{name}]" } @{ $m->{tool_calls} // [] })
	} @messages;
	my ($name) = "@told" =~ /\b(c\d+)(?=n\d|\b)/;
	my @have = @{ $of{ $name // '' } // [] };
	$asked++;
	$answered{"$name " . @told}++ if $name;
	push @strange, "$name: asked @told; stored @have" if @told > @have || "@told" ne "@have[0 .. $#told]";
}
is(scalar @strange, 0, 'every question was the stored chat') or diag "seed $seed: ", join "\n", @strange[0 .. ($#strange < 3 ? $#strange : 3)];
my @unasked = grep { my $name = $_; my $have = $of{$name}; grep { $have->[$_] =~ /^assistant/ && !$answered{"$name $_"} } 0 .. $#$have } keys %of;
is("@unasked", '', 'every answer was asked for');
my $answers = grep { /^assistant/ } map { @$_ } values %of;
cmp_ok($asked, '>=', $answers, "$answers answers to $asked questions");
done_testing();
