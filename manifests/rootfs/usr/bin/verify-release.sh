#!/bin/sh
# Has this device say what it is, and judges that: its files, its audit chain, and each claim.
# A device that somebody took over can say anything: then judge its disk from another medium (verify-release device --root).
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

COLLECT=/usr/bin/secaictl
VERIFY=/usr/bin/verify-release
TRUST=/sysroot/secure-ai/trust
OWN_TRUST=/etc/secure-ai/trust
RELEASES=/sysroot/secure-ai/release
ROOT=/

help() {
    cat <<END
Has this device say what it is, and judges that.

Usage: verify-release.sh [--trust DIR] [--release DIR] [--keep DIR]

  --trust DIR    keys of releases and of the audit chain
                 [default: what lies in $TRUST, and what you put into $OWN_TRUST]
  --release DIR  the bundle of the release that this device is to be
                 [default: $RELEASES/COMMIT, of the commit that is booted, if it is there]
  --keep DIR     keep what was gathered there: an empty folder, or one that does not exist yet
  --help         print this

Runs, one after the other: secaictl collect; verify-release device, audit, claims.
What a person may not read, root may: sudo verify-release.sh

Exit codes: 0 everything was judged and is as it should be; 1 something is refused, or a claim is not met;
2 nothing is refused, and something could not be looked at.
END
}

usage() {
    printf 'verify-release.sh: %s\nhint: verify-release.sh --help\n' "$1" >&2
    exit 2
}

trust='' release='' keep=''
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        help
        exit 0
        ;;
    --trust | --release | --keep)
        if [ $# -lt 2 ] || [ -z "$2" ]; then usage "$1 wants a folder"; fi
        case $1 in
        --trust) trust=$2 ;;
        --release) release=$2 ;;
        --keep) keep=$2 ;;
        esac
        shift 2
        ;;
    *) usage "no such option: $1" ;;
    esac
done

scratch=''
# shellcheck disable=SC2317  # run by the traps
clean() {
    [ -z "$scratch" ] || rm -rf -- "$scratch"
}
trap clean EXIT
trap 'exit 2' HUP INT TERM
scratch=$(mktemp -d) || usage 'no place for what is gathered'
evidence=${keep:-$scratch/evidence}
if [ -z "$trust" ]; then
    for from in "$TRUST" "$OWN_TRUST"; do
        [ -d "$from" ] || continue
        trust=$scratch/trust
        mkdir -p "$trust" && cp "$from"/* "$trust" || exit 2
    done
fi

echo '== collect'
"$COLLECT" collect --output "$evidence" || {
    echo 'verify-release.sh: nothing was gathered, so nothing was judged' >&2
    exit 2
}

if [ -z "$release" ] && [ -n "$trust" ] && [ -f "$evidence/deployment" ]; then
    commit=$(sed -n 's/^{"commit":"\([0-9a-f]\{64\}\)".*/\1/p' "$evidence/deployment")
    [ -n "$commit" ] && [ -d "$RELEASES/$commit" ] && release=$RELEASES/$commit
fi

# What only some of the commands take.
set -- --evidence "$evidence" --root "$ROOT"
[ -z "$trust" ] || set -- "$@" --trust "$trust"
[ -z "$release" ] || set -- "$@" --release "$release"

echo '== device'
"$VERIFY" device "$@"
device=$?

echo '== audit'
if [ ! -d "$evidence/chain" ]; then
    echo 'not seen: the audit chain could not be copied'
    audit=2
elif [ -n "$trust" ]; then
    "$VERIFY" audit "$evidence/chain" --trust "$trust"
    audit=$?
else
    "$VERIFY" audit "$evidence/chain"
    audit=$?
fi

echo '== claims'
"$VERIFY" claims "$@"
claims=$?

word() {
    case $1 in
    0) echo 'as it should be' ;;
    1) echo 'REFUSED' ;;
    *) echo 'not seen in full' ;;
    esac
}

echo '== summary'
worst=0
for part in "device $device" "audit $audit" "claims $claims"; do
    code=${part#* }
    printf '%-7s %s\n' "${part%% *}" "$(word "$code")"
    # What is refused outweighs what was not seen.
    case $code in
    0) ;;
    1) worst=1 ;;
    *) [ "$worst" -eq 1 ] || worst=2 ;;
    esac
done
if [ "$worst" -eq 2 ] && [ "$(id -u)" -ne 0 ]; then
    echo 'some of it only root may read: sudo verify-release.sh'
fi
[ -z "$keep" ] || printf 'gathered in %s: it has what people did in it, keep it to yourself\n' "$keep"
exit "$worst"
