# Somebody listens beyond loopback.
systemd-run --quiet --unit=listens systemd-socket-activate --listen=0.0.0.0:8080 /bin/cat
for i in $(seq 50); do ss -tln | grep -q :8080 && break; sleep 0.1; done
