# Sourced by ./run and ./test: packages and Asterisk while cargo builds.
# shellcheck shell=bash

set_up() {
    install_missing missing_for_build missing_for_running
    prepare_asterisk
}

# Builds what the arguments tell cargo, and sets everything else up meanwhile.
set_up_and_build() {
    # Without a linker the build cannot even begin.
    install_missing missing_for_build
    step "building (cargo build $*)"
    start_in_own_group cargo build --locked "$@"
    set_up
    # shellcheck disable=SC2154 # set by start_in_own_group (common.sh)
    wait "$job" || fail "the build failed; the compiler's messages are above."
    set_job ''
    step "built"
}

target_dir() {
    cargo metadata --no-deps --offline --format-version 1 |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
