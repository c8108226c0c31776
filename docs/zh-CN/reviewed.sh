#!/usr/bin/env bash
# Records that the Chinese translations say what the English pages say now.
# usage: reviewed.sh [PAGE…]
# PAGE is an English page, such as docs/join.md. Without one, the pages are listed whose English text has changed since,
# and the exit code is 1 if there are any. To see what changed: git log -p -- docs/join.md
set -euo pipefail

cd "$(dirname "$0")/../.."

translation() {
    case $1 in
    README.md) echo README.zh-CN.md ;;
    docs/zh-CN/* | README.zh-CN.md)
        echo "error: $1 is the translation: name the English page" >&2
        exit 2
        ;;
    docs/*.md) echo "docs/zh-CN/${1#docs/}" ;;
    *)
        echo "error: $1 is no page: name README.md or a file docs/….md" >&2
        exit 2
        ;;
    esac
}

first_line() {
    local digest
    digest=$(sha256sum "$1")
    echo "<!-- en sha256: ${digest%% *} -->"
}

# Whether the translation is of the English text as it is.
is_current() {
    [ -e "$2" ] && [ "$(head -n 1 "$2")" = "$(first_line "$1")" ]
}

if [ $# -eq 0 ]; then
    behind=0
    for english in README.md docs/*.md; do
        is_current "$english" "$(translation "$english")" || { echo "$english"; behind=1; }
    done
    exit "$behind"
fi
for english in "$@"; do
    chinese=$(translation "$english")
    if [ ! -e "$chinese" ]; then
        echo "error: there is no $chinese: translate $english first" >&2
        exit 1
    fi
    is_current "$english" "$chinese" && continue
    text=$(sed '1{/^<!-- en sha256: /d}' "$chinese")
    printf '%s\n%s\n' "$(first_line "$english")" "$text" >"$chinese"
    echo "$chinese"
done
