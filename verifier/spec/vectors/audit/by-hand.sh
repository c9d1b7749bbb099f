#!/bin/sh
# Checks chain/ beside it with sha256sum and openssl alone: by-hand.sh DIRECTORY. Knows this chain's five entries and two epochs.
set -eu
cd "$1"
fail() { echo "$1" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: $2 is not $3"; }
# Hex on standard input as bytes; a plain shell's printf knows octal only.
unhex() { for pair in $(sed 's/../& /g'); do printf "\\$(printf %03o "0x$pair")"; done; }
sum() { sha256sum | cut -d' ' -f1; }
line() { sed -n "$(( $1 + 1 ))p" chain/seg/000000000000.jsonl | tr -d '\n'; }
leaf() { { printf '\0'; line "$1"; } | sum; }
node() { { printf '\1'; printf %s "$1$2" | unhex; } | sum; }
prev() { line "$1" | sed 's/.*"prev":"\([0-9a-f]*\)".*/\1/'; }

origin=$(sed -n 1p chain/checkpoint)
same "entry 0 begins the chain" "$(printf 'secai-audit-genesis-v1\n%s' "$origin" | sum)" "$(prev 0)"
for seq in 1 2 3 4; do same "link of entry $seq" "$(line $(( seq - 1 )) | sum)" "$(prev $seq)"; done

salt=$(sed 's/.*"salt":"\([0-9a-f]*\)".*/\1/' chain/seg/000000000000.payload)
payload=$(sed 's/.*"payload":"\([^"]*\)".*/\1/' chain/seg/000000000000.payload)
same "payload of entry 1" \
    "$({ printf %s "$salt" | unhex; printf '%s\n' "$payload" | base64 -d; } | sum)" \
    "$(line 1 | sed 's/.*"p":"\([0-9a-f]*\)".*/\1/')"

three=$(node "$(node "$(leaf 0)" "$(leaf 1)")" "$(leaf 2)")
five=$(node "$(node "$(node "$(leaf 0)" "$(leaf 1)")" "$(node "$(leaf 2)" "$(leaf 3)")")" "$(leaf 4)")
root() { sed -n 3p "$1" | base64 -d | od -An -v -tx1 | tr -d ' \n'; }
same "root of three entries" "$three" "$(root chain/checkpoints.log)"
same "root of five entries" "$five" "$(root chain/checkpoint)"

# Signatures: the first 4 of 68 bytes say which key, the other 64 are Ed25519 over the first three lines.
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
signed() {
    { printf '302a300506032b6570032100' | unhex; cat "$work/$2.pub"; } > "$work/$2.der"
    sed -n 1,3p "$1" > "$work/text"
    sed -n 5p "$1" | cut -d' ' -f3 | base64 -d | tail -c 64 > "$work/signature"
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/$2.der" -rawin -in "$work/text" -sigfile "$work/signature" > /dev/null \
        || fail "the signature of $1 does not hold"
}
cut -d+ -f3- device.vkey | base64 -d | tail -c 32 > "$work/epoch0.pub"
same "the chain's name" "secai-os.local/audit/$(sum < "$work/epoch0.pub" | cut -c1-16)" "$origin"
signed chain/checkpoints.log epoch0
line 2 | sed 's/.*"key":"\([^"]*\)".*/\1/' | base64 -d > "$work/epoch1.pub"
signed chain/checkpoint epoch1
echo "the chain holds"
