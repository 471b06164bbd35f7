# Sourced by ./run and ./test: the packages of the distribution. Only what is missing is installed,
# and it is looked for by what it provides, so that other distributions work as well once everything
# is there.
# shellcheck shell=bash

readonly POSTGRES_VERSION_MIN=14
readonly CREATE_CLUSTER_CONF=/etc/postgresql-common/createcluster.conf

# What the build needs.
missing_for_build() {
    have cc || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    [ -s "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || echo ca-certificates
}

# What the demonstration and the tests need beside it.
missing_for_running() {
    have setpriv && have setsid && have flock && have unshare || echo util-linux
    postgres_server || echo postgresql
    if [ "${PBX_ASTERISK_WANTED:-}" = folder ]; then
        have debootstrap || echo debootstrap
        have gpgv || have sqv || echo gpgv
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
    elif [ "${PBX_ASTERISK_WANTED:-}" = host ]; then
        have sipp || echo sip-tester
    fi
}

# What the checks of ./test need beside it.
missing_for_checks() {
    have systemd-analyze || echo systemd
}

# What injects faults: system calls that fail or kill, disks of one's own, clocks that jump.
missing_for_faults() {
    have strace || echo strace
    have ps || echo procps
    have chattr && have mkfs.ext4 || echo e2fsprogs
    have mkfs.xfs && have xfs_io || echo xfsprogs
    [ -e /usr/lib/"$(uname -m)"-linux-gnu/faketime/libfaketimeMT.so.1 ] || have faketime || echo faketime
}

postgres_server() {
    local initdb version
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        version=${initdb#/usr/lib/postgresql/}
        version=${version%%/*}
        [ -x "$initdb" ] && [ "$version" -ge "$POSTGRES_VERSION_MIN" ] && return
    done
    have initdb && have postgres
}

# Installs what the functions named by the arguments print.
install_missing() {
    local function missing=()
    mapfile -t missing < <(for function in "$@"; do "$function"; done | sort -u)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    have apt-get || fail "This machine lacks what these packages of Debian and Ubuntu provide: $*
Install it the way your distribution does, then start again."
    can_be_root || fail "Packages are missing, and neither root nor sudo is at hand. An administrator must run:

    apt-get install --no-install-recommends $*"
    local log
    log=$(mktemp "${TMPDIR:-/tmp}/pbx-packages.XXXXXX")
    step "installing: $*"
    apt_get "$log" update || packages_failed "$@"
    case " $* " in
    *" postgresql "*) install_without_cluster "$log" "$@" || packages_failed "$@" ;;
    *) apt_get "$log" install "$@" || packages_failed "$@" ;;
    esac
    rm -f "$log"
}

apt_get() {
    local log=$1
    shift
    # The lock is waited for: machines that have just started often update themselves.
    quietly "$log" as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
}

packages_failed() {
    fail "Packages could not be installed: $*
The end of what apt-get said is above. Is the network there, and are the package sources right?"
}

# PostgreSQL's packages create a cluster and start it, but only programs are wanted here. Debian's
# own switch for that is a setting of postgresql-common, put back afterwards.
install_without_cluster() {
    local log=$1 status=0
    shift
    apt_get "$log" install postgresql-common || return
    as_root cp -p "$CREATE_CLUSTER_CONF" "$CREATE_CLUSTER_CONF.pbx-portal"
    as_root sed -i -E 's/^#?[[:space:]]*create_main_cluster.*/create_main_cluster = false/' \
        "$CREATE_CLUSTER_CONF"
    apt_get "$log" install "$@" || status=$?
    as_root mv "$CREATE_CLUSTER_CONF.pbx-portal" "$CREATE_CLUSTER_CONF"
    return "$status"
}
