#!/usr/bin/env bash
# Makes .venv: CPython 3.7 and every package at its pinned version. Run it again at any time: it does only what is missing.
#   ./setup.sh              for training in one process, evaluation, export and tests; where CANN is installed, for Ascend too
#   ./setup.sh --horovod    also Horovod, for several processes on CPU or GPU (compiled in 2 to 3 minutes, needs g++ and make)
#   ./setup.sh --mkl        Intel's build of TensorFlow, which trains faster on x86_64 CPUs (PERFORMANCE.md); not for Ascend, GPU.
#                           It stays at later calls; back to the stock build: rm -r .venv && ./setup.sh
# Optional variables:
#   PYTHON=/path/python3.7    instead of the first 3.7 on PATH, of pyenv or of conda. Where there is none, 3.7.9 is downloaded.
#   SYSTEM_SITE_PACKAGES=1    keeps the packages of that Python, for a TensorFlow 1.15 built by hand (aarch64)
#   UV_INDEX_URL, UV_PYTHON_INSTALL_MIRROR    mirrors of PyPI (default: what pip is configured to use) and of the Python builds
set -euo pipefail
CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

uv_pin=uv==0.5.31  # later releases no longer offer Python 3.7
builds=https://github.com/astral-sh/python-build-standalone/releases/download
build=20200822/cpython-3.7.9-x86_64-unknown-linux-gnu-pgo-20200823T0036.tar.zst
build_sha256=c6d6256d13e929e77e7ee6e53470fe63ad19d173fee6d56bb1b2dbda67081543
cann=${ASCEND_TOOLKIT_HOME:-/usr/local/Ascend/ascend-toolkit}
pins=(requirements.txt)
[[ ! -d $cann ]] || pins+=(requirements-ascend.txt)

fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
install() { "$uv" pip install --python .venv/bin/python --no-deps --no-build-isolation --index-strategy unsafe-best-match "$@"; }
stamp() { printf '%s\n' "$PWD" "${SYSTEM_SITE_PACKAGES:-}"; .venv/bin/python -V && sha256sum "$@"; }
is_made() { [[ -f .venv/$1 && $(stamp "${@:2}" 2>&1) == "$(<".venv/$1")" ]]; }

find_python() {  # prints the first CPython 3.7 that runs, outside .venv; or 3.7, for uv to provide
    local path conda=${CONDA_EXE:-$(type -P conda || true)} is_37='import sys
sys.exit(sys.version_info[:2] != (3, 7) or sys.implementation.name != "cpython" or sys.prefix == sys.argv[1])'
    while read -r path; do
        if timeout 10 "$path" -c "$is_37" "$PWD/.venv" 2>/dev/null; then printf '%s\n' "$path"; return; fi
        [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a CPython 3.7 that runs: name another, or unset PYTHON"
    done < <([[ -z ${PYTHON:-} ]] || printf '%s\n' "$PYTHON"
        type -ap python3.7 python3 python
        printf '%s/bin/python3.7\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.7* \
            {"${conda%/*/*}","$HOME"/{miniconda3,anaconda3,miniforge3}}{,/envs/*})
    echo 3.7
}

get_uv() {  # sets uv, and tells it what pip is configured to use
    local python name value
    for python in python3 python "${PYTHON:-python3.7}" /usr/bin/python3; do
        "$python" -c 'import pip' 2>/dev/null && break
    done
    for name in index-url=UV_INDEX_URL extra-index-url=UV_EXTRA_INDEX_URL cert=SSL_CERT_FILE; do
        value=$({ "$python" -m pip config list 2>/dev/null || true; } | sed -n "s/^[^=]*\.${name%=*}='\(.*\)'$/\1/p" | head -n 1)
        [[ -z $value || -n $(printenv "${name#*=}") ]] || export "${name#*=}=$value"
    done
    uv=$(type -P uv || true)
    [[ $("${uv:-false}" --version) != "${uv_pin/==/ }"* ]] || return 0
    uv=$PWD/.uv/bin/uv
    [[ -x $uv ]] || "$python" -m pip install -q --no-deps --ignore-requires-python --target .uv "$uv_pin" ||
        fail "no $uv_pin, see above: 'pipx install $uv_pin' or 'curl -LsSf https://astral.sh/uv/${uv_pin#*==}/install.sh | sh' installs it"
}

download_python() {  # uv has no digest of builds this old
    local file=$PWD/.uv/python/$build url=${UV_PYTHON_INSTALL_MIRROR:-$builds}/$build
    if [[ $url != file://* ]]; then
        mkdir -p "${file%/*}"
        { curl -fL -o "$file" "$url" || python3 -c 'import sys, urllib.request as r; r.urlretrieve(*sys.argv[1:])' "$url" "$file"; } &&
            sha256sum --quiet -c <<<"$build_sha256  $file" ||
            fail "no sound Python 3.7 from $url: name a mirror of $builds in UV_PYTHON_INSTALL_MIRROR, or an installed Python in PYTHON"
        UV_PYTHON_INSTALL_MIRROR=file://$PWD/.uv/python
    fi
    UV_PYTHON_INSTALL_MIRROR=$UV_PYTHON_INSTALL_MIRROR "$uv" python install 3.7.9
}

make_venv() {
    local python there
    [[ $(uname -sm) == 'Linux x86_64' || -n ${SYSTEM_SITE_PACKAGES:-} ]] ||
        fail "TensorFlow 1.15 has no package for $(uname -sm): use Linux on x86_64 (or WSL 2, or a linux/amd64 container)," \
            "or build it for a Python 3.7 and run PYTHON=/path/to/python3.7 SYSTEM_SITE_PACKAGES=1 ./setup.sh"
    python=$(find_python)
    get_uv
    [[ $python != 3.7 ]] || "$uv" python find --python-preference only-managed 3.7 &>/dev/null || download_python
    rm -rf .venv
    "$uv" venv -q --no-project --python "$python" ${SYSTEM_SITE_PACKAGES:+--system-site-packages} .venv
    sed "${mkl:+/^tensorflow==/d}" "${pins[@]}" >.venv/pins.txt
    if [[ -n ${SYSTEM_SITE_PACKAGES:-} ]]; then  # what is there fits the TensorFlow that is there
        there=$("$python" -m pip list --format freeze | sed 's/==.*//' | paste -sd '|')
        grep -hviE "^($there|tensorflow)==" "${pins[@]}" >.venv/pins.txt
    fi
    install -r <(grep -E '^(setuptools|wheel)==' requirements.txt) && install -r .venv/pins.txt ||  # these two build the others
        fail "no packages, see above: UV_INDEX_URL=https://... names another package index"
    .venv/bin/python -W ignore -c 'import tensorflow as tf; assert tf.__version__.startswith("1.15.")' ||
        fail "TensorFlow 1.15 does not run here (exit status $?; 132: the CPU lacks AVX)"
    stamp "${pins[@]}" >.venv/setup.stamp
}

install_horovod() {
    local advice='then run ./setup.sh --horovod again; training in one process works without'
    local headers packages=.venv/lib/python3.7/site-packages
    [[ $PWD != *[[:space:]]* ]] || fail "Horovod does not compile in a folder with a space in its path ($PWD): move it, $advice"
    type -P g++ >/dev/null && type -P make >/dev/null ||
        fail "Horovod needs g++ and make: 'apt install g++ make' or 'yum install gcc-c++ make', $advice"
    get_uv
    install cmake==3.26.4  # the build looks for it on PATH
    # The wheel intel-tensorflow has its headers in tensorflow-1.15.2.data: uv, unlike pip, leaves a folder of that name where it is.
    for headers in "$packages"/tensorflow-*.data/purelib; do
        [[ ! -d $headers ]] || cp -r "$headers/." "$packages"
    done
    # No cache: it may hold a Horovod for another TensorFlow. cstdint: g++ 13 and later do not include it by themselves.
    PATH=$PWD/.venv/bin:$PATH CXXFLAGS="${CXXFLAGS:-} -include cstdint" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
        HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 install --no-cache --reinstall -r requirements-horovod.txt &&
        .venv/bin/python -W ignore -c 'import horovod.tensorflow as hvd; hvd.init()' || fail "no Horovod, see above: fix it, $advice"
    stamp "${pins[@]}" requirements-horovod.txt >.venv/horovod.stamp
}

horovod= mkl=
for flag; do
    [[ $flag == --horovod || $flag == --mkl ]] || fail "unknown argument '$flag': ./setup.sh takes none, or --horovod, --mkl or both"
    declare "${flag#--}=yes"
done
! grep -qs ^intel-tensorflow== .venv/pins.txt || mkl=yes
if [[ -n $mkl ]]; then
    [[ $(uname -sm) == 'Linux x86_64' && -z ${SYSTEM_SITE_PACKAGES:-} && ! -d $cann ]] ||
        fail "the MKL build is for Linux on x86_64, without SYSTEM_SITE_PACKAGES or CANN ($cann):" \
            "'rm -r .venv && ./setup.sh' installs the stock build"
    pins+=(requirements-mkl.txt)
fi
all_made() { is_made setup.stamp "${pins[@]}" && { [[ -z $horovod ]] || is_made horovod.stamp "${pins[@]}" requirements-horovod.txt; }; }
if [[ ! -L .venv ]] && ! all_made; then  # a link leads to the environment of another copy
    [[ -w . ]] || fail "no write permission in $PWD, where .venv belongs: clone into a folder of your own"
    exec 9>.setup.lock
    flock 9
    is_made setup.stamp "${pins[@]}" || make_venv
    all_made || install_horovod
fi
version=$(.venv/bin/python -V) || fail "the environment that $PWD/.venv leads to does not run, see above: 'rm .venv' and call again makes one"
printf 'setup: ready: .venv/bin/python (%s%s)\n' "$version" "${mkl:+, MKL build of TensorFlow}"
