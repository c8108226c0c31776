#!/usr/bin/env bash
# Signs the checksums of a release with minisign, or says how to sign.
# usage: sign.sh DIRECTORY [KEY]
set -euo pipefail
export LC_ALL=C

directory=$1 key=${2:-}
sums=$directory/SHA256SUMS
(cd "$directory" && sha256sum --check --quiet --strict SHA256SUMS)
rm -f "$sums.minisig" "$directory/UNSIGNED"
if [ -z "$key" ]; then
    cat >"$directory/UNSIGNED" <<END
This release is not signed. Whoever has the key signs it, and nothing is built again:

    make release-sign MINISIGN_KEY=FILE

\`minisign -G -s FILE -p appliance.pub\` makes a key. Keep FILE to yourself, and publish appliance.pub.
END
    cat "$directory/UNSIGNED" >&2
    exit
fi
[ -f "$key" ] || { echo "error: MINISIGN_KEY=$key is no file; give the secret key of minisign" >&2; exit 2; }
[ -z "$(find "$key" -perm /077)" ] || { echo "error: others may read $key; run: chmod 600 $key" >&2; exit 2; }
name=$(basename "$(echo "$directory"/appliance-*-notes.md)" -notes.md)
minisign -S -s "$key" -m "$sums" -x "$sums.minisig" -c "checksums of $name" -t "$name"
