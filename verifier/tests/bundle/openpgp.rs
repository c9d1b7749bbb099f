//! OpenPGP signatures of a bundle, made by `gpg`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use secai_verifier::layout;
use secai_verifier::ostree::commitmeta;

use crate::make::{Plan, seal_sums};

fn gpg(home: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("gpg");
    command.args(["--batch", "--yes", "--no-tty", "--pinentry-mode=loopback", "--passphrase="]);
    // Keys are made before the time at which bundles are judged here.
    command.arg("--faked-system-time=20261122T203000").env("TZ", "UTC").arg("--homedir").arg(home).args(arguments);
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn a_certificate_in_trust_demands_a_good_signature() {
    if Command::new("gpg").arg("--version").output().is_err() {
        println!("SKIPPED: no gpg here");
        return;
    }
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, home) = (dir.path(), home.path());
    Plan::default().make(root);
    for name in ["good", "foreign"] {
        gpg(home, &["--quick-generate-key", name, "ed25519", "sign", "0"]);
    }
    fs::write(root.join("trust/good.asc"), gpg(home, &["--armor", "--export", "good"])).unwrap();
    let bundle = root.join("bundle");
    let sign = |key: &str, file: &str, armour: &[&str]| {
        let path = bundle.join(file);
        gpg(home, &[armour, &["--local-user", key, "--output", "-", "--detach-sign", path.to_str().unwrap()]].concat())
    };
    let commit_signed = |signatures: &[Vec<u8>]| {
        fs::write(bundle.join(layout::COMMIT_META), commitmeta::render(signatures)).unwrap();
        seal_sums(&bundle);
        crate::verdict(root)[0].split(':').next().unwrap().to_owned()
    };
    assert!(crate::verdict(root)[0].starts_with("CommitSignatureMissing"));
    assert_eq!(commit_signed(&[]), "CommitSignatureMissing");
    assert_eq!(commit_signed(&[sign("foreign", layout::COMMIT_OBJECT, &[])]), "CommitSignatureByUnknownKey");
    assert_eq!(commit_signed(&[sign("good", layout::RELEASE, &[])]), "CommitSignatureInvalid");
    let both = [sign("foreign", layout::COMMIT_OBJECT, &[]), sign("good", layout::COMMIT_OBJECT, &[])];
    assert_eq!(commit_signed(&both), "accepted 10 files");

    let sums_signed = |signature: &[u8]| {
        fs::write(bundle.join(layout::SUMS_SIGNATURE), signature).unwrap();
        crate::verdict(root)[0].split(':').next().unwrap().to_owned()
    };
    assert_eq!(sums_signed(&sign("good", layout::SUMS, &["--armor"])), "accepted 10 files");
    assert_eq!(sums_signed(&sign("foreign", layout::SUMS, &["--armor"])), "SumsSignatureByUnknownKey");
    assert_eq!(sums_signed(&sign("good", layout::RELEASE, &["--armor"])), "SumsSignatureInvalid");
    assert_eq!(sums_signed(b"x"), "SumsSignatureMalformed");
    let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).output();
}
