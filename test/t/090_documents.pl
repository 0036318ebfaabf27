# The pages of docs/ are true: their tables are those of coder.routes, and their SQL runs.
#
# WRITE_DOCUMENTS=1 writes the generated pages instead of comparing them.
use strict;
use warnings FATAL => 'all';
use Coder::Documents;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use Test::More;

my $root = abs_path(dirname(__FILE__) . '/../..');
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coder; SELECT coder.seed()');

# A page is as it would be made now; or it is written.
sub current
{
	my ($name, $page) = @_;
	my $file = "$root/docs/$name";

	if ($ENV{WRITE_DOCUMENTS})
	{
		open my $fh, '>', $file or die "$file: $!";
		print $fh $page;
		close $fh or die "$file: $!";
	}
	ok(Coder::Documents::read_text($file) eq $page, "docs/$name is what \"make -C test documents\" makes");
}

my @routes = Coder::Documents::rows($node->safe_psql('postgres', $Coder::Documents::QUERY));
cmp_ok(scalar @routes, '>', 100, 'the extension has routes');
my ($status, @problems) = Coder::Documents::status(Coder::Documents::read_text("$root/docs/STATUS.md"), @routes);
is("@problems", '', 'every operation of the API is in coder.routes, or marked');
current('STATUS.md', $status);
current('API.md', Coder::Documents::api(@routes));

# What is said to be missing is found missing: the check can fail.
my ($gone) = grep { $_->{pattern} eq '/api/v2/users/{user}' && $_->{method} eq 'GET' } @routes;
(undef, @problems) = Coder::Documents::status($status, grep { $_ != $gone } @routes);
is("@problems", 'GET /api/v2/users/{user} is neither in coder.routes nor in remarks.tsv', 'a route that went away is found');

# Every function that answers a route exists.
is($node->safe_psql('postgres', q{SELECT coalesce(string_agg(r.function, ' '), '') FROM coder.routes r
	WHERE to_regprocedure('coder.' || r.function || '(coder.request)') IS NULL}), '', 'every route has its function');

# Every function, view and table says what it is for.
is(join(' ', Coder::Documents::without_comment()), '', 'every SQL function has a comment');
is($node->safe_psql('postgres', q{SELECT coalesce(string_agg(c.relname, ' ' ORDER BY c.relname), '') FROM pg_class c
	WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL}),
	'', 'every table and view has a comment');

# What the pages name exists: things of the schema, files, functions of files ("file.c: function").
my %exists = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'coder'::regnamespace
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'coder'::regnamespace
	UNION SELECT typname FROM pg_type WHERE typnamespace = 'coder'::regnamespace});
$exists{database} = 1;	# the setting of the library
for my $file (glob("$root/docs/*.md"), "$root/README.md")
{
	my $text = Coder::Documents::read_text($file);
	my @missing = grep { !$exists{$_} } $text =~ /`coder\.([a-z_]+)/g;
	push @missing, grep { !-e "$root/$_" } $text =~ m{\b((?:gateway|agent|extension|sql|test)/[\w./-]+\.(?:c|h|sql|pl))\b}g;
	while ($text =~ m{\b((?:gateway|agent|extension)/[\w/]+\.c): ([a-z_]+)}g)
	{
		my ($source, $function) = ($1, $2);
		push @missing, "$source: $function" unless -e "$root/$source" && Coder::Documents::read_text("$root/$source") =~ /^$function\(/m;
	}
	is("@missing", '', substr($file, length($root) + 1) . ' names what exists');
}

my $page = Coder::Documents::read_text("$root/docs/SQL.md");
my %named = map { $_ => 1 } $page =~ /^\| `(\w+)` \|/mg;
my @relations = split /\n/, $node->safe_psql('postgres', q{SELECT relname FROM pg_class
	WHERE relnamespace = 'coder'::regnamespace AND relkind IN ('r', 'v')});
is(join(' ', grep { !$named{$_} } @relations), '', 'docs/SQL.md names every table and view');

$node->stop;
done_testing();
