# What signin.test.mjs needs: dex where it is installed, else the double, which asks for no password; and a git host.
use strict;
use warnings FATAL => 'all';
use Coder::Dex;
use Coder::HttpDouble;
use Coder::OidcDouble;

return sub {
	my ($port) = @_;
	my $dex = Coder::Dex->start(gateway_port => $port);
	my $double = $dex ? undef : Coder::OidcDouble->start;
	my $host = Coder::HttpDouble->start(sub {
		my ($request) = @_;
		my ($path, $query) = @$request{qw(path query)};
		return (302, { Location => "$query->{redirect_uri}?code=c1&state=$query->{state}" }, '') if $path eq '/login/oauth/authorize';
		return (200, {}, { access_token => 'access-1' }) if $path eq '/login/oauth/access_token' && ($request->{form}{device_code} // 'dc1') eq 'dc1';
		return (200, {}, { device_code => 'dc1', user_code => 'WXYZ-1234', verification_uri => 'https://host.example/device', expires_in => 900, interval => 1 }) if $path eq '/device';
		return (200, {}, {}) if $path eq '/login/oauth/userinfo';
		return (404, {}, 'none');
	});
	my $oidc = $dex ? $dex->environment : { CODER_OIDC_ISSUER_URL => $double->url, CODER_OIDC_CLIENT_ID => 'coder', CODER_OIDC_CLIENT_SECRET => 'hush!:' };
	my $url = $host->url;
	return { keep => [ $dex, $double, $host ], env => { %$oidc, CODER_OIDC_SIGN_IN_TEXT => 'The provider', CODER_OIDC_USERNAME_FIELD => $dex ? 'name' : 'preferred_username',
			CODER_EXTERNAL_AUTH_0_ID => 'host', CODER_EXTERNAL_AUTH_0_TYPE => 'gitea', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'x',
			CODER_EXTERNAL_AUTH_0_AUTH_URL => "$url/login/oauth/authorize", CODER_EXTERNAL_AUTH_0_DISPLAY_NAME => 'Host',
			CODER_EXTERNAL_AUTH_1_ID => 'typed', CODER_EXTERNAL_AUTH_1_TYPE => 'gitea', CODER_EXTERNAL_AUTH_1_CLIENT_ID => 'id1', CODER_EXTERNAL_AUTH_1_DEVICE_FLOW => 'true',
			CODER_EXTERNAL_AUTH_1_AUTH_URL => "$url/login/oauth/authorize", CODER_EXTERNAL_AUTH_1_DEVICE_CODE_URL => "$url/device", CODER_EXTERNAL_AUTH_1_DISPLAY_NAME => 'Typed' } };
};
