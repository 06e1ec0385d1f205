#!/bin/sh
# Builds the image of deploy/Dockerfile with the builder that is there, and tries it as a cluster would run it: as a
# user that no image knows, without any right, its file system read-only but for /tmp.
#
#   deploy/build_image.sh                                  with docker, podman or buildah; the base image is pulled
#   deploy/build_image.sh --tag registry.example.com/ml/warmstart:0.1.0
#   deploy/build_image.sh --rootfs debootstrap             without any registry: see below
#   deploy/build_image.sh --target serving                 the image that only runs `warmstart serve`
#
#   --tag NAME             what the image is called  [default: warmstart:<version>, or warmstart-serving:<version>]
#   --target serving       builds or tries that image, instead of the pipeline's
#   --builder NAME         docker, podman or buildah      [default: the first that works; with --rootfs: buildah]
#   --base IMAGE           another base image                    [default: as in deploy/Dockerfile]
#   --rootfs debootstrap   makes the base image of Debian 12's packages (needs root and `debootstrap`)
#   --python-prefix DIR    with --rootfs: where the Python 3.10 lies that it gets, such as ~/.pyenv/versions/3.10.13;
#                          it must run on Debian 12              [default: pyenv's, else uv downloads one]
#   --mirror URL           with --rootfs: where Debian's packages come from        [default: debootstrap's own]
#   --no-check             builds only
#   --check-only           tries an image that is there
#
# A package index of one's own: what pip is told by its files and PIP_* variables here, it is told in the build too,
# and the certificates of `cert` or SSL_CERT_FILE are trusted there; nothing of it stays in the image.
set -eu
cd "$(dirname "$0")/.."

fail() {
  echo "error: $1" >&2
  exit 2
}

version=$(sed -n 's/^ *version="\(.*\)",$/\1/p' setup.py)
revision=$(git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)
tag='' target='' builder='' base='' rootfs='' python_prefix='' mirror='' build=yes check=yes
while [ $# -gt 0 ]; do
  case $1 in
    --tag | --target | --builder | --base | --rootfs | --python-prefix | --mirror)
      [ $# -ge 2 ] || fail "$1 needs a value: deploy/build_image.sh --help"
      ;;
  esac
  case $1 in
    --tag) tag=$2 && shift 2 ;;
    --target) target=$2 && shift 2 ;;
    --builder) builder=$2 && shift 2 ;;
    --base) base=$2 && shift 2 ;;
    --rootfs) rootfs=$2 && shift 2 ;;
    --python-prefix) python_prefix=$2 && shift 2 ;;
    --mirror) mirror=$2 && shift 2 ;;
    --no-check) check=no && shift ;;
    --check-only) build=no && shift ;;
    -h | --help) sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0" && exit 0 ;;
    *) fail "unknown argument $1: deploy/build_image.sh --help" ;;
  esac
done

case $target in
  '') tag=${tag:-warmstart:$version} ;;
  serving) tag=${tag:-warmstart-serving:$version} ;;
  *) fail "unknown --target $target: expected serving" ;;
esac
case $rootfs in
  '' | debootstrap) ;;
  *) fail "unknown --rootfs $rootfs: expected debootstrap" ;;
esac
[ -z "$rootfs" ] || [ -z "$base" ] || fail "--rootfs makes the base image that --base names: give one of the two"

works() {
  case $1 in
    docker) docker info >/dev/null 2>&1 ;; # the command alone is of no use without its daemon
    podman | buildah) "$1" info >/dev/null 2>&1 ;;
    *) fail "unknown builder $1: expected docker, podman or buildah" ;;
  esac
}
if [ -n "$builder" ]; then
  works "$builder" ||
    fail "$builder does not work here (\`$builder info\` fails): install or start it, or give another --builder"
else
  candidates='docker podman buildah'
  [ -z "$rootfs" ] || candidates='buildah docker podman' # buildah needs neither a daemon nor a container runtime
  for candidate in $candidates; do
    if works "$candidate"; then builder=$candidate && break; fi
  done
  [ -n "$builder" ] || fail "neither docker, podman nor buildah works here: apt-get install buildah"
fi

scratch=$(mktemp -d)
container=''
clean_up() {
  [ -z "$container" ] || buildah rm "$container" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- the base image, of Debian's packages

base_of_debootstrap() { # sets base
  base=localhost/warmstart-base:bookworm-python3.10
  if "$builder" inspect --type image "$base" >/dev/null 2>&1; then
    echo "base: $base of an earlier run (\`$builder rmi --force $base\` to make it anew)"
    return
  fi
  [ "$(id -u)" = 0 ] || fail "--rootfs debootstrap needs root: run it with sudo"
  command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"

  if [ -z "$python_prefix" ]; then
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*; do
      [ ! -x "$candidate/bin/python3.10" ] || python_prefix=$candidate
    done
  fi
  if [ -z "$python_prefix" ]; then
    uv=$(command -v uv || echo .tools/bin/uv)
    "$uv" python install --quiet --no-bin --install-dir "$scratch/uv" 3.10 ||
      fail "there is no Python 3.10 for the base image: give one with --python-prefix DIR"
    for candidate in "$scratch"/uv/cpython-3.10.*; do python_prefix=$candidate; done
  fi
  [ -x "$python_prefix/bin/python3.10" ] ||
    fail "$python_prefix holds no bin/python3.10: give the prefix of a Python 3.10 with --python-prefix DIR"

  root=$scratch/rootfs
  echo "base: Debian 12 by debootstrap, Python of $python_prefix"
  # What Python's own modules are linked with.
  libraries=libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g
  # shellcheck disable=SC2086
  debootstrap --variant=minbase --include="ca-certificates,$libraries" bookworm "$root" $mirror \
    >"$scratch/debootstrap.log" ||
    { tail -n 5 "$scratch/debootstrap.log" >&2 && fail "debootstrap failed: see above; another --mirror may help"; }
  # Without what is installed beside it, its tests and what links it into other programs.
  tar -C "$python_prefix" --create --exclude='./lib/python3.10/site-packages/*' --exclude='./lib/python3.10/test' \
    --exclude='./lib/python3.10/config-*' --exclude='*.a' --exclude=__pycache__ --exclude=./share . |
    tar -C "$root/usr/local" --extract --no-same-owner
  chroot "$root" ldconfig
  chroot "$root" /usr/local/bin/python3.10 -c 'import bz2, ctypes, lzma, pyexpat, readline, sqlite3, ssl, uuid, zlib' ||
    fail "the Python of $python_prefix does not run on Debian 12: give another with --python-prefix DIR"
  chroot "$root" /usr/local/bin/python3.10 -m ensurepip >/dev/null
  ln -sf python3.10 "$root/usr/local/bin/python3"
  # debootstrap copies these two from this machine.
  rm -rf "$root/etc/resolv.conf" "$root/etc/hostname" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

  if [ "$builder" = buildah ]; then
    container=$(buildah from scratch)
    buildah copy --quiet "$container" "$root" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit --quiet --rm "$container" "$base" >/dev/null
    container=''
  else
    tar -C "$root" --create . | "$builder" import - "$base" >/dev/null
  fi
  rm -rf "$root"
}

# --- the build

# What pip is told here, as one file; nothing on this machine's disk. The first value of a key counts.
pip_settings() {
  python3 -m pip config list >"$scratch/pip_config" 2>/dev/null || return 0
  echo '[global]'
  keys='index-url|extra-index-url|trusted-host|proxy|timeout|default-timeout|retries'
  for section in ':env:' install global; do
    sed -nE "s/^$section\.($keys)='(.*)'$/\1=\2/p" "$scratch/pip_config"
  done | sed -E 's/\\n/ /g; s/(=| )file:[^ ]*/\1/g' | awk -F= '!seen[$1]++ && $0 !~ /= *$/'
  [ ! -f "$scratch/ca_bundle" ] || echo 'cert=/run/secrets/ca_bundle'
}

certificates() {
  cert=$(python3 -m pip config list 2>/dev/null | sed -nE "s/^(:env:|install|global)\.cert='(.*)'$/\2/p" | head -n 1)
  cert=${cert:-${SSL_CERT_FILE:-}}
  if [ -n "$cert" ] && [ -f "$cert" ]; then cat "$cert"; fi
}

if [ "$build" = yes ]; then
  [ -z "$rootfs" ] || base_of_debootstrap
  certificates >"$scratch/ca_bundle"
  [ -s "$scratch/ca_bundle" ] || rm "$scratch/ca_bundle"
  pip_settings >"$scratch/pip_conf"

  set -- build --file deploy/Dockerfile --tag "$tag" --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
  set -- "$@" --secret "id=pip_conf,src=$scratch/pip_conf"
  [ ! -f "$scratch/ca_bundle" ] || set -- "$@" --secret "id=ca_bundle,src=$scratch/ca_bundle"
  [ -z "$base" ] || set -- "$@" --build-arg "BASE=$base"
  [ -z "$target" ] || set -- "$@" --target "$target"
  case $builder in
    docker) export DOCKER_BUILDKIT=1 ;;
    podman) set -- "$@" --layers ;;
    buildah) set -- "$@" --layers --isolation chroot ;;
  esac
  echo "building $tag with $builder"
  "$builder" "$@" .
fi

# --- does it do what it is for?

[ "$check" = yes ] || exit 0
echo "trying $tag"

if [ "$builder" = buildah ]; then
  container=$(buildah from "$tag")
  entrypoint=$(buildah inspect --type image --format '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}' "$tag")
  user=$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "$tag")
  size=$(buildah images --format '{{.Size}}' "$tag")
else
  user=$("$builder" image inspect --format '{{.Config.User}}' "$tag")
  size=$("$builder" image inspect --format '{{.Size}}' "$tag" | awk '{printf "%.2f GB", $1 / 1e9}')
fi

# Runs a command through the image's entry point as user $1, group $2: no capability, nothing writable but /tmp.
in_image() {
  uid=$1 gid=$2 && shift 2
  if [ "$builder" != buildah ]; then
    "$builder" run --rm --user "$uid:$gid" --read-only --tmpfs /tmp:rw,exec,mode=1777 --cap-drop ALL \
      --security-opt no-new-privileges --network none "$tag" "$@"
    return
  fi
  # chroot isolation cannot do that: the first process makes its file system read-only and gives its rights away.
  # shellcheck disable=SC2016,SC2086
  buildah run --isolation chroot --user 0:0 --cap-add CAP_SYS_ADMIN "$container" -- sh -c '
    uid=$1 gid=$2 && shift 2
    mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /tmp &&
    exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
  ' in_image "$uid" "$gid" $entrypoint "$@"
}

refuse() {
  echo "error: $tag $1" >&2
  exit 1
}

case $user in
  '' | 0 | 0:* | *[!0-9:]*) refuse "runs as user '$user'; expected a number that is not 0" ;;
esac
if [ "$target" = serving ]; then
  # Everything that the server imports is there if it gets as far as to miss the model.
  said=$(in_image 12345 0 --model=/nowhere 2>&1) && refuse "serves a model that is not there"
  case $said in
    *'/nowhere is not a SavedModel'*) ;;
    *) refuse "cannot serve: $said" ;;
  esac
  echo "$tag: $size, user $user, serves read-only as any user"
  exit 0
fi
# shellcheck disable=SC2016
tools=$(in_image 12345 0 sh -c 'for tool in cc gcc g++ c++ clang make ld as; do command -v "$tool" || true; done')
[ -z "$tools" ] || refuse "holds build tools: $tools"
in_image 12345 0 sh -c '! touch /warmstart/probe /opt/probe 2>/dev/null' || refuse "was not read-only when it was tried"
in_image 12345 0 python -m deploy.kubeflow.node --help >/dev/null || refuse "cannot run a step of the pipeline"
in_image 12345 0 python -c '
from components.backbone.registry import BACKBONES, on_disk
found = on_disk(BACKBONES["efficientnet_lite0"])
raise SystemExit(found != "converted" and f"backbone efficientnet_lite0 is {found}")' || refuse "lacks its backbone"
# Photos are drawn and go through TensorFlow, TFX, Beam and the backbone, in both ways a cluster may run it.
for ids in "12345 0" "${user%%:*} ${user##*:}"; do
  # shellcheck disable=SC2086
  in_image $ids sh -c 'id && warmstart --version && warmstart sample /tmp/sample --photos 60 &&
    warmstart run --config cats_vs_dogs --data /tmp/sample/cats_vs_dogs --root /tmp/root --to FeatureVectorGen' ||
    refuse "could not run the pipeline as user and group $ids"
done
echo "$tag: $size, user $user, no build tools, backbone converted, runs read-only as any user"
