"""Writes the vectors beside it, as the other program writes its logs: python3 make.py"""
import hashlib
import hmac
import json

KEY = b"  this key is printable, so that the space around it does not count \n"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(key, message):
    if key is None:
        return hashlib.sha256(message).hexdigest()
    return hmac.new(key.strip(), message, hashlib.sha256).hexdigest()


DATA = [
    {},
    {"text": "\"\\/\b\f\n\r\t\x00\x1f\x7f é €", "pair": "😀", "half": "\ud83d", "halves": "\udc00\ud800x"},
    {"floats": [1e16, 1e15, 0.1, 1e-4, 1e-5, 1.5e300, -0.0, 100000.0, 123456789012345680.0, 5e-324, 1e22, 9007199254740993.0]},
    {"odd": [float("nan"), float("inf"), float("-inf"), True, False, None, 10**40, -1, 0]},
    {"b": {"z": 1, "a": [{"d": 1, "c": 2}]}, "a": [], "": {}, "\uffff": 1, "😀": 2, "é": 3, "A": 4, "aa": 5},
]


def entries(key, count):
    previous = ""
    for number in range(count):
        hashed = {
            "timestamp": "2026-11-22T19:20:01+00:00" if number == 0 else f"2026-11-22T19:20:01.{number:06}+00:00",
            "event": f"event {number}",
            "data": DATA[number % len(DATA)],
            "prev_hash": previous,
        }
        previous = digest(key, canonical(hashed))
        algorithm = "sha256" if key is None else "hmac-sha256"
        entry = {**hashed, "entry_hash": previous, "algorithm": algorithm}
        yield previous, json.dumps(entry, separators=(",", ":")) + "\n"


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


with open("audit.key", "wb") as file:
    file.write(KEY)
keyed = list(entries(KEY, 12))
write("keyed.20261122-192001-000001.jsonl", "".join(line for _, line in keyed[:4]))
write("keyed.20261122-192001-000002.jsonl", "".join(line for _, line in keyed[4:7]))
write("keyed.jsonl", "".join(line for _, line in keyed[7:]))
head = {"entries": 12, "last_hash": keyed[-1][0]}
write("keyed.jsonl.checkpoint", json.dumps({**head, "hmac": digest(KEY, canonical(head))}))
write("unkeyed.jsonl", "".join(line for _, line in entries(None, 5)))
