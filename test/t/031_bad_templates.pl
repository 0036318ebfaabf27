# What is wrong with a template or its archive is said in the job's log, and the next job runs.
use strict;
use warnings FATAL => 'all';
use Archive::Tar;
use Archive::Tar::Constant qw(SYMLINK);
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use Test::More;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir, PATH => '/usr/bin:/bin'));
my $p = Coder::Provisioning->new($gateway);

sub fails
{
	my ($what, $files, $because, %more) = @_;
	my $version = $p->import('bad', $files, %more);

	is($version->{status}, 'failed', "$what: the import fails");
	like($version->{error}, $because, '  with the reason');
	like($version->{log}, $because, '  in the log, too');
	return;
}

fails('syntax', { 'main.tf' => "locals {\n  a = [1,\n}\n" }, qr/main\.tf:3: expected a value/);
fails('no template', { 'README.md' => 'nothing' }, qr/no \.tf file/);
fails('unknown reference', { 'main.tf' => qq(data "coder_parameter" "p" {\n  name = local.nothing\n}\n) }, qr/main\.tf:2: there is no "local\.nothing"/);
fails('circle', { 'main.tf' => qq(locals {\n  a = local.b\n  b = local.a\n}\ndata "coder_parameter" "p" {\n  name = local.a\n}\n) }, qr/refers to itself/);
fails('endless', { 'main.tf' => qq(data "coder_parameter" "p" {\n  name = join("", [for a in range(90000) : join("", [for b in range(90000) : "x"])])\n}\n) }, qr/steps|memory/);
fails('missing variable', { 'main.tf' => qq(variable "v" {}\ndata "coder_parameter" "p" {\n  name = var.v\n}\n) }, qr/required template variables.*v/);
fails('duplicate', { 'main.tf' => qq(data "coder_parameter" "a" {\n  name = "x"\n  default = 1\n}\ndata "coder_parameter" "b" {\n  name = "x"\n  default = 1\n}\n) }, qr/two parameters have the name "x"/);
fails('two defaults', { 'main.tf' => qq(data "coder_parameter" "a" {\n  name = "n"\n  type = "number"\n  default = 9\n  validation {\n    max = 8\n  }\n}\n) }, qr/more than the maximum 8/);

my $tar = Archive::Tar->new;
$tar->add_data('main.tf', '');
$tar->add_data('link', '', { type => SYMLINK, linkname => '/etc/passwd' });
fails('a link', $tar->write, qr/neither a file nor a directory/);
fails('a way out', Coder::Provisioning::tar({ 'main.tf' => '', '../../evil' => 'x' }), qr/leads out of the template/);
fails('an absolute path', Coder::Provisioning::tar({ 'main.tf' => '', '/etc/evil' => 'x' }), qr/leads out of the template/);
ok(!-e '/etc/evil', '  and nothing was written');

fails('Terraform is not there', { 'main.tf' => qq(resource "terraform_data" "x" {}\n) }, qr/needs Terraform, and "terraform" is not in the PATH/)
  unless -x '/usr/bin/terraform' || -x '/bin/terraform';

my $version = $p->import('good', { 'main.tf' => qq(data "coder_parameter" "p" {\n  name = "p"\n  default = "d"\n}\n) });
is($version->{status}, 'succeeded', 'a good template is imported after all of them') or diag $version->{error};
done_testing();
