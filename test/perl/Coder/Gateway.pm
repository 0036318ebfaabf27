# Coder::Gateway -- a coder-server that lives as long as the object.
#
#	my $gateway = Coder::Gateway->start;					# embedded cluster in a temporary folder
#	my $gateway = Coder::Gateway->start(node => $node);		# a PostgreSQL::Test::Cluster
#	my $owner   = $gateway->first_user;						# a Coder::Client
#	my ($status, $me) = $owner->get('/api/v2/users/me');
#
# SPDX-License-Identifier: MIT
package Coder::Gateway;

use strict;
use warnings FATAL => 'all';
use Coder::Client;
use Cwd qw(abs_path);
use Digest::MD5 ();
use Fcntl qw(:flock);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

# A shell starts what runs in its background with these ignored, and programs that tests start would inherit that.
$SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT);

my $root = abs_path(dirname(__FILE__) . '/../../..');

sub program { return $ENV{CODER_SERVER} // "$root/gateway/coder-server" }

# Folder of the PostgreSQL programs the tests use.
sub bindir
{
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	chomp(my $dir = `$pg_config --bindir`);
	return $dir;
}

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no free port: $!";
	return $socket->sockport;
}

# A folder with the database of a server that has just begun, made once for this build: most tests begin with a copy of it, which takes a
# tenth of the time.  Nothing where the PostgreSQL is not the tests' own (private-pg), or where there are databases to come into being (fresh).
sub prepared
{
	my $root = dirname(bindir()) =~ s{/lib/postgresql/[^/]+$}{}r;
	return unless -f "$root/.version" && -w $root;
	my @parts = (program(), glob("$root/lib/postgresql/*/lib/coder.so $root/share/postgresql/extension/coder*"));
	my $key = Digest::MD5::md5_hex(join "\n", $<, map { join ' ', $_, (stat)[7, 9] } @parts);
	my $folder = "$root/cluster-$key";
	return $folder if -d $folder;
	open my $lock, '>', "$root/cluster.lock" or return;
	flock $lock, Fcntl::LOCK_EX() or return;
	return $folder if -d $folder;    # another test was first
	remove_tree($_) for glob "$root/cluster-*";
	my $server = __PACKAGE__->start(fresh => 1);
	$server->sql('DELETE FROM coder.replicas');    # nobody shall look for this gateway
	$server->stop;
	rename "$server->{dir}/config/postgres", $folder or system('cp', '-a', "$server->{dir}/config/postgres", "$folder.new") == 0 && rename("$folder.new", $folder) or return;
	return $folder;
}

# Options: node, dir (config folder; kept), port, env => {}, args => [], wait => 0, fresh => 1 (its database is made when it starts).
sub start
{
	my ($class, %args) = @_;
	my $self = bless { %args, owner_pid => $$ }, $class;

	unless ($self->{dir})
	{
		my $prepared = $self->{node} || $self->{fresh} ? undef : prepared();
		$self->{dir} = $self->{temporary} = tempdir('coder-XXXXXX', TMPDIR => 1);
		chmod 0755, $self->{dir};
		system("mkdir -m 755 '$self->{dir}/config' && cp -a --reflink=auto '$prepared' '$self->{dir}/config/postgres'") == 0 or die "cp: $?" if $prepared;
	}
	$self->{port} //= free_port();
	$self->{url} = "http://127.0.0.1:$self->{port}";
	$self->{log_file} //= "$self->{dir}/server.log";
	$self->up unless defined $args{wait} && $args{wait} < 0;
	return $self;
}

sub environment
{
	my ($self) = @_;
	my %env = %ENV;

	delete @env{ grep { /^(CODER_|PG)/ } keys %env };
	$env{CODER_HTTP_ADDRESS}        = "127.0.0.1:$self->{port}";
	$env{CODER_CONFIG_DIR}          = "$self->{dir}/config";
	$env{CODER_CACHE_DIRECTORY}     = "$self->{dir}/cache";
	$env{CODER_PG_BINDIR}           = bindir();
	$env{CODER_PROVISIONER_DAEMONS} = 0;
	$env{CODER_PG_CONNECTION_URL}   = $self->{node}->connstr('postgres') . ' user=' . getpwuid($<) if $self->{node};
	%env                            = (%env, %{ $self->{env} // {} });
	return \%env;
}

# Runs the server, and does not wait for it.
sub launch
{
	my ($self) = @_;

	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = %{ $self->environment };
		open STDOUT, '>>', $self->{log_file} or die;
		open STDERR, '>&', \*STDOUT or die;
		exec { program() } program(), @{ $self->{args} // [] } or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	return $self;
}

# Runs the server; dies with its log if it does not answer.
sub up
{
	my ($self) = @_;
	my $began = time;

	$self->launch;
	$self->wait_for(60, sub { ($self->client->get('/healthz'))[0] == 200 || $self->ended }) or die "no answer: " . $self->log;
	die 'coder-server ended: ' . $self->log if $self->ended;
	$self->{started_in} = time - $began;
	return $self;
}

# Polls until the code answers true, at first often: what is asked has work to do meanwhile.
sub wait_for
{
	my ($self, $seconds, $code) = @_;
	my $deadline = time + $seconds;
	my $pause = 0.01;

	while (1)
	{
		my $answer = $code->();
		return $answer if $answer;
		my $left = $deadline - time;
		return if $left <= 0;
		sleep($pause < $left ? $pause : $left);
		$pause = $pause * 1.4 < 0.15 ? $pause * 1.4 : 0.15;
	}
}

sub ended
{
	my ($self) = @_;

	return 1 unless $self->{pid};
	return 0 if waitpid($self->{pid}, WNOHANG) == 0;
	$self->{status} = $?;
	delete $self->{pid};
	return 1;
}

sub log
{
	my ($self) = @_;
	open my $file, '<', $self->{log_file} or return '';
	local $/;
	return scalar <$file>;
}

# Ends the server with a signal (TERM); its wait status.
sub stop
{
	my ($self, $signal) = @_;

	return unless $self->{pid};
	kill $signal // 'TERM', $self->{pid};
	$self->wait_for(40, sub { $self->ended }) or die 'coder-server does not end';
	return $self->{status};
}

sub restart { my ($self, $signal) = @_; $self->stop($signal); return $self->up }

sub client { my ($self, $token) = @_; return Coder::Client->new(url => $self->{url}, token => $token) }

sub url { return $_[0]{url} }

# The first user, signed in.  The same each time.
sub first_user
{
	my ($self) = @_;
	my %user = (email => 'admin@example.com', username => 'admin', name => 'Admin', password => 'SomeSecurePassword!');

	return $self->client($self->{token}) if $self->{token};
	my ($status, $body) = $self->client->post('/api/v2/users/first', \%user);
	die "first user: $status " . JSON::PP::encode_json($body) unless $status == 201;
	return $self->login($user{email}, $user{password}, 1);
}

sub login
{
	my ($self, $email, $password, $keep) = @_;
	my ($status, $body) = $self->client->post('/api/v2/users/login', { email => $email, password => $password });
	die "login: $status" unless $status == 201;
	$self->{token} = $body->{session_token} if $keep;
	return $self->client($body->{session_token});
}

# One value, or lines of values separated by |, from the server's database.
sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql('postgres', $sql) if $self->{node};
	open my $psql, '-|', bindir() . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
	  "host=$self->{dir}/config/postgres/run user=coder dbname=coder", '-c', $sql
	  or die "psql: $!";
	my $out = join '', <$psql>;
	close $psql or die "psql failed: $sql";
	$out =~ s{\n\z}{};
	return $out;
}

# Process id of the embedded server.
sub postmaster
{
	my ($self) = @_;
	open my $file, '<', "$self->{dir}/config/postgres/data/postmaster.pid" or return 0;
	return int(<$file> // 0);
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);

	return if $self->{owner_pid} != $$;
	eval { $self->stop };
	if ($self->{pid}) { kill 'KILL', $self->{pid}; waitpid $self->{pid}, 0 }
	remove_tree($self->{temporary}) if $self->{temporary};
	return;
}

1;
