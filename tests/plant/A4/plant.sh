# A service stops while nobody writes.
systemctl stop secure-ai-audit.socket secure-ai-audit.service
systemctl stop secure-ai-profiles.socket secure-ai-profiles.service
