#!/usr/bin/env bash
# What a second `appliance install` does on a node that is as it should be, and how long `appliance detect` takes.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

# System calls that change a file system, and none that only reads it.
readonly CHANGES='openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,splice,truncate,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,mknod,mknodat,rmdir,chmod,fchmod,fchmodat,?fchmodat2,chown,fchown,lchown,fchownat,utime,utimes,utimensat,futimesat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,fsync,fdatasync,sync,syncfs'

# The calls of a command that changed something: no failed ones, no files that are only opened, nothing that goes to the
# terminal, a pipe or a socket, and nothing in memory (/run has the lock of the run).
changes() {
    strace -f -y -qq -o "$WORK/calls" -e "trace=$CHANGES" -e status=successful "$@" >/dev/null 2>&1
    grep -vE -e '(open|openat)\(.*O_(RDONLY|PATH)' -e '\((1|2)<' -e '\([0-9]+<(pipe|socket|anon_inode|/dev/|/proc/|/run/)' \
        -e '"/run/' -e '\+\+\+ exited' "$WORK/calls" || true
}

# One number of `used`, the smallest of several runs.
least() {
    local column=$1
    shift
    for _ in $(seq "$((REPEAT * 3))"); do
        used "$@" | cut -d' ' -f"$column"
    done | sort -n | head -n 1
}

root=$WORK/install
make_root "$root"
installation "$root" "$APPLIANCE"
read -r first _ _ < <(used "${INSTALL[@]}")
# From now on as on a node: by the program that is installed there.
installation "$root" "$root/usr/local/bin/appliance"
echo "noop_cpu_ms $(least 2 "${INSTALL[@]}")"
echo "noop_ms $(least 1 "${INSTALL[@]}")"
echo "second_install_over_first $(ratio "$(least 1 "${INSTALL[@]}")" "$first")"
changes "${INSTALL[@]}" >"$WORK/changed-files"
echo "noop_writes $(wc -l <"$WORK/changed-files")"
sed 's/^/    /' "$WORK/changed-files" >&2
drive=tests/fixtures/metadata/queens-static
echo "detect_ms $(least 1 "$APPLIANCE" detect --explain --root "$root" --metadata-dir "$drive" --role master)"
