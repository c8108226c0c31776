#!/usr/bin/env bash
# Makes everything of a release out of a program, except the signature: package, tarball, SBOM, licences, checksums.
# The same tree and the same tools give the same bytes.
# usage: build.sh PROGRAM TARGET VERSION EPOCH DIRECTORY
set -euo pipefail

program=$(realpath "$1") target=$2 version=$3 directory=$(realpath -m "$5")
export SOURCE_DATE_EPOCH=$4 LC_ALL=C TZ=UTC
umask 022
cd "$(dirname "$0")/.."
tools=${RELEASE_TOOLS:-$PWD/out/cargo-tools}/bin
machine=${target%%-*}
name=appliance-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Everything in the directory is replaced: it must be new, empty, or of an earlier release.
if [ -e "$directory" ] && [ ! -e "$directory/SHA256SUMS" ] && [ -n "$(ls -A "$directory")" ]; then
    echo "error: $directory has other files than a release: name another directory, or empty it yourself" >&2
    exit 2
fi

# A file of the distribution, with its mode, in the tree from which package and tarball are made.
place() {
    install -D -m "$1" "$2" "$work/tree/$3"
}

say() {
    echo "release: $*" >&2
}

# cargo-cyclonedx writes beside each Cargo.toml, and names the crates of the workspace by their directory: it gets a
# copy of the tree, and the document no directory.
sbom() {
    mkdir "$work/source"
    git ls-files -z | xargs -0 cp --parents -t "$work/source"
    (cd "$work/source" && PATH=$tools:$PATH cargo-cyclonedx cyclonedx --manifest-path Cargo.toml --format json \
        --spec-version 1.5 --target "$target" --override-filename sbom --quiet)
    sed "s|$work/source|/appliance|g" "$work/source/sbom.json" >"$directory/$name-sbom.cdx.json"
}

licences() {
    "$tools/cargo-about" generate --config release/about.toml --frozen --fail --target "$target" \
        --output-file "$directory/$name-licences.txt" release/about.hbs
}

# Programs of another machine do not run here: what the program writes about itself comes from the one for this machine.
documents() {
    local own=$1 shell
    mkdir -p "$work/man"
    "$own" man --dir "$work/man" 2>/dev/null
    for page in "$work"/man/*.1; do
        gzip -9 --no-name "$page"
        place 644 "$page.gz" "share/man/man1/${page##*/}.gz"
    done
    for shell in bash zsh fish; do "$own" completion "$shell" >"$work/$shell"; done
    place 644 "$work/bash" share/bash-completion/completions/appliance
    place 644 "$work/zsh" share/zsh/vendor-completions/_appliance
    place 644 "$work/fish" share/fish/vendor_completions.d/appliance.fish
}

tree() {
    place 755 "$program" bin/appliance
    documents "${OWN:-$program}"
    place 644 cloud-init/appliance-install.service lib/systemd/system/appliance-install.service
    place 644 LICENSE share/doc/appliance/LICENSE
    place 644 "$directory/$name-licences.txt" share/doc/appliance/licences.txt
    place 644 "$directory/$name-notes.md" share/doc/appliance/notes.md
}

# The part of the changelog about this version.
notes() {
    awk '/^## / { if (on) exit; on = 1 } on' CHANGELOG.md >"$directory/$name-notes.md"
}

tarball() {
    mv "$work/tree" "$work/$name"
    tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu \
        --mtime="@$SOURCE_DATE_EPOCH" "$name" | xz -6 --threads=1 >"$directory/$name-$machine.tar.xz"
    mv "$work/$name" "$work/tree"
}

# cargo-deb reads `[package.metadata.deb]` in Cargo.toml. Its files are in out/deb, its changelog is Debian's format.
package() {
    rm -rf out/deb
    mkdir -p out/deb
    cp -r "$work/tree" out/deb/usr
    rm out/deb/usr/share/doc/appliance/LICENSE
    {
        echo "appliance (${version/-/\~}-1) unstable; urgency=medium"
        printf '\n  * %s\n\n' "See /usr/share/doc/appliance/notes.md."
        echo " -- $(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } >out/deb/changelog
    "$tools/cargo-deb" --no-build --no-strip --target "$target" --deb-version "${version/-/\~}-1" \
        --output "$directory/" --quiet
    rm -rf out/deb
}

# With what it was built: the same bytes need the same tools.
tools_used() {
    rustc --version
    cargo --version
    gcc --version | head -n 1
    getconf GNU_LIBC_VERSION
    ld --version | head -n 1
    sed -n 's/^\[v1\]$//; s/^"\(cargo-[a-z]* [0-9.]*\) .*/\1/p' "$tools/../.crates.toml"
    xz --version | head -n 1
    gzip --version | head -n 1
    tar --version | head -n 1
}

rm -rf "$directory"
mkdir -p "$directory"
install -m 755 "$program" "$directory/$name-$machine"
notes
say "SBOM and licences of the crates"
sbom
licences
say "tarball and package"
tree
tarball
package
tools_used >"$directory/$name-$machine.buildinfo"
(cd "$directory" && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS)
