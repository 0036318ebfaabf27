# What panel.test.mjs needs: the experiment, a model, and a git server that knows one pull request.
use strict;
use warnings FATAL => 'all';
use Coder::HttpDouble;
use Coder::Model;

return sub {
	my $model = Coder::Model->start;
	my $pull = { number => 7, state => 'open', title => 'Add maps', html_url => 'https://hub.example/maps/app/pull/7', additions => 1, deletions => 0, changed_files => 1, commits => 1,
		user => { login => 'dora' }, base => { ref => 'main' }, head => { ref => 'feature' } };
	my $host = Coder::HttpDouble->start(sub {
		my ($request) = @_;
		my ($path, $diff) = ($request->{path}, ($request->{headers}{accept} // '') =~ /diff/);
		return (200, {}, "diff --git a/map.txt b/map.txt\n--- a/map.txt\n+++ b/map.txt\n@@ -1 +1,2 @@\n here\n+there\n") if $diff;
		return (200, {}, [$pull]) if $path =~ m{/pulls$};
		return (200, {}, []) if $path =~ m{/reviews$};
		return (200, {}, { %$pull, id => 1, login => 'dora', default_branch => 'main' });
	});
	my $url = $host->url;
	$ENV{MODEL_URL} = $model->url;
	return { alive => [ $model, $host ], env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true',
			CODER_EXTERNAL_AUTH_0_ID => 'hub', CODER_EXTERNAL_AUTH_0_TYPE => 'github', CODER_EXTERNAL_AUTH_0_CLIENT_ID => 'id0', CODER_EXTERNAL_AUTH_0_CLIENT_SECRET => 'x',
			CODER_EXTERNAL_AUTH_0_AUTH_URL => "$url/a", CODER_EXTERNAL_AUTH_0_TOKEN_URL => "$url/t", CODER_EXTERNAL_AUTH_0_VALIDATE_URL => "$url/user",
			CODER_EXTERNAL_AUTH_0_REGEX => '^(https?://)?hub\.example(/.*)?$', CODER_EXTERNAL_AUTH_0_API_BASE_URL => "$url/api" } };
};
