//! Our reading of OpenPGP against `gpg`, and of a commit's signature against `ostree gpg-sign`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use secai_verifier::openpgp::{Certificate, OpenPgpError, verify_armoured, verify_binary};
use secai_verifier::ostree::commitmeta;
use secai_verifier::time::Time;

struct Home(tempfile::TempDir);

impl Home {
    /// `None`, with the reason printed, where there is no gpg.
    fn new() -> Option<Self> {
        if Command::new("gpg").arg("--version").output().is_err() {
            println!("SKIPPED: no gpg here");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let out = self.try_gpg(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn try_gpg(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--no-tty", "--pinentry-mode=loopback", "--passphrase="]);
        command.arg("--homedir").arg(self.0.path()).args(arguments).current_dir(self.0.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Makes a key; its fingerprint.
    fn key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        self.gpg(&["--quick-generate-key", name, algorithm, usage, expires]);
        let listing = String::from_utf8(self.gpg(&["--with-colons", "--list-keys", name])).unwrap();
        listing.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    fn certificates(&self, name: &str) -> Vec<Certificate> {
        Certificate::read_armoured(&self.gpg(&["--armor", "--export", name])).unwrap()
    }

    fn sign(&self, key: &str, options: &[&str]) -> Vec<u8> {
        fs::write(self.path("data"), DATA).unwrap();
        self.gpg(&[&["--local-user", key][..], options, &["--output", "data.sig", "--detach-sign", "data"]].concat());
        fs::read(self.path("data.sig")).unwrap()
    }

    fn gpg_accepts(&self) -> bool {
        self.try_gpg(&["--verify", "data.sig", "data"]).status.success()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).output();
    }
}

const DATA: &[u8] = b"signed\r\ndata\n";

fn later(days: u64) -> Time {
    Time::from_seconds(Time::now().unwrap().seconds() + days * 86_400).unwrap()
}

#[test]
fn verdicts_are_those_of_gpg() {
    let Some(home) = Home::new() else { return };
    let now = Time::now().unwrap();
    for (name, algorithm) in [("ed", "ed25519"), ("rsa", "rsa3072"), ("nist", "nistp256")] {
        let fingerprint = home.key(name, algorithm, "sign", "30d");
        let certificates = home.certificates(name);
        let sig = home.sign(name, &[]);
        assert!(home.gpg_accepts());
        assert_eq!(verify_binary(&certificates, DATA, &sig, now).unwrap(), fingerprint.to_lowercase());
        assert!(matches!(verify_binary(&certificates, b"other", &sig, now), Err(OpenPgpError::Invalid(_))));
        // The key's expiry counts at the time that is asked about.
        assert_eq!(
            verify_binary(&certificates, DATA, &sig, later(31)),
            Err(OpenPgpError::Invalid("the key is expired"))
        );
        assert!(matches!(
            verify_binary(&certificates, DATA, &[sig.clone(), sig.clone()].concat(), now),
            Err(OpenPgpError::Malformed(_))
        ));
        for cut in 0..sig.len() {
            assert!(verify_binary(&certificates, DATA, &sig[..cut], now).is_err());
        }
        for position in 0..sig.len() {
            let mut bad = sig.clone();
            bad[position] ^= 1;
            let _ = verify_binary(&certificates, DATA, &bad, now);
        }
    }
    let armoured = home.sign("ed", &["--armor"]);
    assert!(verify_armoured(&home.certificates("ed"), DATA, &armoured, now).is_ok());
    assert_eq!(verify_armoured(&home.certificates("rsa"), DATA, &armoured, now), Err(OpenPgpError::UnknownKey));
    assert!(verify_armoured(&[], DATA, b"", now).is_err());
    let both = [home.certificates("rsa"), home.certificates("ed")].concat();
    assert!(verify_armoured(&both, DATA, &armoured, now).is_ok());
    let plain = String::from_utf8(armoured).unwrap();
    let header = plain.replacen("\n\n", "\nComment: anything\n\n", 1);
    for worded in
        [format!("x\n{plain}"), format!("{plain}x\n"), header, plain.replace('\n', "\r\n"), plain.trim_end().to_owned()]
    {
        let verdict = verify_armoured(&both, DATA, worded.as_bytes(), now);
        assert!(matches!(verdict, Err(OpenPgpError::Malformed(_))), "{worded}");
    }
    let text = home.sign("ed", &["--textmode"]);
    assert!(matches!(verify_binary(&both, DATA, &text, now), Err(OpenPgpError::Malformed(_))));
    let weak = home.sign("rsa", &["--digest-algo=SHA1"]);
    assert!(matches!(verify_binary(&both, DATA, &weak, now), Err(OpenPgpError::Invalid(_))));
}

#[test]
fn subkeys_and_revocations_are_those_of_gpg() {
    let Some(home) = Home::new() else { return };
    let now = Time::now().unwrap();
    let fingerprint = home.key("main", "ed25519", "cert", "0");
    home.gpg(&["--quick-add-key", &fingerprint, "ed25519", "sign", "30d"]);
    let certificates = home.certificates("main");
    let sig = home.sign("main", &[]);
    assert!(home.gpg_accepts());
    assert_eq!(verify_binary(&certificates, DATA, &sig, now).unwrap(), fingerprint.to_lowercase());
    assert_eq!(verify_binary(&certificates, DATA, &sig, later(31)), Err(OpenPgpError::Invalid("the key is expired")));

    let revocation = fs::read_to_string(home.path(&format!("openpgp-revocs.d/{fingerprint}.rev"))).unwrap();
    fs::write(home.path("rev"), revocation.replace(":-----BEGIN", "-----BEGIN")).unwrap();
    home.gpg(&["--import", "rev"]);
    let revoked = home.certificates("main");
    assert_eq!(verify_binary(&revoked, DATA, &sig, now), Err(OpenPgpError::Invalid("the certificate is revoked")));
}

#[test]
fn a_commit_signed_by_ostree_verifies() {
    let Some(home) = Home::new() else { return };
    if Command::new("ostree").arg("--version").output().is_err() {
        println!("SKIPPED: no ostree here");
        return;
    }
    let fingerprint = home.key("commit", "ed25519", "sign", "0");
    let repo = home.path("repo");
    fs::create_dir(home.path("root")).unwrap();
    let ostree = |arguments: &[&str]| {
        let out = Command::new("ostree")
            .args(arguments)
            .arg("--repo")
            .arg(&repo)
            .current_dir(home.0.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    ostree(&["init", "--mode=archive"]);
    let checksum = ostree(&["commit", "--branch=test", "--tree=dir=root"]);
    let gpg_home = format!("--gpg-homedir={}", home.0.path().display());
    ostree(&["gpg-sign", &gpg_home, &checksum, &fingerprint]);
    let object = |ending: &str| -> PathBuf {
        repo.join(Path::new("objects").join(&checksum[..2]).join(format!("{}.{ending}", &checksum[2..])))
    };
    let meta = fs::read(object("commitmeta")).unwrap();
    let signatures = commitmeta::parse(&meta).unwrap();
    assert_eq!((signatures.len(), commitmeta::render(&signatures)), (1, meta));
    let commit = fs::read(object("commit")).unwrap();
    let now = Time::now().unwrap();
    assert!(verify_binary(&home.certificates("commit"), &commit, &signatures[0], now).is_ok());
}
