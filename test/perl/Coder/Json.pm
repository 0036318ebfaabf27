# Coder::Json -- JSON of bodies, which may be large: JSON::PP takes a second for a megabyte, and is used only where there is no other.
# (JSON::XS makes strings of numbers that were once part of one, where these two do not.)
#
# SPDX-License-Identifier: MIT
package Coder::Json;

use strict;
use warnings FATAL => 'all';
use JSON::PP ();

my $json = (eval { require Cpanel::JSON::XS } ? 'Cpanel::JSON::XS' : 'JSON::PP')->new->utf8->canonical->allow_nonref;

sub encode { return $json->encode($_[0]) }
sub decode { return $json->decode($_[0]) }

1;
