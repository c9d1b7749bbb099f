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
# In a chroot whose root is no mount nobody can have mounts of his own: not mmdebstrap, not bubblewrap, not our tests.
# There the calling script (its arguments are given) starts again in a copy of its mounts that is private; where the
# copy showed up outside as well, it is taken back.
with_own_mounts() {
  if [ "$(id -u)" -ne 0 ] || grep -q '^[0-9]* [0-9]* [^ ]* [^ ]* / ' /proc/self/mountinfo; then return; fi
  local place code=0
  place=$(mktemp -d)
  unshare --mount --propagation unchanged bash -euc '
    place=$1 here=$2
    shift 2
    mount --rbind / "$place"
    mount --make-rprivate "$place"
    # Private first: else /proc outside would go with the one in the copy.
    nsenter --mount="/proc/$PPID/ns/mnt" --root="/proc/$PPID/root" \
      sh -c "mount --make-rprivate \"\$1\" && umount -l \"\$1\"" sh "$place" 2>/dev/null || true
    exec chroot "$place" bash -c "cd \"\$1\" && shift && exec \"\$@\"" bash "$here" "$@"' \
    bash "$place" "$top" "$BASH" "$top/ci/${0##*/}" "$@" || code=$?
  rmdir "$place"
  exit "$code"
}
