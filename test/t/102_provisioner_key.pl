# Daemons with a provisioner key: their organization's jobs with the key's tags, for as long as there is the key.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use JSON::PP ();
use POSIX ();
use Test::More;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => { %{ Coder::Provisioning::env($dir) // {} }, CODER_PROVISIONER_DAEMON_KEY => 'x' x 43 });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $other = ($owner->post('/api/v2/organizations', { name => 'other' }))[1]{id};
is($gateway->sql(q{SELECT coalesce(max(value), 'none') FROM coder.settings WHERE name = 'provisioner_daemon_key'}), 'none', 'a key in the server\'s environment is not told to tables');

sub key
{
	my ($organization, $name, $tags) = @_;
	my ($status, $body) = $owner->post("/api/v2/organizations/$organization/provisionerkeys", { name => $name, tags => $tags });
	is($status, 201, "key $name") or diag JSON::PP::encode_json($body);
	return $body->{key};
}

sub daemon
{
	my ($name, $key, @flags) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = (%{ $gateway->environment }, CODER_PROVISIONER_DAEMONS => 1, CODER_PROVISIONER_DAEMON_NAME => $name, CODER_PROVISIONER_DAEMON_KEY => $key,
			CODER_PG_CONNECTION_URL => "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder", CODER_CACHE_DIRECTORY => "$dir/$name");
		open STDOUT, '>>', $gateway->{log_file};
		open STDERR, '>&', \*STDOUT;
		exec { Coder::Gateway::program() } 'coder-server', 'provisioner', @flags or POSIX::_exit(127);
	}
	return $pid;
}

sub end
{
	my ($pid) = @_;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

my $versions = 0;
sub version
{
	my ($organization, $tags) = @_;
	my $file = ($owner->post('/api/v2/files', Coder::Provisioning::tar({ 'main.tf' => '' }), 'Content-Type' => 'application/x-tar'))[1]{hash};
	my ($status, $body) = $owner->post("/api/v2/organizations/$organization/templateversions",
		{ storage_method => 'file', provisioner => 'terraform', file_id => $file, name => 'v' . ++$versions, tags => $tags });
	is($status, 201, 'a version') or diag JSON::PP::encode_json($body);
	return $body->{id};
}
sub state_of { my ($id) = @_; return $owner->get("/api/v2/templateversions/$id")->{job}{status} }
sub daemons
{
	my ($organization) = @_;
	my $keys = $owner->get("/api/v2/organizations/$organization/provisionerkeys/daemons");
	return { map { $_->{key}{name} => scalar @{ $_->{daemons} } } @$keys };
}

my $gpu = key($other, 'gpu', { kind => 'gpu' });
my $elsewhere = key($p->{organization}, 'gpu', { kind => 'gpu' });
my $version = version($other, { kind => 'gpu' });
my $apart = daemon('apart', $elsewhere);
ok($gateway->wait_for(20, sub { (daemons($p->{organization})->{gpu} // 0) == 1 }), 'a daemon shows the key that it came with');
is(daemons($other)->{gpu}, 0, 'in its organization');
select undef, undef, undef, 1;
is(state_of($version), 'pending', 'another organization\'s daemon takes no job, though its tags fit');
my $daemon = daemon('right', $gpu);
ok($gateway->wait_for(20, sub { state_of($version) eq 'succeeded' }), 'the organization\'s does');
my $mine = $owner->get("/api/v2/organizations/$other/provisionerdaemons");
my ($row) = grep { $_->{name} eq 'right-0' } @$mine;
is_deeply($row->{tags}, { scope => 'organization', owner => '', kind => 'gpu' }, 'its tags are the key\'s') or diag JSON::PP::encode_json($mine);

# A key that is gone.
is(($owner->delete("/api/v2/organizations/$other/provisionerkeys/gpu"))[0], 204, 'the key is deleted');
ok($gateway->wait_for(30, sub { $gateway->log =~ /provisioner key is not known/ }), 'its daemon may not go on');
$version = version($other, { kind => 'gpu' });
select undef, undef, undef, 1;
is(state_of($version), 'pending', 'and takes nothing more');
end($_) for $daemon, $apart;

# What is refused.
is($gateway->sql(q{SELECT count(*) FROM coder.provisioner_daemons WHERE name LIKE 'right%'}), 0, 'no trace of the daemon is left');
my ($status) = eval { $gateway->sql("SELECT coder.provisioner_register_key('wrong', '{terraform}', 'v0', '" . 'y' x 43 . "')"); 0 } // 1;
is($status, 1, 'a key that is none');
($status) = eval { $gateway->sql("SELECT coder.provisioner_register_key('wrong', '{terraform}', 'v0', '')"); 0 } // 1;
is($status, 1, 'nor is the empty text, which keys of the server have');
my $second = key($p->{organization}, 'second', {});
($status) = eval { $gateway->sql("SELECT coder.provisioner_register_key('apart-0', '{terraform}', 'v0', '$second')"); 0 } // 1;
is($status, 1, 'nobody takes the name of a daemon with another key');
{
	local $ENV{CODER_PROVISIONER_DAEMON_KEY} = $second;
	is(system(Coder::Gateway::program() . ' provisioner --postgres-url x --tag a=b 2>/dev/null') >> 8, 2, 'tags beside a key');
}
$gateway->stop;
done_testing;
