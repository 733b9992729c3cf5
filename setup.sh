#!/usr/bin/env bash
# Makes .venv: Python 3.7 with every package at its pinned version. Run it as often as you like; it does only what is missing.
#   ./setup.sh              all that training in one process, evaluation, export and the tests need
#   ./setup.sh --horovod    and Horovod, for several processes on CPU or GPU (compiled here in about 2 minutes; needs g++ and make)
#   PYTHON=/path/to/python3.7 ./setup.sh     with this Python; otherwise the first 3.7 on PATH, of pyenv, of uv or of conda
#   SYSTEM_SITE_PACKAGES=1 ./setup.sh        keeps what this Python already has, for a TensorFlow 1.15 built by hand (aarch64)
set -euo pipefail
CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

venv=$PWD/.venv
log=$venv/setup.log

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# ---------------------------------------------------------------------------------------------------- is it there already?

# What an installation was made from. If any of it differs from what is written beside it, it is made anew: other pins, a
# moved folder (the programs in a venv name it), another or a removed Python, a setup that never came to its end.
made_from() { printf '%s\n' "$venv" && "$venv/bin/python" -V 2>&1 && sha256sum "$@"; }

is_current() {  # STAMP REQUIREMENTS...
    local stamp=$1 now; shift
    [[ -f $stamp ]] && now=$(made_from "$@" 2>&1) && [[ $now == "$(<"$stamp")" ]]
}

venv_is_current() {
    is_current "$venv/setup.stamp" requirements.txt || return
    [[ -z ${SYSTEM_SITE_PACKAGES:-} ]] || grep -qs 'include-system-site-packages = true' "$venv/pyvenv.cfg"
}

horovod_is_current() { is_current "$venv/horovod.stamp" requirements.txt requirements-horovod.txt; }

# ------------------------------------------------------------------------------------------------------- what it starts from

check_platform() {
    [[ $(uname -s) == Linux ]] ||
        fail "TensorFlow 1.15 is set up here for Linux, and this is $(uname -s): use a Linux machine, WSL 2 or a linux/amd64 container"
    [[ $(uname -m) == x86_64 || -n ${SYSTEM_SITE_PACKAGES:-} ]] ||
        fail "TensorFlow 1.15 has no package for $(uname -m): build it into a Python 3.7 by hand (or take the one of your Ascend image), then run PYTHON=/path/to/that/python3.7 SYSTEM_SITE_PACKAGES=1 ./setup.sh"
}

candidates() {
    local home=~ conda prefix
    type -ap python3.7 python3 python || true  # says 1 if one of the names is nowhere
    printf '%s\n' "${PYENV_ROOT:-$home/.pyenv}"/versions/3.7*/bin/python3.7
    printf '%s\n' "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$home/.local/share}/uv/python}"/cpython-3.7*/bin/python3.7
    conda=${CONDA_EXE:-$(type -P conda || true)}
    for prefix in ${conda:+"${conda%/*/*}"} "$home"/{miniconda3,anaconda3,miniforge3,mambaforge}; do
        printf '%s\n' "$prefix/bin/python3.7" "$prefix"/envs/*/bin/python3.7
    done
    sed 's|$|/bin/python3.7|' "$home/.conda/environments.txt" 2>/dev/null || true  # conda's list of all it made
}

# Tried, not only found: pyenv's python3.7 exists on PATH and fails when another version is selected. The Python of .venv does
# not count: it would delete itself.
runs_as_37() {
    [[ -x $1 ]] && timeout 10 "$1" - "$venv" 2>/dev/null <<'PROBE'
import os, platform, sys
mine = os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1])
sys.exit(0 if sys.version_info[:2] == (3, 7) and platform.python_implementation() == 'CPython' and not mine else 1)
PROBE
}

find_python() {  # prints the path
    local path
    if [[ -n ${PYTHON:-} ]]; then
        path=$(type -P -- "$PYTHON") || path=
        runs_as_37 "$path" || fail "PYTHON=$PYTHON is not a Python 3.7 that runs: name another, or unset PYTHON to search for one"
        printf '%s\n' "$path"
        return
    fi
    while read -r path; do
        if runs_as_37 "$path"; then printf '%s\n' "$path"; return; fi
    done < <(candidates)
    fail "no Python 3.7 found (TensorFlow 1.15 has no package for newer ones): run 'pyenv install 3.7.16', 'uv python install 3.7' or 'conda create -n py37 python=3.7', then ./setup.sh again; or run PYTHON=/path/to/python3.7 ./setup.sh"
}

free_mb() { df -Pm -- "$1" | awk 'NR == 2 {print $4}'; }

check_space() {  # FOLDER MEGABYTES ADVICE
    local free
    free=$(free_mb "$1")
    ((free >= $2)) || fail "$1 has $free MB of free disk space and setup needs $2 MB: free some, or $3"
}

# -------------------------------------------------------------------------------------------------------------- working steps

# A person who waits sees that it lives: on a terminal the seconds count, elsewhere a line comes every 30 seconds.
heartbeat() {  # TITLE
    local begin=$SECONDS
    while sleep 1 &>/dev/null && kill -0 $$ 2>/dev/null; do
        if [[ -t 1 ]]; then
            printf '\r\e[Ksetup: %s: %d s  %s' "$1" $((SECONDS - begin)) "$(tail -n 5 "$log" | grep -oE '^ *(Collecting|Building wheel for|Installing) [^ (]{1,40}' | tail -n 1)"
        elif (((SECONDS - begin) % 30 == 29)); then
            say "$1: $((SECONDS - begin + 1)) s, still at work"
        fi
    done
}

logged() {  # TITLE HINT COMMAND...: runs the command, its output goes to the log
    local title=$1 hint=$2 begin=$SECONDS status=0; shift 2
    printf '\n== %s\n' "$title" >>"$log"
    say "$title${hint:+ ($hint)}"
    heartbeat "$title" 9<&- & ticker=$!
    ("$@") >>"$log" 2>&1 </dev/null || status=$?
    stop_heartbeat
    [[ ! -t 1 ]] || printf '\r\e[K'
    ((status)) || say "$title: done in $((SECONDS - begin)) s"
    return "$status"
}

ticker=
stop_heartbeat() {
    if [[ -n $ticker ]]; then kill "$ticker" 2>/dev/null || true; wait "$ticker" 2>/dev/null || true; ticker=; fi
}
trap stop_heartbeat EXIT
trap 'printf "\n" >&2; say "interrupted: ./setup.sh takes it up again" >&2; exit 130' INT TERM

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --retries 2 "$@"; }

# The last step's part of the log says why; its lines come first, the line that says what to do comes last.
explain() {  # WHAT ADVICE
    local lines index
    set +o pipefail  # grep -q hangs up on who writes to it
    lines=$(awk '/^== / {part = ""} {part = part $0 "\n"} END {printf "%s", part}' "$log")
    index=$(pip config get global.index-url 2>/dev/null || true)
    index=${PIP_INDEX_URL:-${index:-https://pypi.org/simple}}
    index=$(printf '%s' "$index" | sed -E 's|//[^/@]*@|//|')  # a mirror's password is nobody's business
    printf '%s\n' "$lines" | grep -E ': (fatal )?error: |CMake Error|ERROR:|[A-Za-z]Error: |Retrying \(' |
        grep -vE 'ERROR: (Ignored|Failed building|Could not build)' | tail -n 3 | cut -c1-200 | sed 's/^ */    /' >&2 || true
    seen() { printf '%s\n' "$lines" | grep -qE "$1"; }
    if seen 'No space left on device' || (($(free_mb "$PWD") < 20)); then
        fail "$1 failed: the disk is full (here or in ${TMPDIR:-/tmp}): free some space, then run ./setup.sh again"
    elif seen 'Retrying \(|Max retries exceeded|[Cc]onnection (error|refused|reset|broken)|Read timed out|SSLError|ProxyError'; then
        fail "$1 failed: pip cannot reach the package index $index: check the network and HTTPS_PROXY, or name a mirror with PIP_INDEX_URL=https://..., then run ./setup.sh again"
    elif seen 'No matching distribution found'; then
        fail "$1 failed: the package index $index has no $(printf '%s\n' "$lines" | sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' | tail -n 1) for this machine: name a complete one with PIP_INDEX_URL=https://pypi.org/simple, then run ./setup.sh again"
    fi
    fail "$1 failed: $2 (all of it is in .venv/setup.log)"
}

# ------------------------------------------------------------------------------------------------------------ what is made

make_venv() {
    local python output options=(--clear)
    check_platform
    python=$(find_python) || exit
    say "$("$python" -V 2>&1): $python"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python lacks the modules venv and ensurepip: install them ('apt install python3.7-venv' on Debian and Ubuntu), or run PYTHON=/path/to/another/python3.7 ./setup.sh"
    if [[ -n ${SYSTEM_SITE_PACKAGES:-} ]]; then
        "$python" -c 'import tensorflow as tf; assert tf.__version__.startswith("1.15.")' >/dev/null 2>&1 ||
            fail "SYSTEM_SITE_PACKAGES=1 needs a Python that imports TensorFlow 1.15, and $python does not: name it with PYTHON=/path/to/python3.7"
        options+=(--system-site-packages)
    fi
    if [[ -e $venv ]]; then
        say "the .venv here is unfinished, or made for other pins, another place or a Python that is gone: making it anew"
        rm -rf -- "${venv:?}"/*
    fi
    check_space "$PWD" 3000 "move this folder to a larger disk"
    check_space "${TMPDIR:-/tmp}" 1000 "name a larger folder with TMPDIR=/path"
    output=$("$python" -m venv "${options[@]}" "$venv" 2>&1) ||
        fail "$python cannot make a virtual environment in $venv: $(tail -n 1 <<<"$output")"
    install_packages
    made_from requirements.txt >"$venv/setup.stamp.new"
    mv "$venv/setup.stamp.new" "$venv/setup.stamp"
}

# Without what a TensorFlow built by hand has brought along: its NumPy fits it, ours may not.
missing_packages() {
    "$venv/bin/python" - <<'LIST'
import pkg_resources
there = {distribution.key for distribution in pkg_resources.working_set}
for line in open('requirements.txt'):
    if '==' in line and pkg_resources.Requirement.parse(line).key not in there | {'tensorflow'}:
        print(line, end='')
LIST
}

install_packages() {
    local wanted=requirements.txt
    # The new pip must be there before it can read the others' wheels.
    # shellcheck disable=SC2046
    logged "pip" "" pip install $(grep -E '^(pip|setuptools|wheel)==' requirements.txt) || explain "installing pip" "see the lines above"
    if [[ -n ${SYSTEM_SITE_PACKAGES:-} ]]; then
        wanted=$venv/requirements.missing.txt
        missing_packages >"$wanted"
    fi
    # Every package is pinned, so there is nothing to resolve.
    logged "packages" "$(grep -c == "$wanted"), up to 600 MB to download, about 1 minute on a fast line" \
        pip install --no-deps --no-build-isolation -r "$wanted" || explain "installing the packages" "see the lines above"
    local status=0
    logged "checking TensorFlow" "" "$venv/bin/python" -W ignore -c 'import tensorflow as tf; print(tf.__version__)' || status=$?
    ((status != 132)) || fail "the CPU of this machine lacks AVX, which the TensorFlow 1.15 package needs: use another machine, or build TensorFlow by hand and run SYSTEM_SITE_PACKAGES=1 ./setup.sh"
    ((status == 0)) || explain "importing TensorFlow" "see the lines above, then 'rm -r .venv' and ./setup.sh again"
}

install_horovod() {
    local tool
    [[ $venv != *[[:space:]]* ]] ||
        fail "Horovod cannot be compiled in a folder with a space in its path ($PWD): move this folder, then run ./setup.sh --horovod again; training in one process works here"
    for tool in g++ make; do
        type -P "$tool" >/dev/null ||
            fail "Horovod is compiled on this machine and there is no $tool: install it ('apt install build-essential', 'yum install gcc-c++ make'), then run ./setup.sh --horovod again; training in one process works without"
    done
    check_space "${TMPDIR:-/tmp}" 1000 "name a larger folder with TMPDIR=/path"
    rm -f "$venv/horovod.stamp"
    # shellcheck disable=SC2046
    logged "CMake" "" pip install --no-deps $(grep -E '^cmake==' requirements-horovod.txt) || explain "installing CMake" "see the lines above"
    # The cache may hold a Horovod that was built against another TensorFlow or none. cstdint: g++ 13 and newer no longer include it
    # by the way.
    PATH=$venv/bin:$PATH CXXFLAGS="${CXXFLAGS:-} -include cstdint" \
        HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 \
        logged "Horovod" "compiling, 2 to 3 minutes" pip install --no-deps --no-build-isolation --no-cache-dir -r requirements-horovod.txt ||
        explain "building Horovod" "see the compiler's lines above; training in one process works without it"
    logged "checking Horovod" "" "$venv/bin/python" -W ignore -c 'import horovod.tensorflow as hvd; hvd.init()' ||
        explain "importing Horovod" "see the lines above; training in one process works without it"
    made_from requirements.txt requirements-horovod.txt >"$venv/horovod.stamp.new"
    mv "$venv/horovod.stamp.new" "$venv/horovod.stamp"
}

is_ready() { venv_is_current && { [[ $1 != --horovod ]] || horovod_is_current; }; }

main() {
    [[ $# == 0 || $* == --horovod ]] || fail "unknown arguments '$*': ./setup.sh takes none, or --horovod"
    if ! is_ready "${1:-}"; then
        [[ -w . ]] || fail "no permission to write in $PWD: copy this folder to a place of your own and run ./setup.sh there"
        exec 9>.setup.lock
        flock -n 9 || { say "another setup is at work in this folder: waiting for it"; flock 9; }
        venv_is_current || make_venv
        [[ ${1:-} != --horovod ]] || horovod_is_current || install_horovod
    fi
    say "ready: .venv/bin/python ($("$venv/bin/python" -V 2>&1))"
}

main "$@"
