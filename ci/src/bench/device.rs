//! Figures of the device: a build that has nothing to do, a disk against the same by hand, and what our services add to a boot.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{compare, output, shell, watch};
use crate::surroundings::Surroundings;

/// Prints them. Needs `out/minimal`, `out/secai` and the pack, as the tests compose them.
pub fn figures(here: &Surroundings) -> Result<(), String> {
    let place = here.target.join("secai-ci/bench-device");
    // libostree makes what it deploys immutable.
    let remove = r#"chattr -R -i "$1" 2>/dev/null || true; rm -rf "$1""#;
    output(shell(&format!("{remove} && mkdir -p \"$1\""), &[&place]))?;
    for peer in [
        "ostree --version | sed -n 's/^ *Version: /ostree /p'",
        "mkfs.ext4 -V 2>&1 | head -n 1",
        "sgdisk --version",
        "qemu-system-x86_64 --version",
    ] {
        println!("{}", output(shell(peer, &[]))?.lines().next().unwrap_or_default().trim());
    }
    println!();
    nothing_changed(here)?;
    bundle_to_disk(here, &place)?;
    boots(here, &place)?;
    output(shell(remove, &[&place])).map(drop)
}

fn nothing_changed(here: &Surroundings) -> Result<(), String> {
    let build = || {
        let mut build = Command::new(here.program("secai-build"));
        build.arg("build").arg("recipes/secai.yml").arg("--out").arg(&here.out);
        build.arg("--pack").arg(here.out.join("pack")).current_dir(&here.top);
        build
    };
    let (took, peak) = watch(&mut build())?;
    println!(
        "recipes/secai.yml built again, nothing changed: {:.2} s, our peak {} MB\n",
        took.as_secs_f64(),
        peak / 1000
    );
    Ok(())
}

/// By hand, as the distribution's own programs do it: they begin with a repository that has the commit, ours with the compressed layers.
const BY_HAND: &str = r#"cd "$1"; chattr -R -i sys 2>/dev/null || true; rm -rf sys bootfs *.fs hand.raw; mkdir sys bootfs
ostree admin init-fs --modern sys
ostree admin os-init --sysroot=sys secai
ostree config --repo=sys/ostree/repo set sysroot.bootloader none
ostree pull-local --repo=sys/ostree/repo repo bench
ostree admin deploy --sysroot=sys --os=secai --karg=root=PARTLABEL=root --karg=rw bench
mv sys/boot/* bootfs/
deploy=$(echo sys/ostree/deploy/secai/deploy/*.0)
truncate -s 64M esp.fs; mkfs.vfat -F 32 -n ESP esp.fs
mmd -i esp.fs ::EFI ::EFI/BOOT
mcopy -i esp.fs "$deploy/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i esp.fs "$deploy/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
truncate -s 512M boot.fs; mkfs.ext4 -q -F -L boot -d bootfs boot.fs
truncate -s 3G root.fs; mkfs.ext4 -q -F -L root -d sys root.fs
truncate -s 3700M hand.raw
sgdisk -n 1:2048:+64M -t 1:ef00 -n 2:0:+512M -n 3:0:+3G hand.raw >/dev/null
dd if=esp.fs of=hand.raw bs=1M seek=1 conv=notrunc,sparse status=none
dd if=boot.fs of=hand.raw bs=1M seek=65 conv=notrunc,sparse status=none
dd if=root.fs of=hand.raw bs=1M seek=577 conv=notrunc,sparse status=none"#;

fn bundle_to_disk(here: &Surroundings, place: &Path) -> Result<(), String> {
    let release = here.out.join("secai");
    let prepare = r#"ostree --repo="$1/repo" init --mode=bare && ostree --repo="$1/repo" commit --fsync=false -b bench --tree=dir="$2""#;
    output(shell(prepare, &[place, &release.join("2-rootfs/tree")]))?;
    let mut ours = Command::new(here.program("secai-build"));
    ours.arg("disk").arg(release.join("6-bundle")).arg("--output").arg(place.join("ours.raw"));
    let remove = shell(r#"rm -f "$1""#, &[&place.join("ours.raw")]);
    compare("bundle to disk", vec![remove, ours], vec![shell(BY_HAND, &[place])], 2)
}

fn boots(here: &Surroundings, place: &Path) -> Result<(), String> {
    let boot = |recipe: &str| {
        let mut boot = Command::new(here.program("secai-build"));
        boot.arg("boot").arg(here.out.join(recipe).join("6-bundle"));
        // Nobody answers its questions.
        boot.args(["--credential", "secai.owner=none", "--expect", "Reached target.*multi-user", "--log"]);
        boot.arg(log(place, recipe));
        boot
    };
    compare(
        "boot to multi-user: recipes/secai.yml against recipes/minimal.yml",
        vec![boot("secai")],
        vec![boot("minimal")],
        2,
    )
}

fn log(place: &Path, recipe: &str) -> PathBuf {
    place.join(format!("{recipe}.log"))
}
