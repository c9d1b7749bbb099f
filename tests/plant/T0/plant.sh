# A profile was in force that no page of this image describes: it may have let out anything.
perl -e 'socket(S, 1, 5, 0) && connect(S, pack("S a*", 1, "/run/secure-ai/audit.sock")) || die $!;
for (@ARGV) { send(S, $_, 0); recv(S, $said, 65536, 0); $said =~ /appended/ || die $said }' \
  '{"id":1,"ask":{"append":{"kind":"profile.applied","data":{"by":"person","digest":"0000000000000000000000000000000000000000000000000000000000000000","from":"offline_private","to":"open_house"}}}}' \
  '{"id":2,"ask":{"append":{"kind":"profile.applied","data":{"by":"fault","digest":"0000000000000000000000000000000000000000000000000000000000000000","from":"open_house","to":"offline_private"}}}}'
