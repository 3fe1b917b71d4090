#!/usr/bin/env bash
# A real Blender with a window, in a Debian chroot under Xvfb, with a real backend outside it.
# Does all of its set-up (root and network needed, about 2 GB and 4 minutes once); pictures go to out/gui/.
#   BLENDER              4: 4.3 from Debian 13 (default); 5: the newest of Debian's unstable archive, at best effort: where
#                        that cannot be had the test is skipped
#   PLATELIGHT_GUI_ROOT  folder of the chroot, kept between runs (default build/gui/trixie or build/gui/sid)
#   PLATELIGHT_GUI_SCRIPTS  drive (a plate from loading to the compositor), states (what else panels show), library (HDRIs and
#                        Poly Haven), command (blender --command platelight, without a window); default: all
#   PLATELIGHT_PYTHON    Python that has platelight (default .venv/bin/python)
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
major=${BLENDER:-4}
unset BLENDER # a program's path for build_addon.py
packages=(blender python3-numpy python3-requests python3-zstandard xvfb xdotool imagemagick libgl1-mesa-dri)
case $major in
  4) suite=trixie wheels=() out=$here/out/gui ;;
  # Its Python is newer than any that the extension has wheels for, so it gets Debian's own pyzmq and msgspec.
  5) suite=sid wheels=(--no-wheels) out=$here/out/gui5 packages+=(python3-zmq python3-msgspec) ;;
  *) echo "test-gui: BLENDER is 4 or 5, not $major." >&2; exit 2 ;;
esac
root=${PLATELIGHT_GUI_ROOT:-$here/build/gui/$suite}
python=${PLATELIGHT_PYTHON:-$here/.venv/bin/python}

[ "$(id -u)" = 0 ] || { echo "test-gui: chroot needs root; run it with sudo." >&2; exit 2; }
[ -x "$python" ] || { echo "test-gui: $python is missing; run make setup first." >&2; exit 2; }

set_up() {
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } || return 1
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" &&
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

if [ ! -x "$root/usr/bin/blender" ]; then
  mkdir -p "$(dirname "$root")"
  if ! set_up >"$root.log" 2>&1; then
    if [ "$major" = 5 ]; then
      echo "test-gui: skipped, Blender 5 of Debian's $suite could not be had; the log is $root.log."
      exit 0
    fi
    tail -5 "$root.log" >&2
    echo "test-gui: Debian's $suite could not be set up; the log is $root.log." >&2
    exit 1
  fi
fi
version=$(chroot "$root" blender --version | head -1)
echo "test-gui: $version"
if [[ $version != "Blender $major."* ]]; then
  echo "test-gui: skipped, Debian's $suite has $version where Blender $major is to be tested."
  exit $((major == 4))
fi

work=$root/work
rm -rf "$work" "$out"
mkdir -p "$work/shots" "$work/config" "$out"
chmod 700 "$work/config"
"$python" "$here/build_addon.py" "${wheels[@]}" -o "$work" --cache "$here/build/wheels"
mv "$work"/platelight-*.zip "$work/platelight.zip"
cp "$here"/tests/gui/*.py "$here/tests/addon/haven.py" "$work/"
"$python" - "$work" <<'PY'
import shutil, sys
from pathlib import Path
from skimage import data, io
folder = Path(sys.argv[1])
portrait = data.astronaut()
io.imsave(folder / "portrait.png", portrait, check_contrast=False)
(folder / "shot").mkdir()
for frame in range(1001, 1004):
    io.imsave(folder / "shot" / f"shot.{frame}.png", portrait[::4, ::4], check_contrast=False)
import bpy
world = Path(bpy.utils.resource_path("LOCAL")) / "datafiles" / "studiolights" / "world"
for name in ("forest.exr", "sunset.exr"):
    shutil.copy(world / name, folder)
PY

backend=
display=
finish() {
  [ -z "$backend" ] || kill "$backend" 2>/dev/null || true
  [ -z "$display" ] || kill "$display" 2>/dev/null || true
}
trap finish EXIT

inside() {
  chroot "$root" env HOME=/work PYTHONPATH=/work BLENDER_USER_RESOURCES=/work/blender LIBGL_ALWAYS_SOFTWARE=1 \
    PLATELIGHT_CONFIG_DIR=/work/config "$@"
}

serve() { # NAME OPTIONS... : a backend, that is there when this returns
  local name=$1
  shift
  rm -f "$work/config/server.json"
  PLATELIGHT_CONFIG_DIR=$work/config PYTHONPATH=$here/backend:$here/tests/addon/scripts \
    "$python" -m platelight.server --port 0 "$@" >"$work/$name.server.log" 2>&1 &
  backend=$!
  for _ in $(seq 300); do [ -e "$work/config/server.json" ] && break; sleep 0.2; done
}

# The command of the enabled extension: a shot, a .blend's plate with its keyed light, a second time, with a frame missing.
command_line() {
  local log=$work/command.log status shot="/work/shot/shot.####.png"
  local relight=(relight "$shot" --light /work/forest.exr --temporal off --matte full --samples 2 -o /work/relit)
  serve command --job addon_job:run_job
  say() { # EXIT-CODE ARGUMENTS... : blender ends with it
    local wanted=$1
    shift
    echo "+ blender $*" >>"$log"
    status=0
    inside timeout "${PLATELIGHT_GUI_TIMEOUT:-900}" blender "$@" >>"$log" 2>&1 || status=$?
    [ "$status" = "$wanted" ] || { echo "test-gui: blender $* ended with $status, not $wanted; the log is $log." >&2; tail -20 "$log" >&2; exit 1; }
  }
  say 0 --command platelight "${relight[@]}" --frames 1001-1003 --report /work/relit.json
  say 0 --command platelight "${relight[@]}" --frames 1001-1003 --report /work/again.json
  say 2 --command platelight "${relight[@]}" --frames 1001-1004
  say 3 --command platelight "${relight[@]}" --frames 1001-1004 --keep-going --report /work/partly.json
  say 0 -b --python-exit-code 1 --python /work/keyed.py
  say 0 -b /work/keyed.blend --command platelight render -o /work/rendered --report /work/rendered.json
  kill "$backend"
  wait "$backend" 2>/dev/null || true
  backend=
  PYTHONPATH=$here/backend "$python" "$here/tests/gui/command_check.py" "$work"
}

# A window of 1600 by HEIGHT, in which tests/gui/SCRIPT.py works with a backend that was started with OPTIONS.
play() { # SCRIPT HEIGHT OPTIONS...
  local script=$1 height=$2 number=:$((90 + RANDOM % 100)) status=0 log=$work/$1.log
  shift 2
  serve "$script" "$@"
  chroot "$root" Xvfb "$number" -screen 0 "1600x${height}x24" >/dev/null 2>&1 &
  display=$!
  inside timeout "${PLATELIGHT_GUI_TIMEOUT:-900}" env "DISPLAY=$number" blender --python-use-system-env \
    --enable-event-simulate --window-geometry 0 0 1600 "$height" --python "/work/$script.py" >"$log" 2>&1 || status=$?
  kill "$backend" "$display"
  wait "$backend" "$display" 2>/dev/null || true
  backend= display=
  cp "$work"/shots/* "$out"/ 2>/dev/null || true
  grep '^GUI' "$log" || true
  if [ "$status" != 0 ] || ! grep -q '^GUI done' "$log"; then
    echo "test-gui: $script failed with $status; the logs are $log and $work/$script.server.log" >&2
    tail -20 "$log" >&2
    exit 1
  fi
}

inside blender -b --python-exit-code 1 --python /work/install.py >"$work/install.log" 2>&1 \
  || { tail -20 "$work/install.log" >&2; exit 1; }
for script in ${PLATELIGHT_GUI_SCRIPTS:-drive states library command}; do
  case $script in
    drive) play drive 1000 ;;
    states) play states 2000 --job addon_job:run_job ;;
    library) play library 2000 --job addon_job:run_job ;;
    command) command_line ;;
  esac
done
echo "test-gui: passed; pictures are in $out"
