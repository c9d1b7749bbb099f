# Sourced by ci/setup, ci/build and ci/test: one place for what they assume of the surroundings.
# shellcheck shell=bash
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

# rustup's own installer puts its programs here and only asks the next login shell to look;
# mkfs and friends lie in sbin, which a Debian user's PATH lacks.
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# A CI job starts from a fresh clone: what was compiled has to survive outside it.
case ${CI:-} in
  '' | 0 | false) in_ci=no ;;
  *)
    in_ci=yes
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/secai/target}
    ;;
esac

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
  exit 2
}
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    command -v sudo >/dev/null || die "this needs root, and there is no sudo here" "as root: $*"
    sudo "$@"
  fi
}
