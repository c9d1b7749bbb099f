//! `/etc` against `/usr/etc`: differences are listed; those that can switch protection off are refused.

use super::refusal::DeviceRefusal;
use super::{Case, Content, Found, Node, no_root};
use crate::evidence::Unseen;
use std::cmp::Ordering;

/// More differences than a person reads.
const LISTED_MAX: usize = 500;
/// Of more files than these that cannot be read, the first are named.
const UNREAD_NAMED_MAX: usize = 20;
/// Units of the system in the owner's folder.
const UNITS: &str = "/etc/systemd/system/";
/// Whose files and folders there decide what protects the device: our units, systemd's own, and what holds for all.
const UNIT_NAMES: [&str; 6] = ["secure-ai-", "systemd-", "dbus.", "debug-shell", "tor", "service.d"];
/// Files, and with a `/` at the end folders, that decide what protects the device.
const DECIDE: [&str; 27] = [
    "/etc/dbus-1/",
    "/etc/environment",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d/",
    "/etc/ld.so.preload",
    "/etc/modprobe.d/",
    "/etc/modules",
    "/etc/modules-load.d/",
    "/etc/nftables.conf",
    "/etc/nsswitch.conf",
    "/etc/pam.d/",
    "/etc/polkit-1/",
    "/etc/resolv.conf",
    "/etc/security/limits.conf",
    "/etc/security/limits.d/",
    "/etc/sysctl.conf",
    "/etc/sysctl.d/",
    "/etc/systemd/network/",
    "/etc/systemd/networkd.conf",
    "/etc/systemd/system-generators/",
    "/etc/systemd/system.attached/",
    "/etc/systemd/system.conf",
    "/etc/systemd/system.conf.d/",
    "/etc/systemd/system.control/",
    "/etc/sysusers.d/",
    "/etc/tmpfiles.d/",
    "/etc/udev/rules.d/",
];

/// Compares them.
pub fn judge(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("etc") };
    let of_the_image: Vec<Node> = root
        .files
        .iter()
        .filter_map(|node| {
            let rest = node.path.strip_prefix("/usr/etc/")?;
            Some(Node { path: format!("/etc/{rest}"), ..node.clone() })
        })
        .collect();
    let mut found = compare(&of_the_image, &root.etc);
    found.unseen.extend(root.unseen_below("/etc"));
    found
}

/// Both ascend by path.
fn compare(image: &[Node], device: &[Node]) -> Found {
    let mut found = Found::default();
    let (mut image, mut device) = (image.iter().peekable(), device.iter().peekable());
    let (mut unread, mut count) = (0, 0);
    loop {
        let order = match (image.peek(), device.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(image), Some(device)) => image.path.cmp(&device.path),
        };
        let (node, how) = match order {
            Ordering::Less => (image.next(), "removed"),
            Ordering::Greater => (device.next(), "added"),
            Ordering::Equal => {
                let (image, device) = (image.next(), device.next());
                let (Some(image), Some(device)) = (image, device) else { break };
                if let Some(why) = [image, device].into_iter().find_map(|it| match &it.content {
                    Content::Unread(why) => Some(why),
                    _ => None,
                }) {
                    unread += 1;
                    if unread <= UNREAD_NAMED_MAX {
                        found.unseen.push(Unseen { what: device.path.clone(), why: why.clone() });
                    }
                    continue;
                }
                if image == device {
                    continue;
                }
                (Some(device), if image.content == device.content { "given other rights" } else { "changed" })
            }
        };
        let Some(node) = node else { break };
        if decides(&node.path, how) {
            let (path, how) = (node.path.clone(), how.to_owned());
            found.refusals.push(DeviceRefusal::EtcWeakened { path, how });
        }
        count += 1;
        if count <= LISTED_MAX {
            found.listed.push(format!("{how}: {}", node.path));
        }
    }
    if unread > UNREAD_NAMED_MAX {
        let what = format!("{} files of /etc more", unread - UNREAD_NAMED_MAX);
        found.unseen.push(Unseen { what, why: "likewise".to_owned() });
    }
    if count > LISTED_MAX {
        found.listed.push(format!("and {} differences more", count - LISTED_MAX));
    }
    found
}

/// Can this difference switch off what protects the device?
fn decides(path: &str, how: &str) -> bool {
    if let Some(rest) = path.strip_prefix(UNITS) {
        let is_ours = |part: &str| UNIT_NAMES.iter().any(|name| part.starts_with(name));
        let first = rest.split('/').next().unwrap_or_default();
        let last = rest.rsplit('/').next().unwrap_or_default();
        // A link below TARGET.wants that is gone: nothing starts the unit any more.
        return is_ours(first) || (is_ours(last) && how != "added");
    }
    DECIDE.iter().any(|entry| match entry.strip_suffix('/') {
        Some(folder) => path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => path == *entry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn node(path: &str, text: &str) -> Node {
        let content = Content::Regular(Digest::of(text.as_bytes()));
        Node { path: path.into(), mode: 0o100_644, uid: 0, gid: 0, content }
    }

    #[test]
    fn differences_are_listed_and_some_of_them_refused() {
        let image = [
            node("/etc/hostname", "a"),
            node("/etc/nsswitch.conf", "files"),
            node("/etc/systemd/system/multi-user.target.wants/secure-ai-firewall.service", ""),
            node("/etc/systemd/system/timers.target.wants/fstrim.timer", ""),
        ];
        let with = |change: &dyn Fn(&mut Vec<Node>)| {
            let mut device = image.to_vec();
            change(&mut device);
            device.sort_by(|a, b| a.path.cmp(&b.path));
            let found = compare(&image, &device);
            (found.listed, found.refusals.len(), found.unseen.len())
        };
        assert_eq!(with(&|_| {}), (vec![], 0, 0));
        assert_eq!(with(&|it| it[0] = node("/etc/hostname", "b")), (vec!["changed: /etc/hostname".into()], 0, 0));
        assert_eq!(with(&|it| it.push(node("/etc/machine-id", "x"))), (vec!["added: /etc/machine-id".into()], 0, 0));
        assert_eq!(with(&|it| drop(it.remove(3))).1, 0);
        let unread = |it: &mut Vec<Node>| it[0].content = Content::Unread("no".into());
        assert_eq!(with(&unread), (vec![], 0, 1));
        // On the list.
        assert_eq!(with(&|it| it[1] = node("/etc/nsswitch.conf", "dns")).1, 1);
        assert_eq!(with(&|it| it[1].mode = 0o100_666).0, ["given other rights: /etc/nsswitch.conf"]);
        assert_eq!(with(&|it| drop(it.remove(1))).1, 1);
        assert_eq!(with(&|it| drop(it.remove(2))).1, 1);
        for path in [
            "/etc/systemd/system/secure-ai-firewall.service.d/off.conf",
            "/etc/systemd/system/secure-ai-audit.socket",
            "/etc/systemd/system/service.d/all.conf",
            "/etc/systemd/system/systemd-networkd.service",
            "/etc/systemd/system.conf.d/dump.conf",
            "/etc/ld.so.preload",
            "/etc/sysctl.d/99.conf",
            "/etc/udev/rules.d/99.rules",
            "/etc/resolv.conf",
        ] {
            assert_eq!(with(&|it| it.push(node(path, "x"))).1, 1, "{path}");
        }
        for path in ["/etc/systemd/system/mine.service", "/etc/modules-loaded", "/etc/resolv.conf.bak", "/etc/passwd-"]
        {
            assert_eq!(with(&|it| it.push(node(path, "x"))).1, 0, "{path}");
        }
    }
}
