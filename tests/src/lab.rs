//! Two network namespaces with a link between them, as a script's beginning, and rules to load there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;
use tempfile::TempDir;

use crate::{Need, as_root, ran, top};

/// What a machine must have for it.
pub const NEEDS: [Need; 6] = [
    Need::Root,
    Need::Program("nft"),
    Need::Program("ip"),
    Need::Program("nsenter"),
    Need::Program("setpriv"),
    Need::Program("python3"),
];

/// A link between this namespace and another, `$far`; behind that one is every address of 1.86.0.0/16. The rules in the
/// file `first` are there before the link is.
const LAB: &str = r#"set -eu
# Programs that every user may run.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
unshare --net sleep 120 & far=$!
trap 'kill $far $(jobs -p) 2>/dev/null' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
there() { nsenter --net=/proc/$far/ns/net "$@"; }
as() { u=$1; shift; setpriv --reuid "$u" --regid "$u" --clear-groups "$@"; }
await() { for i in $(seq 500); do [ -e "$1" ] && return; sleep 0.02; done; echo "no $1" >&2; exit 1; }
ip link add leak0 type veth peer name far0 netns $far
there ip link set lo up
there ip address add 10.86.0.1/24 dev far0
there ip link set far0 up
there ip route add local 1.86.0.0/16 dev lo
nft -f - <first
ip address add 10.86.0.2/24 dev leak0
ip link set leak0 up
ip route add default via 10.86.0.1
"#;

/// A profile's rules for that link, loaded instead of those that are there.
///
/// # Panics
/// Without the profile's page.
pub fn rules(profile: &str, epoch: u32) -> String {
    let (page, loopback) = load_profile(&top().join("manifests/policy"), profile).unwrap();
    let tables = ["inet secure_ai", "netdev secure_ai_l2"].map(|it| format!("table {it}\ndelete table {it}\n"));
    format!("{}{}", tables.concat(), ruleset(&page, &loopback, epoch, ["leak0"]))
}

/// Runs a script (of bash) there, in a folder with these files, `first` among them; and hands back the folder.
///
/// # Panics
/// Where that fails.
pub fn in_lab(files: &[(&str, &str)], script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Other users say here what they have done; it lies where every user may look.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    ran(as_root("unshare").args(["--net", "bash", "-c", &format!("{LAB}{script}")]).current_dir(folder.path())).good();
    folder
}
