# Chats of every kind (talks, queues, tools, the client's tools, interrupts, edits, archives, subagents, failures) while runners, gateways, backends
# and the postmaster are killed: every stored message is what the model was asked and said, in order, once, and so is what it
# cost; who reads along sees each answer once, and why one began anew.  TURNS=1000 KILLS=40 for the long run; SEED repeats one.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Processes;
use Coder::WebSocket;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $TURNS = $ENV{TURNS} // 120;
my $KILLS = $ENV{KILLS} // 6;
my $WATCHERS = 6;
my $seed = srand($ENV{SEED} // int(time));
my $json = JSON::PP->new->utf8->canonical;

my $model = Coder::Model->start;
my %env = (CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true');
my $server = Coder::Gateway->start(env => \%env);
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 800000,
	model_config => { cost => { input_price_per_million_tokens => '2', output_price_per_million_tokens => '8' } } });
my $other = Coder::Gateway->start(env => { %env, CODER_PG_CONNECTION_URL => "host=$server->{dir}/config/postgres/run user=coder dbname=coder" });

# The stories ------------------------------------------------------------------------

sub words { my ($c, $n, $how) = @_; return ($how ? "$how " : '') . join ' ', "c$c", "n$n", map { "w$_" } 1 .. 6 + ($c + $n) % 12 }
sub slow { return 'slow:' . (10 + int rand 40) }

# Each: what is done, one after another; a step begins when the chat is at rest, or (!) while it answers, or (=) when it waits
# for its client's tools.
my %kinds = (
	talk => sub { my ($c) = @_; return map { [say => words($c, $_, $_ == 2 ? slow() : '')] } 1 .. 4 },
	queue => sub { my ($c) = @_; return [say => words($c, 1, slow())], map { ['!say' => words($c, $_, rand() < 0.5 ? slow() : '')] } 2 .. 4 },
	tool => sub { my ($c) = @_; return [say => "tool:nothing {\"of\": \"c${c}n1\"}"], [say => words($c, 2)], [say => "tool:list_templates {\"page\": 1, \"of\": \"c${c}n3\"}"] },
	client => sub { my ($c) = @_; return [say => "tool:mine {\"of\": \"c${c}n1\"}"], ['=results'], [say => words($c, 2, slow())] },
	interrupt => sub { my ($c) = @_; return [say => words($c, 1)], [say => words($c, 2, 'slow:150')], ['!interrupt'], [say => words($c, 3)] },
	edit => sub { my ($c) = @_; return [say => words($c, 1)], [edit => words($c, 2, slow())], [say => words($c, 3)] },
	rewrite => sub { my ($c) = @_; return [say => words($c, 1, 'slow:150')], ['!edit' => words($c, 2)], [say => words($c, 3, slow())] },
	archive => sub { my ($c) = @_; return [say => words($c, 1)], [say => words($c, 2, 'slow:150')], ['!archive'] },
	agent => sub { my ($c) = @_; return [say => words($c, 1)], [say => "tool:spawn_agent {\"prompt\":\"sub c$c of many words\"}"], [say => words($c, 3)] },
	fail => sub { my ($c) = @_; return [say => words($c, 1)], [say => "fail:400 c$c n2"] },
	again => sub { my ($c) = @_; return [say => words($c, 1, 'once:503')], [say => words($c, 2, 'cut')] });
my @order = (sort keys %kinds, 'talk', 'talk', 'queue', 'tool', 'agent');

my @stories;
for (my ($c, $turns) = (1, 0); $turns < $TURNS; $c++)
{
	my $kind = $order[($c - 1) % @order];
	my @steps = $kinds{$kind}->($c);
	push @stories, { c => $c, kind => $kind, todo => [@steps], steps => [@steps] };
	$turns += grep { $_->[0] =~ /say|edit/ } @steps;
	$turns++ if $kind eq 'agent';
}
my $turns = 0;
$turns += grep { $_->[0] =~ /say|edit/ } @{ $_->{steps} } for @stories;
$turns += grep { $_->{kind} eq 'agent' } @stories;

# What is done, and survives that its server dies ------------------------------------------

# The database tells what was done, whichever server is down.
sub sql
{
	my ($sql) = @_;
	for (1 .. 200)
	{
		open my $stderr, '>&', \*STDERR or die;
		open STDERR, '>', '/dev/null' or die;
		my $answer = eval { $server->sql($sql) };
		open STDERR, '>&', $stderr or die;
		return $answer if defined $answer;
		sleep 0.2;
	}
	die "the database is gone: $sql";
}
sub text { return [{ type => 'text', text => $_[0] }] }
sub client { my ($gateway) = @_; return $gateway->client($server->{token}) }
sub said_in { my ($text) = @_; my $part = $json->encode([{ text => $text }]) =~ s/'/''/gr;
	return sql("SELECT chat_id FROM (SELECT chat_id, content FROM coder.chat_messages WHERE role = 'user' UNION ALL SELECT chat_id, content FROM coder.chat_queued_messages) m WHERE content @> '$part' LIMIT 1") }

# A request that may have been lost with its server is sent again only where it left nothing.
sub insist
{
	my ($request, $left) = @_;
	for (1 .. 300)
	{
		my ($status, $body) = eval { $request->(client($_ % 2 ? $server : $other)) };
		return $body || 1 if ($status // 0) =~ /^20[0-4]$/;
		sleep 0.2;
		my $found = $left->();
		return $found if $found;
		die "status $status " . $json->encode($body) if ($status // 0) =~ /^4/ && $status != 401;
	}
	die 'no server takes it';
}

sub step
{
	my ($story, $what, $text) = @_;
	my $id = $story->{id};
	if (!$id)
	{
		my $made = insist(sub { $_[0]->post($chats, { organization_id => $org, content => text($text), unsafe_dynamic_tools => [{ name => 'mine', description => 'x', input_schema => { type => 'object', properties => {} } }] }) }, sub { my $found = said_in($text); return $found && { id => $found } });
		return $story->{id} = $made->{id};
	}
	return insist(sub { $_[0]->post("$chats/$id/messages", { content => text($text) }) }, sub { said_in($text) }) if $what =~ /say/;
	return insist(sub { $_[0]->post("$chats/$id/tool-results", { results => [{ tool_call_id => 'call_1', output => { done => 1 } }] }) }, sub { sql("SELECT count(*) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'tool'") }) if $what =~ /results/;
	return insist(sub { $_[0]->post("$chats/$id/interrupt") }, sub { 0 }) if $what =~ /interrupt/;
	return insist(sub { $_[0]->patch("$chats/$id", { archived => JSON::PP::true }) }, sub { sql("SELECT archived FROM coder.chats WHERE id = '$id'") eq 't' }) if $what =~ /archive/;
	my $message = sql("SELECT min(id) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'user'");
	return insist(sub { $_[0]->patch("$chats/$id/messages/$message", { content => text($text) }) }, sub { said_in($text) });
}

# Who kills, and who reads along -------------------------------------------------------------

my $count = File::Temp->new;
my $test = $$;
my $killer = fork // die "fork: $!";
if (!$killer)
{
	$SIG{$_} = 'DEFAULT' for qw(TERM INT);
	srand($seed);
	my (%killed, $n);
	for ($n = 0; $n < $KILLS; )
	{
		sleep 0.3 + rand 2;
		my ($what, $re) = rand() < 0.7 ? (runner => qr/chat-runner/) : rand() < 0.7 ? (backend => qr/^postgres: coder coder/) : (postmaster => qr{bin/postgres -D});
		my @found = Coder::Processes::find($test, $re) or next;
		kill KILL => $found[rand @found] or next;
		$killed{$what}++;
		$n++;
	}
	open my $out, '>', $count->filename;
	print $out join ', ', map { "$killed{$_} ${_}s" } sort keys %killed;
	close $out;
	POSIX::_exit(0);
}

# Reads a chat along, wherever a server is: message ids in order, each once, and the parts before a message are the message.
sub watch
{
	my ($id, $file, $stop) = @_;
	my ($last, $parts, $whole, %seen, @wrong) = (0, '', 0);
	my ($retries, $compared, $opened) = (0, 0, 0);
	# It is over when the last message is here, or does not come.
	my $over = sub { return -s $stop && ($last >= ($json->decode(slurp($stop))->{$id} // 0) || time > (stat $stop)[9] + 15) };
	until ($over->())
	{
		my $ws = eval { Coder::WebSocket->open(($opened + 1) % 2 ? $other->url : $server->url, "$chats/$id/stream?after_id=$last", token => $server->{token}) };
		$opened++;
		if (!$ws) { sleep 0.3; next }
		($parts, $whole) = ('', 0);
		while (defined(my $payload = $ws->message(1)) || (!$ws->{close} && !$over->() && $ws->{socket}->connected))
		{
			last if !defined $payload && eof_of($ws);
			for my $event (defined $payload ? @{ $json->decode($payload) } : ())
			{
				if ($event->{type} eq 'retry') { $retries++ if $event->{retry}{error} =~ /has stopped/; $parts = '' }
				$parts .= $event->{message_part}{part}{text} // '' if $event->{type} eq 'message_part' && $event->{message_part}{role} eq 'assistant';
				next unless $event->{type} eq 'message';
				my $m = $event->{message};
				push @wrong, "message $m->{id} comes behind $last" if $m->{id} <= $last;
				$last = $m->{id};
				my $text = join '', map { $_->{text} // '' } @{ $m->{content} };
				if ($m->{role} eq 'assistant' && $whole) { $compared++ if $parts ne ''; push @wrong, "the parts were '$parts', the message is '$text'" if $parts ne '' && $parts ne $text }
				($parts, $whole) = ('', 1);
				$seen{ $m->{id} } = $text;
			}
		}
	}
	open my $out, '>', $file or die;
	print $out $json->encode({ seen => \%seen, wrong => \@wrong, retries => $retries, compared => $compared, opened => $opened });
	close $out;
	return;
}
sub slurp { open my $in, '<', $_[0] or die "$_[0]: $!"; local $/; return <$in> }
sub eof_of { my ($ws) = @_; return IO::Select->new($ws->{socket})->can_read(0) && !$ws->more(0) && $ws->{buffer} eq '' }

my $stop = File::Temp->new;
my %watchers;
sub begin_to_watch
{
	my ($story) = @_;
	return if keys %watchers >= $WATCHERS || $story->{kind} !~ /talk|queue|tool/ || rand() < 0.3;
	my $file = File::Temp->new;
	my $pid = fork // die "fork: $!";
	if (!$pid) { $SIG{$_} = 'DEFAULT' for qw(TERM INT); $SIG{PIPE} = 'IGNORE'; eval { watch($story->{id}, $file->filename, $stop->filename); 1 } or print STDERR $@; POSIX::_exit(0) }
	$watchers{$pid} = { story => $story, file => $file };
	return;
}

# Everything at once -----------------------------------------------------------------------------

my ($gateway_kills, $next_kill) = (0, time + 2);
sub maybe_kill_gateway
{
	return if time < $next_kill || $gateway_kills >= $KILLS / 3;
	my $victim = $gateway_kills % 3 == 2 ? $server : $other;
	kill KILL => $victim->{pid};
	waitpid $victim->{pid}, 0;
	delete $victim->{pid};
	$victim == $server ? $victim->up : $victim->launch;
	$gateway_kills++;
	$next_kill = time + 4 + rand 4;
	return;
}

my $began = time;
my $deadline = $began + 90 + $TURNS * 0.4;
my $open = 0;
while (time < $deadline)
{
	maybe_kill_gateway();
	my %now = map { my @f = split /\|/; $f[0] => \@f } split /\n/, sql("SELECT id, status, (SELECT count(*) FROM coder.chat_stream_events e WHERE e.chat_id = c.id AND e.event->>'type' = 'message_part'),
		(SELECT count(*) FROM coder.chat_queued_messages q WHERE q.chat_id = c.id) FROM coder.chats c");
	my $left = 0;
	$open = 0;
	for my $story (@stories)
	{
		next if $story->{done};
		$left++;
		last if $open > 60;
		my $now = $story->{id} ? $now{ $story->{id} } : undef;
		my $rests = !$story->{id} || $now && $now->[1] =~ /^(?:waiting|error)$/ && ($now->[3] == 0 || $now->[1] eq 'error');
		$open++ if $story->{id};
		if (!@{ $story->{todo} }) { $story->{done} = 1 if $rests; next }
		my ($what, $text) = @{ $story->{todo}[0] };
		# What is done while it answers waits for its first words, or comes too late.
		next unless $what =~ /^=/ ? $now && $now->[1] eq 'requires_action' : $rests || $what =~ /^!/ && $now && $now->[1] eq 'running' && ($now->[2] > 0 || $what eq '!say');
		shift @{ $story->{todo} };
		my $new = !$story->{id};
		step($story, $what, $text);
		begin_to_watch($story) if $new;
		$open++ if $new;
	}
	last if !$left;
	sleep 0.1;
}
is(join(' ', map { $_->{done} ? () : "c$_->{c} ($_->{kind})" } @stories), '', "$turns turns of " . @stories . ' chats ended') or diag "seed $seed";
my $took = time - $began;
my $ended = $server->wait_for(60, sub { sql("SELECT count(*) FROM coder.chats WHERE status IN ('pending', 'running')") == 0 });
ok($ended, 'no chat runs any more') or diag sql("SELECT string_agg(id || ' ' || status, ', ') FROM coder.chats WHERE status IN ('pending', 'running')");
kill TERM => $killer unless $ended;
waitpid $killer, 0;
my $killed = do { open my $in, '<', $count->filename; <$in> // 'nobody' };
ok($killed ne 'nobody', sprintf '%s and %d gateways were killed within %d s', $killed, $gateway_kills, $took);

# What each chat must hold -------------------------------------------------------------------------

sub heard { my ($text) = @_; return join '', map { "$_ " } reverse split ' ', $text }

# What must be stored of a story: [role, text] in order; an answer may be "half": of its first pieces, or missing.
sub wanted_of
{
	my ($story) = @_;
	my @wanted;
	my @steps = @{ $story->{steps} };
	for my $i (0 .. $#steps)
	{
		my ($what, $text) = @{ $steps[$i] };
		next unless defined $text;
		@wanted = () if $what =~ /edit/;
		push @wanted, [user => $text];
		if ($text =~ /^fail/) { next }
		if ($text =~ /^tool:(\w+)/) { push @wanted, [call => $1], [tool => $1], ['any']; next }
		push @wanted, [($steps[$i + 1][0] // '') =~ /interrupt|archive/ ? 'half' : 'answer', heard($text)];
	}
	return @wanted;
}

# Why what is stored is not what is wanted; '' where it is.
sub why_not
{
	my ($have, @wanted) = @_;
	my @have = @$have;
	for my $w (@wanted)
	{
		my ($role, $text) = @$w;
		my $h = $have[0] // { role => 'nothing', text => '' };
		if ($role eq 'half')
		{
			next if $h->{role} ne 'assistant';
			return "half '$h->{text}' is no beginning of '$text'" unless index($text, $h->{text}) == 0 && $h->{text} =~ / $/;
			shift @have;
			next;
		}
		shift @have;
		return "$h->{role} '$h->{text}' where the user said '$text'" if $role eq 'user' && ($h->{role} ne 'user' || $h->{text} ne $text);
		return "$h->{role} '$h->{text}' instead of '$text'" if $role eq 'answer' && ($h->{role} ne 'assistant' || $h->{text} ne $text);
		return "$h->{role} '$h->{text}' instead of a call of $text" if $role eq 'call' && ($h->{role} ne 'assistant' || "@{ $h->{calls} // [] }" ne $text);
		return "$h->{role} '$h->{text}' instead of a result" if $role eq 'tool' && $h->{role} ne 'tool';
		return "$h->{role} '$h->{text}' instead of words" if $role eq 'any' && ($h->{role} ne 'assistant' || $h->{text} eq '');
	}
	return @have ? "besides $have[0]{role} '$have[0]{text}'" : '';
}

my (%stored, %away);
for (split /\n/, sql("SELECT json_build_object('id', m.id, 'chat', m.chat_id, 'deleted', m.deleted, 'role', m.role, 'content', m.content, 'in', m.input_tokens, 'out', m.output_tokens, 'cost', m.total_cost_micros)
	FROM coder.chat_messages m WHERE m.role <> 'system' ORDER BY m.id"))
{
	my $m = $json->decode($_);
	my %row = (id => $m->{id}, role => $m->{role}, text => join('', map { $_->{text} // ($_->{type} eq 'tool-result' ? $json->encode($_->{result}) : '') } @{ $m->{content} }),
		calls => [map { $_->{type} eq 'tool-call' ? $_->{tool_name} : () } @{ $m->{content} }], map { $_ => $m->{$_} } qw(in out cost));
	push @{ ($m->{deleted} ? \%away : \%stored)->{ $m->{chat} } }, \%row;
}
my (@wrong, @children);
for my $story (grep { $_->{id} } @stories)
{
	my $why = why_not($stored{ $story->{id} } // [], wanted_of($story));
	push @wrong, "c$story->{c} ($story->{kind}, $story->{id}): $why; has " . join(' | ', map { "$_->{role}: $_->{text}" . join '', map { "[$_]" } @{ $_->{calls} } } @{ $stored{ $story->{id} } }) if $why;
	next unless $story->{kind} eq 'agent';
	my @ids = split /\n/, sql("SELECT id FROM coder.chats WHERE parent_chat_id = '$story->{id}'");
	push @wrong, "c$story->{c} has " . @ids . ' agents' if @ids != 1;
	push @children, @ids;
	my $prompt = "sub c$story->{c} of many words";
	my $bad = why_not($stored{ $ids[0] // '' } // [], [user => $prompt], [answer => heard($prompt)]);
	push @wrong, "agent of c$story->{c}: $bad" if $bad;
}
is(scalar @wrong, 0, 'each chat holds what was said, once and in order') or diag "seed $seed\n", join "\n", @wrong[0 .. ($#wrong < 5 ? $#wrong : 5)];
is(sql("SELECT count(*) FROM coder.chats WHERE status = 'error'"), scalar(grep { $_->{kind} eq 'fail' } @stories), 'those failed that had to');
is(sql("SELECT count(*) FROM coder.chats WHERE status = 'error' AND last_error IS DISTINCT FROM 'OpenAI Compatible returned an unexpected error (HTTP 400).'"), 0, 'and say why');
is(sql("SELECT count(*) FROM coder.chats WHERE status <> 'error' AND last_error IS NOT NULL"), 0, 'the others say nothing of that');
is(sql('SELECT count(*) FROM coder.chat_queued_messages'), 0, 'nothing is left in a queue');
is(sql("SELECT count(*) FROM coder.chats WHERE archived"), scalar(grep { $_->{kind} eq 'archive' } @stories), 'those are archived that were');

# What the model was asked -----------------------------------------------------------------------------

# Each question was the chat as it was stored at that time: what is stored, or what an edit put away.
my (@strange, %asked, $questions);
for my $request (@{ $model->requests })
{
	my @told;
	for my $m (grep { $_->{role} ne 'system' } @{ $request->{body}{messages} })
	{
		my $content = ref $m->{content} ? join '', map { $_->{text} // '' } @{ $m->{content} } : $m->{content} // '';
		push @told, $m->{role} . ':' . ($m->{role} eq 'tool' ? '' : $content =~ s/\s+$//r) . join '', map { "[$_->{function}{name}]" } @{ $m->{tool_calls} // [] };
	}
	my $is_sub = "@told" =~ /^user:sub c/;
	my ($c) = "@told" =~ /\bc(\d+)(?=n\d|\b)/;
	$questions++;
	my @versions = map { [map { "$_->{role}:" . ($_->{role} eq 'tool' ? '' : $_->{text} =~ s/\s+$//r) . join '', map { "[$_]" } @{ $_->{calls} } } @$_] } grep { $_ } map { $stored{$_}, $away{$_} } $is_sub ? @children : $stories[$c - 1]{id};
	my $fits = grep { my $v = $_; @told <= @$v && "@told" eq "@$v[0 .. $#told]" } @versions;
	push @strange, "c$c was asked @told" unless $fits;
	$asked{ ($is_sub ? 'sub' : '') . "c$c @told" } = 1;
}
is(scalar @strange, 0, "each of $questions questions was the chat as it is stored") or diag "seed $seed\n", join "\n", @strange[0 .. ($#strange < 3 ? $#strange : 3)];

# What it cost ---------------------------------------------------------------------------------------------

my @answers = grep { $_->{role} eq 'assistant' } map { @$_ } values %stored, values %away;
my @counted = grep { $_->{in} } @answers;
is(scalar(grep { $_->{in} != 10 || $_->{out} != 5 || $_->{cost} != 60 } @counted), 0, 'each answer has the tokens and the cost of one');
my %halves = map { $_->{text} => 1 } grep { !$_->{in} } @answers;
is(scalar(grep { $_->{text} ne '' && $_->{text} !~ /slow:150 $/ && !$_->{in} && $_->{text} !~ /^(?:w\d+ )+(?:n\d )?(?:c\d+ )?$/ } @answers), 0, 'only halves have none');
my $summary = client($server)->get("$chats/cost/me/summary");
is("$summary->{total_input_tokens} $summary->{total_output_tokens} $summary->{total_cost_micros}", join(' ', 10 * @counted, 5 * @counted, 60 * @counted), 'all together as well');

# What was seen ----------------------------------------------------------------------------------------------

syswrite $stop, $json->encode({ map { $_ => $stored{$_}[-1]{id} } keys %stored });
my ($compared, $retries, @seen_wrong) = (0, 0);
for my $pid (keys %watchers)
{
	waitpid $pid, 0;
	my $story = $watchers{$pid}{story};
	my $told = eval { $json->decode(slurp($watchers{$pid}{file}->filename)) } or do { push @seen_wrong, "c$story->{c}: no report"; next };
	$compared += $told->{compared};
	$retries += $told->{retries};
	push @seen_wrong, map { "c$story->{c}: $_" } @{ $told->{wrong} };
	my %have = map { $_->{id} => $_->{role} eq 'tool' ? undef : $_->{text} } @{ $stored{ $story->{id} } };
	push @seen_wrong, map { exists $told->{seen}{ $_->{id} } ? () : "c$story->{c} ($story->{kind}) has not seen $_->{id}, $_->{role} $_->{text}, but " . join ' ', sort keys %{ $told->{seen} } } @{ $stored{ $story->{id} } };
	push @seen_wrong, "c$story->{c}: message $_ is another" for grep { !exists $have{$_} || defined $have{$_} && $told->{seen}{$_} ne $have{$_} } keys %{ $told->{seen} };
}
is(scalar @seen_wrong, 0, "who reads along sees each message once ($compared answers were compared with their parts, $retries began anew)") or diag "seed $seed\n", join "\n", @seen_wrong;
$? = 0;
done_testing();
