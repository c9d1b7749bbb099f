//! mke2fs, debugfs and e2fsck: an ext4 file system inside a disk, filled from a folder, without mounting anything, and the
//! same bytes for the same content.
//!
//! mke2fs can fill what it makes by itself, but takes names in the order in which the machine lists them, and the times at
//! which their inodes last changed there. So it makes an empty one, and debugfs is told name by name, sorted.

use super::{by_name, command, run};
use crate::disk::ids::Uuid;
use crate::error::{At, Error};
use crate::tree::xattrs;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PACKAGE: &str = "e2fsprogs";
const BLOCK_BYTES: u64 = 4096;
/// Of one inode: room for times beyond 2038 and for the attributes of a program.
const INODE_BYTES: u64 = 256;
/// Each so many bytes there may be a file; mke2fs's own measure.
const BYTES_PER_INODE: u64 = 16384;
/// The journal, which mke2fs would choose by its own version's rules.
const JOURNAL_BYTES: u64 = 32 << 20;
/// A target up to this length lies in the link's inode.
const INLINE_TARGET_BYTES_MAX: u64 = 59;
/// Only what kernels and checkers of Debian 12 and 13 both know, named one by one: the machine's own mke2fs.conf is not asked.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
/// Extents, and never changed: what libostree sets on a deployment's root, which no other tool than debugfs can carry.
const IMMUTABLE: &str = "0x80010";

/// What a folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// In blocks of ext4.
    pub bytes: u64,
    /// Files, links and folders.
    pub inodes: u64,
}

impl Content {
    /// Of this folder. Files with several names count once; links with several names as often, since debugfs makes each.
    ///
    /// # Errors
    /// I/O.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let mut seen = std::collections::HashSet::new();
        let mut sum = Self::default();
        let mut todo = vec![folder.to_owned()];
        while let Some(folder) = todo.pop() {
            let mut names = 0;
            for entry in fs::read_dir(&folder).at("read", &folder)? {
                let path = entry.at("read", &folder)?.path();
                names += entry_bytes(path.file_name().unwrap_or_default());
                let meta = path.symlink_metadata().at("read", &path)?;
                if meta.is_dir() {
                    todo.push(path);
                } else if meta.is_symlink() {
                    sum.inodes += 1;
                    sum.bytes += if meta.len() > INLINE_TARGET_BYTES_MAX { BLOCK_BYTES } else { 0 };
                } else if seen.insert(meta.ino()) {
                    sum.inodes += 1;
                    sum.bytes += meta.len().next_multiple_of(BLOCK_BYTES);
                }
            }
            sum.inodes += 1;
            sum.bytes += folder_blocks(names) * BLOCK_BYTES;
        }
        Ok(sum)
    }

    /// With what the file system itself needs for it: its journal, inodes, and one block of fifty for lists of blocks.
    pub fn on_ext4(self) -> u64 {
        JOURNAL_BYTES + self.inodes * INODE_BYTES * 2 + self.bytes + self.bytes / 50
    }
}

/// What a name takes in its folder.
fn entry_bytes(name: &OsStr) -> u64 {
    (8 + name.len() as u64).next_multiple_of(4)
}

/// Blocks of a folder whose names take so much. None goes over the end of a block, which is a checksum; so at the end of each,
/// there may be less room than the longest name takes.
fn folder_blocks(names: u64) -> u64 {
    const ROOM: u64 = BLOCK_BYTES - 12 - 264;
    names.div_ceil(ROOM).max(1)
}

/// A file system to be.
#[derive(Debug)]
pub struct Ext4<'a> {
    /// The disk.
    pub disk: &'a Path,
    /// Where on it.
    pub offset: u64,
    /// How long.
    pub bytes: u64,
    /// Its label.
    pub label: &'static str,
    /// Its number.
    pub uuid: Uuid,
    /// What names are hashed with.
    pub hash_seed: Uuid,
    /// The date of everything in it, in seconds since 1970.
    pub date: u64,
}

impl Ext4<'_> {
    /// Makes it, with what lies in `folder`; `immutable` is a folder in there that nobody may change. `scratch` is a folder
    /// for notes to debugfs.
    ///
    /// # Errors
    /// [`Error::ToolMissing`], [`Error::ToolFailed`] with the words of the tool; [`Error::Tree`] for a name that debugfs
    /// cannot be told; I/O.
    pub fn fill(&self, folder: &Path, immutable: Option<&Path>, scratch: &Path) -> Result<(), Error> {
        let inodes = (self.bytes / BYTES_PER_INODE).max(Content::of(folder)?.inodes * 3);
        let mut c = self.tool("mke2fs")?;
        c.args(["-q", "-F", "-t", "ext4", "-m", "0", "-b", &BLOCK_BYTES.to_string(), "-I", &INODE_BYTES.to_string()])
            .args(["-L", self.label, "-U", &self.uuid.to_string(), "-O", FEATURES, "-N", &inodes.to_string()])
            .args(["-J", &format!("size={}", JOURNAL_BYTES >> 20), "-E"])
            .arg(format!(
                "hash_seed={},lazy_itable_init=0,lazy_journal_init=1,nodiscard,root_owner=0:0,offset={}",
                self.hash_seed, self.offset
            ))
            .arg(by_name(self.disk).1)
            .arg((self.bytes / BLOCK_BYTES).to_string());
        run(&mut c, "mke2fs")?;
        let mut notes = Notes { scratch, immutable, text: String::new(), known: HashMap::new(), values: 0 };
        notes.folder(folder, "/")?;
        notes.counts()?;
        let script = scratch.join(format!("{}.debugfs", self.label));
        fs::write(&script, &notes.text).at("write", &script)?;
        let output = self.tool("debugfs")?.arg("-w").arg("-f").arg(&script).arg(self.here()).output();
        let output = output.at("run", "debugfs")?;
        // Whatever goes wrong in a note is said there, and nowhere else; the first line is its name and version.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let wrong: Vec<&str> = said.lines().filter(|line| !line.starts_with("debugfs 1.")).collect();
        if !output.status.success() || !wrong.is_empty() {
            let tail = super::tail(wrong.join("\n").as_bytes());
            return Err(Error::ToolFailed { program: "debugfs".into(), status: output.status.to_string(), tail });
        }
        let output = self.tool("e2fsck")?.args(["-f", "-n"]).arg(self.here()).output().at("run", "e2fsck")?;
        match output.status.success() {
            true => Ok(()),
            // What it finds it says there.
            false => Err(Error::ToolFailed {
                program: "e2fsck".into(),
                status: output.status.to_string(),
                tail: super::tail(&output.stdout),
            }),
        }
    }

    fn tool(&self, name: &str) -> Result<std::process::Command, Error> {
        let mut c = command(name, PACKAGE)?;
        c.current_dir(by_name(self.disk).0);
        c.env("E2FSPROGS_FAKE_TIME", self.date.to_string());
        // Neither the machine's nor ours: what mke2fs has built in.
        c.env("MKE2FS_CONFIG", "/nonexistent");
        Ok(c)
    }

    /// As these tools name a file system inside a file.
    fn here(&self) -> std::ffi::OsString {
        let mut here = by_name(self.disk).1.to_owned();
        here.push(format!("?offset={}", self.offset));
        here
    }
}

/// What debugfs is told, a line for each act.
struct Notes<'a> {
    scratch: &'a Path,
    immutable: Option<&'a Path>,
    text: String,
    /// Files with several names, some of which may lie elsewhere: where the first is, and how many there are.
    known: HashMap<u64, (String, u64)>,
    values: usize,
}

impl Notes<'_> {
    /// `path` is its place in the file system.
    fn folder(&mut self, real: &Path, path: &str) -> Result<(), Error> {
        let entries = fs::read_dir(real).at("read", real)?;
        let mut children = entries.collect::<Result<Vec<_>, _>>().at("read", real)?;
        children.sort_by_key(fs::DirEntry::file_name);
        let path = path.trim_end_matches('/');
        let mut folders = Vec::new();
        self.line(&format!("cd {}", quoted(if path.is_empty() { "/" } else { path })))?;
        // `ln` makes no room for a name.
        let names = children.iter().map(|child| entry_bytes(&child.file_name())).sum();
        for _ in 1..folder_blocks(names) {
            self.line("expand_dir .")?;
        }
        for child in children {
            let (real, name) = (child.path(), child.file_name());
            let name = name.to_str().ok_or_else(|| unspeakable(&real))?;
            let meta = real.symlink_metadata().at("read", &real)?;
            let place = format!("{path}/{name}");
            let (word, inode) = (quoted(name), quoted(&format!("./{name}")));
            if meta.is_dir() {
                self.line(&format!("mkdir {word}"))?;
                self.about(&meta, &real, &inode)?;
                folders.push((real, place));
            } else if meta.is_symlink() {
                let target = fs::read_link(&real).at("read", &real)?;
                let target = target.to_str().ok_or_else(|| unspeakable(&real))?;
                self.line(&format!("symlink {word} {}", quoted(target)))?;
                // A short one lies where its attributes would.
                if !xattrs(&real)?.is_empty() {
                    return Err(Error::Tree(format!("{real:?} cannot be put on a disk: a link with attributes")));
                }
                self.owner(&meta, &inode)?;
            } else if meta.is_file() {
                self.file(&meta, &real, &place, [&word, &inode])?;
            } else {
                return Err(unspeakable(&real));
            }
        }
        for (real, place) in folders {
            self.folder(&real, &place)?;
        }
        if self.immutable == Some(real) {
            self.line(&format!("sif {} flags {IMMUTABLE}", quoted(path)))?;
        }
        Ok(())
    }

    fn file(&mut self, meta: &fs::Metadata, real: &Path, place: &str, names: [&str; 2]) -> Result<(), Error> {
        let [word, inode] = names;
        if let Some((first, names)) = self.known.get_mut(&meta.ino()) {
            *names += 1;
            let line = format!("ln {} {word}", quoted(first));
            self.line(&line)?;
            return Ok(());
        }
        let source = real.to_str().ok_or_else(|| unspeakable(real))?;
        self.line(&format!("write {} {word}", quoted(source)))?;
        self.about(meta, real, inode)?;
        if meta.nlink() > 1 {
            self.known.insert(meta.ino(), (place.to_owned(), 1));
        }
        Ok(())
    }

    /// How many names each file has: `ln` does not count.
    fn counts(&mut self) -> Result<(), Error> {
        let mut counts: Vec<_> =
            std::mem::take(&mut self.known).into_values().filter(|(_, names)| *names > 1).collect();
        counts.sort();
        for (place, names) in counts {
            self.line(&format!("sif {} links_count {names}", quoted(&place)))?;
        }
        Ok(())
    }

    /// Everything but the content.
    fn about(&mut self, meta: &fs::Metadata, real: &Path, inode: &str) -> Result<(), Error> {
        self.line(&format!("sif {inode} mode 0{:o}", meta.mode()))?;
        self.owner(meta, inode)?;
        // libostree's own mark of a file that is one of its objects.
        if meta.mtime() == 0 {
            self.line(&format!("sif {inode} mtime @0"))?;
        }
        for (name, value) in xattrs(real)? {
            let file = self.scratch.join(format!("value-{}", self.values));
            self.values += 1;
            fs::write(&file, value).at("write", &file)?;
            let name = std::str::from_utf8(&name).map_err(|_| unspeakable(real))?;
            let file = file.to_str().ok_or_else(|| unspeakable(&file))?;
            self.line(&format!("ea_set -f {} {inode} {}", quoted(file), quoted(name)))?;
        }
        Ok(())
    }

    fn owner(&mut self, meta: &fs::Metadata, inode: &str) -> Result<(), Error> {
        for (field, id) in [("uid", meta.uid()), ("gid", meta.gid())] {
            if id != 0 {
                self.line(&format!("sif {inode} {field} {id}"))?;
            }
        }
        Ok(())
    }

    /// The one place where debugfs is told something: whatever is in a line, it is one line there too.
    fn line(&mut self, line: &str) -> Result<(), Error> {
        if line.len() >= LINE_BYTES_MAX || line.bytes().any(|byte| byte.is_ascii_control()) {
            let begin: String = line.chars().take(SHOWN_CHARS).collect();
            return Err(unspeakable(Path::new(&begin)));
        }
        let _ = writeln!(self.text, "{line}");
        Ok(())
    }
}

/// With its end. debugfs reads 8192 bytes at a time and takes what is over for the next line, and a line that begins with `!`
/// for the shell: this is half of it.
const LINE_BYTES_MAX: usize = 4096;
/// Of a line that cannot be said, enough to find what it is about.
const SHOWN_CHARS: usize = 120;

/// A word of a note. A quotation mark stands twice.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

fn unspeakable(path: &Path) -> Error {
    Error::Tree(format!("{path:?} cannot be put on a disk: its kind, its length, or a character in its name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ids::{Ids, Part};
    use secai_verifier::digest::Digest;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const BYTES: u64 = 128 << 20;
    const OFFSET: u64 = 1 << 20;

    fn made(folder: &Path, disk: &Path, date: u64) -> Result<Vec<u8>, Error> {
        let scratch = tempfile::tempdir().unwrap();
        fs::File::create(disk).unwrap().set_len(BYTES + 2 * OFFSET).unwrap();
        let ids = Ids::of(Digest::of(b"commit"));
        let system = Ext4 {
            disk,
            offset: OFFSET,
            bytes: BYTES,
            label: "test",
            uuid: ids.file_system(Part::Root),
            hash_seed: ids.hash_seed(Part::Root),
            date,
        };
        system.fill(folder, Some(&folder.join("a folder")), scratch.path())?;
        Ok(fs::read(disk).unwrap())
    }

    fn filled(folder: &Path, names: &[&str]) {
        fs::create_dir_all(folder.join("a folder/b")).unwrap();
        for name in names {
            fs::write(folder.join(name), name.repeat(5000)).unwrap();
        }
        fs::write(folder.join("zeros"), vec![0; 20_000]).unwrap();
        symlink("no \"where\"", folder.join("a folder/link")).unwrap();
        symlink("x".repeat(100), folder.join("a folder/long")).unwrap();
        fs::hard_link(folder.join(names[0]), folder.join("a folder/b/same")).unwrap();
        fs::set_permissions(folder.join("run me"), fs::Permissions::from_mode(0o4755)).unwrap();
        rustix::fs::setxattr(folder.join("run me"), "user.k", b"v\0w", rustix::fs::XattrFlags::empty()).unwrap();
    }

    #[test]
    fn the_same_content_is_the_same_file_system_in_whatever_order_it_was_made() {
        let here = tempfile::tempdir_in(".").unwrap();
        let names = ["one", "run me", "<2>", "\"q\"", "a#b", "ü"];
        let [one, other] = ["x", "other"].map(|name| here.path().join(name));
        filled(&one, &names);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        filled(&other, &["one", "ü", "a#b", "\"q\"", "<2>", "run me"]);
        let disk = here.path().join("disk");
        let bytes = made(&one, &disk, 1_700_000_000).unwrap();
        assert!(bytes == made(&other, &disk, 1_700_000_000).unwrap(), "order and time of making show");
        assert!(bytes != made(&other, &disk, 1_700_000_001).unwrap(), "the date is the one that is given");
        assert!(bytes[..OFFSET as usize].iter().chain(&bytes[(OFFSET + BYTES) as usize..]).all(|byte| *byte == 0));

        // debugfs reads it back into a folder; what only inodes know is asked for.
        let back = here.path().join("back");
        fs::create_dir(&back).unwrap();
        let ask = |request: &str| {
            let place = format!("{}?offset={OFFSET}", disk.display());
            let out = command("debugfs", PACKAGE).unwrap().args(["-R", request, &place]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        ask(&format!("rdump / \"{}\"", back.display()));
        for name in names.into_iter().chain(["zeros", "a folder/b/same"]) {
            assert!(fs::read(back.join(name)).unwrap() == fs::read(one.join(name)).unwrap(), "{name}");
        }
        for name in ["a folder/link", "a folder/long"] {
            assert_eq!(fs::read_link(back.join(name)).unwrap(), fs::read_link(one.join(name)).unwrap());
        }
        assert!(ask("stat \"run me\"").contains("Mode:  04755"), "{}", ask("stat \"run me\""));
        assert!(ask("ea_get -x \"run me\" user.k").contains("76 00 77"), "{}", ask("ea_get -x \"run me\" user.k"));
        assert!(ask("stat one").contains("Links: 2"));
        assert!(ask("stat \"a folder\"").contains("Flags: 0x80010"), "{}", ask("stat \"a folder\""));
        assert!(ask("stat one").contains("ctime: 0x6553f101"), "{}", ask("stat one"));
    }

    /// What a disk holds at `path`, in debugfs' words.
    fn stat(disk: &Path, path: &str) -> String {
        let place = format!("{}?offset={OFFSET}", disk.display());
        let out = command("debugfs", PACKAGE).unwrap().args(["-R", &format!("stat {path}"), &place]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[test]
    fn no_name_and_no_target_becomes_a_line_of_its_own() {
        let here = tempfile::tempdir_in("/tmp").unwrap();
        let (folder, disk, marker) = (here.path().join("x"), here.path().join("disk"), here.path().join("marker"));
        fs::create_dir(&folder).unwrap();
        let refused = |name: &str, target: &str| {
            symlink(target, folder.join(name)).unwrap();
            let ended = made(&folder, &disk, 1).map(drop);
            assert!(!marker.exists(), "debugfs ran the end of a line");
            assert!(matches!(&ended, Err(Error::Tree(said)) if said.len() < 400), "{name:?} {ended:?}");
            fs::remove_file(folder.join(name)).unwrap();
        };
        // Doubled, this fills debugfs' buffer to its last byte; what follows would be the next line.
        refused(&format!("{}n", "\"".repeat(254)), &format!("{}!touch {} #", "\"".repeat(3835), marker.display()));
        refused("a\u{7f}b", "c");
        refused("a", "b\r!c");
        // The longest that can be said, with a name as long as one may be; and one byte more.
        let name = "n".repeat(255);
        let room = LINE_BYTES_MAX - format!("symlink \"{name}\" \"\"\n").len();
        refused(&name, &"t".repeat(room + 1));
        let target = "t".repeat(room);
        symlink(&target, folder.join(&name)).unwrap();
        made(&folder, &disk, 1).unwrap();
        let said = stat(&disk, &name);
        assert!(said.contains("Type: symlink") && said.contains(&format!("Size: {room}\n")), "{said}");
        let back = here.path().join("back");
        fs::create_dir(&back).unwrap();
        let place = format!("{}?offset={OFFSET}", disk.display());
        let dump = format!("rdump / {}", back.display());
        run(command("debugfs", PACKAGE).unwrap().args(["-R", &dump, &place]), "debugfs").unwrap();
        assert!(fs::read_link(back.join(&name)).unwrap() == Path::new(&target));
    }

    #[test]
    fn a_link_with_attributes_is_refused() {
        let here = tempfile::tempdir_in("/tmp").unwrap();
        let folder = here.path().join("x");
        fs::create_dir(&folder).unwrap();
        symlink("target", folder.join("link")).unwrap();
        made(&folder, &here.path().join("disk"), 1).unwrap();
        // VFS_CAP_REVISION_2, no capability.
        let value: Vec<u8> = [0, 0, 0, 2].into_iter().chain([0; 16]).collect();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::lsetxattr(folder.join("link"), "security.capability", &value, flags) {
            Ok(()) => {}
            Err(e) => return eprintln!("SKIPPED: no attribute on a link here ({e})"),
        }
        let error = made(&folder, &here.path().join("disk"), 1).unwrap_err();
        assert!(error.to_string().contains("a link with attributes"), "{error}");
    }

    #[test]
    fn what_cannot_be_said_or_does_not_fit_is_an_error() {
        let here = tempfile::tempdir_in(".").unwrap();
        // What e2fsprogs would take for an offset of their own.
        let (folder, odd) = (here.path().join("x"), here.path().join("-o?offset=0"));
        let disk = odd.join("disk");
        fs::create_dir(&folder).and_then(|()| fs::create_dir(&odd)).unwrap();
        made(&folder, &disk, 1).unwrap();
        fs::write(folder.join("a\nwrite b c"), "").unwrap();
        assert!(matches!(made(&folder, &disk, 1).unwrap_err(), Error::Tree(_)));
        fs::remove_file(folder.join("a\nwrite b c")).unwrap();
        fs::write(folder.join("large"), vec![1; BYTES as usize]).unwrap();
        let error = made(&folder, &disk, 1).unwrap_err();
        assert!(matches!(&error, Error::ToolFailed { program, .. } if program == "debugfs"), "{error}");
        fs::remove_file(folder.join("large")).unwrap();
        std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        assert!(matches!(made(&folder, &disk, 1).unwrap_err(), Error::Tree(_)));
    }

    #[test]
    fn content_is_counted_in_blocks_and_inodes() {
        let here = tempfile::tempdir_in(".").unwrap();
        filled(here.path(), &["one", "run me"]);
        // Three folders, three files (one with two names), two links, one of which needs a block.
        let content = Content::of(here.path()).unwrap();
        assert_eq!(content.inodes, 8);
        let blocks = 3 + 15_000_u64.div_ceil(4096) + 30_000_u64.div_ceil(4096) + 5 + 1;
        assert_eq!(content.bytes, blocks * 4096);
    }
}
