# Sign-in with a real OpenID Connect provider: dex, where there is one (CODER_TEST_DEX, or "dex" in the path).
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Dex;
use Coder::Gateway;
use Test::More;

my $dex = Coder::Dex->start(gateway_port => my $gateway_port = Coder::Gateway::free_port());
plan skip_all => 'there is no dex' unless $dex;
my $issuer = $dex->{issuer};
my $gateway = Coder::Gateway->start(port => $gateway_port, env => { CODER_EVENT_LOOPS => 1, %{ $dex->environment }, CODER_OIDC_SCOPES => 'openid,profile,email,groups,offline_access', CODER_OIDC_USERNAME_FIELD => 'name' });
END { diag $gateway->log if $gateway && !Test::More->builder->is_passing }
my $browser = Coder::Browser->new(url => $gateway->url);
ok($gateway->wait_for(10, sub { ($browser->get("$issuer/.well-known/openid-configuration"))[0] == 200 }), 'dex answers') or diag $dex->log;

# As a person does: the button, the form of dex, and back.
sub sign_in
{
	my ($who, $login, $password) = @_;
	my ($status, $page, $headers) = $who->follow('/api/v2/users/oidc/callback?redirect=/templates', 5);
	is($status, 200, "$login sees the form of dex") or diag explain $page;
	my ($action) = $page =~ /<form[^>]*action="([^"]+)"/;
	$action =~ s/&amp;/&/g;
	($status, $page, $headers) = $who->post(Coder::Browser::site($issuer) . $action, 'login=' . $login =~ s/@/%40/r . '&password=' . $password =~ s/ /+/r,
		'Content-Type' => 'application/x-www-form-urlencoded');
	return ($status, $page, $headers) unless $status =~ /^30/;
	return $who->follow($headers->{location} =~ m{^/} ? Coder::Browser::site($issuer) . $headers->{location} : $headers->{location}, 5, qr{/templates$});
}

my ($status, undef, $headers) = sign_in($browser, 'dora@example.com', 'wrong');
isnt($status, 307, 'a wrong password does not sign in');
ok(!defined $browser->cookie('coder_session_token'), 'no session');
($status, undef, $headers) = sign_in($browser, 'dora@example.com', 'correct horse');
is_deeply([ $status, $headers->{location} ], [ 307, '/templates' ], 'the right one does');
my $me = ($browser->get('/api/v2/users/me'))[1];
is_deeply([ @$me{qw(username email login_type)}, $me->{roles}[0]{name} ], [qw(dora dora@example.com oidc owner)], 'the first account');
my $second = Coder::Browser->new(url => $gateway->url);
is((sign_in($second, 'boots@example.com', 'correct horse'))[0], 307, 'another person');
is(($second->get('/api/v2/users/me'))[1]{username}, 'boots', 'has an account too');
is((sign_in($second, 'dora@example.com', 'correct horse'))[0], 307, 'the first one again');
is(($second->get('/api/v2/users/me'))[1]{id}, $me->{id}, 'is the same account');
is($gateway->sql(q{SELECT count(*) FROM coder.user_links WHERE oauth_refresh_token <> ''}), 2, 'with refresh tokens');

done_testing;
