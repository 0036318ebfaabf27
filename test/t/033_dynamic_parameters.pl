# The form of a template's parameters is evaluated anew for each message, on one WebSocket.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use JSON::PP ();
use Test::More;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir));
my $p = Coder::Provisioning->new($gateway);
my $version = $p->import('form', { 'main.tf' => <<'TF' });
data "coder_workspace_owner" "me" {}
data "coder_parameter" "count" {
  name    = "count"
  type    = "number"
  default = 2
  order   = 1
  validation {
    min = 1
    max = 5
  }
}
data "coder_parameter" "pick" {
  name    = "pick"
  order   = 2
  default = "v0"
  dynamic "option" {
    for_each = range(data.coder_parameter.count.value)
    content {
      name  = "${data.coder_workspace_owner.me.name} ${option.value}"
      value = "v${option.value}"
    }
  }
}
data "coder_parameter" "more" {
  count   = data.coder_parameter.count.value > 3 ? 1 : 0
  name    = "more"
  order   = 3
}
TF
is($version->{status}, 'succeeded', 'the template is imported') or diag $version->{error};

my $ws = Coder::WebSocket->open($gateway->{url}, "/api/v2/templateversions/$version->{id}/dynamic-parameters", token => $gateway->{token});
ok($ws, 'the WebSocket opens') or diag $@;

sub next_form
{
	my ($opcode, $text) = $ws->frame(10);
	return JSON::PP->new->utf8->decode($text);
}
sub of { my ($form, $name) = @_; my ($found) = grep { $_->{name} eq $name } @{ $form->{parameters} }; return $found }

my $form = next_form();
is($form->{id}, -1, 'the first form comes unasked');
is_deeply([ map { $_->{name} } @{ $form->{parameters} } ], [ 'count', 'pick' ], 'parameters in their order');
is(of($form, 'count')->{value}{value}, '2', 'with their defaults');
is_deeply([ map { $_->{name} } @{ of($form, 'pick')->{options} } ], [ 'admin 0', 'admin 1' ], 'options that depend on others');

$ws->send_frame(1, JSON::PP::encode_json({ id => 7, inputs => { count => '4', pick => 'v3' } }));
$form = next_form();
is($form->{id}, 7, 'an answer has the id of its question');
is(scalar @{ of($form, 'pick')->{options} }, 4, 'the options follow the input');
is_deeply(of($form, 'pick')->{diagnostics}, [], 'and the value is one of them');
is(of($form, 'more')->{diagnostics}[0]{extra}{code}, 'required', 'a parameter that appears is required');

$ws->send_frame(1, JSON::PP::encode_json({ id => 8, inputs => { count => '9', pick => 'x' } }));
$form = next_form();
like(of($form, 'count')->{diagnostics}[0]{detail}, qr/9 is more than the maximum 5/, 'a bad value is said');
like(of($form, 'pick')->{diagnostics}[0]{detail}, qr/none of the options/, 'each where it belongs');

# The same, as one request.
my $evaluate = "/api/v2/templateversions/$version->{id}/dynamic-parameters/evaluate";
(my $status, $form) = $p->{client}->post($evaluate, { id => 9, inputs => { count => '4', pick => 'v3' } });
is("$status $form->{id}", '200 0', 'a request is answered with id 0');
is_deeply([ map { $_->{name} } @{ $form->{parameters} } ], [qw(count pick more)], 'evaluated');
is(scalar @{ of($form, 'pick')->{options} }, 4, 'with its inputs');
is_deeply(of($form, 'pick')->{diagnostics}, [], 'of which each is judged');
($status, $form) = $p->{client}->post($evaluate, { inputs => {} });
is_deeply([ map { $_->{name} } @{ of($form, 'pick')->{options} } ], [ 'admin 0', 'admin 1' ], 'for the caller, who is the owner');
($status, $form) = $p->{client}->post($evaluate, { inputs => {}, owner_id => '0a0b0c0d-0e0f-4101-9213-141516171819' });
is("$status $form->{diagnostics}[0]{extra}{code}", '200 owner_not_found', 'an owner who is not there');
is($form->{parameters}, undef, 'has no form');
is(($p->{client}->post($evaluate, { inputs => [] }))[0], 400, 'inputs that are no object');

$ws->send_frame(1, '[1]');
my ($opcode, $payload) = $ws->frame(10);
is($opcode, 8, 'what is no object closes the WebSocket');
done_testing();
