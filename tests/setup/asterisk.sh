# Sourced by ./run and ./test: where Asterisk 22 and SIPp come from. Either the machine has an
# Asterisk 22, or one is put into a folder (asterisk-folder.sh). Both look alike afterwards:
# $PBX_ASTERISK_DIR/{bin/asterisk,bin/sipp,modules,data}. An Asterisk that already runs on the
# machine is never touched: ours has directories and addresses of its own.
# shellcheck shell=bash

readonly ASTERISK_CACHE=/var/cache/pbx-portal

# Decides, sets PBX_ASTERISK_DIR and PBX_ASTERISK_WANTED (ready, host or folder). Installs nothing.
choose_asterisk() {
    local own=
    own=$(command -v asterisk || true)
    if [ -n "${PBX_ASTERISK_DIR:-}" ]; then
        PBX_ASTERISK_WANTED=folder
    elif [ -n "$own" ] && "$own" -V 2>/dev/null | grep -q '^Asterisk 22\.'; then
        PBX_ASTERISK_DIR=$(user_cache)/host-asterisk
        PBX_ASTERISK_WANTED=host
        host_asterisk=$own
    else
        PBX_ASTERISK_DIR=$ASTERISK_CACHE/asterisk-22
        PBX_ASTERISK_WANTED=folder
    fi
    if [ "$PBX_ASTERISK_WANTED" = folder ] && asterisk_is_ready; then
        PBX_ASTERISK_WANTED=ready
    fi
    export PBX_ASTERISK_DIR PBX_ASTERISK_WANTED
}

asterisk_is_ready() {
    "$PBX_ASTERISK_DIR/bin/asterisk" -V 2>/dev/null | grep -q '^Asterisk 22\.' &&
        [ -x "$PBX_ASTERISK_DIR/bin/sipp" ]
}

# A place that the accounts which Asterisk runs as can reach.
user_cache() {
    if is_root; then
        echo "$ASTERISK_CACHE"
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/pbx-portal"
    fi
}

prepare_asterisk() {
    case $PBX_ASTERISK_WANTED in
    ready) ;;
    host) link_host_asterisk ;;
    folder)
        can_be_root || fail "Asterisk 22 is missing, and neither root nor sudo is at hand to set it up.
An administrator must run:

    $PWD/tests/setup/asterisk-folder.sh $PBX_ASTERISK_DIR"
        as_root env SETUP_STARTED="$SETUP_STARTED" \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
            tests/setup/asterisk-folder.sh "$PBX_ASTERISK_DIR" "$(debian_mirror)"
        ;;
    esac
    asterisk_is_ready || fail "$PBX_ASTERISK_DIR holds no working Asterisk 22 with SIPp."
}

link_host_asterisk() {
    local modules data dir=$PBX_ASTERISK_DIR
    modules=$(first_with app_dial.so /usr/lib/*-linux-gnu*/asterisk/modules /usr/lib/asterisk/modules \
        /usr/lib64/asterisk/modules /usr/local/lib/asterisk/modules)
    data=$(first_with documentation /usr/share/asterisk /var/lib/asterisk /usr/local/share/asterisk)
    if [ -z "$modules" ] || [ -z "$data" ]; then
        fail "$host_asterisk is Asterisk 22, but its modules or data are not in the usual places.
Set PBX_ASTERISK_DIR to $ASTERISK_CACHE/asterisk-22 to use one of our own."
    fi
    mkdir -p "$dir/bin"
    ln -sfn "$host_asterisk" "$dir/bin/asterisk"
    ln -sfn "$(command -v sipp)" "$dir/bin/sipp"
    ln -sfn "$modules" "$dir/modules"
    ln -sfn "$data" "$dir/data"
    step "Asterisk: the machine's own, $("$host_asterisk" -V)"
}

# The first of several folders that has an entry of this name.
first_with() {
    local name=$1 dir
    shift
    for dir in "$@"; do
        if [ -e "$dir/$name" ]; then
            echo "$dir"
            return
        fi
    done
}

# The mirror that this machine's apt uses, if it is one of Debian; debootstrap knows its own default.
debian_mirror() {
    # The placeholders are apt-get's, not the shell's.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 ~ "^https?:" && $2 == "Debian" && $3 == "Debian" { print $1; exit }' || true
}
