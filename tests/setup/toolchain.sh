# Sourced by ./run and ./test: the Rust toolchain, the one thing that must be there already.
# shellcheck shell=bash

readonly RUST_VERSION_MIN=1.94

require_rust() {
    local found oldest how
    how="Get it from https://rustup.rs (or: rustup update stable), then start again."
    # rustup puts it there; shells that have not been started anew do not know yet.
    have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    have cargo || fail "cargo was not found: Rust $RUST_VERSION_MIN or newer is needed.
$how"
    found=$(cargo --version | awk '{ print $2 }')
    oldest=$(printf '%s\n' "$RUST_VERSION_MIN" "$found" | sort -V | head -n 1)
    [ "$oldest" = "$RUST_VERSION_MIN" ] ||
        fail "cargo is $found: Rust $RUST_VERSION_MIN or newer is needed.
$how"
}

require_rust_component() {
    cargo "$1" --version >/dev/null 2>&1 ||
        fail "cargo $1 was not found: rustup component add $2"
}
