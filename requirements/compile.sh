#!/usr/bin/env bash
# Makes the pinned sets of this folder from pyproject.toml, with the hashes of every file, for every Python and system.
#   requirements/compile.sh              what changed in pyproject.toml; other pins stay
#   requirements/compile.sh --upgrade    everything to its newest release
# Needs uv (in the extra `dev`) and a package index.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

pin() {  # SET ARGUMENT...
    local set=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command requirements/compile.sh --output-file "requirements/$set.txt" "$@"
    echo "requirements/$set.txt: $(grep -c == "requirements/$set.txt") packages"
}

project=(pyproject.toml --group build)
pin build --group build "$@"
pin cpu "${project[@]}" "$@"
pin cuda "${project[@]}" --extra cuda "$@"
pin tpu "${project[@]}" --extra tpu "$@"
pin test "${project[@]}" --extra test "$@"
pin dev "${project[@]}" --extra dev "$@"
