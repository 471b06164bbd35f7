#!/usr/bin/env bash
# Puts Asterisk 22 and SIPp from Debian's packages into a folder, for machines that have none:
#
#     asterisk-folder.sh FOLDER [MIRROR]        (as root)
#
# FOLDER/bin/asterisk and FOLDER/bin/sipp then run by the folder's own loader and libraries, without
# root and without chroot, on any distribution. FOLDER/modules and FOLDER/data are what asterisk.conf
# must name. Nothing outside FOLDER changes: all mounts are in a namespace of their own. The folder
# gets its name only when it is complete, so an interrupted run is simply started again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/setup/common.sh
source "$here/common.sh"

folder=${1:?usage: asterisk-folder.sh FOLDER [MIRROR]}
default_mirror=$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(command -v debootstrap)")
mirror=${2:-$default_mirror}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
partial=$folder.partial
log=$folder.log

is_root || fail "asterisk-folder.sh needs root (chroot): sudo $here/asterisk-folder.sh $folder"

is_asterisk_22() {
    "$1/bin/asterisk" -V 2>/dev/null | grep -q '^Asterisk 22\.'
}

# The base system of Debian's development branch, the only one that has Asterisk 22. Arguments: the
# mirror, and more options of debootstrap.
base_system() {
    local from=$1
    shift
    # Left-overs of an interrupted run. One file system: should anything be mounted there, it stays.
    rm -rf --one-file-system "$partial"
    mkdir -p "$partial" "$folder.packages"
    : >"$log"
    debootstrap --variant=minbase --cache-dir="$folder.packages" "$@" sid "$partial/root" "$from" \
        >>"$log" 2>&1 </dev/null
}

# Ubuntu 22.04 knows only older keys of Debian. Newer ones are in an update of Debian 11's keyring,
# whose release is signed with the older ones: apt checks the whole way. Prints the path of the keys.
newer_keyring() {
    local from=$1 dir=$folder.keyring
    rm -rf "$dir"
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    echo "deb [signed-by=$keyring] $from bullseye main" >"$dir/sources.list"
    local options=(-q -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update >>"$log" 2>&1 || return
    (cd "$dir" && apt-get "${options[@]}" download debian-archive-keyring >>"$log" 2>&1) || return
    dpkg-deb -x "$dir"/debian-archive-keyring_*.deb "$dir/package" || return
    echo "$dir/package$keyring"
}

# As base_system; with newer keys where this machine's are too old.
base_system_with_known_key() {
    base_system "$1" && return
    grep -q 'signed by unknown key' "$log" || return
    step "Asterisk: this machine's keys of Debian are older than Debian's signature; getting newer ones"
    local newer
    newer=$(newer_keyring "$1") || return
    base_system "$1" --keyring="$newer"
}

in_root() {
    # _apt, the account that apt drops to, cannot reach files that a private umask hid.
    chroot "$partial/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \
        ${https_proxy:+https_proxy="$https_proxy"} "$@"
}

packages() {
    # No daemon starts in there.
    printf '#!/bin/sh\nexit 101\n' >"$partial/root/usr/sbin/policy-rc.d"
    chmod 755 "$partial/root/usr/sbin/policy-rc.d"
    if [ -n "${PBX_PRIVATE_MOUNTS:-}" ]; then
        mount --bind /dev "$partial/root/dev"
        mount -t proc proc "$partial/root/proc" || mount --rbind /proc "$partial/root/proc"
    fi
    in_root apt-get -o Dpkg::Options::=--force-unsafe-io install -y \
        --no-install-recommends asterisk sip-tester >>"$log" 2>&1 </dev/null || return
    in_root apt-get clean
    rm -rf "$partial"/root/var/lib/apt/lists/* "$partial"/root/usr/share/{doc,man,info,locale}/*
}

# A wrapper for one program: no chroot, only the folder's own loader and libraries.
wrapper() {
    local program=$1 loader=$2
    cat >"$partial/bin/${program##*/}" <<END
#!/bin/sh
root=\${0%/*}/../root
exec "\$root/$loader" --library-path "\$root/${loader%/*}" "\$root/$program" "\$@"
END
    chmod 755 "$partial/bin/${program##*/}"
}

wrappers() {
    local loader
    loader=$(cd "$partial/root" && echo usr/lib/*-linux-gnu*/ld-linux*.so.*)
    [ -x "$partial/root/$loader" ] || fail "no loader in $partial/root/usr/lib"
    mkdir -p "$partial/bin"
    wrapper usr/sbin/asterisk "$loader"
    wrapper usr/bin/sipp "$loader"
    ln -sfn "root/${loader%/*}/asterisk/modules" "$partial/modules"
    ln -sfn root/usr/share/asterisk "$partial/data"
}

network_failed() {
    printf '\n--- the end of %s\n%s\n---\n' "$log" "$(tail -n 15 "$log")" >&2
    fail "Asterisk could not be fetched from Debian's mirror ($mirror).
Is the network there? Behind a proxy set http_proxy. Then start again."
}

mkdir -p "$(dirname "$folder")"
chmod 755 "$(dirname "$folder")"
# One at a time; whoever waited finds the work done.
exec 9>"$folder.lock"
if ! flock -n 9; then
    step "Asterisk: another run is setting it up, waiting for it"
    flock 9
fi
is_asterisk_22 "$folder" && exit

# The mounts must not leak to the rest of the machine. Containers that forbid namespaces forbid
# mounts as well, and the packages can do without.
if [ -z "${PBX_PRIVATE_MOUNTS:-}" ] && unshare --mount true 2>/dev/null; then
    export PBX_PRIVATE_MOUNTS=1
    exec unshare --mount --propagation private -- "$BASH" "${BASH_SOURCE[0]}" "$@" 9>&-
fi

umask 022
step "Asterisk: a base system from Debian (about 30 s)"
if ! base_system_with_known_key "$mirror"; then
    # A partial mirror may lack the development branch.
    [ "$mirror" != "$default_mirror" ] || network_failed
    step "Asterisk: again, from Debian's default mirror"
    mirror=$default_mirror
    base_system_with_known_key "$mirror" || network_failed
fi
step "Asterisk: its packages (about 30 s)"
packages || network_failed
wrappers
if ! is_asterisk_22 "$partial"; then
    fail "Debian's development branch has $("$partial/bin/asterisk" -V 2>&1 | head -n 1), but the portal needs Asterisk 22.
Install Asterisk 22 on this machine, or point PBX_ASTERISK_DIR at a folder that has it."
fi
rm -rf --one-file-system "$folder" "$folder.packages" "$folder.keyring"
mv "$partial" "$folder"
step "Asterisk: $("$folder/bin/asterisk" -V) is in $folder"
