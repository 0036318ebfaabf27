# Workspaces by the command line: schedules, favourites, logs, the state, the key, completion; what is wrong is told, and changes nothing.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
$gateway->first_user;
my $dir = $gateway->{dir};
workspaces($gateway, 10);
my $token = $gateway->sql("SELECT coder.api_key_create((SELECT id FROM coder.users WHERE username = 'member0'), 'password', 3600)");
$ENV{TZ} = 'America/St_Johns';

sub coder { my ($text, $status) = Coder::Provisioning::command($gateway, $token, @_); return "$status $text" }
sub row { return $gateway->sql("SELECT $_[0] FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id WHERE w.name = 'workspace-1'") }

# A template to begin with, as the server's own example is; it takes no server to write it, and nothing is written over.
mkdir "$dir/empty";
like(coder('templates', 'push', 'none', '-y', '-d', "$dir/empty"), qr/^1 error: .*holds no \.tf file; "coder templates init" writes a template/, 'a folder without a template');
like(coder('templates', 'init', "$dir/first"), qr/^0 \S+first holds a template.*templates push -d \S+first/s, 'a template to begin with');
is(do { local (@ARGV, $/) = "$dir/first/$_"; scalar <> }, do { local (@ARGV, $/) = "../gateway/provisioner/starter/$_"; scalar <> }, "its $_") for qw(main.tf README.md);
like(coder('templates', 'init', "$dir/first"), qr/^1 error: .*has a template/, 'is not written over');
unlink "$dir/first/main.tf";
like(coder('templates', 'init', "$dir/first"), qr/^1 error: .*README\.md/, 'nor half of it');
like(coder('templates', 'init', '--id', 'docker', "$dir/other"), qr/^1 error: there is no starter "docker"/, 'there is one');
ok(!-e "$dir/other", 'and no folder for another');
like(coder('templates', 'init', "$dir/no/such"), qr/^1 error: could not make /, 'a folder whose parent is missing');

# Schedules.
like(coder('schedule', 'start', 'workspace-1', '9:30AM', 'Mon-Fri', 'Europe/Dublin'), qr/^0 .*CRON_TZ=Europe\/Dublin 30 9 \* \* Mon-Fri/s, 'a start');
is(row('autostart_schedule'), 'CRON_TZ=Europe/Dublin 30 9 * * Mon-Fri', 'is stored');
like(coder('schedule', 'start', 'workspace-1', '15:04'), qr/^0 /, 'every day');
is(row('autostart_schedule'), 'CRON_TZ=America/St_Johns 4 15 * * *', 'by the clock of this machine');
like(coder('schedule', 'start', 'workspace-1', '25:00'), qr/^1 error: "25:00" is no time of a day/, 'no time');
like(coder('schedule', 'start', 'workspace-1', '9:00', 'Mars/Olympus'), qr/^1 error: /, 'no zone');
is(row('autostart_schedule'), 'CRON_TZ=America/St_Johns 4 15 * * *', 'change nothing');
like(coder('schedule', 'start', 'workspace-1', 'manual'), qr/^0 .*by hand/s, 'by hand');
is(row('autostart_schedule IS NULL'), 't', 'is none');
like(coder('schedule', 'stop', 'workspace-1', '1h30m'), qr/^0 .*1h30m/s, 'a stop');
is(row('ttl'), '5400000000000', 'is stored');
like(coder('schedule', 'stop', 'workspace-1', 'soon'), qr/^1 error: "soon" is no span of time/, 'no span');
like(coder('schedule', 'extend', 'workspace-1', '3h'), qr/^0 .*in (2|3) hours/s, 'more time');
is(row("deadline BETWEEN now() + interval '179 min' AND now() + interval '181 min'"), 't', 'is the deadline');
like(coder('schedule', 'extend', 'workspace-1', '1m'), qr/^1 error: /, 'too little is refused');
like(coder('schedule', 'stop', 'workspace-1', 'manual'), qr/^0 /, 'by hand');
is(row('ttl IS NULL'), 't', 'is none');
like(coder('schedule', 'extend', 'workspace-1', '3h'), qr/^1 error: Workspace shutdown is manual\./, 'what does not stop needs no more time');
like(coder('schedule', 'show'), qr{^0 .*member0/workspace-0.*member0/workspace-9}s, 'all of one\'s own');
like(coder('schedule', 'show', 'nothing'), qr/^1 error: /, 'none of that name');

# Others.
like(coder('favorite', 'workspace-1'), qr/^0 /, 'a favourite');
is(row('favorite'), 't', 'is one');
like(coder('unfavorite', 'workspace-1'), qr/^0 /, 'or not');
is(row('favorite'), 'f', 'any more');
like(coder('rename', 'workspace-1', 'other'), qr/^1 error: Workspace renames are not allowed\./, 'a name is kept');
$gateway->sql("INSERT INTO coder.provisioner_job_logs (job_id, created_at, source, level, stage, output) SELECT job_id, now(), 'provisioner', 'info', 'Planning', 'a line of a plan' FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id WHERE w.name = 'workspace-1'");
like(coder('logs', 'workspace-1'), qr/^0 \d{4}-\S+ \[build\] Planning: a line of a plan$/m, 'its log');
like(coder('logs', 'workspace-1', '-n', '1'), qr/a line of a plan/, 'of a build');
like(coder('logs', 'workspace-1', '-n', '99'), qr/^1 error: /, 'that is there');
like(coder('update', 'workspace-1'), qr/^0 Workspace "workspace-1" has the newest version already\.$/, 'nothing to update');
like(my $key = coder('publickey'), qr/^0 ssh-ed25519 \S+$/, 'the key');
isnt(coder('publickey', '--reset', '-y'), $key, 'a new one');
open my $file, '>:raw', "$dir/state" or die; print $file "{\"a\": \"\xc3\xa4\xff\0\"}"; close $file;
$token = $gateway->{token};
is(coder('state', 'push', 'member0/workspace-1', "$dir/state"), '0 ', 'a state is put there');
is(row("encode(provisioner_state, 'hex')"), unpack('H*', "{\"a\": \"\xc3\xa4\xff\0\"}"), 'byte for byte');
is(coder('state', 'pull', 'member0/workspace-1', "$dir/back"), '0 ', 'and fetched');
is(system('cmp', '-s', "$dir/state", "$dir/back"), 0, 'the same');
like(coder('state', 'push', 'member0/workspace-1', "$dir/none"), qr/^1 error: could not read/, 'no file');

# Completion.
my $words = coder('completion', '--shell', 'bash');
$words =~ s/^0 //;
open my $script, '>', "$dir/completion" or die; print $script $words; close $script;
is(`bash -c 'source $dir/completion; COMP_WORDS=(coder schedule e); COMP_CWORD=2; _coder; echo \${COMPREPLY[\@]}'`, "extend\n", 'words are completed');
is(`bash -c 'source $dir/completion; COMP_WORDS=(coder unf); COMP_CWORD=1; _coder; echo \${COMPREPLY[\@]}'`, "unfavorite\n", 'of commands');
like(coder('completion', '--shell', 'tcsh'), qr/^1 error: unknown shell/, 'in shells that are known');
$gateway->stop;
done_testing();
