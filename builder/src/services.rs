//! What the services of a recipe bring into the tree: their programs, pages, units, users and settings, the policy, and
//! the rules of each profile. All of it comes from the pack, nothing from where this program was compiled.
//!
//! A service is its page in the pack. Its files are those that the page owns ([`Service::owns`]); its programs are what
//! its units start.

use crate::error::Error;
use crate::pack::{Manifest, Pack, Program};
use crate::plan::{PlannedContent, PlannedFile};
use crate::recipe::Recipe;
use crate::rulesets;
use secai_verifier::claims::Claims;
use secai_verifier::digest::Digest;
use secai_verifier::network::profile::{Loopback, Profile, Profiles};
use secai_verifier::sbom::OwnerKind;
use secai_verifier::service::{Service, Services};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where programs of services lie on a device.
const LIBEXEC: &str = "/usr/libexec/secure-ai/";
/// What people run, in every image that has a service.
const FOR_PEOPLE: [&str; 2] = ["secaictl", "verify-release"];
/// What people run.
const BIN: &str = "/usr/bin/";
const PAGES: &str = "/usr/lib/secure-ai/services";
const POLICY: &str = "/usr/lib/secure-ai/policy";
const RULESETS: &str = "/usr/lib/secure-ai/firewall";
const SYSUSERS: &str = "/usr/lib/sysusers.d/";

/// What the services bring, by digest.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedServices {
    /// SHA-256 of the pack's list.
    pub pack: Digest,
    /// Programs.
    pub programs: Vec<PlannedProgram>,
    /// Pages, units, policy and settings, by path.
    pub manifests: Vec<PlannedFile>,
    /// The rules of each profile, made here.
    pub rulesets: Vec<PlannedFile>,
    /// Units to enable.
    pub enable: Vec<String>,
    /// Users to make.
    pub users: Vec<ServiceUser>,
}

/// A program of ours, and where it goes.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedProgram {
    /// What the pack says of it.
    #[serde(flatten)]
    pub program: Program,
    /// Its file in the image.
    pub file: PlannedFile,
}

/// A user that a file in sysusers.d declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceUser {
    /// Whose.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
}

impl ServiceUser {
    /// Is it a service's own, and not one that a package makes?
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("secure-ai-")
    }
}

impl PlannedServices {
    /// None when the recipe names no service.
    ///
    /// # Errors
    /// [`Error::Recipe`] without a pack, and for a service that it lacks; [`Error::Pack`]; [`Error::ProfileNotProven`].
    pub fn of(recipe: &Recipe, pack: Option<&Path>) -> Result<Option<Self>, Error> {
        let Some(first) = recipe.services.first() else { return Ok(None) };
        let Some(pack) = pack else {
            return Err(recipe.complain(
                &format!("services/{first}"),
                "services need their programs, and no --pack says where they are",
                "`cargo ci pack` fills out/pack; then give --pack out/pack",
            ));
        };
        let pack = Pack::open(pack)?;
        let pages = pages(&pack)?;
        let mut chosen = Vec::new();
        for name in &recipe.services {
            chosen.push(pages.named(name).ok_or_else(|| {
                let known: Vec<&str> = pages.pages().iter().map(|page| page.name.as_str()).collect();
                recipe.complain(
                    &format!("services/{name}"),
                    format!("the pack has no service `{name}`"),
                    format!("it has {}; `cargo ci pack` makes it anew", known.join(", ")),
                )
            })?);
        }
        Ok(Some(Self {
            pack: pack.digest,
            programs: programs(&pack, &chosen)?,
            manifests: manifests(&pack, &chosen)?,
            rulesets: rulesets(&pack)?,
            enable: enabled(&pack, &chosen)?,
            users: users(&pack, &chosen)?,
        }))
    }

    /// Everything that is laid.
    pub fn files(&self) -> impl Iterator<Item = &PlannedFile> {
        self.programs.iter().map(|it| &it.file).chain(&self.manifests).chain(&self.rulesets)
    }

    /// The files that declare users.
    pub fn sysusers(&self) -> impl Iterator<Item = &str> {
        self.manifests.iter().map(|file| file.path.as_str()).filter(|path| path.starts_with(SYSUSERS))
    }

    /// Who answers for which files, besides the compose, which makes the rules.
    pub fn owners(&self) -> impl Iterator<Item = (OwnerKind, &[PlannedFile])> {
        let programs = self.programs.iter().map(|it| {
            let Program { name, version, crates, .. } = it.program.clone();
            (OwnerKind::Program { name, version, crates }, std::slice::from_ref(&it.file))
        });
        programs.chain([(OwnerKind::Pack { list: self.pack }, self.manifests.as_slice())])
    }

    /// Nothing of it may be the recipe's as well; `files` are the recipe's.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    pub fn check(&self, recipe: &Recipe, files: &[PlannedFile]) -> Result<(), Error> {
        let paths: BTreeSet<&str> = self.files().map(|file| file.path.as_str()).collect();
        if let Some(file) = files.iter().find(|file| paths.contains(file.path.as_str())) {
            return Err(recipe.complain(
                &format!("files/{}", file.path),
                format!("`{}` is a file of the recipe's services", file.path),
                "lay yours elsewhere: a unit can be changed by a drop-in, UNIT.d/NAME.conf",
            ));
        }
        for user in &recipe.users {
            if let Some(taken) = self.users.iter().find(|it| it.name == user.name || it.uid == user.uid) {
                return Err(recipe.complain(
                    &format!("users/{}", user.name),
                    format!(
                        "user `{}` ({}) is `{}` ({}) of {}",
                        user.name, user.uid, taken.name, taken.uid, taken.service
                    ),
                    "choose another name and number",
                ));
            }
        }
        Ok(())
    }
}

fn pages(pack: &Pack) -> Result<Services, Error> {
    let mut pages = Vec::new();
    for (path, file) in pack.below("services") {
        let page = Service::parse(&file.bytes).map_err(|e| pack.fail(format!("services/{path}: {e}")))?;
        if path != format!("{}.yml", page.name) {
            return Err(pack.fail(format!("services/{path} is the page of {}", page.name)));
        }
        pages.push(page);
    }
    Services::new(pages).map_err(|e| pack.fail(format!("pages of services: {e}")))
}

/// Files below `manifests/rootfs` of the chosen services, by their path on the device.
fn owned<'a>(pack: &'a Pack, chosen: &'a [&Service]) -> impl Iterator<Item = (String, &'a Manifest, &'a Service)> {
    pack.below("rootfs").filter_map(|(path, file)| {
        let path = format!("/{path}");
        let service = *chosen.iter().find(|page| page.owns(&path))?;
        Some((path, file, service))
    })
}

fn text<'a>(pack: &Pack, path: &str, file: &'a Manifest) -> Result<&'a str, Error> {
    std::str::from_utf8(&file.bytes).map_err(|_| pack.fail(format!("rootfs{path} is not UTF-8")))
}

fn manifests(pack: &Pack, chosen: &[&Service]) -> Result<Vec<PlannedFile>, Error> {
    let mut laid = BTreeMap::new();
    for (path, file, _) in owned(pack, chosen) {
        laid.insert(path, file);
    }
    let named: BTreeSet<String> = chosen.iter().map(|page| format!("{}.yml", page.name)).collect();
    for (path, file) in pack.below("services").filter(|(path, _)| named.contains(*path)) {
        laid.insert(format!("{PAGES}/{path}"), file);
    }
    for (path, file) in pack.below("policy") {
        laid.insert(format!("{POLICY}/{path}"), file);
    }
    for page in chosen {
        let missing = page.files.iter().find(|path| !laid.contains_key(*path));
        if let Some(path) = missing {
            return Err(pack.fail(format!("the page of {} names {path}, which rootfs does not have", page.name)));
        }
        let unit = |name: &String| laid.keys().any(|path| path.rsplit('/').next() == Some(name));
        if let Some(missing) = [&page.unit, &page.started_by].into_iter().find(|name| !unit(name)) {
            return Err(pack.fail(format!("it lacks {missing}, which the page of {} names", page.name)));
        }
    }
    // A script is run by its name, as a program is.
    let mode = |path: &str| if path.starts_with(BIN) { 0o755 } else { 0o644 };
    Ok(laid.into_iter().map(|(path, file)| copied(path.clone(), mode(&path), file.sha256, &file.source)).collect())
}

/// What starts each, and those services themselves that say what wants them: they run from the beginning.
fn enabled(pack: &Pack, chosen: &[&Service]) -> Result<Vec<String>, Error> {
    let mut enable: Vec<String> = chosen.iter().map(|page| page.started_by.clone()).collect();
    for (path, file, page) in owned(pack, chosen) {
        let is_wanted = || Ok::<_, Error>(text(pack, &path, file)?.lines().any(|line| line == "[Install]"));
        if path.rsplit('/').next() == Some(&page.unit) && !enable.contains(&page.unit) && is_wanted()? {
            enable.push(page.unit.clone());
        }
    }
    Ok(enable)
}

fn copied(path: String, mode: u32, sha256: Digest, source: &Path) -> PlannedFile {
    let content = PlannedContent::Copied { sha256, source: source.to_owned() };
    PlannedFile { path, mode, user: "root".into(), group: "root".into(), content }
}

/// What people run, and what the units of the chosen services start.
fn programs(pack: &Pack, chosen: &[&Service]) -> Result<Vec<PlannedProgram>, Error> {
    let mut wanted: BTreeMap<String, String> =
        FOR_PEOPLE.iter().map(|name| ((*name).to_owned(), format!("/usr/bin/{name}"))).collect();
    for (path, file, _) in owned(pack, chosen).filter(|(path, ..)| path.ends_with(".service")) {
        for name in started(text(pack, &path, file)?) {
            if pack.program(name).is_none() {
                return Err(pack.fail(format!("it lacks the program {name}, which rootfs{path} starts")));
            }
            wanted.insert(name.to_owned(), format!("{LIBEXEC}{name}"));
        }
    }
    wanted
        .into_iter()
        .map(|(name, path)| {
            let (program, source) =
                pack.program(&name).ok_or_else(|| pack.fail(format!("it lacks the program {name}")))?;
            Ok(PlannedProgram { program: program.clone(), file: copied(path, 0o755, program.sha256, &source) })
        })
        .collect()
}

/// Our programs that a unit starts, by name: from `ExecStart=` and its neighbours.
fn started(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines().filter_map(|line| {
        let (key, command) = line.split_once('=')?;
        let command = command.trim_start().trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let program = command.split_whitespace().next()?.strip_prefix(LIBEXEC)?;
        key.trim().starts_with("Exec").then_some(program)
    })
}

/// `u NAME UID …` in sysusers.d; other lines declare no user with a number.
fn users(pack: &Pack, chosen: &[&Service]) -> Result<Vec<ServiceUser>, Error> {
    let mut users = Vec::new();
    for (path, file, page) in owned(pack, chosen).filter(|(path, ..)| path.starts_with(SYSUSERS)) {
        for line in text(pack, &path, file)?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["u" | "u!", name, number, ..] = words[..] {
                let is_name =
                    name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_".contains(&it));
                let uid = number.parse().ok().filter(|_| is_name);
                let uid = uid.ok_or_else(|| pack.fail(format!("rootfs{path}: `{name} {number}` is no user")))?;
                users.push(ServiceUser { service: page.name.clone(), name: name.to_owned(), uid });
            }
        }
    }
    Ok(users)
}

/// Composes and proves the rules of every profile.
fn rulesets(pack: &Pack) -> Result<Vec<PlannedFile>, Error> {
    let (mut profiles, mut loopback) = (Vec::new(), None);
    for (path, file) in pack.below("policy") {
        let wrong = |e: &dyn std::fmt::Display| pack.fail(format!("policy/{path}: {e}"));
        if path == "loopback.yml" {
            loopback = Some(Loopback::parse(&file.bytes).map_err(|e| wrong(&e))?);
        } else if path == "claims.yml" {
            Claims::parse(&file.bytes).map_err(|e| wrong(&e))?;
        } else if let Some(name) = path.strip_prefix("profiles/") {
            let profile = Profile::parse(&file.bytes).map_err(|e| wrong(&e))?;
            if name != format!("{}.yml", profile.name) {
                return Err(wrong(&format!("is the page of {}", profile.name)));
            }
            profiles.push(profile);
        }
    }
    let loopback = loopback.ok_or_else(|| pack.fail("it lacks policy/loopback.yml"))?;
    let profiles = Profiles::new(profiles).map_err(|e| pack.fail(format!("policy: {e}")))?;
    let made = rulesets::render(&profiles, &loopback)?;
    Ok(made
        .into_iter()
        .map(|(name, text)| PlannedFile {
            path: format!("{RULESETS}/{name}.nft"),
            mode: 0o644,
            user: "root".into(),
            group: "root".into(),
            content: PlannedContent::Inline(text),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::{list, made, write};
    use std::fs;

    const RECIPE: &str =
        "name: device\nversion: '1'\nbase:\n  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree]}\n";

    fn planned(more: &str, pack: Option<&Path>) -> Result<Option<PlannedServices>, Error> {
        let recipe = Recipe::parse(&format!("{RECIPE}{more}"), "r.yml").unwrap();
        PlannedServices::of(&recipe, pack)
    }

    #[test]
    fn a_service_brings_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        let planned =
            |services: &str| planned(&format!("services: [{services}]\n"), Some(dir.path())).unwrap().unwrap();
        let audit = planned("audit");
        let paths: Vec<&str> = audit.files().map(|file| file.path.as_str()).collect();
        for path in [
            "/usr/libexec/secure-ai/secai-audit",
            "/usr/bin/secaictl",
            "/usr/bin/verify-release",
            "/usr/lib/systemd/system/secure-ai-audit.service",
            "/usr/lib/systemd/system/secure-ai-audit.socket",
            "/usr/lib/sysusers.d/secure-ai-audit.conf",
            "/usr/lib/tmpfiles.d/secure-ai-audit.conf",
            "/usr/lib/secure-ai/services/audit.yml",
            "/usr/bin/verify-release.sh",
            "/usr/lib/secure-ai/policy/claims.yml",
            "/usr/lib/secure-ai/policy/loopback.yml",
            "/usr/lib/secure-ai/policy/profiles/offline_private.yml",
            "/usr/lib/secure-ai/firewall/offline_private.nft",
        ] {
            assert!(paths.contains(&path), "{path}: {paths:?}");
        }
        let mode = |path: &str| audit.files().find(|file| file.path == path).unwrap().mode;
        assert_eq!((mode("/usr/bin/verify-release.sh"), mode("/usr/lib/secure-ai/policy/claims.yml")), (0o755, 0o644));
        assert!(!paths.iter().any(|path| path.contains("witness")), "{paths:?}");
        assert_eq!(audit.enable, ["secure-ai-audit.socket"]);
        let user = ServiceUser { service: "audit".into(), name: "secure-ai-audit".into(), uid: 956 };
        assert_eq!(audit.users, [user]);
        // The witness is the same program with a page of its own.
        let witness = planned("witness");
        let programs = |planned: &PlannedServices| -> Vec<String> {
            planned.programs.iter().map(|it| it.program.name.clone()).collect()
        };
        assert_eq!(programs(&witness), ["secai-audit", "secaictl", "verify-release"]);
        assert_eq!(programs(&planned("audit, witness")), programs(&audit));
        assert_eq!(witness.enable, ["secure-ai-witness.timer"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        let hint = |error: &Error| error.hint().unwrap_or_default();
        assert!(planned("", None).unwrap().is_none());
        let error = planned("services: [audit]\n", None).unwrap_err();
        assert!(error.to_string().starts_with("r.yml:5:12: services need"), "{error}");
        assert!(hint(&error).contains("cargo ci pack"), "{error}");
        let error = planned("services: [audit, odit]\n", Some(dir.path())).unwrap_err();
        assert!(error.to_string().starts_with("r.yml:5:19: the pack has no service `odit`"), "{error}");
        assert!(
            hint(&error).contains("audit, dns-leak-check, firewall, first-boot, profiles, var, witness"),
            "{error}"
        );
        let read = |more: &str| Recipe::parse(&format!("{RECIPE}services: [audit]\n{more}"), "r.yml").unwrap();
        let recipe = read("");
        let audit = PlannedServices::of(&recipe, Some(dir.path())).unwrap().unwrap();
        audit.check(&read("users:\n  - {name: a, uid: 1000}\n"), &[]).unwrap();
        for user in ["{name: secure-ai-audit, uid: 1000}", "{name: a, uid: 956}"] {
            let error = audit.check(&read(&format!("users:\n  - {user}\n")), &[]).unwrap_err().to_string();
            assert!(error.starts_with("r.yml:7:12: ") && error.contains("`secure-ai-audit` (956) of audit"), "{error}");
        }
        let own = |path: &str| [copied(path.into(), 0o644, Digest::of(b""), Path::new(""))];
        audit.check(&recipe, &own("/usr/lib/secure-ai/services/more.yml")).unwrap();
        let error = audit.check(&recipe, &own("/usr/lib/secure-ai/services/audit.yml")).unwrap_err();
        assert!(error.to_string().contains("is a file of the recipe's services"), "{error}");
    }

    #[test]
    fn a_pack_that_lacks_what_a_service_needs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pack");
        for (key, name, reason) in [
            ("programs", "secai-audit", "lacks the program secai-audit, which rootfs/usr/lib/systemd"),
            ("programs", "verify-release", "lacks the program verify-release"),
            ("files", "manifests/policy/loopback.yml", "lacks policy/loopback.yml"),
            ("files", "manifests/policy/profiles/offline_private.yml", "`offline_private` is missing"),
            ("files", "manifests/rootfs/usr/lib/systemd/system/secure-ai-audit.socket", "lacks secure-ai-audit.socket"),
        ] {
            crate::stage::remove(&root).unwrap();
            made(&root);
            planned("services: [audit]\n", Some(&root)).unwrap();
            let mut list = list(&root);
            list[key].as_array_mut().unwrap().retain(|it| it["name"] != name && it["path"] != name);
            write(&root, &list);
            let error = planned("services: [audit]\n", Some(&root)).unwrap_err();
            assert!(matches!(error, Error::Pack { .. }) && error.to_string().contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn a_program_that_changes_changes_the_plan() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        let of = || serde_json::to_string(&planned("services: [audit]\n", Some(dir.path())).unwrap()).unwrap();
        let (before, again) = (of(), of());
        assert_eq!(before, again);
        assert!(!before.contains(dir.path().to_str().unwrap()), "the plan names the folder");
        let bytes = b"another";
        fs::write(dir.path().join("programs/secai-audit"), bytes).unwrap();
        let mut list = list(dir.path());
        list["programs"][0]["sha256"] = Digest::of(bytes).to_string().into();
        list["programs"][0]["size"] = bytes.len().into();
        write(dir.path(), &list);
        assert_ne!(of(), before);
    }

    #[test]
    fn programs_are_read_from_units() {
        let unit = "[Service]\nExecStartPre=+/usr/libexec/secure-ai/secai-a x\nExecStart = -/usr/libexec/secure-ai/secai-b\n\
            ExecStop=/bin/true /usr/libexec/secure-ai/secai-c\n# ExecStart=/usr/libexec/secure-ai/secai-d\n\
            Description=/usr/libexec/secure-ai/secai-e\n";
        assert_eq!(started(unit).collect::<Vec<_>>(), ["secai-a", "secai-b"]);
    }
}
