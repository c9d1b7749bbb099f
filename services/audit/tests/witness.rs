//! Level L2: what another user remembers, and what it finds that the chain alone cannot show.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::{PROGRAM, Running, ask, copy_tree, note};
use secai_api::audit::Reply;
use std::fs;
use std::process::Command;

fn witness(device: &Running) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("witness").arg("--socket").arg(device.path("socket")).arg("--state").arg(device.path("witness"));
    let ran = command.output().unwrap();
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

fn write(device: &Running, count: usize) {
    let connection = device.connect();
    for _ in 0..count {
        assert!(matches!(ask(&connection, note("x")), Reply::Appended { .. }));
    }
}

fn again(device: &mut Running) {
    device.end(rustix::process::Signal::TERM);
    device.start(&mut device.command());
    let _ready = device.connect();
}

#[test]
fn a_chain_that_grows_is_remembered_and_one_that_went_back_is_found() {
    let mut device = Running::new();
    write(&device, 3);
    let (code, said) = witness(&device);
    assert_eq!(code, Some(0), "{said}");
    write(&device, 300);
    again(&mut device);
    assert_eq!(witness(&device).0, Some(0), "a longer chain, in another run of the writer");
    // An older whole copy, validly signed: nothing on the disk of the chain can tell.
    device.end(rustix::process::Signal::TERM);
    let old = tempfile::tempdir().unwrap();
    for name in ["state", "keys"] {
        copy_tree(&device.path(name), &old.path().join(name));
    }
    device.start(&mut device.command());
    write(&device, 20);
    assert_eq!(witness(&device).0, Some(0));
    device.end(rustix::process::Signal::TERM);
    for name in ["state", "keys"] {
        fs::remove_dir_all(device.path(name)).unwrap();
        copy_tree(&old.path().join(name), &device.path(name));
    }
    device.start(&mut device.command());
    write(&device, 2);
    device.note_key();
    let (code, said) = witness(&device);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not what was remembered"), "{said}");
    assert!(fs::read_to_string(device.path("witness/alarm")).unwrap().contains("not what was remembered"));
    // Also once it has grown past what was remembered: it is another chain.
    write(&device, 100);
    assert_eq!(witness(&device).0, Some(1));
    // Negative control: the chain alone, without what was remembered, is accepted.
    assert!(device.end(rustix::process::Signal::TERM));
    assert!(device.judged().entries > 100);
}

#[test]
fn a_new_chain_with_a_new_key_is_found() {
    let mut device = Running::new();
    write(&device, 3);
    assert_eq!(witness(&device).0, Some(0));
    device.end(rustix::process::Signal::TERM);
    for name in ["state", "keys"] {
        fs::remove_dir_all(device.path(name)).unwrap();
        fs::create_dir(device.path(name)).unwrap();
    }
    device.start(&mut device.command());
    write(&device, 10);
    let (code, said) = witness(&device);
    assert_eq!(code, Some(1), "{said}");
    // Without anything remembered, this is simply a chain.
    fs::remove_dir_all(device.path("witness")).unwrap();
    fs::create_dir(device.path("witness")).unwrap();
    assert_eq!(witness(&device).0, Some(0));
}

#[test]
fn without_the_writer_nothing_is_said_about_the_chain() {
    let mut device = Running::new();
    write(&device, 1);
    device.end(rustix::process::Signal::TERM);
    let (code, said) = witness(&device);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("hint: "), "{said}");
}
