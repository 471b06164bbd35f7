# Sourced by ./test: licences, sources, duplicates and advisories of the dependencies (deny.toml).
# shellcheck shell=bash

readonly CARGO_DENY_VERSION=0.20.2

cargo_deny() {
    local root=${XDG_CACHE_HOME:-$HOME/.cache}/pbx-portal/cargo-deny-$CARGO_DENY_VERSION
    if ! [ -x "$root/bin/cargo-deny" ]; then
        step "cargo-deny $CARGO_DENY_VERSION is built once (about 2 minutes)"
        # With a target folder of its own: the workspace's would be rebuilt with other features.
        env -u CARGO_TARGET_DIR -u RUSTFLAGS cargo install --quiet --locked --profile dev \
            --root "$root" --version "$CARGO_DENY_VERSION" cargo-deny
    fi
    "$root/bin/cargo-deny" "$@"
}

check_dependencies() {
    cargo_deny --log-level error check --hide-inclusion-graph -D unmatched-skip \
        -D unnecessary-skip bans licenses sources || return
    local said
    if said=$(cargo_deny --log-level error fetch db 2>&1); then
        cargo_deny --log-level error check --disable-fetch advisories
    else
        printf 'advisories: skipped, their database could not be fetched: %s\n' \
            "$(tail -n 1 <<<"$said")"
    fi
}
