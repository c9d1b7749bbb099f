//! Opens a folder of evidence: by name below it, following no link.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::Fault;
use crate::audit::store::Store;
use crate::device::refusal::DeviceRefusal;
use crate::evidence::{Evidence, INDEX, Index, Item};
use crate::limits::JSON_BYTES_MAX;

/// What a folder of evidence may hold besides: enough to name what somebody left there.
const FOREIGN_MAX: usize = 100;

/// Reads a folder of evidence; refusals when it is not one, or not whole.
pub fn load_evidence(path: &Path) -> Result<Result<Evidence, Vec<DeviceRefusal>>, Fault> {
    if !std::fs::metadata(path).map_err(Fault::unreadable(path))?.is_dir() {
        return Err(Fault::NotADirectory { path: path.to_owned() });
    }
    let unreadable = |name: &str| {
        let path = path.join(name);
        move |error: rustix::io::Errno| Fault::Unreadable { path, source: io::Error::from(error) }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(unreadable(""))?;
    let (mut files, mut index, mut refusals) = (BTreeMap::new(), None, Vec::new());
    for entry in Dir::read_from(&folder).map_err(unreadable(""))? {
        let entry = entry.map_err(unreadable(""))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".", ".."].contains(&name.as_str()) {
            continue;
        }
        let found = statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable(&name))?;
        let kind = FileType::from_raw_mode(found.st_mode);
        let limit = match (Item::named(&name), kind) {
            (Some(Item::Chain), FileType::Directory) => continue,
            (Some(item), FileType::RegularFile) if item != Item::Chain => item.limit(),
            (None, FileType::RegularFile) if name == INDEX => JSON_BYTES_MAX,
            _ => {
                if refusals.len() < FOREIGN_MAX {
                    refusals.push(DeviceRefusal::EvidenceForeign { name });
                }
                continue;
            }
        };
        // Not to hang on a pipe that takes the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat(&folder, &*name, flags, Mode::empty()).map_err(unreadable(&name))?);
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| Fault::Unreadable { path: path.join(&name), source })?;
        if bytes.len() as u64 > limit {
            let reason = format!("it has more than {limit} bytes");
            refusals.push(DeviceRefusal::EvidenceMalformed { name, reason });
        } else if let Some(item) = Item::named(&name) {
            files.insert(item, bytes);
        } else {
            index = Some(bytes);
        }
    }
    let index = match index.as_deref().map(Index::parse) {
        Some(Ok(index)) => index,
        Some(Err(reason)) => {
            refusals.push(DeviceRefusal::EvidenceMalformed { name: INDEX.to_owned(), reason });
            return Ok(Err(refusals));
        }
        None => {
            refusals.push(DeviceRefusal::EvidenceAbsent { name: INDEX.to_owned() });
            return Ok(Err(refusals));
        }
    };
    Ok(match Evidence::new(index, files) {
        Ok(evidence) if refusals.is_empty() => Ok(evidence),
        Ok(_) => Err(refusals),
        Err(more) => Err([refusals, more].concat()),
    })
}

/// The chain in a folder of evidence.
pub fn chain_of(path: &Path) -> Result<Store, Fault> {
    Store::open(&path.join(Item::Chain.name()))
}
