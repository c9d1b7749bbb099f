# Something wakes up that nobody knows of.
printf '[Timer]\nOnBootSec=1d\n' >/run/systemd/system/tell.timer
printf '[Service]\nExecStart=/bin/true\n' >/run/systemd/system/tell.service
systemctl daemon-reload
systemctl start tell.timer
