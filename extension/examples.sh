#!/bin/sh
# examples.sh ID=DIR ...: SQL that fills coder.template_examples, on standard output.
#
# DIR holds a template and a README.md whose front matter has display_name,
# description, icon and tags.  The archive is the same for the same files: names
# in order, no times, no owners.
set -eu
LC_ALL=C; export LC_ALL

field() { sed -n "1,/^---\$/{/^---\$/d};/^$1: */{s///p;q}" "$2"; }
quote() { sed "s/'/''/g"; }

echo "-- Made by extension/examples.sh; not to be edited."
echo "DELETE FROM coder.template_examples;"
for example; do
	id=${example%%=*}
	dir=${example#*=}
	readme=$dir/README.md
	tags=$(field tags "$readme" | tr -d '[] ')
	printf "INSERT INTO coder.template_examples (id, name, description, icon, tags, markdown, archive) VALUES\n"
	printf "\t('%s', '%s', '%s',\n\t '%s', '{%s}',\n\t '%s',\n\t decode('" "$id" \
		"$(field display_name "$readme" | quote)" "$(field description "$readme" | quote)" \
		"$(field icon "$readme" | quote)" "$tags" \
		"$(awk 'n > 1 {print} /^---$/ {n++}' "$readme" | sed '1{/^$/d}' | quote)"
	(cd "$dir" && find . -type f ! -name '.*' | sed 's|^\./||' | sort | tar --format=ustar --mtime=@0 \
		--owner=0 --group=0 --numeric-owner --mode=0644 -cf - -T -) | od -An -v -tx1 | tr -d ' \n'
	printf "', 'hex'));\n"
done
