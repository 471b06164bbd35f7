# Sourced by ./run, ./test and the other files of this folder: messages and privileges.
# shellcheck shell=bash

: "${SETUP_STARTED:=$(date +%s)}"
export SETUP_STARTED

# Ordinary users of Debian do not have these, but debootstrap and asterisk lie there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A line of progress, with the seconds since the start.
step() {
    printf '[%3ss] %s\n' "$(($(date +%s) - SETUP_STARTED))" "$*" >&2
}

# What went wrong and what to do about it; then the end.
fail() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# Commands for the end of the script, however it comes; the last one given runs first.
at_exit=()
at_exit() {
    at_exit=("$1" "${at_exit[@]}")
    trap run_at_exit EXIT
}

run_at_exit() {
    local command
    for command in "${at_exit[@]}"; do
        eval "$command" || true
    done
}

# Runs a command in a process group of its own, which ends with this script, and waits for it. A
# signal to the script thus takes everything along, which the shell alone would not do.
job=
in_own_group() {
    start_in_own_group "$@"
    local status=0
    wait "$job" || status=$?
    set_job ''
    return "$status"
}

start_in_own_group() {
    set -m
    "$@" </dev/null 8>&- &
    set +m
    set_job $!
}

# Descriptor 8 is the way to whoever cleans up after a script that was killed outright, if any.
set_job() {
    job=$1
    { echo "$job" >&8; } 2>/dev/null || true
}

end_job() {
    [ -z "$job" ] || kill -- "-$job" 2>/dev/null
}
at_exit end_job

have() {
    command -v "$1" >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" = 0 ]
}

can_be_root() {
    is_root || have sudo
}

as_root() {
    if is_root; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# Runs a command with its output in a file, which is shown only if the command fails.
quietly() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null && return
    local status=$?
    printf '\n--- the end of %s\n' "$log" >&2
    tail -n 25 "$log" >&2
    printf -- '---\n' >&2
    return "$status"
}
