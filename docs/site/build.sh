#!/usr/bin/env bash
# Builds the site of the documentation, in English and in Simplified Chinese. Its programs are kept below out/.
# usage: build.sh OUTPUT
set -euo pipefail

cd "$(dirname "$0")/../.."
output=${1:?usage: build.sh OUTPUT}
mdbook=0.5.4
mermaid=11.17.2
mermaid_sha512=57a2b70bc101744b0f1595d228c25eea9a50384371b87011afd1af1d7e21878ee501b84c443f6a7f8a042bb2e869143150b31af34feab798073bbdda0a578106
tools=out/site-tools

missing() {
    echo "error: the site needs $1; on Debian and Ubuntu: sudo apt-get install $2" >&2
    exit 1
}
command -v python3 >/dev/null || missing python3 python3
command -v cargo >/dev/null || missing cargo 'rustup, or see https://rustup.rs'

if [ ! -e "$tools/mdbook-$mdbook" ]; then
    echo "building mdBook $mdbook from crates.io below $tools"
    cargo install mdbook --quiet --version "$mdbook" --locked --no-default-features --root "$tools"
    touch "$tools/mdbook-$mdbook"
fi
# The script that draws the pictures of the pages, in the browser.
if [ ! -e "$tools/mermaid-$mermaid.js" ]; then
    echo "downloading mermaid $mermaid from the npm registry"
    command -v npm >/dev/null || missing npm npm
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --silent "mermaid@$mermaid" >/dev/null)
    echo "$mermaid_sha512  $work/mermaid-$mermaid.tgz" | sha512sum --check --quiet
    tar -xzf "$work/mermaid-$mermaid.tgz" -C "$work" package/dist/mermaid.min.js package/LICENSE
    # Its licence asks to be kept with it.
    { echo '/*'; cat "$work/package/LICENSE"; echo '*/'; cat "$work/package/dist/mermaid.min.js"; } >"$work/made"
    mv "$work/made" "$tools/mermaid-$mermaid.js"
fi
python3 docs/site/site.py "$tools/bin/mdbook" "$tools/mermaid-$mermaid.js" "$output"
echo "Made: $output/index.html"
