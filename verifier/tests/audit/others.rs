//! Trees, proofs and exports compared with what others wrote: RFC 6962 in `ct-merkle`, C2SP tiles in `tlog_tiles`.

use std::fs;
use std::path::Path;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use secai_verifier::audit::export::export;
use secai_verifier::audit::proof::{Proof, prove};
use secai_verifier::audit::store::Store;
use secai_verifier::audit::tree::{Frontier, Nodes, leaf, prove_consistency, prove_inclusion};
use secai_verifier::digest::Digest;
use sha2::Sha256;
use tlog_tiles::{Hash, Tile, TileHashReader, TileReader};

use crate::make::{Chain, write};

struct Leaves(Vec<Digest>);

impl Nodes for Leaves {
    type Error = ();
    fn node(&self, level: u32, index: u64) -> Result<Digest, ()> {
        let (from, count) = ((index << level) as usize, 1usize << level);
        let mut tree = Frontier::new();
        self.0.get(from..from + count).ok_or(())?.iter().for_each(|leaf| tree.push(*leaf));
        Ok(tree.root())
    }
}

fn bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn roots_and_proofs_are_those_of_rfc_6962() {
    let mut theirs: MemoryBackedTree<Sha256, Vec<u8>> = MemoryBackedTree::new();
    let (mut ours, mut leaves) = (Frontier::new(), Leaves(Vec::new()));
    for size in 1..=130u64 {
        let line = format!("entry {size}").into_bytes();
        leaves.0.push(leaf(&line));
        ours.push(leaf(&line));
        theirs.push(line);
        assert_eq!(ours.root().as_bytes()[..], theirs.root().as_bytes()[..], "root of {size}");
        for index in 0..size {
            let path = prove_inclusion(&leaves, index, size).unwrap();
            assert_eq!(bytes(&path), theirs.prove_inclusion(index as usize).as_bytes(), "{index} of {size}");
        }
        for old in 1..size {
            let proof = prove_consistency(&leaves, old, size).unwrap();
            let their = theirs.prove_consistency((size - old) as usize);
            assert_eq!(bytes(&proof), their.as_bytes(), "{old} of {size}");
        }
    }
}

/// Reads an exported tree as any client of C2SP tiles would.
struct Exported<'a>(&'a Path);

impl TileReader for Exported<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // The crate's paths carry the height, c2sp.org/tlog-tiles has it fixed and leaves it out.
        let path = |tile: &Tile| self.0.join(tile.path().replacen("tile/8/", "tile/", 1));
        Ok(tiles.iter().map(|tile| fs::read(path(tile)).unwrap()).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn an_export_is_what_others_read() {
    for size in [1, 255, 256, 257, 1000, 66_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain::new(11);
        while chain.size() < size {
            chain.state("x");
        }
        chain.write(&dir.path().join("chain"));
        let (store, out) = (Store::open(&dir.path().join("chain")).unwrap(), dir.path().join("export"));
        let note = export(&store, |path, bytes| {
            write(&out, path, bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(note.checkpoint.root, chain.root(size));
        let signed = fs::read(out.join("checkpoint")).unwrap();
        let body = signed.split(|byte| *byte == b'\n').take(3).collect::<Vec<_>>().join(&b'\n');
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(&[&body[..], b"\n"].concat()).unwrap();
        assert_eq!(checkpoint.size(), size);
        // Their reader compares the tiles with the root before it gives out a hash.
        let exported = Exported(&out);
        let hashes = TileHashReader::new(size, *checkpoint.hash(), &exported);
        for index in [0, size / 2, size - 1] {
            let theirs = tlog_tiles::prove_record(size, index, &hashes).unwrap();
            let line = &chain.lines[index as usize];
            tlog_tiles::check_record(&theirs, size, *checkpoint.hash(), index, tlog_tiles::record_hash(line)).unwrap();
            let ours = prove(&store, index).unwrap().pop().unwrap();
            assert_eq!(Proof::parse(ours.render().as_bytes()).unwrap(), ours);
            assert_eq!(ours.path.iter().map(|hash| Hash(*hash.as_bytes())).collect::<Vec<_>>(), theirs);
        }
        // Bundles of entries: each with its length before it.
        let mut lines = Vec::new();
        for number in 0..size.div_ceil(256) {
            let width = (size - number * 256).min(256);
            let partial = if width == 256 { String::new() } else { format!(".p/{width}") };
            let mut rest = &fs::read(out.join(format!("tile/entries/{number:03}{partial}"))).unwrap()[..];
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let (line, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
                lines.push(line.to_vec());
                rest = after;
            }
        }
        assert!(lines == chain.lines, "{size}");
    }
}
