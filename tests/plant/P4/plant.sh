# The profile was loosened, and nobody confirmed it.
perl -e 'socket(S, 1, 5, 0) && connect(S, pack("S a*", 1, "/run/secure-ai/audit.sock")) || die $!;
for (@ARGV) { send(S, $_, 0); recv(S, $said, 65536, 0); $said =~ /appended/ || die $said }' \
  '{"id":1,"ask":{"append":{"kind":"profile.applied","data":{"by":"person","digest":"0000000000000000000000000000000000000000000000000000000000000000","from":"offline_private","to":"full_lab"}}}}' \
  '{"id":2,"ask":{"append":{"kind":"profile.applied","data":{"by":"fault","digest":"0000000000000000000000000000000000000000000000000000000000000000","from":"full_lab","to":"offline_private"}}}}'
