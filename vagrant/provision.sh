#!/usr/bin/env bash
# Brings a bare Debian 12 or Ubuntu 24.04 to a compiler, and runs all tests. As root.
set -euo pipefail
tree="${1:-/home/vagrant/tollgate}"

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends curl git build-essential
# Those of the machines that `cargo xtask vm` makes.
grep -v '^#' "$tree/vagrant/packages" \
    | xargs apt-get install --yes --quiet=2 --no-install-recommends

if ! command -v "$HOME/.cargo/bin/cargo" >/dev/null; then
    curl --proto '=https' --tlsv1.2 --silent --show-error --fail https://sh.rustup.rs \
        | sh -s -- -y --quiet --profile minimal --component clippy,rustfmt,rust-src
fi
export PATH="$HOME/.cargo/bin:$PATH"

uname -a
cd "$tree"
# A privileged test that cannot run here has failed.
CI=1 cargo xtask test
