# Coder::McpServer -- a server of the Model Context Protocol for tests, with its own authorization server, which may be made to misbehave.
#
#	my $mcp = Coder::McpServer->start;
#	$mcp->url . '/mcp'		# streamable HTTP;  /sse: the older transport
#	$mcp->mode(oauth => 1, events => 1);
#
# Mode: oauth (a token is needed), need => { header => value }, events (answers of POST are streams), resource, discovery
# (members of the metadata), paged (a tool a page), tools (names, instead of all), lose (sessions are forgotten at the next call), expires_in, refuse (refresh), basic (the
# client's secret in a header only), slow_token (seconds), hang, huge, fail, garbage, redirect (a path), endpoint (that /sse names).
#
# Tools: echo {text}, picture, structured, broken (an error of its own), slow {ms}, whoami, progress {ms}, "strange name!", large, link.
#
# SPDX-License-Identifier: MIT
package Coder::McpServer;

use strict;
use warnings FATAL => 'all';
use parent 'Coder::HttpDouble';
use Digest::SHA qw(sha256);
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64 decode_base64url encode_base64url);
use Time::HiRes qw(sleep time);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub start
{
	my ($class, %args) = @_;
	my $dir = tempdir('coder-mcp-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = $class->SUPER::start(sub { return respond($dir, @_) }, %args);
	$self->{spool} = $dir;
	return $self;
}

# How often something was counted: refresh, session, closed, cancelled, call.
sub count { my ($self, $what) = @_; return -s "$self->{spool}/$what" // 0 }

sub note
{
	my ($dir, $what) = @_;
	open my $file, '>>', "$dir/$what" or die $!;
	syswrite $file, 'x';
	return -s $file;
}

sub merged
{
	my %all = map { %{ $_ // {} } } @_;
	delete @all{ grep { !defined $all{$_} } keys %all };
	return \%all;
}

sub respond
{
	my ($dir, $request, $mode, $client) = @_;
	my $url = "http://$request->{headers}{host}";
	my ($path, $method) = @$request{qw(path method)};

	if (($mode->{hang} // '') eq $path) { sysread $client, my $byte, 1; return }
	return (200, { 'Content-Type' => 'application/json' }, '{"a": "' . 'x' x 20_000_000 . '"}') if ($mode->{huge} // '') eq $path;
	return (200, { 'Content-Type' => 'application/json' }, '{"jsonrpc": "2.0", "id": [') if ($mode->{garbage} // '') eq $path;
	return (500, {}, 'broken') if ($mode->{fail} // '') eq $path;
	return (302, { Location => 'http://127.0.0.1:1/' }, '') if ($mode->{redirect} // '') eq $path;
	return (200, {}, merged({ resource => "$url/mcp", authorization_servers => [$url], scopes_supported => ['read', 'write'] }, $mode->{resource}))
	  if $path eq '/.well-known/oauth-protected-resource/mcp' && !$mode->{no_resource};
	return (200, {}, merged({ resource => "$url/mcp", authorization_servers => [$url] }, $mode->{resource})) if $path eq '/elsewhere';
	return (200, {}, merged({ issuer => $url, authorization_endpoint => "$url/authorize", token_endpoint => "$url/token", registration_endpoint => "$url/register",
			revocation_endpoint => "$url/revoke", code_challenge_methods_supported => ['S256'] }, $mode->{discovery}))
	  if $path eq '/.well-known/oauth-authorization-server' && !$mode->{no_issuer};
	return (201, {}, merged({ client_id => 'client-1', client_name => 'x' }, $mode->{client})) if $path eq '/register' && $method eq 'POST';
	if ($path eq '/authorize')
	{
		my $query = $request->{query};
		return (302, { Location => "$query->{redirect_uri}?code=" . encode_base64url($json->encode($query)) . "&state=$query->{state}" }, '');
	}
	return token($dir, $request, $mode) if $path eq '/token';
	if ($path eq '/revoke') { note($dir, 'revoked'); return (200, {}, '') }
	if ($path eq '/mcp' || $path eq '/sse' || $path eq '/message')
	{
		my $authorization = $request->{headers}{authorization} // '';
		return (401, { 'WWW-Authenticate' => "Bearer resource_metadata=\"" . ($mode->{named} // "$url/.well-known/oauth-protected-resource/mcp") . '"' }, '')
		  if $mode->{oauth} && $authorization !~ /^Bearer at-/ || $mode->{only} && $authorization ne "Bearer $mode->{only}";
		for my $name (sort keys %{ $mode->{need} // {} }) { return (403, {}, 'no') if ($request->{headers}{ lc $name } // '') ne $mode->{need}{$name} }
	}
	return streamable($dir, $request, $mode, $client) if $path eq '/mcp';
	return sse_stream($dir, $request, $mode, $client) if $path eq '/sse' && $method eq 'GET';
	return sse_message($dir, $request, $mode, $client) if $path eq '/message' && $method eq 'POST';
	return (404, {}, 'none');
}

sub token
{
	my ($dir, $request, $mode) = @_;
	my $form = $request->{form};
	my ($basic) = ($request->{headers}{authorization} // '') =~ /^Basic (.*)/;

	sleep $mode->{slow_token} if $mode->{slow_token};
	return (401, {}, { error => 'invalid_client' }) if $mode->{basic} && decode_base64($basic // '') ne $mode->{basic};
	if ($form->{grant_type} eq 'refresh_token')
	{
		my $n = note($dir, 'refresh');
		return (400, {}, { error => 'invalid_grant' }) if $mode->{refuse};
		return (200, {}, { access_token => "at-refreshed-$n", token_type => 'bearer', expires_in => $mode->{expires_in} // 3600, refresh_token => "rt-$n" });
	}
	my $asked = eval { $json->decode(decode_base64url($form->{code})) } // {};
	return (400, {}, { error => 'invalid_grant' }) if ($asked->{code_challenge} // '') ne encode_base64url(sha256($form->{code_verifier} // ''));
	return (400, {}, { error => 'invalid_grant' }) if ($asked->{redirect_uri} // '') ne ($form->{redirect_uri} // '-');
	return (200, {}, merged({ access_token => 'at-first', token_type => 'Bearer', expires_in => $mode->{expires_in} // 3600, refresh_token => 'rt-first' }, $mode->{token}));
}

# ---- the protocol ----

my @tools = (
	{ name => 'echo', description => 'Says it again.', inputSchema => { type => 'object', properties => { text => { type => 'string' } }, required => ['text'] } },
	{ name => 'picture', inputSchema => { type => 'object' } },
	{ name => 'structured', description => 'An object.', inputSchema => { type => 'object', properties => {} } },
	{ name => 'broken', inputSchema => { type => 'object' } },
	{ name => 'slow', inputSchema => { type => 'object', properties => { ms => { type => 'integer' } } } },
	{ name => 'progress', inputSchema => { type => 'object', properties => { ms => { type => 'integer' } } } },
	{ name => 'whoami', inputSchema => { type => 'object' } },
	{ name => 'strange name!', inputSchema => { type => 'object' } },
	{ name => 'large', inputSchema => { type => 'object' } },
	{ name => 'link', inputSchema => { type => 'object' } });

sub tools_page
{
	my ($mode, $cursor) = @_;
	my @all = $mode->{tools} ? grep { my $t = $_; grep { $_ eq $t->{name} } @{ $mode->{tools} } } @tools : @tools;

	return { tools => \@all, nextCursor => 'again' } if $mode->{endless};
	return { tools => \@all } unless $mode->{paged};
	my $n = $cursor // 0;
	return { tools => [ $all[$n] ], $n < $#all ? (nextCursor => '' . ($n + 1)) : () };
}

# The result of a tool, or undef and an error; tell sends a notification before.
sub call
{
	my ($dir, $request, $params, $tell) = @_;
	my ($name, $args) = @$params{qw(name arguments)};
	my $text = sub { return { content => [ { type => 'text', text => $_[0] } ] } };

	note($dir, 'call');
	return $text->($args->{text}) if $name eq 'echo';
	return { content => [ { type => 'image', data => "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", mimeType => 'image/png' } ] } if $name eq 'picture';
	return { content => [], structuredContent => { answer => 42 } } if $name eq 'structured';
	return { content => [ { type => 'text', text => 'it broke' } ], isError => JSON::PP::true } if $name eq 'broken';
	return $text->('x' x 3_000_000) if $name eq 'large';
	return { content => [ { type => 'resource_link', uri => 'file:///a', name => 'A' }, { type => 'resource', resource => { uri => 'file:///b', text => 'inside' } } ] } if $name eq 'link';
	return $text->(join ' ', map { "$_=" . ($request->{headers}{$_} // '-') } qw(authorization x-api-key x-team mcp-session-id mcp-protocol-version)) if $name eq 'whoami';
	return $text->('strange') if $name eq 'strange name!';
	if ($name eq 'slow') { sleep($args->{ms} / 1000); note($dir, 'slow_done'); return $text->("slept $args->{ms}") }
	if ($name eq 'progress')
	{
		for my $i (1 .. 4)
		{
			sleep($args->{ms} / 4000);
			$tell->({ jsonrpc => '2.0', method => 'notifications/progress', params => { progressToken => $params->{_meta}{progressToken}, progress => $i, total => 4 } });
		}
		return $text->('there');
	}
	return (undef, { code => -32602, message => "Unknown tool: $name" });
}

# The answer of a message: undef where it wants none.
sub answer_of
{
	my ($dir, $request, $mode, $message, $tell) = @_;
	my ($id, $method, $params) = @$message{qw(id method params)};

	note($dir, 'cancelled') if ($method // '') eq 'notifications/cancelled';
	note($dir, 'initialized') if ($method // '') eq 'notifications/initialized';
	note($dir, 'pong') if !defined $method;
	return undef unless defined $id && defined $method;
	my ($result, $error);
	if ($method eq 'initialize')
	{
		$result = { protocolVersion => $mode->{version} // '2025-06-18', capabilities => { tools => {} }, serverInfo => { name => 'double', version => '1' } };
	}
	elsif ($method eq 'tools/list') { $result = tools_page($mode, $params->{cursor}) }
	elsif ($method eq 'tools/call') { ($result, $error) = call($dir, $request, $params, $tell) }
	else { $error = { code => -32601, message => 'Method not found' } }
	return { jsonrpc => '2.0', id => $id, $error ? (error => $error) : (result => $result) };
}

sub event { my ($value) = @_; return "event: message\ndata: " . $json->encode($value) . "\n\n" }

sub send_all
{
	my ($client, $text) = @_;
	while (length $text) { my $n = syswrite($client, $text) // return 0; substr($text, 0, $n) = '' }
	return 1;
}

sub streamable
{
	my ($dir, $request, $mode, $client) = @_;
	my $session = $request->{headers}{'mcp-session-id'};

	if ($request->{method} eq 'DELETE') { note($dir, 'closed'); return (200, {}, '') }
	return (405, {}, '') if $request->{method} ne 'POST';
	my $message = $json->decode($request->{body});
	my %headers;
	if (($message->{method} // '') eq 'initialize') { $headers{'Mcp-Session-Id'} = 'session-' . note($dir, 'session') }
	elsif (!$session || -e "$dir/lost-$session") { return ($session ? 404 : 400, {}, 'no session') }
	elsif ($mode->{lose} && ($message->{method} // '') eq 'tools/call' && $session eq 'session-' . ($mode->{lose} // ''))
	{
		open my $lost, '>', "$dir/lost-$session";
		return (404, {}, 'the session is gone');
	}
	if ($mode->{events})
	{
		my $begun;
		my $tell = sub {
			send_all($client, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n" . join('', map { "$_: $headers{$_}\r\n" } keys %headers) . "\r\n") unless $begun++;
			send_all($client, ref $_[0] ? event($_[0]) : $_[0]);
		};
		my $answer = answer_of($dir, $request, $mode, $message, $tell);
		return (202, \%headers, '') unless $answer;
		$tell->(": a comment\n\n");
		$tell->({ jsonrpc => '2.0', id => 'ping-1', method => 'ping' });
		$tell->($mode->{cut} && $message->{method} eq 'tools/call' ? "data: {\"jsonrpc\": \"2.0\", \"id\"" : $answer);
		return;
	}
	my $answer = answer_of($dir, $request, $mode, $message, sub { });
	return $answer ? (200, \%headers, $answer) : (202, \%headers, '');
}

# The older transport: answers come on the stream that is open.
sub sse_stream
{
	my ($dir, $request, $mode, $client) = @_;
	my $session = note($dir, 'session');
	my $at = 0;

	send_all($client, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: endpoint\ndata: " . ($mode->{endpoint} // "/message?session=$session") . "\n\n");
	my $end = time + 60;
	while (time < $end)
	{
		my $readable = '';
		vec($readable, fileno $client, 1) = 1;
		if (select($readable, undef, undef, 0.01)) { last unless sysread $client, my $byte, 1 }
		while (-e "$dir/spool-$session." . ($at + 1))
		{
			$at++;
			open my $file, '<', "$dir/spool-$session.$at" or die $!;
			local $/;
			send_all($client, scalar <$file>) or return;
		}
	}
	note($dir, 'closed');
	return;
}

sub sse_message
{
	my ($dir, $request, $mode, $client) = @_;
	my $session = $request->{query}{session};
	my $push = sub {
		my $n = note($dir, "count-$session");
		open my $file, '>', "$dir/new-$session.$n" or die $!;
		print $file event($_[0]);
		close $file;
		rename "$dir/new-$session.$n", "$dir/spool-$session.$n" or die $!;
	};
	my $message = $json->decode($request->{body});

	send_all($client, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	shutdown $client, 1;
	my $answer = answer_of($dir, $request, $mode, $message, $push);
	$push->($answer) if $answer;
	return;
}

1;
