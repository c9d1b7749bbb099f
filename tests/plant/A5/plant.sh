# A word of an entry is another one.
systemctl stop secure-ai-audit.socket secure-ai-audit.service
sed -i '2s/"boot"/"bood"/' /var/lib/secure-ai/audit/chain/seg/*.jsonl
