#!/usr/bin/env bash
# A real Blender with a window: Debian 13's Blender 4.3.2 in a chroot, under Xvfb, with a real backend outside it.
# Does all of its set-up (root and network needed, about 2 GB and 4 minutes once); pictures go to out/gui/.
#   PLATELIGHT_GUI_ROOT  folder of the chroot, kept between runs (default build/gui/trixie)
#   PLATELIGHT_PYTHON    Python that has platelight (default .venv/bin/python)
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
root=${PLATELIGHT_GUI_ROOT:-$here/build/gui/trixie}
python=${PLATELIGHT_PYTHON:-$here/.venv/bin/python}
out=$here/out/gui

[ "$(id -u)" = 0 ] || { echo "test-gui: chroot needs root; run it with sudo." >&2; exit 2; }
[ -x "$python" ] || { echo "test-gui: $python is missing; run make setup first." >&2; exit 2; }
if [ ! -x "$root/usr/bin/blender" ]; then
  command -v debootstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq debootstrap; }
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates trixie "$root" >/dev/null
  chroot "$root" apt-get install -y -qq --no-install-recommends \
    blender python3-numpy python3-requests python3-zstandard xvfb xdotool imagemagick libgl1-mesa-dri >/dev/null
fi

work=$root/work
rm -rf "$work" "$out"
mkdir -p "$work/shots" "$work/config" "$out"
chmod 700 "$work/config"
"$python" "$here/build_addon.py" -o "$work" --cache "$here/build/wheels"
mv "$work"/platelight-*.zip "$work/platelight.zip"
cp "$here/tests/gui/drive.py" "$work/"
"$python" - "$work" <<'PY'
import shutil, sys
from pathlib import Path
from skimage import data, io
folder = Path(sys.argv[1])
io.imsave(folder / "portrait.png", data.astronaut(), check_contrast=False)
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
PLATELIGHT_CONFIG_DIR=$work/config PYTHONPATH=$here/backend "$python" -m platelight.server --port 0 >"$work/server.log" 2>&1 &
backend=$!
number=:$((90 + RANDOM % 100))
chroot "$root" Xvfb "$number" -screen 0 1600x1000x24 >/dev/null 2>&1 &
display=$!
for _ in $(seq 100); do [ -e "$work/config/server.json" ] && break; sleep 0.2; done

inside() {
  chroot "$root" env HOME=/work DISPLAY="$number" BLENDER_USER_RESOURCES=/work/blender LIBGL_ALWAYS_SOFTWARE=1 \
    PLATELIGHT_CONFIG_DIR=/work/config "$@"
}
inside blender -b --python-exit-code 1 --python /work/drive.py -- install >"$work/install.log" 2>&1 \
  || { tail -20 "$work/install.log" >&2; exit 1; }
status=0
inside timeout "${PLATELIGHT_GUI_TIMEOUT:-900}" blender --enable-event-simulate --window-geometry 0 0 1600 1000 \
  --python /work/drive.py -- drive >"$work/drive.log" 2>&1 || status=$?
cp "$work"/shots/* "$out"/ 2>/dev/null || true
grep '^GUI' "$work/drive.log" || true
if [ "$status" != 0 ] || ! grep -q '^GUI done' "$work/drive.log"; then
  echo "test-gui: failed with $status; the logs are $work/drive.log and $work/server.log" >&2
  tail -20 "$work/drive.log" >&2
  exit 1
fi
echo "test-gui: passed; pictures are in $out"
