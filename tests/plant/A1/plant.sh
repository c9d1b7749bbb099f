# The chain's last word is of another profile than the one in force.
perl -e 'socket(S, 1, 5, 0) && connect(S, pack("S a*", 1, "/run/secure-ai/audit.sock")) || die $!;
for (@ARGV) { send(S, $_, 0); recv(S, $said, 65536, 0); $said =~ /appended/ || die $said }' \
  '{"id":1,"ask":{"append":{"kind":"profile.applied","data":{"by":"fault","digest":"0000000000000000000000000000000000000000000000000000000000000000","from":"research","to":"research"}}}}'
