#!/usr/bin/env bash
# Opens pages of the built site in a browser, from the disk: the search finds, also in Chinese, pictures are drawn, and
# nothing is asked of a network.
# usage: try.sh SITE
set -euo pipefail

site=$(realpath "${1:?usage: try.sh SITE}")
here=$(dirname "$(realpath "$0")")
browser=$(command -v chromium || command -v google-chrome) || {
    echo "error: this needs a browser; on Debian: sudo apt-get install chromium" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Opens a page, which must show this text. It may be a regular expression.
shows() {
    local page=$1 text=$2
    local options=(--headless --disable-gpu --disable-quic --no-first-run --disable-background-networking
        --disable-component-update --disable-sync --virtual-time-budget=10000 --user-data-dir="$work/profile"
        --log-net-log="$work/network" --net-log-capture-mode=Everything)
    [ "$(id -u)" -ne 0 ] || options+=(--no-sandbox)
    "$browser" "${options[@]}" --dump-dom "file://$site/$page" >"$work/page" 2>"$work/errors" || {
        cat "$work/errors" >&2
        exit 1
    }
    grep -Eq -- "$text" "$work/page" || {
        echo "error: $page does not show: $text" >&2
        exit 1
    }
    python3 "$here/asked.py" "$work/network" || {
        echo "error: $page asks the network for what is above" >&2
        exit 1
    }
    echo "ok: $page"
}

# The parts of the query are apart on the page that is wanted.
shows 'zh-CN/index.html?q=替换主节点证书' '<div id="found"[^>]*><ol><li><a href="certificates.html#'
shows 'zh-CN/index.html?q=etcd 法定人数' '<a href="high-availability.html#'
shows 'zh-CN/index.html?q=飞机场' '<div id="found"[^>]*>没有找到'
shows 'en/index.html?q=rotate-ca' '<div id="found"[^>]*><ol><li><a href="certificates.html#'
shows 'zh-CN/join.html' 'id="language" href="../en/join.html"'
shows 'en/architecture.html' '<pre class="mermaid"[^>]*><svg'
shows 'zh-CN/architecture.html' '<pre class="mermaid"[^>]*><svg'
