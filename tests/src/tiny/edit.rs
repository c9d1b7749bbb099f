//! Operations on bytes, JSON documents and the SBOM.

use secai_verifier::canonical::to_canonical;
use secai_verifier::digest::Digest;
use secai_verifier::sbom::{Content, File, OwnerKind, Sbom};
use serde_json::Value;

use super::change::{Op, octal, owner};

/// Applies an operation that any bytes know; the bytes come back unless it is none.
pub fn bytes(op: &Op, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    match op {
        Op::Flip { after, percent } => {
            let at = match after {
                Some(text) => find(&bytes, text) + text.len(),
                None => (bytes.len() * percent / 100).min(bytes.len() - 1),
            };
            bytes[at] ^= 1;
        }
        Op::Digit { after } => {
            let at = find(&bytes, after) + after.len();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        }
        Op::Text { find: text, replace } => {
            let at = find(&bytes, text);
            bytes.splice(at..at + text.len(), replace.bytes());
        }
        Op::DropLine { ending } => {
            let ending = format!("{ending}\n");
            let end = find(&bytes, &ending) + ending.len();
            let start = bytes[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
            bytes.drain(start..end);
        }
        Op::Append { text } => bytes.extend(text.bytes()),
        Op::Cut { bytes: count } => bytes.truncate(bytes.len() - count),
        Op::Fill { to } => bytes.resize(*to, 0),
        Op::Set { at, to } => return Some(json(&bytes, at, Some(serde_json::to_value(to).unwrap()))),
        Op::Delete { at } => return Some(json(&bytes, at, None)),
        _ => return None,
    }
    Some(bytes)
}

fn find(bytes: &[u8], text: &str) -> usize {
    let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    found.unwrap_or_else(|| panic!("`{text}` is not there"))
}

fn json(bytes: &[u8], at: &str, to: Option<Value>) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    let (parent, key) = at.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent), to) {
        (Some(Value::Object(members)), Some(value)) => drop(members.insert(key.to_owned(), value)),
        (Some(Value::Object(members)), None) => drop(members.remove(key).expect(at)),
        (Some(Value::Array(items)), Some(value)) => items[key.parse::<usize>().unwrap()] = value,
        (Some(Value::Array(items)), None) => drop(items.remove(key.parse().unwrap())),
        _ => panic!("nothing stands at {at}"),
    }
    to_canonical(&document).unwrap()
}

/// Applies an operation on a file that the SBOM lists; the document comes back unless it is none.
pub fn sbom(op: &Op, document: &[u8]) -> Option<Vec<u8>> {
    let mut sbom = Sbom::parse(document).ok()?;
    match op {
        Op::Content { path, to } => {
            let bytes = to.as_deref().unwrap_or("other bytes");
            file(&mut sbom, path).content = Content::Regular(Digest::of(bytes.as_bytes()));
        }
        Op::Mode { path, to, .. } => {
            let file = file(&mut sbom, path);
            file.mode = file.mode & !0o7777 | octal(to);
        }
        Op::Owner { path, to, .. } => {
            let file = file(&mut sbom, path);
            (file.uid, file.gid) = owner(to);
        }
        Op::Target { path, to } => {
            let file = file(&mut sbom, path);
            file.content = Content::Symlink(to.clone());
            file.mode = 0o120_777;
        }
        Op::Create { path, to } => {
            let compose = sbom.owners.iter_mut().find(|owner| owner.kind == OwnerKind::Compose).unwrap();
            let content = Content::Regular(Digest::of(to.as_bytes()));
            let listed =
                File { path: path.clone(), mode: 0o100_644, uid: 0, gid: 0, content, origin: None, archive_path: None };
            compose.files.push(listed);
            compose.files.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Op::Drop { path } => {
            file(&mut sbom, path);
            sbom.owners.iter_mut().for_each(|owner| owner.files.retain(|file| file.path != *path));
        }
        _ => return None,
    }
    Some(sbom.render().unwrap())
}

fn file<'a>(sbom: &'a mut Sbom, path: &str) -> &'a mut File {
    let mut files = sbom.owners.iter_mut().flat_map(|owner| owner.files.iter_mut());
    files.find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is not listed"))
}
