# Sourced by ./test: schemathesis, which makes requests from the OpenAPI document, in a virtual
# environment of its own. It is a Python program, and no package of the distributions.
# shellcheck shell=bash

readonly SCHEMATHESIS_VERSION=4.32.5

# What the virtual environment is made with.
missing_for_fuzzing() {
    have python3 || echo python3
    # Debian keeps what brings pip along in a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# Makes the environment once, and names the program in PBX_SCHEMATHESIS.
prepare_schemathesis() {
    local dir log
    dir=$(user_cache)/schemathesis-$SCHEMATHESIS_VERSION
    export PBX_SCHEMATHESIS=$dir/bin/schemathesis
    # The mark is made last: an interrupted installation is simply begun again.
    [ ! -e "$dir/complete" ] || return 0
    step "installing: schemathesis $SCHEMATHESIS_VERSION (from PyPI, into $dir)"
    log=$(mktemp "${TMPDIR:-/tmp}/pbx-schemathesis.XXXXXX")
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    quietly "$log" python3 -m venv "$dir" &&
        quietly "$log" "$dir/bin/python" -m pip --disable-pip-version-check install \
            "schemathesis==$SCHEMATHESIS_VERSION" ||
        fail "schemathesis could not be installed (the end of what was said is above).
It needs Python 3.10 or later and PyPI. Is the network there? Behind a proxy set https_proxy."
    touch "$dir/complete"
    rm -f "$log"
}
