//! Kernel and initramfs in `/boot`, against those in the system that they start.

use super::refusal::DeviceRefusal;
use super::{Case, Content, Found, Node, Root, no_root};
use crate::evidence::{Item, Unseen, kernel};

const MODULES: &str = "/usr/lib/modules/";

/// Compares what the booted deployment is started from.
pub fn judge(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("boot") };
    let folder =
        case.evidence.parsed(Item::CommandLine, |text| folder(text).ok_or("it has no `ostree=` of libostree's"));
    Found::of(folder, |folder| compare(root, &folder))
}

/// `ostree=/ostree/boot.1/secai/SUM/0` is started from `/boot/ostree/secai-SUM/`.
fn folder(command_line: &str) -> Option<String> {
    let arguments = kernel::arguments(command_line);
    let value = arguments.iter().find_map(|it| it.strip_prefix("ostree="))?;
    let mut parts = value.strip_prefix("/ostree/boot.")?.split('/').skip(1);
    let (name, sum) = (parts.next()?, parts.next()?);
    Some(format!("/boot/ostree/{name}-{sum}"))
}

fn compare(root: &Root, folder: &str) -> Found {
    let mut found = Found { unseen: root.unseen_below("/boot/ostree").collect(), ..Found::default() };
    let of_the_system = |name: &str| {
        let in_modules = |node: &&Node| node.path.starts_with(MODULES) && node.path.rsplit('/').next() == Some(name);
        let mut nodes = root.files.iter().filter(in_modules);
        // A commit has one kernel.
        nodes.next().filter(|_| nodes.next().is_none())
    };
    let here: Vec<&Node> = root.boot.iter().filter(|node| node.path.starts_with(&format!("{folder}/"))).collect();
    for (prefix, name) in [("vmlinuz", "vmlinuz"), ("initramfs", "initramfs.img")] {
        let starts = |node: &&&Node| {
            let base = node.path.rsplit('/').next().unwrap_or_default();
            base.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))
        };
        let Some(node) = here.iter().find(starts) else {
            if found.unseen.is_empty() {
                found.refusals.push(DeviceRefusal::BootFileGone { path: format!("{folder}/{prefix}-…") });
            }
            continue;
        };
        match (&node.content, of_the_system(name).map(|node| &node.content)) {
            (Content::Unread(why), _) | (_, Some(Content::Unread(why))) => {
                found.unseen.push(Unseen { what: node.path.clone(), why: why.clone() });
            }
            (Content::Regular(found), Some(Content::Regular(named))) if found == named => {}
            _ => found.refusals.push(DeviceRefusal::BootFileChanged { path: node.path.clone() }),
        }
    }
    let known = |path: &str| {
        let base = path.rsplit('/').next().unwrap_or_default();
        ["vmlinuz-", "initramfs-"].iter().any(|it| base.starts_with(it))
    };
    let foreign = here.iter().filter(|node| !known(&node.path));
    found.refusals.extend(foreign.map(|node| DeviceRefusal::BootFileChanged { path: node.path.clone() }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_folder_follows_from_the_command_line() {
        assert_eq!(folder("quiet ostree=/ostree/boot.1/secai/0f/0").unwrap(), "/boot/ostree/secai-0f");
        assert_eq!(folder("quiet ostree=/x"), None);
        assert_eq!(folder("quiet"), None);
    }

    fn node(path: &str, text: &str) -> Node {
        let content = Content::Regular(Digest::of(text.as_bytes()));
        Node { path: path.into(), mode: 0o100_644, uid: 0, gid: 0, content }
    }

    #[test]
    fn what_is_started_is_what_the_system_has() {
        let root = |boot: &[(&str, &str)]| Root {
            files: vec![
                node("/usr/lib/modules/6/initramfs.img", "ramfs"),
                node("/usr/lib/modules/6/vmlinuz", "kernel"),
            ],
            boot: boot.iter().map(|(name, text)| node(&format!("/boot/ostree/secai-0f/{name}"), text)).collect(),
            ..Root::default()
        };
        let names = |boot: &[(&str, &str)]| {
            let found = compare(&root(boot), "/boot/ostree/secai-0f");
            found.refusals.iter().map(DeviceRefusal::name).collect::<Vec<_>>()
        };
        let good = [("initramfs-6.img", "ramfs"), ("vmlinuz-6", "kernel")];
        assert_eq!(names(&good), [""; 0]);
        assert_eq!(names(&good[..1]), ["BootFileGone"]);
        assert_eq!(names(&[good[0], ("vmlinuz-6", "kerneL")]), ["BootFileChanged"]);
        assert_eq!(names(&[good[0], good[1], ("evil.img", "x")]), ["BootFileChanged"]);
        // A kernel that is the initramfs is none.
        assert_eq!(names(&[good[0], ("vmlinuz-6", "ramfs")]), ["BootFileChanged"]);
    }
}
