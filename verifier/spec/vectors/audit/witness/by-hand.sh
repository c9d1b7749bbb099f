#!/bin/sh
# Checks witness/ below it with sha256sum and openssl alone: by-hand.sh DIRECTORY (the one that holds chain/ too).
# The witness saw three entries, then was asked about five.
set -eu
cd "$1"
fail() { echo "$1" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: $2 is not $3"; }
# Hex on standard input as bytes; a plain shell's printf knows octal only.
unhex() { for pair in $(sed 's/../& /g'); do printf "\\$(printf %03o "0x$pair")"; done; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
sum() { sha256sum | cut -d' ' -f1; }
node() { { printf '\1'; printf %s "$1$2" | unhex; } | sum; }

# The request: that five entries begin with the three that chain/checkpoints.log closed.
same "what was seen" "old 3" "$(sed -n 1p witness/request)"
proof() { sed -n "$(( $1 + 1 ))p" witness/request | base64 -d | hex; }
root() { sed -n 3p "$1" | base64 -d | hex; }
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
sed '1,/^$/d' witness/request > "$work/checkpoint"
cmp -s "$work/checkpoint" chain/checkpoint || fail "the request is about another checkpoint"
first=$(proof 3)
same "root of three entries" "$(node "$first" "$(proof 1)")" "$(root chain/checkpoints.log)"
same "root of five entries" "$(node "$(node "$first" "$(node "$(proof 1)" "$(proof 2)")")" "$(proof 4)")" "$(root chain/checkpoint)"
same "the proof's end" "" "$(sed -n 6p witness/request)"

# The answer: 4 bytes say which key, 8 which second, 64 are Ed25519 over header, time and the checkpoint's three lines.
name=$(cut -d+ -f1 witness/witness.vkey)
cut -d+ -f3- witness/witness.vkey | base64 -d > "$work/key"
same "the type of the key" 04 "$(head -c 1 "$work/key" | hex)"
id=$({ printf '%s\n' "$name"; cat "$work/key"; } | sum | cut -c1-8)
same "the key's hash" "$id" "$(cut -d+ -f2 witness/witness.vkey)"
same "who answers" "$name" "$(cut -d' ' -f2 witness/answer)"
cut -d' ' -f3 witness/answer | base64 -d > "$work/answer"
same "bytes of the answer" 76 "$(wc -c < "$work/answer" | tr -d ' ')"
same "whose answer" "$id" "$(head -c 4 "$work/answer" | hex)"
seconds=$(( 0x$(head -c 12 "$work/answer" | tail -c 8 | hex) ))
{ printf 'cosignature/v1\ntime %s\n' "$seconds"; sed -n 1,3p chain/checkpoint; } > "$work/message"
{ printf '302a300506032b6570032100' | unhex; tail -c 32 "$work/key"; } > "$work/der"
tail -c 64 "$work/answer" > "$work/signature"
openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/der" -rawin -in "$work/message" -sigfile "$work/signature" > /dev/null \
    || fail "the cosignature does not hold"
cat chain/checkpoint witness/answer | cmp -s - witness/cosigned || fail "what was kept is another checkpoint or answer"
echo "$name saw five entries at $seconds"
