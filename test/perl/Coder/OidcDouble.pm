# Coder::OidcDouble -- an OpenID Connect provider of the tests, which may be made to misbehave.
#
#	my $idp = Coder::OidcDouble->start;
#	$idp->mode(claims => { email => 'x@example.com' }, token => { iss => 'https://evil.example' });
#
# Mode: claims (of the user, in both places), token (of the ID token only; null takes one away), info (of UserInfo only),
# alg (RS256, ES256, EdDSA, HS256, none), key (one of the provider's, "spare" is not published), published (their names),
# kid, raw (an ID token as it is), discovery (members), hang, huge and fail (a path), no_id_token, refresh; client_key, x5t
# (a public key and its certificate's name: the client proves itself with it, not with its secret).
#
# SPDX-License-Identifier: MIT
package Coder::OidcDouble;

use strict;
use warnings FATAL => 'all';
use parent 'Coder::HttpDouble';
use Digest::SHA qw(sha256 hmac_sha256);
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64url decode_base64);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my %kinds = (RS256 => 'RSA -pkeyopt rsa_keygen_bits:2048', ES256 => 'EC -pkeyopt ec_paramgen_curve:P-256', EdDSA => 'ed25519');

sub start
{
	my ($class, %args) = @_;
	my $dir = tempdir('coder-idp-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %keys = (rs => 'RS256', es => 'ES256', ed => 'EdDSA', next => 'RS256', spare => 'RS256');

	for my $name (sort keys %keys)
	{
		system("openssl genpkey -algorithm $kinds{$keys{$name}} -out $dir/$name.pem 2> /dev/null") == 0 or die 'openssl genpkey';
		$keys{$name} = { alg => $keys{$name}, file => "$dir/$name.pem", jwk => jwk($name, $keys{$name}, "$dir/$name.pem") };
	}
	my $self;
	$self = $class->SUPER::start(sub { my ($request, $mode, $client) = @_; return respond(\%keys, $dir, $request, $mode, $client) }, %args);
	$self->{keys_dir} = $dir;
	return $self;
}

# The public half as a JSON Web Key.
sub jwk
{
	my ($name, $alg, $file) = @_;
	my $der = `openssl pkey -in $file -pubout -outform DER`;
	my %jwk = (kid => $name, use => 'sig', alg => $alg);

	if ($alg eq 'RS256')
	{
		my ($n) = `openssl rsa -in $file -modulus -noout` =~ /=([0-9A-F]+)/;
		return { %jwk, kty => 'RSA', n => encode_base64url(pack 'H*', $n), e => 'AQAB' };
	}
	return { %jwk, kty => 'EC', crv => 'P-256', x => encode_base64url(substr $der, -64, 32), y => encode_base64url(substr $der, -32) } if $alg eq 'ES256';
	return { %jwk, kty => 'OKP', crv => 'Ed25519', x => encode_base64url(substr $der, -32) };
}

# The R and S of a signature in DER, of 32 bytes each.
sub raw_signature
{
	my ($der) = @_;
	my $raw = '';
	my $at = 2;

	for (1 .. 2)
	{
		my $len = ord substr $der, $at + 1, 1;
		my $number = substr $der, $at + 2, $len;
		$number =~ s/^\0+//;
		$raw .= "\0" x (32 - length $number) . $number;
		$at += 2 + $len;
	}
	return $raw;
}

sub sign
{
	my ($dir, $key, $alg, $text) = @_;
	my $file = "$dir/in.$$";

	return '' if $alg eq 'none';
	return hmac_sha256($text, scalar `openssl pkey -in $key->{file} -pubout`) if $alg eq 'HS256';
	open my $out, '>', $file or die $!;
	print $out $text;
	close $out;
	my $signature = $alg eq 'EdDSA' ? `openssl pkeyutl -sign -inkey $key->{file} -rawin -in $file` : `openssl dgst -sha256 -sign $key->{file} $file`;
	unlink $file;
	return $alg eq 'ES256' ? raw_signature($signature) : $signature;
}

sub merged
{
	my %all = map { %{ $_ // {} } } @_;
	delete @all{ grep { !defined $all{$_} } keys %all };
	return \%all;
}

sub id_token
{
	my ($keys, $dir, $mode, $claims) = @_;
	my $alg = $mode->{alg} // 'RS256';
	my ($name) = $mode->{key} // grep { $keys->{$_}{alg} eq $alg && $_ !~ /next|spare/ } sort keys %$keys;
	my $key = $keys->{ $name // 'rs' };
	my $text = join '.', map { encode_base64url($json->encode($_)) } { alg => $alg, kid => $mode->{kid} // $name // 'rs' }, $claims;

	return $mode->{raw} // $text . '.' . encode_base64url(sign($dir, $key, $alg, $text));
}

# Does a form prove that it comes from the client whose public key is in the file of the mode "client_key"?
sub assertion_ok
{
	local $SIG{CHLD} = 'DEFAULT'; # openssl is waited for
	my ($dir, $mode, $form, $audience) = @_;
	my ($head, $claims, $signature) = split /\./, $form->{client_assertion} // '';
	my ($h, $c) = map { eval { $json->decode(decode_base64url($_)) } } $head // '', $claims // '';

	return 0 if !$h || !$c || defined $form->{client_secret} || ($form->{client_assertion_type} // '') ne 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
	write_file("$dir/assertion", "$head.$claims");
	write_file("$dir/assertion.sig", decode_base64url($signature // ''));
	return $h->{alg} eq 'RS256' && $h->{x5t} eq $mode->{x5t} && $c->{iss} eq 'coder' && $c->{sub} eq 'coder' && $c->{aud} eq $audience
	  && $c->{exp} > time && $c->{exp} <= time + 300 && $c->{nbf} <= time && length $c->{jti} == 36 && $form->{client_id} eq 'coder'
	  && system("openssl dgst -sha256 -verify $mode->{client_key} -signature $dir/assertion.sig $dir/assertion > /dev/null 2>&1") == 0;
}

sub write_file
{
	my ($name, $bytes) = @_;
	open my $fh, '>:raw', $name or die "$name: $!";
	print $fh $bytes;
	close $fh or die "$name: $!";
	return;
}

sub respond
{
	my ($keys, $dir, $request, $mode, $client) = @_;
	my $url = "http://$request->{headers}{host}";
	my ($path, $query) = @$request{qw(path query)};

	if (($mode->{hang} // '') eq $path) { sysread $client, my $byte, 1; return }
	return (200, {}, '{"keys": [' . join(',', map { "{\"kid\": \"$_\", \"kty\": \"RSA\", \"n\": \"" . 'A' x 700 . '"}' } 1 .. 4000) . ']}') if ($mode->{huge} // '') eq $path;
	return (500, {}, 'broken') if ($mode->{fail} // '') eq $path;
	if ($path eq '/.well-known/openid-configuration')
	{
		return (200, {}, merged({ issuer => $url, authorization_endpoint => "$url/auth", token_endpoint => "$url/token", jwks_uri => "$url/keys",
			userinfo_endpoint => "$url/userinfo", code_challenge_methods_supported => ['S256'], response_types_supported => ['code'],
			id_token_signing_alg_values_supported => [qw(RS256 ES256 EdDSA)] }, $mode->{discovery}));
	}
	if ($path eq '/auth')
	{
		my $back = $query->{redirect_uri} . '?code=' . encode_base64url($json->encode($query)) . "&state=$query->{state}";
		return (302, { Location => $back }, '');
	}
	return (200, {}, { keys => [ map { $keys->{$_}{jwk} } @{ $mode->{published} // [qw(rs es ed)] } ] }) if $path eq '/keys';
	my $user = merged({ sub => 'u1', email => 'dora@example.com', email_verified => JSON::PP::true, preferred_username => 'dora', name => 'Dora' }, $mode->{claims});
	if ($path eq '/token')
	{
		my $form = $request->{form};
		my $asked = $form->{grant_type} eq 'refresh_token' ? {} : eval { $json->decode(decode_base64url($form->{code})) } // {};
		my ($basic) = ($request->{headers}{authorization} // '') =~ /^Basic (.*)/;
		return (401, {}, { error => 'invalid_client' })
		  if $mode->{client_key} ? !assertion_ok($dir, $mode, $form, "$url/token") : decode_base64($basic // '') ne 'coder:hush%21%3A';
		return (400, {}, { error => 'invalid_grant', error_description => 'PKCE' })
		  if $asked->{code_challenge} && $asked->{code_challenge} ne encode_base64url(sha256($form->{code_verifier} // ''));
		my $claims = merged($user, { iss => $url, aud => 'coder', nonce => $asked->{nonce}, iat => time, exp => time + 300 }, $mode->{token});
		return (200, {}, { access_token => "access-$$", token_type => 'Bearer', expires_in => $mode->{expires_in} // 3600, refresh_token => $mode->{refresh} // 'refresh-1',
			$mode->{no_id_token} ? () : (id_token => id_token($keys, $dir, $mode, $claims)) });
	}
	return (200, {}, merged($user, $mode->{info})) if $path eq '/userinfo' && ($request->{headers}{authorization} // '') =~ /^Bearer access-/;
	return (404, {}, 'none');
}

1;
