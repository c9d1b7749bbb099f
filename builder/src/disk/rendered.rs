//! The texts of a disk that are no part of its image: GRUB's configuration and the table of file systems.

use crate::deploy::OSNAME;
use crate::disk::ids::{Ids, Part};
use crate::error::Error;
use secai_verifier::grubenv::TRIES_MAX;
use serde::Serialize;
use std::collections::BTreeMap;
use tera::{Context, Tera};

const GRUB_CFG: &str = include_str!("../../../manifests/disk/grub.cfg.tera");
const FSTAB: &str = include_str!("../../../manifests/disk/fstab.tera");
/// A device has two deployments, three while it deploys, and those that its owner pinned.
const DEPLOYMENTS_MAX: u32 = 9;

#[derive(Serialize)]
struct Count {
    from: u8,
    to: u8,
}

/// GRUB's configuration.
///
/// # Errors
/// [`Error::Template`].
pub fn grub_cfg() -> Result<String, Error> {
    let mut context = Context::new();
    context.insert("os", OSNAME);
    context.insert("boot", &Part::Boot.number());
    context.insert("numbers", &(1..=DEPLOYMENTS_MAX).rev().collect::<Vec<_>>());
    let counts: Vec<Count> = (1..=TRIES_MAX).rev().map(|from| Count { from, to: from - 1 }).collect();
    context.insert("counts", &counts);
    render("grub.cfg", GRUB_CFG, &context)
}

/// Who makes `/var` at the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakesVar {
    /// systemd: as it is, and nobody is asked.
    Systemd,
    /// The service of ours, which asks its owner.
    FirstBoot,
}

/// `/etc/fstab`.
///
/// # Errors
/// [`Error::Template`].
pub fn fstab(ids: &Ids, by: MakesVar) -> Result<String, Error> {
    let uuids: BTreeMap<&str, String> =
        Part::ALL.into_iter().map(|part| (part.name(), ids.partition(part).to_string())).collect();
    let mut context = Context::from_serialize(&uuids).map_err(|e| template("fstab", &e))?;
    context.insert("asks", &(by == MakesVar::FirstBoot));
    render("fstab", FSTAB, &context)
}

/// A variable that is not there is an error.
fn render(name: &'static str, text: &str, context: &Context) -> Result<String, Error> {
    let mut tera = Tera::default();
    tera.add_raw_template(name, text).map_err(|e| template(name, &e))?;
    tera.render(name, context).map_err(|e| template(name, &e))
}

fn template(name: &'static str, error: &tera::Error) -> Error {
    Error::Template { name, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_there_is_an_error() {
        let error = render("grub.cfg", GRUB_CFG, &Context::new()).unwrap_err();
        assert!(error.to_string().contains("boot"), "{error}");
        let text = render("x", "gpt{{ boot }}", &Context::from_serialize(&BTreeMap::from([("boot", 2)])).unwrap());
        assert_eq!(text.unwrap(), "gpt2");
        render("x", "{{ boot }} {{ more }}", &Context::from_serialize(&BTreeMap::from([("boot", 2)])).unwrap())
            .unwrap_err();
    }

    #[test]
    fn var_is_made_by_systemd_or_by_who_asks_for_it() {
        let ids = Ids::of(secai_verifier::digest::Digest::of(b"commit"));
        let uuid = ids.partition(Part::Var).to_string();
        let line = |by| {
            let text = fstab(&ids, by).unwrap();
            let found: Vec<&str> = text.lines().filter(|line| line.split(' ').nth(1) == Some("/var")).collect();
            assert_eq!((found.len(), text.lines().filter(|it| !it.starts_with('#')).count()), (1, 3), "{text}");
            found[0].to_owned()
        };
        assert_eq!(line(MakesVar::Systemd), format!("PARTUUID={uuid} /var ext4 nodev,nosuid,x-systemd.makefs 0 2"));
        let asked = line(MakesVar::FirstBoot);
        assert!(asked.starts_with("/dev/mapper/var /var ext4 nodev,nosuid,"), "{asked}");
        assert!(asked.contains(&format!(",x-secai.partition={uuid} 0 2")) && !asked.contains("makefs"), "{asked}");
    }

    #[test]
    fn each_number_of_tries_is_spelled_out() {
        let text = grub_cfg().unwrap();
        for part in [
            "set bootpart=\"$disk,gpt2\"",
            "for number in 9 8 7 6 5 4 3 2 1; do",
            "  if [ \"$secai_tries\" = \"3\" ]; then\n    set secai_tries=2\n  elif [ \"$secai_tries\" = \"2\" ]; then\n    \
             set secai_tries=1\n  elif [ \"$secai_tries\" = \"1\" ]; then\n    set secai_tries=0\n  else\n",
            "/ostree/secai-$checksum/vmlinuz-*",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // What is not whole is not started, and no entry ends: GRUB would start what is loaded by then.
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let boots: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] == "boot").collect();
        let [boot] = boots[..] else { panic!("{boots:?}") };
        assert!(lines[boot - 2].starts_with("if linux ") && lines[boot - 2].ends_with("; then"), "{text}");
        assert!(lines[boot - 1].starts_with("if initrd ") && lines[boot - 1].ends_with("; then"), "{text}");
        for entry in text.split("menuentry").skip(1) {
            assert_eq!(entry.lines().position(|line| line.trim() == "}"), Some(4), "{entry}");
            assert!(entry.lines().nth(3).unwrap().trim().starts_with("again "), "{entry}");
        }
        assert!(!text.contains("{{") && !text.contains("{%"), "{text}");
        // As many `if` as `fi`: GRUB would read on to the end of the file.
        let words = |word| text.split_whitespace().filter(|it| *it == word).count();
        assert_eq!((words("if"), words("do")), (words("fi"), words("done")));
    }
}
