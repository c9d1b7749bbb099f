# Somebody listens beyond loopback.
setsid perl -e 'socket(S, 2, 1, 0) && bind(S, pack("S n C4 x8", 2, 8080, 0, 0, 0, 0)) && listen(S, 1) || die $!; sleep 600' &
for i in $(seq 50); do ss -tln | grep -q :8080 && break; sleep 0.1; done
