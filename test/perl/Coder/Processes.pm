# Coder::Processes -- processes of a test, as /proc tells them.
#
# SPDX-License-Identifier: MIT
package Coder::Processes;

use strict;
use warnings FATAL => 'all';
use Exporter qw(import);

our @EXPORT_OK = qw(slurp children descendants state command_line find);

# A file's text; empty if it is not there.
sub slurp
{
	my ($path) = @_;

	open my $file, '<', $path or return '';
	local $/;
	no warnings;    # a process that ends while it is read
	return scalar(<$file>) // '';
}

sub all { return map { m{(\d+)$} } glob '/proc/[0-9]*' }

# One letter: R, S, Z, ...; empty for none.
sub state { return slurp("/proc/$_[0]/stat") =~ /^\d+ \(.*\) (\S)/s ? $1 : '' }

sub parent { return slurp("/proc/$_[0]/stat") =~ /^\d+ \(.*\) \S (\d+)/s ? $1 : 0 }

# Words separated by spaces; a process may have named itself.
sub command_line { return join ' ', split /\0/, slurp("/proc/$_[0]/cmdline") }

sub name { return slurp("/proc/$_[0]/comm") =~ s/\n\z//r }

# All processes below one.
sub descendants
{
	my ($root) = @_;
	my %below;

	push @{ $below{ parent($_) } }, $_ for all();
	my @queue = ($root);
	my @found;
	while (defined(my $pid = shift @queue))
	{
		push @found,  @{ $below{$pid} // [] };
		push @queue, @{ $below{$pid} // [] };
	}
	return @found;
}

sub children { my ($root) = @_; return grep { parent($_) == $root } all() }

# Processes below one whose command line matches.
sub find { my ($root, $re) = @_; return grep { command_line($_) =~ $re } descendants($root) }

1;
