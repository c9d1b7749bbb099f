//! The tree inside a tiny bundle: one file of every kind that a commit, a layer and an SBOM tell apart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use secai_builder::contents::Contents;
use secai_verifier::digest::Digest;

use super::change::{Op, octal, owner};

/// Release of the kernel that it pretends to have.
pub const KERNEL: &str = "6.12.0-tiny";
/// The packages that own files, sorted. By the hash of their names they lie in two layers.
pub const PACKAGES: [&str; 2] = ["base", "tool"];
/// The file that the recipe lays.
pub const BY_RECIPE: &str = "/etc/issue";
/// Folders that every commit has, empty, with their mode.
const EMPTY: [(&str, u32); 8] = [
    ("boot", 0o755),
    ("dev", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("sysroot", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];
const SYMLINKS: [(&str, &str); 4] = [
    ("/bin", "usr/bin"),
    ("/ostree", "sysroot/ostree"),
    ("/usr/bin/alias", "tool"),
    ("/usr/etc/os-release", "../lib/os-release"),
];
/// `security.capability` as the kernel keeps it: revision 2, CAP_NET_RAW permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Mostly the kernel: what makes the bundle some 64 KB.
const KERNEL_BYTES: usize = 24_000;

/// Bytes that do not compress, the same each time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Path, owner, mode, package, bytes.
type Row = (String, (u32, u32), u32, Option<&'static str>, Vec<u8>);

/// Files by path: owner, mode, and the package that has them (none: the compose's, or the recipe's).
fn files() -> Vec<Row> {
    let (base, tool) = (Some("base"), Some("tool"));
    let modules = format!("/usr/lib/modules/{KERNEL}");
    let text = |text: &str| text.as_bytes().to_vec();
    let license = "Everybody may do everything.\n".repeat(20);
    let long = format!("/usr/share/tool/{}/{}", "a".repeat(99), "é".repeat(60));
    let row = |path: &str, owner, mode, package, bytes| (path.to_owned(), owner, mode, package, bytes);
    let root = (0, 0);
    vec![
        row("/usr/bin/ping", root, 0o755, tool, noise(2, 900)),
        row("/usr/bin/su", root, 0o4755, base, noise(3, 1200)),
        row("/usr/bin/tool", root, 0o755, tool, noise(4, 5000)),
        row("/usr/etc/issue", root, 0o644, None, text("tiny \\l\n")),
        row("/usr/etc/passwd", root, 0o644, None, text("root:x:0:0:root:/:/bin/sh\n")),
        row("/usr/etc/shadow", (0, 42), 0o640, None, text("root:*:20000:0:99999:7:::\n")),
        row(&format!("{modules}/initramfs.img"), root, 0o600, None, noise(5, 8000)),
        row(&format!("{modules}/vmlinuz"), root, 0o644, base, noise(6, KERNEL_BYTES)),
        row("/usr/lib/os-release", root, 0o644, base, text("ID=tiny\n")),
        row("/usr/share/base/LICENSE", root, 0o644, base, text(&license)),
        row("/usr/share/base/empty", root, 0o644, base, text("")),
        row("/usr/share/tool/LICENSE", root, 0o644, tool, text(&license)),
        row("/usr/share/tool/LICENSE.7", (7, 7), 0o644, tool, text(&license)),
        row("/usr/share/tool/empty", root, 0o644, tool, text("")),
        row("/usr/share/tool/notes", root, 0o644, tool, text("with an attribute\n")),
        row(&long, root, 0o644, tool, text("a long name\n")),
    ]
}

/// Lays the tree; what each package's archive would say of it comes back.
pub fn lay(root: &Path) -> [Contents; PACKAGES.len()] {
    let mut listed = BTreeMap::from(PACKAGES.map(|name| (name, Contents::default())));
    fs::create_dir_all(root).unwrap();
    for (name, mode) in EMPTY {
        fs::create_dir(root.join(name)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, (uid, gid), mode, package, bytes) in files() {
        write(root, &path, &bytes, mode);
        chown(on_disk(root, &path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(on_disk(root, &path), fs::Permissions::from_mode(mode)).unwrap();
        if let Some(contents) = package.and_then(|name| listed.get_mut(name)) {
            contents.files.insert(path, Digest::of(&bytes));
        }
    }
    for (path, target) in SYMLINKS {
        symlink(target, on_disk(root, path)).unwrap();
    }
    listed.get_mut("tool").unwrap().links.insert("/usr/bin/alias".into(), "tool".into());
    set_xattr(root, "/usr/bin/ping", "security.capability", &CAPABILITY);
    set_xattr(root, "/usr/share/tool/notes", "user.note", b"kept");
    PACKAGES.map(|name| listed.remove(name).unwrap())
}

/// Changes a laid tree; only operations on files make sense here.
pub fn change(root: &Path, changes: &[Op]) {
    for op in changes {
        match op {
            Op::Content { path, to } => {
                let place = on_disk(root, path);
                let mut bytes = fs::read(&place).unwrap();
                match to {
                    Some(text) => bytes = text.clone().into_bytes(),
                    None => bytes[0] ^= 1,
                }
                fs::write(&place, bytes).unwrap();
            }
            Op::Mode { path, to, .. } => {
                fs::set_permissions(on_disk(root, path), fs::Permissions::from_mode(octal(to))).unwrap();
            }
            Op::Owner { path, to, .. } => {
                let (place, (uid, gid)) = (on_disk(root, path), owner(to));
                let mode = fs::symlink_metadata(&place).unwrap().permissions();
                lchown(&place, Some(uid), Some(gid)).unwrap();
                // A new owner costs a file its set-ID bits.
                if !place.is_symlink() {
                    fs::set_permissions(&place, mode).unwrap();
                }
            }
            Op::Xattr { path, name, to: Some(value), .. } => set_xattr(root, path, name, value.as_bytes()),
            Op::Xattr { path, name, to: None, .. } => {
                rustix::fs::lremovexattr(on_disk(root, path), name.as_str()).unwrap();
            }
            Op::Target { path, to } => {
                fs::remove_file(on_disk(root, path)).unwrap();
                symlink(to, on_disk(root, path)).unwrap();
            }
            Op::Create { path, to } => write(root, path, to.as_bytes(), 0o644),
            Op::Drop { path } => {
                let place = on_disk(root, path);
                if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) }.unwrap();
            }
            other => panic!("{other:?} changes no tree"),
        }
    }
}

fn on_disk(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn write(root: &Path, path: &str, bytes: &[u8], mode: u32) {
    let place = on_disk(root, path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, bytes).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_xattr(root: &Path, path: &str, name: &str, value: &[u8]) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(on_disk(root, path), name, value, flags).unwrap();
}
