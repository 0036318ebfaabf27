# What mcp.test.mjs needs: the experiment, a model and an MCP server that wants users to sign in.
use strict;
use warnings FATAL => 'all';
use Coder::McpServer;
use Coder::Model;

return sub {
	my $mcp = Coder::McpServer->start;
	my $model = Coder::Model->start;
	$mcp->mode(oauth => 1);
	@ENV{qw(MCP_URL MODEL_URL)} = ($mcp->url, $model->url);
	return { env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' }, alive => [ $mcp, $model ] };
};
