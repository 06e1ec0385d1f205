#!/bin/sh
# Sets up .venv with the locked environment. Needs python3 with pip, g++ and make; touches nothing outside this folder
# but the caches of uv and pip. Does nothing when everything is in place.
#
#   PYTHON=/path/to/python3.12 deploy/install.sh   takes that Python instead of looking for 3.10
set -eu
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
export UV_PYTHON_INSTALL_DIR="$PWD/.tools/python"

stamp=$(cat requirements.lock setup.py pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/warmstart ] && [ "$(cat .venv/.installed 2>/dev/null)" = "$stamp$PWD" ] &&
  .venv/bin/python -c '' 2>/dev/null; then
  exit 0
fi

# The first Python 3.10 that really runs; a pyenv shim on the PATH may be there and refuse.
find_python() {
  shim=$(command -v python3.10 || true)
  for candidate in \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python3.10 \
    "$shim" \
    "$(dirname "$(dirname "${shim:-/none/none}")")"/versions/3.10.*/bin/python3.10; do
    if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo 3.10 # uv looks further, and fetches one if there is none
}

command -v g++ >/dev/null || { echo "error: g++ is missing (one dependency is built from source): apt-get install g++" >&2; exit 2; }
uv=.tools/bin/uv
if ! "$uv" --version 2>/dev/null | grep -q "^uv $UV_VERSION"; then
  python3 -m pip --version >/dev/null 2>&1 || { echo "error: python3 has no pip: apt-get install python3-pip" >&2; exit 2; }
  rm -rf .tools/bin .tools/uv*
  python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --root-user-action=ignore \
    --target .tools "uv==$UV_VERSION"
fi

python=${PYTHON:-$(find_python)}
echo "installing the locked environment into .venv (Python: $python)"
"$uv" venv --quiet --clear --python "$python" .venv
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Imported once, so that their bytecode is kept even where PYTHONDONTWRITEBYTECODE is set, as in many containers: without
# it each process would compile 8,000 modules anew.
PYTHONDONTWRITEBYTECODE='' TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -W ignore -c 'import tfx.v1, tensorflow_hub, kfp
import deploy.assembly, deploy.cli, deploy.local' >/dev/null 2>&1
echo "$stamp$PWD" >.venv/.installed
