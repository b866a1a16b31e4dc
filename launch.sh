#!/usr/bin/env bash
# The one door: sets up .venv when there is need, then runs. `./launch.sh --help` says how.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
venv=$here/.venv
record=$venv/installed  # the sets that are in .venv, and all that decided what they hold; empty while that changes

say() { echo "launch.sh: $*" >&2; }
fail() { say "$*"; exit 2; }

usage() {
    cat <<'END'
./launch.sh                the main job: train ResNet-110 on handwritten digits, then delete its blocks one by one
./launch.sh COMMAND ...    resnet-jax COMMAND ...
./launch.sh test ...       the tests: pytest ..., in the checkout
./launch.sh --processes N --devices D train ...
                           the same as N processes of D devices each, all started again when one dies
./launch.sh bench NAME ... a benchmark of benchmarks/: step, process, gpu, seeds, compile, remat, save,
                           lesion, paths, grid, sweep, input
./launch.sh --help         this text

The first start sets up .venv from pinned packages, each checked against its hash: about a minute with a CPU, and
several GB with an NVIDIA GPU. pip's own configuration and PIP_* variables hold. Later starts find it done; a set
that changed, or was interrupted, is made anew.

RESNET_JAX_PLATFORM=cpu, cuda or tpu    which build of JAX to set up and use; unset: what this machine has

Exit codes: 0 done; 2 a mistake in what was asked; 75 stopped and saved, the same command resumes.
END
}

# Sets `platform` and `why`. Cheap on purpose: it runs at every start.
choose_platform() {
    platform=${RESNET_JAX_PLATFORM:-} why='RESNET_JAX_PLATFORM says so'
    case $platform in
        cpu) export JAX_PLATFORMS=cpu ;;  # .venv may hold the build for an accelerator as well
        cuda | tpu) ;;
        '') detect_platform ;;
        *) fail "RESNET_JAX_PLATFORM is '$platform'; it is one of cpu, cuda, tpu" ;;
    esac
}

detect_platform() {
    if compgen -G '/dev/nvidia[0-9]*' >/dev/null || nvidia-smi -L >/dev/null 2>&1; then
        platform=cuda why='an NVIDIA GPU is here; RESNET_JAX_PLATFORM=cpu leaves it alone'
    # A TPU is one of Google's PCI devices, and so is a network card: its driver's device file makes the difference.
    elif [[ -e /dev/accel0 ]] || { compgen -G '/dev/vfio/[0-9]*' >/dev/null &&
        { [[ -n ${TPU_NAME:-}${TPU_WORKER_ID:-} ]] || grep -qs 0x1ae0 /sys/bus/pci/devices/*/vendor; }; }; then
        platform=tpu why='a TPU is here; RESNET_JAX_PLATFORM=cpu leaves it alone'
    else
        platform=cpu why='no NVIDIA GPU or TPU is here; RESNET_JAX_PLATFORM=cuda or tpu overrules'
    fi
}

# SET...: the sets, and all that decides what their installation holds. No hash: a copy compares as well.
describe() {
    local set
    printf '%s\n' "$*" "$here" "$("$venv/bin/python" -V)"
    for set in build "$@"; do cat -- "$here/requirements/$set.txt"; done
    cat -- "$here/pyproject.toml"
}

# SET...: are they installed? Sets `installed`: the sets that can be built upon, none where anything has changed.
ready() {
    local set
    installed=''
    [[ -s $record ]] && read -r installed <"$record" || return 1
    # shellcheck disable=SC2086  # a list of words
    describe $installed 2>/dev/null | cmp -s - "$record" || { installed=''; return 1; }
    for set; do
        case " $installed " in
            *" $set "*) ;;
            *' cuda '* | *' tpu '*) [[ $set == cpu ]] || return 1 ;;  # they hold all that cpu does
            *) return 1 ;;
        esac
    done
}

set_up() {
    ready "$@" && return
    [[ ! -e $venv || -e $record ]] || fail "$venv is not of launch.sh's making; move it away and start again"
    (
        # Several tasks may start at once: one installs, the others wait. (No flock on macOS: start one first there.)
        if command -v flock >/dev/null && ! flock -n 9; then
            say 'another start is setting up .venv; waiting for it'
            flock 9
        fi
        ready "$@" || install "$@"
    ) 9>>"$here/.venv.lock"
}

install() {
    local set files=()
    [[ -n $installed ]] || find_python
    say "setting up .venv for $platform ($why)"
    trap '(($? == 0)) || say "set-up did not finish; the same command starts it again"' EXIT
    mkdir -p -- "$venv"
    : >"$record"
    if [[ -z $installed ]]; then
        find "$venv" -mindepth 1 -maxdepth 1 ! -path "$record" -exec rm -rf -- {} +
        "$python" -m venv "$venv"
    fi
    for set; do
        files+=(-r "$here/requirements/$set.txt")
        [[ " $installed " == *" $set "* ]] || installed+=${installed:+ }$set
    done
    # The build tools come first, so that nothing is built with what has no hash (promise has no wheel).
    pip_install --require-hashes -r "$here/requirements/build.txt"
    pip_install --require-hashes --no-build-isolation "${files[@]}"
    PIP_REQUIRE_HASHES=0 pip_install --no-build-isolation --editable "$here"
    "$venv/bin/python" -I -m compileall -qq -j 0 "$venv/lib" || true  # on all cores, where pip compiles on one
    # shellcheck disable=SC2086
    describe $installed >"$record.new"
    mv -- "$record.new" "$record"
    say ".venv is ready after $SECONDS s"
}

# The pinned sets are closed, so pip need not resolve them. Isolated: PYTHONPATH must not stand in for a package.
pip_install() {
    PIP_USER=0 "$venv/bin/python" -I -m pip --quiet --disable-pip-version-check install --no-deps --no-compile "$@" >&2
}

find_python() {
    local name bare=''
    for name in python3.13 python3.12 python3.11 python3; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        "$name" -c 'import ensurepip, venv' 2>/dev/null && python=$name && return
        bare=${bare:-$name}
    done
    [[ -z $bare ]] || fail "$bare cannot make virtual environments; install the package python3-venv (Debian, Ubuntu)"
    fail 'no Python of at least 3.11 among python3.13, python3.12, python3.11, python3 on PATH; install one'
}

[[ -f $here/pyproject.toml ]] || fail "$here is no checkout (sbatch copies a script: sbatch --wrap './launch.sh ...')"
choose_platform
case ${1-} in
    -h | --help)
        usage
        ready "$platform" || { echo; echo 'Once set up, the commands of resnet-jax follow here.'; exit 0; }
        echo
        ;;
    test) set_up "$platform" test ;;
    *) set_up "$platform" ;;
esac
export RESNET_JAX_PLATFORM=$platform  # a process on a TPU looks for the others of its pod

# XLA maps the temporaries of every step anew, and fresh memory faults page by page: with huge pages a step on a CPU
# is a fifth to a quarter faster. It counts only where it stands before the process starts.
if [[ $platform == cpu && ${GLIBC_TUNABLES-} != *glibc.malloc.hugetlb* ]]; then
    export GLIBC_TUNABLES=${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1
fi
if (($# == 0)); then
    [[ . -ef $here ]] && at='' || at=$here/
    # Of the lesions the paper's part: what is beyond it takes minutes more (resnet-jax experiment lesion).
    set -- train --config "${at}configs/digits.py" --run "${at}runs/digits" --then lesion:beyond=False
elif [[ $1 == test ]]; then
    shift
    cd -- "$here"
    exec "$venv/bin/python" -m pytest "$@"
elif [[ $1 == bench ]]; then
    [[ -f $here/benchmarks/${2-}.py ]] || fail "there is no benchmark '${2-}'; benchmarks/README.md lists them"
    cd -- "$here"
    exec "$venv/bin/python" -m "benchmarks.$2" "${@:3}"
fi
exec "$venv/bin/resnet-jax" "$@"
