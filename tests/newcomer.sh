#!/usr/bin/env bash
# A newcomer's machine: `tests/newcomer.sh [--without-rust] bookworm|trixie [COMMAND…]`, as root.
#
# Makes a fresh Debian (essential packages and apt, from the mirror that apt here uses), clones HEAD
# into it and runs there, each timed: `ci/build --yes`, then `ci/test --yes`; or the COMMANDs given.
# Lent to it from this machine: the Rust toolchain (read-only), the crate archives that cargo has
# already fetched (a copy), apt's Acquire settings, the CA bundle that SSL_CERT_FILE names. Nothing else.
# It lives in a mount and a process namespace of its own, and is gone at the end.
set -euo pipefail

fail() { echo "newcomer: $1" >&2; exit 2; }
rust=lent
[ "${1:-}" != --without-rust ] || { rust=none; shift; }
suite=${1:-}
case $suite in bookworm | trixie) shift ;; *) fail "which suite? bookworm or trixie" ;; esac
[ "$(id -u)" -eq 0 ] || fail "needs root, to change its root"
[ $# -gt 0 ] || set -- "ci/build --yes" "ci/test --yes"
top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)

if [ -z "${NEWCOMER_INSIDE:-}" ]; then
  place=$(mktemp -d "${TMPDIR:-/var/tmp}/newcomer-$suite.XXXXXX")
  flags=()
  [ $rust = lent ] || flags=(--without-rust)
  # The child has namespaces of its own: with it end its mounts and everything it started. It heeds
  # no weaker signal, being the first process in there.
  NEWCOMER_INSIDE=$place unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    "${BASH_SOURCE[0]}" "${flags[@]}" "$suite" "$@" &
  inside=$!
  trap 'kill -KILL $inside 2>/dev/null || true; wait $inside 2>/dev/null || true; rm -rf --one-file-system "$place"' EXIT
  trap 'exit 130' INT TERM
  wait $inside
  exit
fi

place=$NEWCOMER_INSIDE
root=$place/root
started=$SECONDS

where() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' "Label: $1" | head -n 1; }
mirror=$(where Debian)
security=$(where Debian-Security)
[ -n "$mirror" ] || fail "apt here knows no Debian mirror: apt-get update"
apt-config dump | grep '^Acquire::' | grep -v 'CompressionTypes\|Languages\|GzipIndexes' >"$place/apt.conf" || true
mmdebstrap --quiet --variant=apt --aptopt="$place/apt.conf" "$suite" "$root" \
  "deb $mirror $suite main" "deb $mirror $suite-updates main" ${security:+"deb $security $suite-security main"}

environment=(HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CARGO_HOME=/var/lib/cargo)
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p "$root/var/lib/cargo/registry"
for part in index cache; do
  [ ! -d "${CARGO_HOME:-$HOME/.cargo}/registry/$part" ] || cp -a "${CARGO_HOME:-$HOME/.cargo}/registry/$part" "$root/var/lib/cargo/registry/"
done
if [ $rust = lent ]; then
  mkdir -p "$root/opt/rust/"{rustup,bin}
  mount --bind -o ro "${RUSTUP_HOME:-$HOME/.rustup}" "$root/opt/rust/rustup"
  mount --bind -o ro "${CARGO_HOME:-$HOME/.cargo}/bin" "$root/opt/rust/bin"
  environment+=(RUSTUP_HOME=/opt/rust/rustup RUSTUP_AUTO_INSTALL=0)
  path=/opt/rust/bin:$path
fi
if [ -n "${SSL_CERT_FILE:-}" ]; then
  install -D -m 644 "$SSL_CERT_FILE" "$root/opt/lent-ca.crt"
  environment+=(SSL_CERT_FILE=/opt/lent-ca.crt CURL_CA_BUNDLE=/opt/lent-ca.crt PIP_CERT=/opt/lent-ca.crt CARGO_HTTP_CAINFO=/opt/lent-ca.crt)
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
git clone --quiet --no-hardlinks "$top" "$root/srv/secai"
echo "newcomer: $suite with $(chroot "$root" dpkg-query -f '.\n' -W | wc -l) packages, rust $rust, after $((SECONDS - started)) s"

for command; do
  started=$SECONDS code=0
  chroot "$root" env -i "${environment[@]}" PATH="$path" bash -c "cd /srv/secai && $command" </dev/null || code=$?
  took="$(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
  echo "newcomer: $suite: $command: exit $code after $took"
  [ $code -eq 0 ] || exit $code
done
