#!/usr/bin/env bash
# Checks what lies in systemd/: units, drop-ins, users, directories, example environment files.
# One line per check; exit status 1 when one of them fails. Works without systemd as PID 1.
#
#   tests/setup/check-units.sh [DIRECTORY]      default: systemd/ of this repository
set -euo pipefail
export LC_ALL=C SYSTEMD_LOG_LEVEL=warning SYSTEMD_LOG_TARGET=console SYSTEMD_COLORS=0 SYSTEMD_PAGER=''

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source_dir=$(cd "${1:-$repo/systemd}" && pwd)
units=(asterisk-agent.socket asterisk-agent.service api-server.service)

# The highest exposure that passes, in tenths (10 = 1.0 of 10). Reached with systemd 252: 4 and 11.
declare -A exposure_max=([asterisk-agent]=6 [api-server]=13)
# `systemd-analyze security --offline` and `--threshold` came with this version.
readonly OFFLINE_SINCE=250

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# report RESULT CHECK [DETAIL]: the detail is shown indented.
report() {
    printf '%-4s  %s\n' "$1" "$2"
    if [[ -n ${3:-} ]]; then
        printf '%s\n' "$3" | sed 's/^/        /'
    fi
    if [[ $1 == FAIL ]]; then
        failures=$((failures + 1))
    fi
}

# copy_units DIR: the units as they are, but with a program that exists on a build machine. Only
# the two programs that the installation guide installs are replaced: any other path stays and is
# looked for.
copy_units() {
    mkdir -p "$1"
    cp -r "$source_dir"/*.service "$source_dir"/*.socket "$source_dir"/*.service.d "$1"/
    sed -i -E 's#^(ExecStart=)/usr/local/bin/(asterisk-agent|api-server)( |$)#\1/bin/true\3#' \
        "$1"/*.service
}

# verify DIR UNIT: prints what is wrong with it. systemd-analyze exits with 0 when it merely ignores
# what it does not understand, so every word about our files counts; words about other units of this
# machine do not.
verify() {
    local dir=$1 unit=$2 output status=0
    output=$(cd "$dir" && systemd-analyze verify --man=no "./$unit" 2>&1) || status=$?
    output=$(grep -F -e "$dir/" -e "${unit%.*}" <<<"$output" || true)
    if [[ $status -ne 0 && -z $output ]]; then
        output="systemd-analyze verify: exit status $status"
    fi
    printf '%s' "$output"
}

check_syntax() {
    local unit output
    copy_units "$work/units"
    for unit in "${units[@]}"; do
        output=$(verify "$work/units" "$unit")
        if [[ -n $output ]]; then
            report FAIL "verify $unit" "$output"
        else
            report ok "verify $unit"
        fi
    done
}

# exposure DIR SERVICE MAX: prints the overall line; fails when it is above MAX or there is none.
exposure() {
    local output status=0
    output=$(systemd-analyze security --offline=yes --threshold="$3" "$1/$2.service" 2>&1) ||
        status=$?
    grep -oE 'exposure level for .*: [0-9.]+' <<<"$output" | grep -oE '[0-9.]+$' || {
        printf '%s' "$output"
        return 1
    }
    return "$status"
}

check_exposure() {
    local service max value
    for service in asterisk-agent api-server; do
        max=${exposure_max[$service]}
        if ((version < OFFLINE_SINCE)); then
            report skip "security $service: systemd $version has no offline analysis (since $OFFLINE_SINCE)"
        elif value=$(exposure "$work/units" "$service" "$max"); then
            report ok "security $service: exposure $value of 10, at most $((max / 10)).$((max % 10))"
        else
            report FAIL "security $service: at most $((max / 10)).$((max % 10)) of 10" "$value"
        fi
    done
}

# A check that cannot fail proves nothing: each of these units is broken on purpose.
# check_notices NAME SED_SCRIPT: the mistake must be found in the agent's unit.
check_notices() {
    local name=$1 script=$2 dir="$work/broken"
    rm -rf "$dir"
    copy_units "$dir"
    sed -i -E "$script" "$dir/asterisk-agent.service"
    if cmp -s "$dir/asterisk-agent.service" "$work/units/asterisk-agent.service"; then
        report FAIL "notices $name" "the unit has nothing left to break: adjust this check"
    elif [[ -n $(verify "$dir" asterisk-agent.service) ]]; then
        report ok "notices $name"
    else
        report FAIL "notices $name" "the broken unit passed"
    fi
}

check_the_checks() {
    check_notices 'a misspelt setting' 's/^ProtectClock=/ProtectClok=/'
    check_notices 'a wrong value' 's/^ProtectClock=.*/ProtectClock=perhaps/'
    check_notices 'an unknown group of system calls' 's/^(SystemCallFilter=)@system-service/\1@sistem/'
    check_notices 'a program that is not there' 's#^ExecStart=.*#ExecStart=/usr/local/bin/nothing-here#'
    check_notices 'a unit that is not there' 's/^Requires=.*/Requires=nothing-here.socket/'
    if ((version >= OFFLINE_SINCE)); then
        rm -rf "$work/broken"
        copy_units "$work/broken"
        sed -i '/^CapabilityBoundingSet=/d' "$work/broken/asterisk-agent.service"
        if exposure "$work/broken" asterisk-agent "${exposure_max[asterisk-agent]}" >/dev/null; then
            report FAIL 'notices a weakened unit' 'it passed without CapabilityBoundingSet='
        else
            report ok 'notices a weakened unit'
        fi
    fi
}

# Users and directories are made for real, below a directory of our own.
check_users_and_directories() {
    local root="$work/root" output path wanted
    mkdir -p "$root/etc/asterisk"
    printf 'root:x:0:0::/root:/bin/sh\nasterisk:x:171:171::/var/lib/asterisk:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nasterisk:x:171:\n' >"$root/etc/group"
    if output=$(systemd-sysusers --root="$root" "$source_dir/sysusers.d/asterisk-agent.conf" 2>&1) &&
        grep -q '^pbx-agent:' "$root/etc/passwd"; then
        report ok 'sysusers.d makes pbx-agent'
    else
        report FAIL 'sysusers.d makes pbx-agent' "$output"
        return
    fi
    if output=$(systemd-sysusers --root="$root" "$source_dir/sysusers.d/api-server.conf" 2>&1) &&
        grep -q '^pbx-portal:' "$root/etc/group"; then
        report ok 'sysusers.d makes the group pbx-portal'
    else
        report FAIL 'sysusers.d makes the group pbx-portal' "$output"
    fi
    if ((EUID != 0)); then
        report skip 'tmpfiles.d: only root can give directories away'
        return
    fi
    # As Debian's package leaves it. The owners are in question here, because systemd-tmpfiles
    # refuses a path that leads from one unprivileged owner to another; and twice, because the
    # second run goes over what the first one has made.
    chown 171:171 "$root/etc/asterisk"
    wanted="2750 $(awk -F: '$1 == "pbx-agent" { print $3 }' "$root/etc/passwd"):171"
    for _ in first second; do
        if ! output=$(systemd-tmpfiles --create --root="$root" "$source_dir/tmpfiles.d/asterisk-agent.conf" 2>&1); then
            report FAIL 'tmpfiles.d makes the directories' "$output"
            return
        fi
    done
    for path in pjsip.d/synergycall extensions.d/synergycall; do
        output=$(stat -c '%a %u:%g' "$root/etc/asterisk/$path" 2>&1) || true
        if [[ $output == "$wanted" ]]; then
            report ok "tmpfiles.d makes /etc/asterisk/$path"
        else
            report FAIL "tmpfiles.d makes /etc/asterisk/$path" "$output, not $wanted"
        fi
    done
}

# Every variable of an example or a unit must be one that the program reads: it stands in its
# source as "NAME", or as "NAME" without _FILE for a secret.
check_environment() {
    local service file output name
    for service in asterisk-agent api-server; do
        file="$source_dir/$service.env.example"
        output=$(grep -nvE '^(#.*|[A-Z][A-Z0-9_]*=[^[:space:]"'\'']+)?$' "$file" || true)
        while read -r name; do
            if ! grep -rqE --include='*.rs' "\"($name|${name%_FILE})\"" \
                "$repo/$service/src" "$repo/shared/src"; then
                output+="${output:+$'\n'}$name: the program does not read it"
            fi
        done < <(grep -hoE '^(#|Environment=)?[A-Z][A-Z0-9_]*=' "$file" "$source_dir/$service.service" \
            "$source_dir/$service.service.d"/*.conf |
            sed -E 's/^(#|Environment=)//; s/=$//' | sort -u)
        if [[ -n $output ]]; then
            report FAIL "environment of $service" "$output"
        else
            report ok "environment of $service"
        fi
    done
}

if ! command -v systemd-analyze >/dev/null; then
    report FAIL 'systemd-analyze is not installed: apt-get install systemd'
    exit 1
fi
version=$(systemd-analyze --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')

check_syntax
check_exposure
check_the_checks
check_users_and_directories
check_environment
exit "$((failures > 0))"
