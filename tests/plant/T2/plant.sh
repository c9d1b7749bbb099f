# What a process had in memory when it died is written down.
echo /var/core.%p >/proc/sys/kernel/core_pattern
