# One's own things by the command line: organizations, secrets, dot files, notifications; what is wrong is told, and changes nothing.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Reports qw(workspaces);
use JSON::PP ();
use Test::More;

my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $dir = $gateway->{dir};
my $token = $owner->{token};

sub coder { my ($text, $status) = Coder::Provisioning::command($gateway, $token, @_); return "$status $text" }
sub file { my ($name, $text) = @_; open my $out, '>:raw', "$dir/$name" or die "$dir/$name: $!"; print $out $text; close $out; return "$dir/$name" }
sub slurp { open my $in, '<', $_[0] or return; local $/; return scalar <$in> }
sub shell { system('sh', '-ec', $_[0]) == 0 or die $_[0] }

# Organizations.
my $first = $gateway->sql('SELECT id FROM coder.organizations WHERE is_default');
like(coder('organizations', 'list'), qr/^0 NAME +DISPLAY NAME +ID +DEFAULT\n\S+ .* \Q$first\E +true$/, 'organizations');
like(coder('org', 'ls', '-c', 'default,name'), qr/^0 DEFAULT +NAME\ntrue +\S+$/, 'by a shorter name, with columns in that order');
like(coder('org', 'ls', '-c', 'size'), qr/^1 error: there is no column "size"$/, 'that there are');
like(coder('organizations', 'create', 'builders', '-y'), qr/^0 Organization "builders" is created: [0-9a-f-]{36}\.$/, 'another');
like(coder('organizations', 'create', 'builders', '-y'), qr/^1 error: /, 'of one name there is one');
like(coder('organizations', 'create', 'Not a name', '-y'), qr/^1 error: /, 'a name must be one');
is($gateway->sql('SELECT count(*) FROM coder.organizations WHERE NOT deleted'), '2', 'two in all');
like(coder('organizations', 'create', 'third'), qr/^1 /, 'nobody to ask');
is(coder('organizations', 'show', '--only-id', '-O', 'builders'), '0 ' . $gateway->sql("SELECT id FROM coder.organizations WHERE name = 'builders'") . "\n", 'the one that commands use');
is((() = coder('organizations', 'show', 'me') =~ /^\S+ .*(?:true|false)$/mg), 2, 'all of one\'s own');
is(JSON::PP::decode_json(substr coder('organizations', 'show', $first, '-o', 'json'), 2)->[0]{is_default}, JSON::PP::true, 'one, as JSON');
like(coder('organizations', 'show', 'nobody'), qr/^1 error: /, 'none of that name');
workspaces($gateway, 10);
like(coder('organizations', 'members', 'add', 'member0', '-O', 'builders'), qr/^0 User "member0" is a member of organization "builders"\.$/, 'a member');
like(coder('organizations', 'members', 'list', '-O', 'builders'), qr/^member0 /m, 'is among the members');
like(coder('organizations', 'members', 'remove', 'member0', '-O', 'builders'), qr/^0 /, 'and no longer');
unlike(coder('organizations', 'members', 'list', '-O', 'builders'), qr/^member0 /m, 'is');
like(coder('organizations', 'delete', 'builders', '-y'), qr/^0 /, 'an organization that is deleted');
unlike(coder('organizations', 'list'), qr/builders/, 'is gone');

# Secrets.
is(coder('secret', 'list'), "0 NAME  CREATED  UPDATED  ENV  FILE  DESCRIPTION\n", 'no secrets');
like(coder('secret', 'create', 'key'), qr/^1 error: give the value/, 'a secret without a value');
like(coder({ stdin => file('value', "two\nlines\n") }, 'secret', 'create', 'key', '--env', 'API_KEY', '--description', 'of tests'), qr/^0 /, 'a value by a pipe');
is($gateway->sql("SELECT value = E'two\\nlines\\n' AND env_name = 'API_KEY' FROM coder.user_secrets WHERE name = 'key'"), 't', 'is stored as it came');
like(coder('secrets', 'ls', 'key'), qr/^key +(?:now|.*ago) +(?:now|.*ago) +API_KEY +of tests$/m, 'and listed, without its value');
unlike(coder('secret', 'list', '-o', 'json'), qr/two/, 'in any format');
like(coder({ stdin => "$dir/value" }, 'secret', 'update', 'key', '--value', 'x'), qr/^1 error: the value is given twice/, 'one value');
like(coder('secret', 'update', 'key'), qr/^1 error: nothing to change/, 'or something else');
like(coder('secret', 'update', 'key', '--env', '', '--file', '~/.key'), qr/^0 /, 'an empty word');
is($gateway->sql("SELECT concat_ws(' ', value = E'two\\nlines\\n', '<' || env_name || '>', file_path, description) FROM coder.user_secrets"), 't <> ~/.key of tests', 'empties only that');
like(coder('secret', 'update', 'key', '--env', 'CODER_X'), qr/^1 error: Invalid environment variable name\./, 'a name that is reserved');
like(coder({ stdin => file('long', 'x' x 32769) }, 'secret', 'update', 'key'), qr/^1 error: the value is longer/, 'a value that is too long');
like(coder({ stdin => file('nul', "a\0b") }, 'secret', 'update', 'key'), qr/^1 error: the value has a NUL/, 'or no text');
like(coder({ stdin => file('latin', "\xe4\xff") }, 'secret', 'update', 'key'), qr/^1 error: the value is not UTF-8/, 'in UTF-8');
like(coder('secret', 'delete', 'other', '-y'), qr/^1 error: /, 'none of that name');
like(coder('secret', 'delete', 'key'), qr/^1 /, 'nobody to ask');
like(coder('secret', 'delete', 'key', '-y'), qr/^0 /, 'a secret is deleted');
is($gateway->sql('SELECT count(*) FROM coder.user_secrets'), '0', 'indeed');

# Notifications, and versions that workspaces take by themselves.
my $paused = q{SELECT value::jsonb->>'notifier_paused' FROM coder.site_configs WHERE key = 'notifications_settings'};
like(coder('notifications', 'pause'), qr/^0 Notifications are paused\.$/, 'no notifications') for 1 .. 2;
is($gateway->sql($paused), 'true', 'indeed');
like(coder('notifications', 'resume'), qr/^0 /, 'notifications');
is($gateway->sql($paused), 'false', 'again');
like(coder('notifications', 'test'), qr/^0 /, 'one to oneself');
like(coder('notification', 'custom', 'A title', 'and words'), qr/^0 /, 'with words of one\'s own');
is($gateway->sql(q{SELECT count(*) FROM coder.inbox_notifications WHERE title = 'A title' AND content = 'and words'}), '1', 'has come');
$token = $gateway->sql("SELECT coder.api_key_create((SELECT id FROM coder.users WHERE username = 'member0'), 'password', 3600)");
like(coder('notifications', 'pause'), qr/^1 error: /, 'others may not stop them');
like(coder('autoupdate', 'workspace-1', 'always'), qr/^0 /, 'new versions at each start');
is($gateway->sql(q{SELECT automatic_updates FROM coder.workspaces WHERE name = 'workspace-1'}), 'always', 'are taken');
like(coder('autoupdate', 'workspace-1', 'sometimes'), qr/^1 error: .*always or never/s, 'or not');

# Dot files.
@ENV{qw(HOME GIT_CONFIG_GLOBAL GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL)} = ("$dir/home", '/dev/null', ('a', 'a@b') x 2);
my ($url, $clone) = ("$dir/repository", "$dir/client/dotfiles");
shell("mkdir $dir/home; git init -q -b main $url; cd $url; echo one > .vimrc; echo two > .gitconfig; echo no > .gitignore; mkdir .config; echo x > .config/x; git add -A; git commit -qm one");
file('home/.vimrc', 'mine');
like(coder('dotfiles', $url), qr/^1 /, 'nobody to ask');
ok(!-e $clone, 'nothing is done');
like(coder('dotfiles', "$dir/none", '-y'), qr/^1 .*error: \S+ could not be cloned$/s, 'no repository');
like(coder('dotfiles', $url, '-y'), qr/^0 /, 'dot files');
is(join(' ', map { readlink "$dir/home/$_" } '.config', '.gitconfig', '.vimrc'), join(' ', map { "$clone/$_" } '.config', '.gitconfig', '.vimrc'), 'are linked to');
is(slurp("$dir/home/.vimrc.bak"), 'mine', 'what was there is kept');
ok(!-e "$dir/home/.gitignore" && !-e "$dir/home/.git", 'what is git\'s own is not linked to');
like(coder('dotfiles', $url, '-y'), qr/^0 /, 'once more');
is(slurp("$dir/home/.vimrc.bak"), 'mine', 'changes nothing');
shell("cd $url; git checkout -q -b other; mkdir script; printf '#!/bin/sh\\npwd > \"\$HOME/ran\"\\nexit 7\\n' > script/setup; chmod 755 script/setup; git add -A; git commit -qm two; git checkout -q main");
like(coder('dotfiles', $url, '-y', '-b', 'other'), qr/^1 .*error: \S+script\/setup failed with status 7$/s, 'a branch with a script that fails');
is(slurp("$dir/home/ran"), "$clone\n", 'it runs in the repository');
like(coder('dotfiles', $url, '-y', '-b', 'nothing'), qr/There is no branch "nothing"; going on/, 'a branch that is not there');
shell("cd $url; mv $url $url.away");
like(coder('dotfiles', $url, '-y'), qr/could not be brought up to date; going on/, 'a host that is away');
shell("git clone -q -b other $url.away $url; cd $url; chmod 644 script/setup; git commit -qam three");
shell("echo elsewhere > $dir/client/dotfilesurl");
like(coder('dotfiles', $url, '-y'), qr/^1 .*error: \S+script\/setup is not executable$/s, 'a script that cannot run, of another repository');
is(scalar(() = glob "$clone\_backup_*"), 1, 'the old one is kept');
is(slurp("$dir/client/dotfilesurl"), $url, 'and where the new one is from');
$gateway->stop;
done_testing();
