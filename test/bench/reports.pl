# reports.pl -- reports of boundaries a second from AGENTS (10,000) agents that are connected to a gateway, RATE (2,500, then 5,000) a second for
# SECONDS (8): acknowledged after a synchronous commit; then what the database has counted, and how long it takes until the ends of all
# connections are noted.  A rate that ends in s is one of samples (333s: each agent every 30 s).  Nothing is judged.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Reports qw(workspaces total);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Time::HiRes qw(time);

my $here   = abs_path(dirname(__FILE__));
my $agents = $ENV{AGENTS} // 10_000;
my $gateway = Coder::Gateway->start(env => { CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_MAX_CONNECTIONS => 20000, CODER_MAX_CONNECTIONS_PER_ADDRESS => 20000 });
$gateway->first_user;
my @tokens = workspaces($gateway, int($agents * 5 / 4));
splice @tokens, $agents if @tokens > $agents;
$gateway->sql('VACUUM ANALYZE');
open my $file, '>', "$gateway->{dir}/tokens" or die;
print $file "$_\n" for @tokens;
close $file;
system("ln -sfn $gateway->{dir} $ENV{KEEP}") if $ENV{KEEP};
system('gcc', '-std=gnu17', '-O2', '-D_GNU_SOURCE', "-I$here/../../agent", '-isystem', "$here/../../agent/wire/proto", '-o', "$gateway->{dir}/agents", "$here/agents.c",
	(glob "$here/../../agent/net/*.o"), map({ "$here/../../agent/$_" } qw(libtunnel.a libwire.a)), qw(-lhttp_parser -lsodium -lssl -lcrypto -lprotobuf-c -lpthread -lm)) == 0 or die 'agents.c';
print 'Reports a second of agents that are connected to a gateway, asked for ', $ENV{RATE} // '2500 5000', "\n";
print `$gateway->{dir}/agents $gateway->{url} $gateway->{dir}/tokens @{[ $ENV{SECONDS} // 8 ]} @{[ $ENV{RATE} // '2500 5000' ]}`;
print 'counted ', (split ' ', total($gateway))[0], "\n";
my $began = time;
my $left = sub { $gateway->sql('SELECT count(*) FROM coder.workspace_agents WHERE last_connected_at > coalesce(disconnected_at, first_connected_at)') };
my $all = $gateway->wait_for(60, sub { $left->() == 0 });
printf "ends of the connections: %s noted after %.1f s, in %d transactions\n", $all ? 'all' : 'not all', time - $began,
	$gateway->sql(q{SELECT count(DISTINCT xmin::text) FROM coder.workspace_agents WHERE disconnected_at IS NOT NULL});
