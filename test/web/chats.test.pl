# What chats.test.mjs needs: the experiment.
use strict;
use warnings FATAL => 'all';

return sub { return { env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' } } };
