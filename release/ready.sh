#!/usr/bin/env bash
# Checks whether the tree can become a release, and prints its version and its date: VERSION EPOCH.
#
# The version is that of the topmost heading of CHANGELOG.md, `## VERSION - YEAR-MONTH-DAY`. With `snapshot`, any
# tree will do: the version is that of Cargo.toml with `~` and the commit, the date is the commit's.
# usage: ready.sh [snapshot]
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

refuse() {
    echo "error: $1" >&2
    exit 2
}

of_cargo() {
    awk '/^\[workspace\.package\]/ { on = 1 } on && /^version = / { gsub(/"/, "", $3); print $3; exit }' Cargo.toml
}

snapshot() {
    echo "$(of_cargo)~$(git rev-parse --short=10 HEAD) $(git log -1 --format=%ct)"
}

# The version must be a semantic version. Debian's `~` sorts a pre-release before the release.
is_version() {
    [[ $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]
}

if [ "${1:-}" = snapshot ]; then
    snapshot
    exit
fi
[ -z "$(git status --porcelain)" ] ||
    refuse "the tree differs from its commit: commit or remove what \`git status\` lists"
heading=$(grep -m 1 '^## ' CHANGELOG.md) || refuse "CHANGELOG.md has no heading of a version"
read -r version dash day rest <<<"${heading#\#\# }"
is_version "$version" ||
    refuse "the topmost heading of CHANGELOG.md is \"$heading\": write \"## $(of_cargo) - $(date -u +%F)\""
epoch=$(date -u -d "$day" +%s 2>/dev/null) || epoch=0
[ "$dash $(date -u -d "@$epoch" +%F)$rest" = "- $day" ] ||
    refuse "the heading \"$heading\" of CHANGELOG.md has no valid date: write \"## $version - $(date -u +%F)\""
[ "$version" = "$(of_cargo)" ] ||
    refuse "CHANGELOG.md begins with $version, and Cargo.toml has $(of_cargo): correct \`version\` in Cargo.toml, run \`cargo check\`, and commit both"
if tagged=$(git rev-parse --verify --quiet "refs/tags/v$version^{commit}"); then
    [ "$tagged" = "$(git rev-parse HEAD)" ] ||
        refuse "the tag v$version is at another commit, $tagged: raise the version in CHANGELOG.md and Cargo.toml"
fi
# Where the project is published, the tag may be at another commit, too. Without that place, only this clone counts.
if remote=$(git remote get-url origin 2>/dev/null); then
    there=$(git ls-remote --tags origin "refs/tags/v$version" "refs/tags/v$version^{}") ||
        refuse "cannot ask $remote for the tag v$version: try again, or remove the remote: git remote remove origin"
    there=$(awk 'END { print $1 }' <<<"$there")
    [ -z "$there" ] || [ "$there" = "$(git rev-parse HEAD)" ] ||
        refuse "the tag v$version exists in $remote at another commit, $there: raise the version in CHANGELOG.md and Cargo.toml"
fi
echo "$version $epoch"
