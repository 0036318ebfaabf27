# Archives that are made to do harm are refused at the upload or fail the import with the reason, and write nothing.
use strict;
use warnings FATAL => 'all';
use Archive::Tar;
use Archive::Tar::Constant qw(BLOCKDEV CHARDEV FIFO HARDLINK SYMLINK);
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use IO::Compress::Gzip qw(gzip);
use IO::Compress::Zip qw(zip);
use Test::More;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir, PATH => '/usr/bin:/bin'));
my $p = Coder::Provisioning->new($gateway);
my ($launcher, $postmaster) = ($gateway->{pid}, $gateway->postmaster);
my $main = qq(data "coder_parameter" "p" {\n  name = "p"\n  default = "d"\n}\n);

sub upload
{
	my ($bytes, $type) = @_;
	return $p->{client}->post('/api/v2/files', $bytes, 'Content-Type' => $type);
}

# The import fails with the reason, in the job and in its log.
sub fails
{
	my ($what, $bytes, $because) = @_;
	my $version = $p->import('bad', $bytes);
	is($version->{status}, 'failed', "$what: the import fails");
	like($version->{error}, $because, '  with the reason');
	like($version->{log}, $because, '  in the log, too');
	return;
}

for my $entry ([ 'a character device', CHARDEV, '' ], [ 'a block device', BLOCKDEV, '' ], [ 'a pipe', FIFO, '' ],
	[ 'a hard link', HARDLINK, '/etc/passwd' ], [ 'a symbolic link', SYMLINK, '..' ])
{
	my $tar = Archive::Tar->new;
	$tar->add_data('main.tf', $main);
	$tar->add_data('x', '', { type => $entry->[1], linkname => $entry->[2], devmajor => 1, devminor => 3 });
	fails($entry->[0], $tar->write, qr/neither a file nor a directory/);
}
fails('a deep way out', Coder::Provisioning::tar({ 'main.tf' => $main, 'a/b/../../../evil' => 'x' }), qr/leads out of the template/);
fails('a file of 11 MiB', Coder::Provisioning::tar({ 'main.tf' => $main, big => "\0" x (11 << 20) }), qr/larger than 10 MiB/);
fails('many files', Coder::Provisioning::tar({ map { ("f$_" => '') } 1 .. 10_001 }), qr/more than 10000 files/);
my $tar = Coder::Provisioning::tar({ 'main.tf' => $main x 100 });
fails('an archive that is cut off', substr($tar, 0, 1500), qr/could not read the archive|truncated/i);
fails('bytes that are no archive', join('', map { chr($_ * 7 % 256) } 1 .. 4096), qr/could not read the archive/);
my $lie = $tar;
substr($lie, 124, 12) = "77777777777\0";    # 8 GiB, and the checksum of it
substr($lie, 148, 8) = ' ' x 8;
substr($lie, 148, 8) = sprintf "%06o\0 ", unpack '%32C512', substr $lie, 0, 512;
fails('a header that claims 8 GiB', $lie, qr/could not read the archive|truncated|larger than/i);

# Archives that grow when they are unpacked.
my $zeros = "\0" x (120 << 20);
zip(\$zeros, \my $bomb, Name => 'main.tf') or die;
cmp_ok(length $bomb, '<', 1 << 20, 'a zip of 120 MiB is small');
my ($status, $body) = upload($bomb, 'application/zip');
is($status, 400, '  and is refused') or diag explain $body;
like($body->{message} // '', qr/\w/, '  with words');
gzip(\$zeros, \my $packed) or die;
fails('a gzip bomb', $packed, qr/could not read the archive/);
undef $zeros;
for my $name ('../evil', '/etc/evil', 'a/../../evil')
{
	zip(\$main, \my $zip, Name => $name) or die;
	($status, $body) = upload($zip, 'application/zip');
	is($status, 400, "a zip with $name is refused") unless $status =~ /^20/;
	fails("a zip with $name", scalar($p->{client}->get("/api/v2/files/$body->{hash}")), qr/leads out of the template/) if $status =~ /^20/;
}
($status, $body) = upload('PK' . 'x' x 1000, 'application/zip');
is($status, 400, 'bytes that are no zip are refused');
($status, $body) = upload('x' x 100, 'text/plain');
is($status, 400, 'another type is refused');
($status) = upload('x' x (101 << 20), 'application/x-tar');
like($status, qr/^(413|599)$/, 'a body above the limit is refused');

ok(!(grep { -e } "/etc/evil", "$gateway->{dir}/evil", glob("$gateway->{dir}/cache/*/evil $gateway->{dir}/cache/*/*/evil $gateway->{dir}/cache/*/*/*/evil")), "nothing was written outside");
my $version = $p->import('good', { 'main.tf' => $main });
is($version->{status}, 'succeeded', 'a good template is imported after all of them') or diag $version->{error};
is(join(' ', $gateway->{pid}, $gateway->postmaster), "$launcher $postmaster", 'and nothing was started anew');
unlike($gateway->log, qr/terminated by signal/, 'nothing in its log tells of a crash');
is($gateway->stop, 0, 'the server ends well');
done_testing();
