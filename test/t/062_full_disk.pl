# A disk that is full: the API says so, what it acknowledged is kept, and it goes on when there is space again.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use File::Temp qw(tempdir);
use Test::More;

plan skip_all => 'only root can mount a small disk' if $> != 0;
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $disk = "$dir/disk";
chmod 0755, $dir;
mkdir $disk;
plan skip_all => 'tmpfs cannot be mounted here' if system("mount -t tmpfs -o size=160m,mode=0755 coder-test '$disk' 2>/dev/null") != 0;
my $gateway;
END { undef $gateway; system("umount -l '$disk' 2>/dev/null") if $disk && -d $disk }

$gateway = Coder::Gateway->start(dir => $disk, log_file => "$dir/server.log", env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;
my $organization = $owner->get('/api/v2/organizations')->[0]{id};
my $launcher = $gateway->{pid};
my $n = 0;

# A write: the status, and the name of what it made.
sub write_one
{
	my $name = 'user' . ++$n;
	my ($status, $body) = $owner->post('/api/v2/users', { email => "$name\@example.com", username => $name, password => 'SomeSecurePassword!',
		organization_ids => [$organization], name => 'x' x 100 });
	return ($status, $name, $body);
}

my @acknowledged;
for my $round (1 .. 2)
{
	push @acknowledged, (write_one())[1] for 1 .. 3;

	# What is left is taken; the write-ahead log runs into the wall.
	system("dd if=/dev/zero of='$disk/ballast' bs=64k 2>/dev/null");
	my %seen;
	my $error;
	my $file = 'x' x 400_000;
	for my $i (1 .. 60)
	{
		my ($status, $name, $body) = write_one();
		push @acknowledged, $name if $status == 201;
		$seen{$status}++;
		$error = $body if $status != 201;
		my ($code, $answer) = $owner->post('/api/v2/files', $file . $i, 'Content-Type' => 'application/x-tar');
		$seen{"file $code"}++;
		$error = $answer if $code !~ /^20/;
		last if ($seen{503} // 0) + ($seen{507} // 0) + ($seen{'file 507'} // 0) + ($seen{'file 503'} // 0) >= 4;
	}
	diag "round $round: ", join ', ', map { "$_: $seen{$_}" } sort keys %seen;
	ok(ref $error, 'a write that finds no space is answered') or BAIL_OUT('the disk did not fill');
	like("$error->{message} $error->{detail}", qr/disk|space|database/i, 'and the answer says why');
	is(join(' ', grep { !/^(file )?(20[01]|50[37])$/ } keys %seen), '', 'nothing but 200, 201, 503 and 507 is answered');
	is(($owner->get('/healthz'))[0], 200, 'the server lives');

	unlink "$disk/ballast";
	ok($gateway->wait_for(40, sub { ($owner->get('/api/v2/users/me'))[0] == 200 }), 'it answers when there is space again');
	my ($status, $name);
	ok($gateway->wait_for(20, sub { ($status, $name) = write_one(); $status == 201 }), 'and takes writes');
	push @acknowledged, $name if $status == 201;
	my %there = map { $_ => 1 } split /\n/, $gateway->sql('SELECT username FROM coder.users');
	is(join(' ', grep { !$there{$_} } @acknowledged), '', 'nothing that was acknowledged is lost');
}
is($gateway->{pid}, $launcher, 'the server was never started anew');
is($gateway->stop, 0, 'and ends well');
done_testing();
