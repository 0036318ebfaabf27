# Coder::Documents -- the pages of docs/ that are made from coder.routes.
#
#	my @routes = Coder::Documents::rows($text);		# of $Coder::Documents::QUERY, by psql -At
#	my ($page, @problems) = Coder::Documents::status($old_page, @routes);
#	my $page = Coder::Documents::api(@routes);
#
# SPDX-License-Identifier: MIT
package Coder::Documents;

use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use File::Basename qw(dirname);

my $root = abs_path(dirname(__FILE__) . '/../../..');
our $data = "$root/test/documents";

our $QUERY = q{SELECT concat_ws(E'\t', r.method, r.pattern, r.area, r.function, r.auth, r.pool, r.rate, r.max_body, r.raw_body, r.read_only,
		p.prosrc ~ 'coder\.not_built')
	FROM coder.routes r LEFT JOIN pg_proc p ON p.oid = to_regprocedure('coder.' || r.function || '(coder.request)')
	ORDER BY r.area, r.pattern, r.method};

sub read_text
{
	my ($file) = @_;
	open my $fh, '<', $file or die "$file: $!";
	local $/;
	return <$fh>;
}

# Lines of a tab-separated file of test/documents, without comments.
sub read_table
{
	my ($name) = @_;
	return map { [split /\t/] } grep { length && !/^#/ } split /\n/, read_text("$data/$name");
}

sub rows
{
	my ($text) = @_;
	my @names = qw(method pattern area function auth pool rate max_body raw_body read_only refuses);

	return map { my %row; @row{@names} = split /\t/; \%row } split /\n/, $text;
}

# What two patterns share that differ in the names of their parameters only.
sub shape
{
	my ($method, $path) = @_;

	$path =~ s/\{\w+\.\.\.\}$/*/;
	$path =~ s/\{[^}]*\}/{}/g;
	return "$method $path";
}

# File that defines each function of sql/, by name; the last definition wins.
sub files
{
	my %file;

	for my $file (glob("$root/sql/*/*.sql"), glob("$root/sql/*.sql"))
	{
		my $name = substr $file, length($root) + 1;
		$file{$_} = $name for read_text($file) =~ /^CREATE (?:OR REPLACE )?FUNCTION coder\.(\w+)\(req coder\.request/mg;
	}
	return \%file;
}

# file:line of each function of sql/ that has neither a comment above it nor COMMENT ON.
sub without_comment
{
	my (@found, %told);
	my @files = (glob("$root/sql/*/*.sql"), glob("$root/sql/*.sql"));

	$told{$_} = 1 for map { read_text($_) =~ /^COMMENT ON FUNCTION coder\.(\w+)/mg } @files;
	for my $file (@files)
	{
		my @lines = split /\n/, read_text($file);
		for my $i (1 .. $#lines)
		{
			next unless $lines[$i] =~ /^CREATE (?:OR REPLACE )?FUNCTION coder\.(\w+)/;
			push @found, substr($file, length($root) + 1) . ':' . ($i + 1) unless $told{$1} || $lines[ $i - 1 ] =~ /^--/;
		}
	}
	return @found;
}

# State, file and remark of each operation of the public API: a reference to a
# list of [area, method, path, state, where, remark], and what is wrong.
sub operations
{
	my (@routes) = @_;
	my %route = map { shape($_->{method}, $_->{pattern}) => $_ } @routes;
	my %remark = map { ("$_->[0] $_->[1]" => { state => $_->[2], text => $_->[3] // '' }) } read_table('remarks.tsv');
	my $files = files();
	my (@list, @problems, %listed);

	for (read_table('routes.tsv'))
	{
		my ($area, $method, $path) = @$_;
		my $remark = delete $remark{"$method $path"};
		my $route = $route{shape($method, $path)};
		my $licensed = $route && $route->{function} eq 'licensed_not_built';
		my $built = $route && $route->{function} ne 'not_built' && !$licensed;
		my $state = $built ? 'works' : $licensed ? '404' : '501';

		$listed{shape($method, $path)} = 1;
		push @problems, "$method $path is neither in coder.routes nor in remarks.tsv" if !$route && !$remark;
		push @problems, "$method $path is not built, and remarks.tsv says \"$remark->{state}\""
		  if $remark && $route && !$built && $remark->{state} ne $state;
		push @problems, "$method $path: " . ($remark ? "remarks.tsv says \"$remark->{state}\"" : 'it has no remark')
		  . ", and $route->{function} " . ($route->{refuses} eq 't' ? 'can answer 501' : 'is built')
		  if $built && ($route->{refuses} eq 't' xor $remark && $remark->{state} eq '501');
		push @problems, "$method $path is in coder.routes, and remarks.tsv says \"$remark->{state}\""
		  if $remark && $route && $remark->{state} =~ /^(gateway|absent)$/;
		$state = $remark->{state} eq 'gateway' ? 'works' : $remark->{state} if $remark;
		my $where = $built ? "`$route->{function}` (" . ($files->{$route->{function}} // 'extension/') . ')' : '';
		push @list, [$area, $method, $path, $state, $where, $remark ? $remark->{text} : ''];
	}
	push @problems, map { "remarks.tsv: no such operation: $_" } sort keys %remark;
	# A path that ends where a rest may follow is the same operation.
	my @ours = grep { $_->{area} ne 'unbuilt' && !$listed{$_->{shape}} && !$listed{"$_->{shape}/*"} }
	  map { +{ %$_, shape => shape($_->{method}, $_->{pattern}) } } @routes;
	push @list, ['others', $_->{method}, $_->{pattern}, 'works', "`$_->{function}` (" . ($files->{$_->{function}} // 'extension/') . ')',
		'ours; not of the API'] for @ours;
	return (\@list, @problems);
}

# The two generated tables of docs/STATUS.md.
sub status_tables
{
	my ($list) = @_;
	my (%count, %area);
	my $text = '';

	for (@$list)
	{
		$count{$_->[0]}{$_->[3]}++;
		push @{ $area{$_->[0]} }, $_;
	}
	$text .= "| area | works | thin | 501 | 404 | absent |\n|---|---|---|---|---|---|\n";
	my %sum;
	for my $area (sort keys %count)
	{
		$text .= "| [$area](#$area) | " . join(' | ', map { $sum{$_} += $count{$area}{$_} // 0; $count{$area}{$_} // '' } qw(works thin 501 404 absent)) . " |\n";
	}
	$text .= '| **all** | ' . join(' | ', map { "**$sum{$_}**" } qw(works thin 501 404 absent)) . " |\n";
	for my $area (sort keys %area)
	{
		$text .= "\n### $area\n| operation | state | answered by | remark |\n|---|---|---|---|\n";
		$text .= "| `$_->[1] $_->[2]` | $_->[3] | $_->[4] | $_->[5] |\n" for @{ $area{$area} };
	}
	return $text;
}

# docs/STATUS.md with its tables made again, and what is wrong with the data.
sub status
{
	my ($page, @routes) = @_;
	my ($list, @problems) = operations(@routes);
	my $tables = status_tables($list);

	$page =~ s/(<!-- routes -->\n).*?(<!-- end of routes -->)/$1$tables$2/s or push @problems, 'docs/STATUS.md has no place for the tables';
	return ($page, @problems);
}

# docs/API.md.
sub api
{
	my (@routes) = @_;
	my $files = files();
	my $area = '';
	my $text = <<'END';
# The API's routes

Made from `coder.routes` by `make -C test api`: every row that is built. What the columns mean is in
[ARCHITECTURE.md](ARCHITECTURE.md), section 2; how far each route goes, and what is not built, in [STATUS.md](STATUS.md).

- **auth**: `session` a session token or API token; `agent` a workspace agent's token; `optional`, `none`.
- **limits**: the requests a minute that count (`api` 512 for each user and path, `login` 60 and `files` 12 for each address; see `gateway/limit.c`),
  the pool of connections (`fast` 2 s, `slow` 30 s a statement), the body's bytes where not 10 MiB (0: it stays in the gateway); `raw`: the body is not JSON.
- **reads**: the route changes nothing, so the gateway may ask again when the database goes away.

END
	for (@routes)
	{
		next if $_->{function} =~ /^(licensed_)?not_built$/;
		if ($_->{area} ne $area)
		{
			$area = $_->{area};
			$text .= "\n## $area\n| method | pattern | auth | limits | reads | function | file |\n|---|---|---|---|---|---|---|\n";
		}
		my $limits = join ', ', $_->{rate}, $_->{pool}, $_->{max_body} != 10485760 ? $_->{max_body} : (), $_->{raw_body} eq 't' ? 'raw' : ();
		$text .= "| $_->{method} | `$_->{pattern}` | $_->{auth} | $limits | " . ($_->{read_only} eq 't' ? 'yes' : '')
		  . " | `$_->{function}` | " . ($files->{$_->{function}} // 'extension/') . " |\n";
	}
	return $text;
}

1;
