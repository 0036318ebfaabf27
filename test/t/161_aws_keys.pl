# Without a configured key Bedrock is asked with the machine's own: of the instance, the container, a file or the environment;
# keys that end are followed by others, also in the middle of a turn.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use Coder::Model;
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;

my @keys = Coder::Model::AWS_KEYS;
my $model = Coder::Model->start;
my ($root) = $model->url =~ m{^(.*)/v1$};
my $home = tempdir(CLEANUP => 1);
my $chats = '/api/experimental/chats';

sub credentials
{
	my ($n, $seconds) = @_;
	my ($id, $secret, $token) = split /:/, $keys[$n];
	return { Code => 'Success', AccessKeyId => $id, SecretAccessKey => $secret, Token => $token, Expiration => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + $seconds)) };
}

my $service = Coder::HttpDouble->start(sub {
	my ($request, $mode) = @_;
	my $headers = $request->{headers};
	if ($request->{path} eq '/sts')
	{
		my $form = $request->{form};
		return (400, {}, 'no') unless $request->{method} eq 'POST' && $form->{Action} eq 'AssumeRoleWithWebIdentity' && $form->{RoleArn} eq 'arn:aws:iam::1:role/a b' && $form->{WebIdentityToken} eq 'the word';
		my $given = credentials(1, 3600);
		return (200, {}, { AssumeRoleWithWebIdentityResponse => { AssumeRoleWithWebIdentityResult => { Credentials => { %$given, SessionToken => delete $given->{Token}, Expiration => time + 3600.5 } } } });
	}
	if ($request->{path} eq '/container')
	{
		return (403, {}, 'no') if ($headers->{authorization} // '') ne 'the word';
		return (200, {}, credentials($mode->{key} // 0, 3600));
	}
	if ($request->{method} eq 'PUT')
	{
		return (400, {}, 'no') unless $request->{path} eq '/latest/api/token' && ($headers->{'x-aws-ec2-metadata-token-ttl-seconds'} // 0) > 0;
		return (200, {}, 'session of the instance');
	}
	return (401, {}, 'no') if ($headers->{'x-aws-ec2-metadata-token'} // '') ne 'session of the instance';
	return (200, {}, "the-role\n") if $request->{path} eq '/latest/meta-data/iam/security-credentials/';
	return (404, {}, 'no') if $request->{path} ne '/latest/meta-data/iam/security-credentials/the-role';
	return (200, {}, credentials($mode->{key} // 0, $mode->{seconds} // 3600));
});

delete @ENV{ grep { /^AWS_/ } keys %ENV };
my %always = (CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', HOME => $home);
my %instance = (AWS_EC2_METADATA_SERVICE_ENDPOINT => $service->url . '/');
$service->mode(seconds => 12);
my $server = Coder::Gateway->start(env => { %always, %instance });
my $owner = $server->first_user;
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my ($status, $provider) = $owner->post("$chats/providers", { provider => 'bedrock', base_url => $root });
is($status, 201, 'a provider without a key') or diag explain $provider;
is($provider->{has_api_key}, JSON::PP::false, 'has none');
my (undef, $config) = $owner->post("$chats/model-configs", { provider => 'bedrock', model => 'amazon.nova-test', context_limit => 8000 });
is($owner->get("$chats/models")->{providers}[0]{available}, JSON::PP::true, 'its models can be used');

sub ask { return ($owner->post($chats, { organization_id => $org, model_config_id => $config->{id}, content => [{ type => 'text', text => $_[0] }] }))[1]{id} }

sub ends
{
	my ($id, $wanted) = @_;
	my $chat;
	$server->wait_for(20, sub { $chat = $owner->get("$chats/$id"); $chat->{status} eq $wanted }) or diag explain $chat;
	return $chat;
}

sub asked { my ($said) = @_; return [map { $_->{authorization} } grep { $_->{said} eq $said } @{ $model->requests }] }

sub restart_with
{
	my (%env) = @_;
	$server->{env} = { %always, %env };
	$server->restart;
	return;
}

sub is_asked_with
{
	my ($what, $key, $region, $name) = @_;
	my $id = ask($what);
	ends($id, 'waiting');
	like(asked($what)->[-1], qr{^AWS4-HMAC-SHA256 Credential=$key/\d{8}/$region/bedrock/}, $name);
	return;
}

my ($first, $second, $third) = map { (split /:/)[0] } @keys;
is_asked_with('by the instance', $first, 'us-east-1', 'the role of the instance signs');

# its keys end in the middle of a turn
my $long = ask('once:503 after:4 it takes long');
$server->wait_for(10, sub { @{ asked('once:503 after:4 it takes long') } == 1 });
$service->mode(key => 1);
ends($long, 'waiting');
my @with = map { m{Credential=(\w+)/} } @{ asked('once:503 after:4 it takes long') };
is_deeply(\@with, [$first, $second], 'keys that end are followed by others while a turn runs');
$service->forget;
is_asked_with("and again $_", $second, 'us-east-1', 'and are kept') for 1 .. 3;
is(scalar(my @none = $service->requests), 0, 'for as long as they last');

open my $word, '>', "$home/word" or die;
print $word "the word\n";
close $word;
restart_with(AWS_CONTAINER_CREDENTIALS_FULL_URI => $service->url . '/container', AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE => "$home/word", AWS_REGION => 'eu-west-1', %instance);
$service->mode(key => 1);
is_asked_with('by the container', $second, 'eu-west-1', 'the service of the container is asked before that of the instance');
restart_with(AWS_CONTAINER_CREDENTIALS_FULL_URI => 'http://198.51.100.1/container', %instance);
like(ends(ask('by whom'), 'error')->{last_error}, qr/no API key for AWS Bedrock/i, 'a service elsewhere is not asked');

restart_with(AWS_WEB_IDENTITY_TOKEN_FILE => "$home/word", AWS_ROLE_ARN => 'arn:aws:iam::1:role/a b', AWS_ENDPOINT_URL_STS => $service->url . '/sts', %instance);
is_asked_with('by the pod', $second, 'us-east-1', 'the role of a pod');
mkdir "$home/.aws";
open my $file, '>', "$home/.aws/credentials" or die;
printf $file "# comment\n[default]\naws_access_key_id = %s\naws_secret_access_key=%s\naws_session_token = %s\n\n[other]\naws_access_key_id = %s\naws_secret_access_key = %s\n", split(/:/, $keys[0]), split /:/, $keys[2];
close $file;
open $file, '>', "$home/.aws/config" or die;
print $file "[default]\nregion = eu-north-1\n[profile other]\nregion = ap-south-1\n";
close $file;
restart_with(%instance);
is_asked_with('by the file', $first, 'eu-north-1', 'the shared file goes before services');
restart_with(AWS_PROFILE => 'other', %instance);
is_asked_with('by the profile', $third, 'ap-south-1', 'a profile that is named, with its region');
restart_with(AWS_PROFILE => 'missing', %instance);
like(ends(ask('by nobody'), 'error')->{last_error}, qr/no API key for AWS Bedrock/i, 'one that is not there is no other');
my ($id, $secret, $token) = split /:/, $keys[1];
restart_with(AWS_ACCESS_KEY_ID => $id, AWS_SECRET_ACCESS_KEY => $secret, AWS_SESSION_TOKEN => $token, %instance);
is_asked_with('by the environment', $second, 'eu-north-1', 'the environment goes first');

# a token that is sent as it is goes to AWS's own address, or the one that the environment names
restart_with(AWS_BEARER_TOKEN_BEDROCK => 'bearer-of-all', AWS_ENDPOINT_URL_BEDROCK_RUNTIME => $root);
is_asked_with('not a bearer', $first, 'eu-north-1', 'not to one that is configured here');
is(($owner->patch("$chats/providers/$provider->{id}", { base_url => '' }))[0], 200, 'without an address');
ends(ask('with a bearer'), 'waiting');
is(asked('with a bearer')->[-1], 'Bearer bearer-of-all', 'the token of the environment');

is(($owner->patch("$chats/providers/$provider->{id}", { central_api_key_enabled => JSON::PP::false, allow_user_api_key => JSON::PP::true }))[0], 200, 'where only users have keys');
like(ends(ask('without a key'), 'error')->{last_error}, qr/no API key for AWS Bedrock/i, 'the machine\'s are not used');
unlike($server->log, qr/sec\/ret|bearer-of-all|session of the instance/, 'no secret is in the log');
done_testing();
