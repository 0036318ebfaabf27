# Coder::Json -- JSON of bodies, which may be large: JSON::PP takes a second for a megabyte, and is used only where there is no other.
#
# SPDX-License-Identifier: MIT
package Coder::Json;

use strict;
use warnings FATAL => 'all';
use JSON::PP ();

my $json = (eval { require JSON::XS } ? 'JSON::XS' : 'JSON::PP')->new->utf8->canonical->allow_nonref;

sub encode { return $json->encode($_[0]) }
sub decode { return $json->decode($_[0]) }

1;
