# The journal has no verdict any more.
journalctl --rotate
journalctl --vacuum-time=1s
