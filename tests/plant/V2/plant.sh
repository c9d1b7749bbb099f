# Somebody talks to an address that is not this machine's loopback.
ip address add 192.0.2.1/32 dev lo
setsid perl -e 'socket(S, 2, 2, 0) && connect(S, pack("S n C4 x8", 2, 53, 192, 0, 2, 1)) || die $!; sleep 600' &
for i in $(seq 50); do ss -uan | grep -q 192.0.2.1:53 && break; sleep 0.1; done
