# What desktop.test.mjs needs: the experiment, and a model.
use strict;
use warnings FATAL => 'all';
use Coder::Model;

return sub {
	my $model = Coder::Model->start;
	$ENV{MODEL_URL} = $model->url;
	return { alive => [$model], env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' } };
};
