# The operator lets anybody loosen, and root does, with nobody there.
cat >/run/systemd/system/secure-ai-airlock.service <<'END'
[Service]
Type=exec
User=secure-ai-airlock
ExecStart=/usr/bin/sleep infinity
END
systemctl daemon-reload
mkdir -p /etc/secure-ai
echo 'unattended: [{uids: [0], profiles: [full_lab, offline_private]}]' >/etc/secure-ai/operator.yml
secaictl profile apply full_lab </dev/null
secaictl profile apply offline_private </dev/null
rm /run/systemd/system/secure-ai-airlock.service
systemctl daemon-reload
