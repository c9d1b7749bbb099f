//! What becomes of the partition of `/var`, as a table: refusals first.

use secai_first_boot::config::VarSaid;
use secai_first_boot::decide::{Found, Key, Step, Way, found, keys, step, way};
use secai_first_boot::mark::Begun;
use zeroize::Zeroizing;

fn foreign() -> Found {
    Found::Foreign("btrfs".to_owned())
}

#[test]
fn what_is_not_ours_or_not_known_is_left_as_it_is() {
    for found in [foreign(), Found::Encrypted { finished: false }, Found::Plain { finished: false }] {
        assert!(matches!(step(None, &found), Step::Refuse(_)), "{found:?}");
    }
}

#[test]
fn what_was_finished_is_formatted_by_its_owners_word_alone() {
    let (encrypted, plain) = (Found::Encrypted { finished: true }, Found::Plain { finished: true });
    for begun in [None, Some(Begun::Var)] {
        assert_eq!(step(begun, &encrypted), Step::Open, "{begun:?}");
        assert_eq!(step(begun, &plain), Step::Map, "{begun:?}");
    }
    for found in [encrypted, plain, foreign(), Found::Nothing, Found::Encrypted { finished: false }] {
        assert_eq!(step(Some(Begun::Reset), &found), Step::Erase, "{found:?}");
    }
}

#[test]
fn what_was_begun_is_made_anew_and_what_is_empty_is_made() {
    assert_eq!(step(None, &Found::Nothing), Step::Make);
    for found in [Found::Nothing, foreign(), Found::Encrypted { finished: false }, Found::Plain { finished: false }] {
        assert_eq!(step(Some(Begun::Var), &found), Step::Make, "{found:?}");
    }
}

#[test]
fn how_it_is_made_is_said_or_asked() {
    let passphrase = || Some(Zeroizing::new(b"correct horse".to_vec()));
    let said = |passphrase, tpm, unencrypted| VarSaid { passphrase, tpm, unencrypted };
    for (has_tpm, said) in [(false, said(None, true, false)), (false, said(passphrase(), true, false))] {
        assert!(way(&said, has_tpm).unwrap_err().contains("TPM"));
    }
    let encrypt = |tpm| Way::Encrypt { passphrase: passphrase().unwrap(), tpm };
    for (said, has_tpm, expected) in [
        (said(None, false, false), false, Way::Ask { tpm: false }),
        // A TPM that is there is not used unless somebody says so.
        (said(None, false, false), true, Way::Ask { tpm: false }),
        (said(None, true, false), true, Way::Ask { tpm: true }),
        (said(passphrase(), false, false), true, encrypt(false)),
        (said(passphrase(), true, false), true, encrypt(true)),
        (said(None, false, true), true, Way::Plain),
    ] {
        assert_eq!(way(&said, has_tpm).unwrap(), expected, "{said:?}");
    }
}

#[test]
fn it_is_opened_by_what_there_is_and_in_the_end_by_a_person() {
    let with = VarSaid { passphrase: Some(Zeroizing::new(b"correct horse".to_vec())), ..VarSaid::default() };
    let without = VarSaid::default();
    assert_eq!(keys(&without, false), [Key::Person]);
    assert_eq!(keys(&without, true), [Key::Tpm, Key::Person]);
    assert_eq!(keys(&with, false), [Key::Credential, Key::Person]);
    assert_eq!(keys(&with, true), [Key::Tpm, Key::Credential, Key::Person]);
}

fn luks(version: u8, label: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 4096];
    head[..8].copy_from_slice(&[b'L', b'U', b'K', b'S', 0xba, 0xbe, 0, version]);
    head[24..24 + label.len()].copy_from_slice(label);
    head
}

fn ext4(label: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 4096];
    head[1080..1082].copy_from_slice(&[0x53, 0xef]);
    head[1144..1144 + label.len()].copy_from_slice(label);
    head
}

#[test]
fn what_lies_there_is_known_by_its_first_bytes() {
    let mut dirty = vec![0; 4096];
    dirty[4095] = 1;
    for head in [dirty.clone(), luks(1, b"secai-var"), luks(2, b""), luks(2, b"secai-var2"), ext4(b"var"), ext4(b"")] {
        assert!(matches!(found(&head, None), Found::Foreign(_)), "{:?}", &head[..80]);
    }
    assert_eq!(found(&[0; 4096], Some("btrfs")), foreign());
    assert_eq!(found(&dirty, Some("btrfs")), foreign());
    assert_eq!(found(&[0; 4096], None), Found::Nothing);
    assert_eq!(found(&luks(2, b"secai-var"), Some("crypto_LUKS")), Found::Encrypted { finished: true });
    assert_eq!(found(&luks(2, b"secai-new"), Some("crypto_LUKS")), Found::Encrypted { finished: false });
    assert_eq!(found(&ext4(b"secai-var"), Some("ext4")), Found::Plain { finished: true });
    assert_eq!(found(&ext4(b"secai-new"), Some("ext4")), Found::Plain { finished: false });
    // A label stands in the whole of its field, and what is cut off has none.
    assert_eq!(found(&ext4(b"secai-var")[..1100], None), Found::Foreign("a file system of somebody else".to_owned()));
}
