# Towards an OpenID Connect provider this server may prove itself with a key and its certificate instead of a secret.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::OidcDouble;
use Digest::SHA qw(sha1);
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64url);
use Test::More;

my $dir = tempdir('coder-key-XXXXXX', TMPDIR => 1, CLEANUP => 1);
sub openssl { system("cd $dir && openssl $_[0] > /dev/null 2>&1") == 0 or die "openssl $_[0]"; return }
for my $name (qw(mine other))
{
	openssl("req -x509 -newkey rsa:2048 -nodes -keyout $name.key -out $name.crt -subj /CN=coder -days 2");
}
openssl('pkey -in mine.key -pubout -out mine.pub');
openssl('x509 -in mine.crt -outform DER -out mine.der');
openssl('genpkey -algorithm ed25519 -out ed.key');
openssl('req -x509 -key ed.key -out ed.crt -subj /CN=coder -days 2');
openssl('genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key');
open my $fh, '<:raw', "$dir/mine.der" or die $!;
my $x5t = encode_base64url(sha1(do { local $/; <$fh> }));
my %key = map { $_ => { CODER_OIDC_CLIENT_KEY_FILE => "$dir/$_.key", CODER_OIDC_CLIENT_CERT_FILE => "$dir/$_.crt" } } qw(mine other ed);

# What is no key and certificate is said at once, and the server does not start.
my $server = Coder::Gateway::program();
sub refused
{
	my ($what, $want, %env) = @_;
	local %ENV = (%ENV, %env, CODER_OIDC_ISSUER_URL => 'https://idp.example', CODER_OIDC_CLIENT_ID => 'coder', CODER_CONFIG_DIR => "$dir/none", CODER_HTTP_ADDRESS => '127.0.0.1:0');
	my $out = `timeout 20 $server 2>&1 < /dev/null`;

	isnt($? >> 8, 0, "$what: no start");
	like($out, $want, "$what: and why");
	unlike($out, qr/PRIVATE/, "$what: nothing of the key");
	return;
}
refused('a key without its certificate', qr/CERT_FILE/, CODER_OIDC_CLIENT_KEY_FILE => "$dir/mine.key");
refused('a key and a secret', qr/without CODER_OIDC_CLIENT_SECRET/, %{ $key{mine} }, CODER_OIDC_CLIENT_SECRET => 'x');
refused('another key\'s certificate', qr/is not the certificate/, %{ $key{mine} }, CODER_OIDC_CLIENT_CERT_FILE => "$dir/other.crt");
refused('no RSA key', qr/no RSA key/, %{ $key{ed} });
refused('a weak key', qr/no RSA key/, %{ $key{mine} }, CODER_OIDC_CLIENT_KEY_FILE => "$dir/weak.key");
refused('a file that is not there', qr/KEY_FILE cannot be read/, %{ $key{mine} }, CODER_OIDC_CLIENT_KEY_FILE => "$dir/none.key");
refused('no certificate', qr/no certificate/, %{ $key{mine} }, CODER_OIDC_CLIENT_CERT_FILE => "$dir/mine.key");

my $idp = Coder::OidcDouble->start;
my %base = (CODER_EVENT_LOOPS => 1, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_OIDC_ISSUER_URL => $idp->url, CODER_OIDC_CLIENT_ID => 'coder');
my $gateway = Coder::Gateway->start(env => { %base, %{ $key{mine} } });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }

sub sign_in
{
	my $browser = Coder::Browser->new(url => $gateway->url);
	my ($status, $body) = $browser->follow('/api/v2/users/oidc/callback', 2);
	return ($status, $body, $browser);
}

$idp->mode(client_key => "$dir/mine.pub", x5t => $x5t, expires_in => 1);
my ($status, $body, $browser) = sign_in();
is($status, 307, 'the provider knows the key') or diag explain($body);
is(($browser->get('/api/v2/users/me'))[1]{username}, 'dora', 'and who signed in is in');
my @asked = grep { $_->{path} eq '/token' } $idp->requests;
is(scalar @asked, 1, 'asked once');
my %claims = map { $_ => $asked[0]{form}{$_} // '' } qw(grant_type client_id redirect_uri);
is_deeply(\%claims, { grant_type => 'authorization_code', client_id => 'coder', redirect_uri => $gateway->url . '/api/v2/users/oidc/callback' }, 'for what is asked with a secret');
ok(!defined $asked[0]{headers}{authorization}, 'without one');
my $deadline = time + 10;
my ($again) = ($browser->get('/api/v2/users/me'))[0];
while (time < $deadline && !(@asked = grep { $_->{path} eq '/token' && $_->{form}{grant_type} eq 'refresh_token' } $idp->requests))
{
	select undef, undef, undef, 0.2;
	($again) = ($browser->get('/api/v2/users/me'))[0];
}
is($again, 200, 'a session goes on when the provider\'s token is over');
ok(@asked && $asked[0]{form}{client_assertion}, 'which is renewed with the key, too');
my %all;
$all{ $_->{form}{client_assertion} }++ for grep { $_->{path} eq '/token' } $idp->requests;
is_deeply([ grep { $all{$_} > 1 } keys %all ], [], 'no proof is used twice');
is($gateway->sql(q{SELECT count(*) FROM coder.settings s WHERE s.value ~ 'PRIVATE'}), 0, 'no table holds the key');
unlike($gateway->log, qr/PRIVATE|client_assertion/, 'nor does the log');
$idp->mode(client_key => "$dir/mine.pub", x5t => 'another');
($status, $body) = sign_in();
is($status, 500, 'a provider that does not know the certificate refuses');
$gateway->stop;
undef $gateway;

$gateway = Coder::Gateway->start(env => { %base, %{ $key{other} } });
$idp->mode(client_key => "$dir/mine.pub", x5t => $x5t);
($status, $body) = sign_in();
is($status, 500, 'so does one that knows another key');
$gateway->stop;
undef $gateway;
done_testing();
