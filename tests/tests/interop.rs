//! Other people's programs read our release: each has to see what we say is in it, and refuse it once damaged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secai_tests::{Need, Ran, Scratch, Tier, as_root, peer, ran, release, require};
use serde_json::{Value, json};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

fn bundle() -> PathBuf {
    release().join("6-bundle")
}

fn image() -> PathBuf {
    bundle().join("image")
}

fn json_of(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn blob(image: &Path, descriptor: &Value) -> PathBuf {
    let digest = text(&descriptor["digest"]);
    image.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

fn manifest(image: &Path) -> Value {
    json_of(&blob(image, &json_of(&image.join("index.json"))["manifests"][0]))
}

fn commit() -> String {
    text(&manifest(&image())["annotations"]["ostree.commit"]).to_owned()
}

fn sh(script: &str, arguments: &[&Path]) -> Ran {
    ran(as_root("sh").args(["-euc", script, "sh"]).args(arguments))
}

/// The layers, unpacked one over the other by GNU tar: an OSTree repository in `sysroot/ostree/repo`.
fn unpack_layers(into: &Path) -> PathBuf {
    for layer in manifest(&image())["layers"].as_array().unwrap() {
        sh(
            r#"tar --extract --zstd --preserve-permissions --numeric-owner --xattrs --xattrs-include='*' -C "$1" -f "$2""#,
            &[into, &blob(&image(), layer)],
        )
        .good();
    }
    into.join("sysroot/ostree/repo")
}

/// The first object of this kind with more than `bytes` bytes.
fn large_object(repo: &Path, ending: &str, bytes: u64) -> PathBuf {
    let script = format!(r#"find "$1/objects" -type f -name '*.{ending}' -size +{bytes}c | sort | head -n 1"#);
    let found = sh(&script, &[repo]).good().out;
    assert!(!found.trim().is_empty(), "no such object");
    PathBuf::from(found.trim())
}

fn ostree(repo: &Path, arguments: &[&str]) -> Ran {
    let mut command = as_root("ostree");
    ran(command.arg(format!("--repo={}", repo.display())).args(arguments))
}

#[test]
fn ostree_finds_our_objects_whole_and_sees_a_changed_byte() {
    if !require(Tier::Test, &[Need::Release, Need::Root, Need::Program("ostree"), Need::Program("zstd")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-ostree");
    let repo = unpack_layers(scratch.path());
    let commit = commit();
    let fsck = ostree(&repo, &["fsck"]).good();
    eprintln!("ostree fsck: {}", fsck.text().lines().last().unwrap_or_default());
    assert!(fsck.text().contains("of 1 commits completed successfully"), "{fsck}");

    let show = ostree(&repo, &["show", &commit]).good();
    eprintln!("ostree show: {}", show.out.lines().collect::<Vec<_>>().join(" | "));
    let release = release_payload();
    let subject = format!("    {} {}", text(&release["name"]), text(&release["version"]));
    assert!(show.out.starts_with(&format!("commit {commit}\n")) && show.out.contains(&subject), "{show}");

    // Every path that ostree lists is one that the SBOM lists, and the other way round.
    let listed = ostree(&repo, &["ls", "--recursive", &commit]).good().out;
    let listed: BTreeSet<&str> = listed
        .lines()
        .filter(|line| !line.starts_with('d'))
        .map(|line| line.split(" -> ").next().unwrap_or_default())
        .map(|line| line.split_whitespace().nth(4).unwrap_or_default())
        .collect();
    let sbom = json_of(&crate::release().join("5-attest/sbom.cdx.json"));
    let claimed: BTreeSet<&str> = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|owner| owner["components"].as_array().into_iter().flatten())
        .map(|file| text(&file["name"]))
        .collect();
    let differ: Vec<_> = listed.symmetric_difference(&claimed).filter(|path| !path.contains(' ')).collect();
    assert!(differ.is_empty(), "in one of ostree's list and the SBOM only: {differ:?}");
    assert!(listed.len() > 1000, "{}", listed.len());

    for ending in ["file", "dirtree"] {
        let object = large_object(&repo, ending, 4096);
        let kept = scratch.join("kept");
        sh(
            r#"cp --preserve=all "$1" "$2"; printf X | dd of="$1" bs=1 seek=1000 conv=notrunc status=none"#,
            &[&object, &kept],
        )
        .good();
        let fsck = ostree(&repo, &["fsck"]).bad();
        eprintln!("ostree fsck, a byte of a {ending} changed: {}", fsck.err.lines().last().unwrap_or_default());
        assert!(fsck.err.contains("orrupted"), "{fsck}");
        // ostree keeps a note that it found the commit broken.
        sh(r#"cat "$1" >"$2"; rm -f "$3"/state/*.commitpartial"#, &[&kept, &object, &repo]).good();
    }
    ostree(&repo, &["fsck"]).good();
}

#[test]
fn ostree_makes_the_same_commit_of_the_same_tree() {
    if !require(Tier::Test, &[Need::Release, Need::Root, Need::Program("ostree")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-commit");
    let repo = scratch.join("repo");
    ostree(&repo, &["init", "--mode=bare"]).good();
    let image = manifest(&image());
    let label = |name: &str| text(&image["annotations"][name]).to_owned();
    let date = {
        let config = json_of(&blob(&bundle().join("image"), &image["config"]));
        text(&config["created"]).to_owned()
    };
    let of = |subject: &str| {
        let mut command = as_root("ostree");
        command
            .arg(format!("--repo={}", repo.display()))
            .args(["commit", "--orphan", "--no-bindings", "--parent=none", "--fsync=0"])
            .arg(format!("--subject={subject}"))
            .arg(format!("--timestamp={date}"))
            // In this order: a commit's metadata is a list.
            .arg("--add-metadata=ostree.bootable=true")
            .arg(format!("--add-metadata=ostree.linux='{}'", label("ostree.linux")))
            .arg(format!("--add-metadata=version='{}'", label("version")))
            .arg(format!("--tree=dir={}", release().join("2-rootfs/tree").display()));
        ran(&mut command).good().out.trim().to_owned()
    };
    let name = release_payload()["name"].as_str().unwrap().to_owned();
    assert_eq!(of(&format!("{name} {}", label("version"))), commit(), "what ostree commit makes of the tree");
    assert_ne!(of("another"), commit());
}

#[test]
fn skopeo_copies_the_image_and_umoci_unpacks_the_tree() {
    if !require(Tier::Test, &[Need::Release, Need::Root, Need::Program("skopeo"), Need::Program("umoci")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-umoci");
    let ours = format!("oci:{}", image().display());
    let seen: Value = serde_json::from_str(&ran(Command::new("skopeo").args(["inspect", &ours])).good().out).unwrap();
    let manifest = manifest(&image());
    assert_eq!(seen["Labels"], manifest["annotations"]);
    let layers: Vec<&Value> = manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(seen["Layers"].as_array().unwrap().iter().collect::<Vec<_>>(), layers);
    assert_eq!(seen["Digest"], json_of(&image().join("index.json"))["manifests"][0]["digest"]);
    eprintln!("skopeo inspect: {} layers, {}", layers.len(), seen["Labels"]["ostree.commit"]);

    // Debian 12's umoci does not read zstd.
    let copy = scratch.join("gzip");
    let to = format!("oci:{}:copy", copy.display());
    ran(Command::new("skopeo").args(["copy", "--quiet", "--dest-compress-format", "gzip", &ours, &to])).good();
    let unpacked = scratch.join("unpacked");
    let umoci = |copy: &Path, to: &Path| {
        ran(as_root("umoci").args(["unpack", "--image", &format!("{}:copy", copy.display())]).arg(to))
    };
    umoci(&copy, &unpacked).good();

    let ours = listing(&release().join("2-rootfs/tree"));
    let theirs = listing(&unpacked.join("rootfs"));
    eprintln!("umoci unpack: {} paths", theirs.len());
    assert!(ours.len() > 1000, "{}", ours.len());
    let differ: Vec<_> = ours.symmetric_difference(&theirs).take(20).collect();
    assert!(differ.is_empty(), "in one of the composed tree and umoci's only: {differ:#?}");
    sh(r#"chmod 0600 "$1/etc/issue"; printf x >>"$1/etc/os-release""#, &[&unpacked.join("rootfs")]).good();
    let changed = listing(&unpacked.join("rootfs"));
    assert_eq!(ours.difference(&changed).count(), 2, "the comparison sees a mode and the content of a file");

    let layer = blob(&copy, &self::manifest(&copy)["layers"][1]);
    sh(r#"printf X | dd of="$1" bs=1 seek=1000 conv=notrunc status=none"#, &[&layer]).good();
    let damaged = umoci(&copy, &scratch.join("damaged")).bad();
    eprintln!("umoci unpack, a byte of a layer changed: {}", damaged.err.lines().last().unwrap_or_default());
}

/// A tree as lines: type, mode, owner and target of every path, and the digest of every file. `/usr/etc` of a commit is
/// `/etc` in an image, and what lies in `/sysroot` is the carrier.
fn listing(tree: &Path) -> BTreeSet<String> {
    let script = r#"cd "$1"
find . -path ./sysroot/ostree -prune -o -printf '%y %m %U:%G %p -> %l\n'
find . -path ./sysroot/ostree -prune -o -type f -print0 | xargs -0 sha256sum"#;
    let lines = sh(script, &[tree]).good().out;
    lines.lines().map(|line| line.replace(" ./usr/etc", " ./etc")).collect()
}

#[test]
fn ostree_ext_imports_the_same_commit_and_nothing_damaged() {
    let needs = [
        Need::Release,
        Need::Root,
        Need::Program("skopeo"),
        Need::Program("umoci"),
        Need::Program("zstd"),
        Need::Peer("ostree-ext"),
    ];
    if !require(Tier::Test, &needs) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-ostree-ext");
    let import = |image: &str| {
        let repo = scratch.join("repo");
        sh(
            r#"rm -rf "$1"; ostree --repo="$1" init --mode=bare; ostree --repo="$1" config set core.fsync false"#,
            &[&repo],
        )
        .good();
        let mut command = as_root("env");
        command
            .arg("RUST_BACKTRACE=0")
            .arg(peer("ostree-ext"))
            .args(["container", "unencapsulate", "--repo"])
            .arg(&repo);
        ran(command.arg(format!("ostree-unverified-image:oci:{image}")))
    };
    let whole = import(&image().display().to_string()).good();
    eprintln!("ostree-ext: {}", whole.out.trim());
    assert!(whole.text().contains(&commit()), "{whole}");
    ostree(&scratch.join("repo"), &["fsck"]).good();

    // A plain image, as any container tool makes one.
    let plain = scratch.join("plain");
    let files = scratch.join("files");
    fs::create_dir_all(files.join("usr/bin")).unwrap();
    fs::write(files.join("usr/bin/tool"), "tool").unwrap();
    let named = format!("{}:plain", plain.display());
    ran(Command::new("umoci").args(["init", "--layout"]).arg(&plain)).good();
    ran(Command::new("umoci").args(["new", "--image", &named])).good();
    ran(Command::new("umoci").args(["insert", "--rootless", "--image", &named]).arg(&files).arg("/")).good();
    let refused = import(&named).bad();
    eprintln!("ostree-ext, a plain image: {}", one_line(&refused.err));
    assert!(refused.err.contains("not an ostree encapsulated container"), "{refused}");

    // A byte of a layer, nothing else.
    let damaged = scratch.join("damaged");
    let copy = || sh(r#"rm -rf "$2"; cp --recursive "$1" "$2""#, &[&image(), &damaged]).good();
    copy();
    let layer = blob(&damaged, &manifest(&damaged)["layers"][1]);
    sh(r#"printf X | dd of="$1" bs=1 seek=5000 conv=notrunc status=none"#, &[&layer]).good();
    let refused = import(&damaged.display().to_string()).bad();
    eprintln!("ostree-ext, a byte of a layer changed: {}", one_line(&refused.err));

    // A byte of an object, and every digest up to the index made again: only the object's own name is left to tell.
    copy();
    reseal_with_changed_object(&damaged, &scratch);
    let refused = import(&damaged.display().to_string()).bad();
    eprintln!("ostree-ext, a byte of an object changed and re-sealed: {}", one_line(&refused.err));
    assert!(refused.err.contains("Corrupted file object"), "{refused}");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Changes a byte of a file object in the last layer, and everything that names the layer.
fn reseal_with_changed_object(image: &Path, scratch: &Scratch) {
    let mut manifest = manifest(image);
    let last = manifest["layers"].as_array().unwrap().len() - 1;
    let layer = blob(image, &manifest["layers"][last]);
    let (tar, zst) = (scratch.join("layer.tar"), scratch.join("layer.zst"));
    sh(r#"zstd --quiet --decompress --force -o "$2" "$1""#, &[&layer, &tar]).good();
    let mut bytes = fs::read(&tar).unwrap();
    let at = bytes
        .chunks(512)
        .position(|block| {
            block.starts_with(b"sysroot/ostree/repo/objects/")
                && block.windows(6).any(|w| w == b".file\0")
                && block[156] == b'0'
                && block[124..135] > b"00000001000"[..]
        })
        .expect("a file object of some size");
    bytes[(at + 1) * 512 + 100] ^= 1;
    fs::write(&tar, &bytes).unwrap();
    sh(r#"zstd --quiet --force -o "$2" "$1""#, &[&tar, &zst]).good();
    let mut config = json_of(&blob(image, &manifest["config"]));
    let diff_id = format!("sha256:{}", sha256(&tar));
    config["rootfs"]["diff_ids"][last] = json!(diff_id);
    config["config"]["Labels"]["ostree.final-diffid"] = json!(diff_id);
    manifest["annotations"]["ostree.final-diffid"] = json!(diff_id);
    let store = |bytes: &[u8], descriptor: &mut Value| {
        let held = scratch.join("blob");
        fs::write(&held, bytes).unwrap();
        let hex = sha256(&held);
        sh(r#"cp "$1" "$2""#, &[&held, &image.join("blobs/sha256").join(&hex)]).good();
        descriptor["digest"] = json!(format!("sha256:{hex}"));
        descriptor["size"] = json!(bytes.len());
    };
    store(&fs::read(&zst).unwrap(), &mut manifest["layers"][last]);
    store(&serde_json::to_vec(&config).unwrap(), &mut manifest["config"]);
    let mut index = json_of(&image.join("index.json"));
    store(&serde_json::to_vec(&manifest).unwrap(), &mut index["manifests"][0]);
    let held = scratch.join("index");
    fs::write(&held, serde_json::to_vec(&index).unwrap()).unwrap();
    sh(r#"cp "$1" "$2""#, &[&held, &image.join("index.json")]).good();
}

fn sha256(path: &Path) -> String {
    ran(Command::new("sha256sum").arg(path)).good().out.split(' ').next().unwrap().to_owned()
}

#[test]
fn an_independent_validator_accepts_the_sbom_and_refuses_nonsense() {
    if !require(Tier::Test, &[Need::Release, Need::Peer("cyclonedx")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-cyclonedx");
    let sbom = release().join("5-attest/sbom.cdx.json");
    let judged = ran(Command::new(peer("cyclonedx")).arg(&sbom)).good();
    eprintln!("cyclonedx: {}", judged.out.trim());
    let document = json_of(&sbom);
    assert_eq!(document["specVersion"], "1.6");
    // The document that is signed is this one.
    let signed = payload(&json_of(&bundle().join("attest/sbom.dsse.json")));
    assert_eq!(signed["predicate"], document);

    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        ("specVersion", |d| d["specVersion"] = json!("9.9")),
        ("an unknown property", |d| d["components"][0]["colour"] = json!("blue")),
        ("a component's type", |d| d["components"][0]["type"] = json!("thing")),
        ("a file's hash", |d| d["components"][0]["components"][0]["hashes"][0]["content"] = json!("xyz")),
        ("a name twice", |d| {
            let first = d["components"][0].clone();
            d["components"].as_array_mut().unwrap().push(first);
        }),
    ];
    for (what, change) in changes {
        let mut changed = document.clone();
        change(&mut changed);
        let path = scratch.join("changed.json");
        fs::write(&path, serde_json::to_vec(&changed).unwrap()).unwrap();
        let refused = ran(Command::new(peer("cyclonedx")).arg(&path));
        assert_eq!(refused.code, Some(1), "{what}: {refused}");
        eprintln!("cyclonedx, {what} changed: {:.120}", refused.err.lines().next().unwrap_or_default());
    }
}

fn payload(envelope: &Value) -> Value {
    serde_json::from_slice(&STANDARD.decode(text(&envelope["payload"])).unwrap()).unwrap()
}

fn release_payload() -> Value {
    payload(&json_of(&bundle().join("release.json")))
}

/// A GnuPG home that knows the trust directory's certificate and nothing else.
fn gpg(home: &Path, arguments: &[&Path]) -> Ran {
    if !home.exists() {
        ran(Command::new("mkdir").args(["-m", "700"]).arg(home)).good();
        gpg(home, &[Path::new("--import"), &release().join("trust/commit.asc")]).good();
    }
    let mut command = Command::new("gpg");
    command.args(["--batch", "--no-autostart", "--status-fd", "1", "--homedir"]).arg(home);
    ran(command.args(arguments))
}

#[test]
fn gpg_sha256sum_and_openssl_verify_what_is_signed() {
    let needs = [Need::Release, Need::Program("gpg"), Need::Program("openssl"), Need::Program("ostree")];
    if !require(Tier::Test, &needs) {
        return;
    }
    let scratch = Scratch::new(TMP, "interop-signatures");
    let copy = scratch.join("bundle");
    ran(Command::new("cp").args(["--recursive", "--dereference"]).arg(bundle()).arg(&copy)).good();
    let home = scratch.join("gnupg");
    let verify = |signature: &Path, signed: &Path| gpg(&home, &[Path::new("--verify"), signature, signed]);

    let (sums, signature) = (copy.join("SHA256SUMS"), copy.join("SHA256SUMS.asc"));
    let good = verify(&signature, &sums).good();
    eprintln!("gpg --verify SHA256SUMS.asc: {}", status(&good, "VALIDSIG"));
    let check =
        || ran(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&copy));
    check().good();
    eprintln!("sha256sum --check SHA256SUMS: {} files", fs::read_to_string(&sums).unwrap().lines().count());

    // The commit's signature, as ostree takes it out of the detached metadata.
    let commit = commit();
    let repo = scratch.join("repo");
    ran(Command::new("ostree").arg(format!("--repo={}", repo.display())).args(["init", "--mode=archive"])).good();
    let folder = repo.join("objects").join(&commit[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(copy.join("commit.commit"), folder.join(format!("{}.commit", &commit[2..]))).unwrap();
    fs::copy(copy.join("commit.commitmeta"), folder.join(format!("{}.commitmeta", &commit[2..]))).unwrap();
    let shown = ran(Command::new("ostree").arg(format!("--repo={}", repo.display())).args([
        "show",
        "--print-detached-metadata-key=ostree.gpgsigs",
        &commit,
    ]))
    .good();
    let bytes: Vec<u8> = shown.out.split("0x").skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect();
    assert!(bytes.len() > 64, "{shown}");
    let taken = scratch.join("commit.sig");
    fs::write(&taken, bytes).unwrap();
    let good = verify(&taken, &copy.join("commit.commit")).good();
    eprintln!("gpg --verify of commit.commitmeta: {}", status(&good, "VALIDSIG"));

    // The envelopes, by OpenSSL over the bytes that DSSE signs.
    for (file, key) in [("release.json", "release.pub"), ("attest/sbom.dsse.json", "build.pub")] {
        let envelope = json_of(&copy.join(file));
        let kind = text(&envelope["payloadType"]);
        let body = STANDARD.decode(text(&envelope["payload"])).unwrap();
        let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
        signed.extend(&body);
        let (message, signature) = (scratch.join("message"), scratch.join("signature"));
        fs::write(&signature, STANDARD.decode(text(&envelope["signatures"][0]["sig"])).unwrap()).unwrap();
        let mut openssl = Command::new("openssl");
        openssl
            .args(["dgst", "-sha256", "-verify"])
            .arg(release().join("trust").join(key))
            .arg("-signature")
            .arg(&signature)
            .arg(&message);
        fs::write(&message, &signed).unwrap();
        eprintln!("openssl dgst -verify, {file}: {}", ran(&mut openssl).good().out.trim());
        let last = signed.len() - 2;
        signed[last] ^= 1;
        fs::write(&message, &signed).unwrap();
        ran(&mut openssl).bad();
    }

    // Each says no once a byte is another.
    change_a_byte(&copy.join("commit.commit"));
    assert!(status(&verify(&taken, &copy.join("commit.commit")).bad(), "BADSIG").contains("BADSIG"));
    check().bad();
    change_a_byte(&sums);
    assert!(status(&verify(&signature, &sums).bad(), "BADSIG").contains("BADSIG"));
}

fn status(ran: &Ran, word: &str) -> String {
    let line = ran.out.lines().find(|line| line.starts_with(&format!("[GNUPG:] {word} ")));
    line.unwrap_or_else(|| panic!("no {word}: {ran}")).to_owned()
}

fn change_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
