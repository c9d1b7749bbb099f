# A program of the release is another one.
mount --bind /usr/bin/false /usr/bin/true
