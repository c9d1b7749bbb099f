//! A tiny bundle is accepted; each change to it is refused by its own name, the naive and the re-sealed one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

mod make;
mod openpgp;
mod program;

use std::fs;
use std::path::Path;

use make::{NOW, Node, Plan, archive, compress, seal_sums, write};
use secai_verifier::check::{Verdict, check};
use secai_verifier::digest::Digest;
use secai_verifier::files::{Bundle, load_trust};
use secai_verifier::layout;
use secai_verifier::ostree::{Commit, MetadataValue};
use secai_verifier::tar::{BLOCK, Kind};

fn verdict(root: &Path) -> Vec<String> {
    let trust = load_trust(&root.join("trust")).unwrap();
    let bundle = Bundle::list(&root.join("bundle")).unwrap();
    match check(&bundle, &trust, NOW.parse().unwrap()).unwrap() {
        Verdict::Accepted(content) => vec![format!("accepted {} files", content.summary().files)],
        Verdict::Refused(refusals) => refusals.iter().map(|refusal| format!("{}: {refusal}", refusal.name())).collect(),
    }
}

/// The names of the refusals of a plan, in order, after a change to the written files.
fn judge(plan: &Plan, change: impl Fn(&Path)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    plan.make(dir.path());
    change(&dir.path().join("bundle"));
    let lines = verdict(dir.path());
    println!("{lines:#?}");
    lines.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
}

/// A re-sealed change: the first refusal is its own.
fn resealed(expected: &str, change: impl FnOnce(&mut Plan)) {
    let mut plan = Plan::default();
    change(&mut plan);
    let names = judge(&plan, |_| {});
    assert_eq!(names[0], expected, "{names:?}");
}

/// A naive change: its own refusal is among those told.
fn naive(expected: &[&str], change: impl Fn(&Path)) {
    let names = judge(&Plan::default(), change);
    for expected in expected {
        assert!(names.iter().any(|name| name == expected), "{expected} not in {names:?}");
    }
}

#[test]
fn a_good_bundle_is_accepted() {
    assert_eq!(judge(&Plan::default(), |_| {}), ["accepted 10 files"]);
    assert_eq!(judge(&Plan { release_keys: vec![2, 3], ..Plan::default() }, |_| {}), ["accepted 10 files"]);
}

#[test]
fn content_of_a_layer() {
    resealed("CommitDiffersFromLayers", |plan| plan.layers[0].data[0] = 1);
    resealed("CommitDiffersFromLayers", |plan| plan.layers[2].mode = 0o106_755);
    resealed("CommitDiffersFromLayers", |plan| plan.layers[1].target = Some("/evil".into()));
    resealed("CommitDiffersFromLayers", |plan| plan.layers.push(Node::file("/usr/bin/evil", b"evil", 2)));
    resealed("CommitDiffersFromLayers", |plan| drop(plan.layers.remove(4)));
    resealed("ObjectDiffersFromName", |plan| {
        plan.on_entries = Some(Box::new(|(number, entries)| {
            if *number == 1 {
                entries.iter_mut().find(|(_, data)| data.len() == 5000).unwrap().1[0] = 1;
            }
        }));
    });
    resealed("ObjectDiffersFromName", |plan| {
        plan.on_entries = Some(Box::new(|(number, entries)| {
            if *number == 1 {
                for (entry, _) in entries.iter_mut().filter(|(entry, _)| entry.uid == 5) {
                    entry.uid = 6;
                }
            }
        }));
    });
}

#[test]
fn content_of_the_commit_and_layers_but_not_the_sbom() {
    let both = |change: fn(&mut Vec<Node>)| {
        move |plan: &mut Plan| {
            change(&mut plan.layers);
            change(&mut plan.commit);
        }
    };
    resealed("SbomHashDiffers", both(|nodes| nodes[0].data[0] = 1));
    resealed("SbomModeDiffers", both(|nodes| nodes[0].mode = 0o106_755));
    resealed("SbomOwnerDiffers", both(|nodes| nodes[0].uid = 9));
    resealed("SbomTargetDiffers", both(|nodes| nodes[1].target = Some("/evil".into())));
    resealed("SbomOmitsFile", both(|nodes| nodes.push(Node::file("/usr/bin/evil", b"evil", 2))));
    resealed("SbomListsAbsentFile", both(|nodes| drop(nodes.remove(8))));
}

#[test]
fn the_sbom_alone() {
    resealed("SbomHashDiffers", |plan| plan.sbom[0].data[0] = 1);
    resealed("SbomOmitsFile", |plan| drop(plan.sbom.remove(0)));
    resealed("SbomListsAbsentFile", |plan| plan.sbom.push(Node::file("/usr/bin/none", b"", 1)));
    resealed("SbomNamesAnotherImage", |plan| plan.on_sbom = Some(Box::new(|sbom| sbom.version = "0.2.0".into())));
    resealed("SbomNamesAnotherImage", |plan| plan.on_sbom = Some(Box::new(|sbom| sbom.name = "other".into())));
    resealed("SbomNamesAnotherImage", |plan| plan.on_sbom = Some(Box::new(|sbom| sbom.created = NOW.parse().unwrap())));
    resealed("SbomMalformed", |plan| plan.on_document = Some(Box::new(|bytes| bytes.insert(1, b' '))));
    resealed("StatementMalformed", |plan| plan.on_statement = Some(Box::new(|bytes| bytes.insert(1, b' '))));
    resealed("StatementNamesAnotherImage", |plan| {
        plan.on_statement = Some(Box::new(|bytes| {
            let at = bytes.windows(9).position(|window| window == b"\"sha256\":").unwrap() + 10;
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        }));
    });
}

#[test]
fn the_tree_of_the_commit() {
    let both = |path: &'static str| {
        move |plan: &mut Plan| {
            for nodes in [&mut plan.commit, &mut plan.layers, &mut plan.sbom] {
                nodes.push(Node::file(path, b"x", 2));
            }
        }
    };
    resealed("CommitUnfitToBoot", both("/boot/grub"));
    resealed("CommitUnfitToBoot", both("/usr/lib/modules/6.11/vmlinuz"));
    resealed("CommitUnfitToBoot", |plan| plan.extra_dirs.retain(|dir| *dir != "/sysroot"));
    resealed("CommitDiffersFromLayers", |plan| plan.on_commit = Some(Box::new(|commit| commit.tree = Digest::of(b""))));
    resealed("LabelsDifferFromCommit", |plan| {
        plan.on_commit = Some(Box::new(|commit| commit.timestamp = NOW.parse().unwrap()))
    });
    resealed("LabelsDifferFromCommit", |plan| plan.on_commit = Some(Box::new(|commit| commit.subject = "x".into())));
}

#[test]
fn the_archive_of_a_layer() {
    let tar = |change: fn(&mut Vec<u8>)| {
        move |plan: &mut Plan| {
            plan.on_tar = Some(Box::new(move |(number, bytes)| {
                if *number == 2 {
                    change(bytes);
                }
            }));
        }
    };
    resealed("TarNotCanonical", tar(|bytes| bytes.extend([0; BLOCK])));
    resealed("TarNotCanonical", tar(|bytes| bytes[136] = b'1'));
    resealed("TarNotCanonical", tar(|bytes| drop(bytes.drain(bytes.len() - BLOCK..))));
    let entries = |change: fn(&mut Vec<(secai_verifier::tar::Entry, Vec<u8>)>)| {
        move |plan: &mut Plan| {
            plan.on_entries = Some(Box::new(move |(number, entries)| {
                if *number == 2 {
                    change(entries);
                }
            }));
        }
    };
    resealed("LayerGrammarBroken", entries(|entries| drop(entries.remove(3))));
    resealed("LayerGrammarBroken", entries(|entries| drop(entries.pop())));
    resealed(
        "LayerGrammarBroken",
        entries(|entries| entries.insert(280, (secai_verifier::tar::Entry::object("usr/evil", 0), vec![]))),
    );
    resealed(
        "LayerGrammarBroken",
        entries(|entries| entries.push((secai_verifier::tar::Entry::directory("zzz/", 0o755, 0, 0), vec![]))),
    );
    resealed(
        "LayerOrderWrong",
        entries(|entries| {
            let at = entries.iter().position(|(entry, _)| entry.path == "usr/").unwrap();
            entries.swap(at, at + 1);
        }),
    );
    resealed(
        "LayerOrderWrong",
        entries(|entries| {
            let at = entries.iter().position(|(entry, _)| entry.path == "usr/empty").unwrap();
            assert_eq!(entries[at].0.kind, Kind::Regular(0));
            entries.swap(at, at + 1);
        }),
    );
}

#[test]
fn the_compression_of_a_layer() {
    let zstd = |change: fn(&mut Vec<u8>)| {
        move |plan: &mut Plan| {
            plan.on_zstd = Some(Box::new(move |(number, bytes)| {
                if *number == 1 {
                    change(bytes);
                }
            }));
        }
    };
    resealed("LayerCompressionAmbiguous", zstd(|bytes| bytes.extend(compress(b""))));
    resealed("LayerCompressionAmbiguous", zstd(|bytes| bytes.push(0)));
    resealed("LayerCompressionAmbiguous", zstd(|bytes| bytes.truncate(bytes.len() - 1)));
    resealed("LayerCompressionAmbiguous", zstd(|bytes| drop(bytes.splice(0..0, [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]))));
    resealed("LayerCompressionAmbiguous", zstd(|bytes| *bytes = zstd::encode_all(&archive(&[])[..], 1).unwrap()));
    resealed("LayerCompressionAmbiguous", zstd(|bytes| bytes.clear()));
    resealed("DiffIdDiffers", zstd(|bytes| *bytes = compress(&archive(&[]))));
}

#[test]
fn documents_of_the_image() {
    resealed("LabelsDiffer", |plan| plan.on_index = Some(Box::new(|index| index.version = "9".into())));
    resealed("LabelsDiffer", |plan| plan.on_config = Some(Box::new(|config| config.labels.linux = "6.11".into())));
    resealed("BlobSizeDiffers", |plan| plan.on_manifest = Some(Box::new(|manifest| manifest.layers[1].blob.size += 1)));
    resealed("ConfigMalformed", |plan| {
        plan.on_config = Some(Box::new(|config| {
            config.diff_ids.remove(0);
            config.history.remove(0);
        }));
    });
    for (which, name) in [("config", "ConfigMalformed"), ("manifest", "ManifestMalformed"), ("index", "IndexMalformed")]
    {
        resealed(name, move |plan| {
            plan.on_json = Some(Box::new(move |(document, bytes)| {
                if *document == which {
                    *bytes = bytes.strip_suffix(b"}").unwrap().to_vec();
                    bytes.extend(b",\"zzz\":1}");
                }
            }));
        });
        resealed("JsonNotCanonical", move |plan| {
            plan.on_json = Some(Box::new(move |(document, bytes)| {
                if *document == which {
                    bytes.push(b'\n');
                }
            }));
        });
    }
}

#[test]
fn release_and_signatures() {
    resealed("ReleaseNamesAnotherImage", |plan| plan.on_release = Some(Box::new(|release| release.image.size += 1)));
    resealed("ReleaseNamesAnotherCommit", |plan| {
        plan.on_release = Some(Box::new(|release| release.commit = Digest::of(b"")))
    });
    resealed("ReleaseNamesAnotherSbom", |plan| {
        plan.on_release = Some(Box::new(|release| release.sbom.digest = Digest::of(b"")))
    });
    resealed("ReleaseNamesAnotherVersion", |plan| {
        plan.on_release = Some(Box::new(|release| release.version = "0.2.0".into()))
    });
    resealed("ReleaseExpired", |plan| {
        plan.on_release = Some(Box::new(|release| release.expires = NOW.parse().unwrap()))
    });
    resealed("ReleaseFromTheFuture", |plan| {
        plan.on_release = Some(Box::new(|release| release.created = "2026-11-22T22:06:00Z".parse().unwrap()));
    });
    // The commit beside the image is another, and the release vouches for that one.
    resealed("LabelsDifferFromCommit", |plan| {
        let other = |bytes: &mut Vec<u8>| {
            let mut commit = Commit::parse(bytes).unwrap();
            commit.metadata.push(("x".into(), MetadataValue::Bool(true)));
            *bytes = commit.render().unwrap();
        };
        plan.on_commit_file = Some(Box::new(other));
        plan.release_commit_file = true;
    });
    resealed("SignerUnknown", |plan| plan.release_keys = vec![1]);
    resealed("SignerUnknown", |plan| plan.build_key = 2);
    resealed("KeySignedTwice", |plan| plan.release_keys = vec![2, 2]);
    resealed("TooFewSignatures", |plan| plan.release_keys = vec![]);
    resealed("TooFewSignatures", |plan| plan.on_roles = Some(Box::new(|file| file.roles.release.threshold = 2)));
    resealed("KeyRevoked", |plan| plan.on_roles = Some(Box::new(|file| file.roles.release.keys[0].revoked = true)));
    resealed("KeyOutsideValidity", |plan| {
        plan.on_roles =
            Some(Box::new(|file| file.roles.release.keys[0].until = "2026-11-02T00:00:00Z".parse().unwrap()));
    });
    resealed("SignatureInvalid", |plan| {
        plan.on_envelope = Some(Box::new(|(role, envelope)| {
            if *role == "release" {
                envelope.payload.push(b' ');
            }
        }));
    });
    resealed("TooManySignatures", |plan| {
        plan.on_roles = Some(Box::new(|file| {
            let key = file.roles.release.keys[0].clone();
            file.roles.build.keys.push(key);
        }));
        plan.on_envelope = Some(Box::new(|(role, envelope)| {
            if *role == "build" {
                make::sign(envelope, 2);
            }
        }));
    });
}

#[test]
fn naive_changes() {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let largest = |bundle: &Path| {
        let blobs = fs::read_dir(bundle.join(layout::BLOBS_DIR)).unwrap().map(|entry| entry.unwrap().path());
        blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    };
    naive(&["SumsDigestDiffers", "BlobDigestDiffers"], |bundle| flip(&largest(bundle)));
    naive(&["SumsDigestDiffers"], |bundle| flip(&bundle.join(layout::RELEASE)));
    naive(&["SumsDigestDiffers", "SignatureInvalid"], |bundle| flip(&bundle.join(layout::SBOM_STATEMENT)));
    naive(&["SumsDigestDiffers", "CommitObjectDiffersFromLayer"], |bundle| flip(&bundle.join(layout::COMMIT_OBJECT)));
    naive(&["SumsDigestDiffers", "IndexMalformed"], |bundle| write(bundle, layout::OCI_LAYOUT, b"{}"));
    naive(&["SumsMalformed"], |bundle| write(bundle, layout::SUMS, b"x"));
    naive(&["SumsOmitFile"], |bundle| write(bundle, layout::SUMS, b""));
    naive(&["UnexpectedFile"], |bundle| write(bundle, "evil", b""));
    naive(&["UnexpectedFile"], |bundle| fs::create_dir(bundle.join("image/evil")).unwrap());
    naive(&["BlobUnreferenced", "SumsOmitFile"], |bundle| {
        write(bundle, &layout::blob_path(&Digest::of(b"evil")), b"evil")
    });
    naive(&["NotARegularFile"], |bundle| std::os::unix::fs::symlink("/", bundle.join("link")).unwrap());
    naive(&["FileMissing", "SumsNameAbsentFile"], |bundle| fs::remove_file(largest(bundle)).unwrap());
    for path in [
        layout::SUMS,
        layout::RELEASE,
        layout::COMMIT_OBJECT,
        layout::SBOM_STATEMENT,
        layout::OCI_LAYOUT,
        layout::INDEX,
    ] {
        naive(&["FileMissing"], |bundle| fs::remove_file(bundle.join(path)).unwrap());
        naive(&["SumsDigestDiffers"], |bundle| {
            if path == layout::SUMS {
                return write(
                    bundle,
                    "SHA256SUMS",
                    fs::read_to_string(bundle.join(path)).unwrap().replace('0', "1").as_bytes(),
                );
            }
            let bytes = fs::read(bundle.join(path)).unwrap();
            write(bundle, path, &bytes[..bytes.len() / 2]);
        });
    }
    naive(&["CommitMalformed"], |bundle| write(bundle, layout::COMMIT_META, b""));
    let plan =
        Plan { commit_meta: Some(secai_verifier::ostree::commitmeta::render::<Vec<u8>>(&[])), ..Plan::default() };
    assert_eq!(judge(&plan, seal_sums), ["accepted 10 files"]);
}

#[test]
fn a_wrong_sum_does_not_hide_a_wrong_file() {
    let mut plan = Plan::default();
    plan.sbom[0].data[0] = 1;
    let names = judge(&plan, |bundle| write(bundle, layout::SUMS, b""));
    assert!(names.contains(&"SumsOmitFile".to_owned()) && names.contains(&"SbomHashDiffers".to_owned()), "{names:?}");
}

#[test]
fn any_flipped_byte_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Plan::default().make(dir.path());
    let bundle = dir.path().join("bundle");
    let mut files = Vec::new();
    let mut dirs = vec![bundle.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for path in files {
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 12).max(1);
        for position in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            // Also with the sums made again: then something else must speak.
            let sums = fs::read(bundle.join(layout::SUMS)).unwrap();
            assert!(!verdict(dir.path())[0].starts_with("accepted"), "{} at {position}", path.display());
            if !path.ends_with(layout::SUMS) {
                seal_sums(&bundle);
                assert!(!verdict(dir.path())[0].starts_with("accepted"), "{} at {position}", path.display());
                fs::write(bundle.join(layout::SUMS), sums).unwrap();
            }
        }
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..cut]).unwrap();
            let lines = verdict(dir.path());
            assert!(!lines[0].starts_with("accepted"), "{} cut to {cut}", path.display());
        }
        fs::write(&path, good).unwrap();
    }
    assert!(verdict(dir.path())[0].starts_with("accepted"));
}
