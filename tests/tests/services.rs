//! Each service's page (`manifests/services/NAME.yml`) and what lies on the device for it (`manifests/rootfs/`) say
//! the same, and its unit is as closed as its page says.
//!
//! As in `tidy.rs`: a rule is a pure function from files to findings, and has a test that plants a violation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use secai_tests::{Need, Scratch, Tier, ran, require, top};
use secai_verifier::network::profile::DHCP_UID;
use secai_verifier::service::{Memory, Service, Services};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Where the units lie, from the top.
const UNITS: &str = "manifests/rootfs/usr/lib/systemd/system/";
const PAGES: &str = "manifests/services/";
/// What lies on the device.
const ROOTFS: &str = "manifests/rootfs";
const SYSUSERS: &str = "manifests/rootfs/usr/lib/sysusers.d/";
const TMPFILES: &str = "manifests/rootfs/usr/lib/tmpfiles.d/";
/// The user of a package whose number the rules know: whose page pins it.
const PINNED: (&str, &str) = ("firewall", "systemd-network");
/// Where the programs lie on the device.
const PROGRAMS: &str = "/usr/libexec/secure-ai/";
/// Folders below `services/` that are no service: libraries, and what people run as themselves.
const NO_SERVICE: &[&str] = &["api", "daemon", "pii", "ctl"];

/// Files by their path from the top.
type Files = BTreeMap<String, String>;
/// What is wrong, and where.
type Findings = Vec<String>;
type Rule = fn(&Files, &Services) -> Findings;

const RULES: &[(&str, Rule)] = &[
    ("every service program has a page", programs_without_page),
    ("every unit has a page", units_without_page),
    ("a unit is as its page says", units),
    ("what starts a unit is as its page says", starters),
    ("users are those of the pages", users),
    ("folders belong to users that exist", folders),
    ("every file on the device is one service's", owners),
];

fn tree() -> Files {
    let mut files = Files::new();
    for folder in ["manifests", "services"] {
        add(&top().join(folder), folder, &mut files);
    }
    files
}

fn add(folder: &Path, name: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            add(&entry.path(), &name, files);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.insert(name, text);
        }
    }
}

fn pages(files: &Files) -> Result<Services, Findings> {
    let mut findings = Findings::new();
    let mut pages = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with(PAGES)) {
        match Service::parse(text.as_bytes()) {
            Ok(page) if *path == format!("{PAGES}{}.yml", page.name) => pages.push(page),
            Ok(page) => findings.push(format!("{path}: is the page of {}", page.name)),
            Err(error) => findings.push(format!("{path}: {error}")),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    Services::new(pages).map_err(|error| vec![error.to_string()])
}

fn findings(files: &Files) -> Findings {
    let services = match pages(files) {
        Ok(services) => services,
        Err(findings) => return findings,
    };
    RULES
        .iter()
        .flat_map(|(rule, find)| find(files, &services).into_iter().map(move |found| format!("{rule}: {found}")))
        .collect()
}

// ---- the rules ----

fn programs_without_page(files: &Files, services: &Services) -> Findings {
    let programs = files.keys().filter_map(|path| path.strip_prefix("services/")?.strip_suffix("/src/main.rs"));
    programs
        .filter(|name| !NO_SERVICE.contains(name) && services.named(name).is_none())
        .map(|name| format!("services/{name} has no {PAGES}{name}.yml"))
        .collect()
}

fn units_without_page(files: &Files, services: &Services) -> Findings {
    let known: BTreeSet<String> = (services.pages().iter())
        .flat_map(|page| [page.unit.clone(), page.started_by.clone(), template(page)])
        .collect();
    files
        .keys()
        .filter_map(|path| path.strip_prefix(UNITS))
        .filter(|unit| unit.starts_with("secure-ai-") && !known.contains(*unit))
        .map(|unit| format!("{unit} is on no page"))
        .collect()
}

/// What a service runs as once for each link, or whatever else there are several of.
fn template(page: &Service) -> String {
    page.unit.replace(".service", "@.service")
}

/// A service's unit, and its template where it has one.
fn units_of(files: &Files, page: &Service) -> impl Iterator<Item = String> {
    let template = Some(template(page)).filter(|name| files.contains_key(&format!("{UNITS}{name}")));
    std::iter::once(page.unit.clone()).chain(template)
}

fn units(files: &Files, services: &Services) -> Findings {
    let mut findings = Findings::new();
    for (page, name) in services.pages().iter().flat_map(|page| units_of(files, page).map(move |name| (page, name))) {
        let Some(unit) = Unit::of(files, &name, &mut findings) else { continue };
        let mut wrong = |what: String| findings.push(format!("{name}: {what}"));
        for key in ["User", "Group"] {
            if unit.all("Service", key) != [&page.user] {
                wrong(format!("{key}= is not {}", page.user));
            }
        }
        let memory = unit.one("Service", "MemoryMax").and_then(|it| it.parse::<Memory>().ok());
        if memory != Some(page.memory) {
            wrong(format!("MemoryMax= is not what {}.yml says", page.name));
        }
        // In a namespace of its own every caller is 65534, and so is the service to those it calls.
        if !matches!(unit.one("Service", "PrivateUsers"), Some("no" | "identity")) {
            wrong("PrivateUsers= is neither no nor identity".into());
        }
        if !unit.one("Service", "ExecStart").is_some_and(|it| it.starts_with(PROGRAMS)) {
            wrong(format!("ExecStart= is not one program below {PROGRAMS}"));
        }
        // Nothing is started as root on the way, and nothing by another name.
        for key in ["ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "PermissionsStartOnly"] {
            if !unit.all("Service", key).is_empty() {
                wrong(format!("{key}= has no place in a service of ours"));
            }
        }
        // What closes again, however the service ended; as whom it runs.
        if unit.all("Service", "ExecStopPost").iter().any(|it| !page.is_root() || !it.starts_with(PROGRAMS)) {
            wrong(format!("ExecStopPost= is not one of root's programs below {PROGRAMS}"));
        }
        let ambient = unit.all("Service", "AmbientCapabilities");
        if ambient.iter().any(|it| !it.is_empty()) {
            wrong("AmbientCapabilities= gives some".into());
        }
    }
    findings
}

fn starters(files: &Files, services: &Services) -> Findings {
    let mut findings = Findings::new();
    for page in services.pages() {
        let Some(unit) = Unit::of(files, &page.started_by, &mut findings) else { continue };
        let mut wrong = |what: String| findings.push(format!("{}: {what}", page.started_by));
        if unit.section("Install").is_none() {
            wrong("nothing installs it".into());
        }
        let Some(socket) = &page.socket else { continue };
        if unit.all("Socket", "ListenSequentialPacket") != [&socket.path] {
            wrong(format!("ListenSequentialPacket= is not {}", socket.path));
        }
        let keys = unit.section("Socket").into_iter().flatten().map(|(key, _)| key.as_str());
        for key in keys.filter(|key| key.starts_with("Listen") && *key != "ListenSequentialPacket") {
            wrong(format!("{key}= is on no page"));
        }
        // Access is decided by the caller's user: a mode would only be a second place that says who may.
        if unit.one("Socket", "SocketMode") != Some("0666") {
            wrong("SocketMode= is not 0666".into());
        }
    }
    findings
}

/// Each in the file of its own service: an image has the services that it names.
fn users(files: &Files, services: &Services) -> Findings {
    let said = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let there: BTreeSet<(String, String)> = (files.iter())
        .filter_map(|(path, text)| Some((path.strip_prefix(SYSUSERS)?, text)))
        .flat_map(|(file, text)| text.lines().map(move |line| (file, line)))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(file, line)| (file.to_owned(), said(line)))
        .collect();
    let of = |page: &Service| (format!("{}.conf", page.user), format!("u {} {}", page.user, page.uid));
    let own = services.pages().iter().filter(|page| !page.is_root()).map(of);
    let pinned = services
        .named(PINNED.0)
        .map(|page| (format!("secure-ai-{}.conf", page.name), format!("u {} {DHCP_UID}", PINNED.1)));
    let wanted: BTreeSet<(String, String)> = own.chain(pinned).collect();
    // A colon ends a field of passwd: systemd-sysusers takes none of the lines of such a file.
    let colons = (files.iter())
        .filter(|(path, _)| path.starts_with(SYSUSERS))
        .flat_map(|(path, text)| text.lines().map(move |line| (path, line)))
        .filter(|(_, line)| !line.starts_with('#') && line.contains(':'))
        .map(|(path, line)| format!("{path}: `{line}` has a colon"));
    let missing = wanted.difference(&there).map(|(file, line)| format!("{SYSUSERS}{file}: `{line}` is not there"));
    let many = there.difference(&wanted).map(|(file, line)| format!("{SYSUSERS}{file}: `{line}` is on no page"));
    missing.chain(many).chain(colons).collect()
}

fn owners(files: &Files, services: &Services) -> Findings {
    let mut findings = Findings::new();
    for path in files.keys().filter_map(|path| path.strip_prefix(ROOTFS)) {
        let owners: Vec<&str> =
            services.pages().iter().filter(|page| page.owns(path)).map(|page| page.name.as_str()).collect();
        match owners[..] {
            [_] => {}
            [] => findings.push(format!("{path} is no service's: its page can name it under `files`")),
            _ => findings.push(format!("{path} is of {}", owners.join(" and "))),
        }
    }
    for page in services.pages() {
        let absent = page.files.iter().filter(|path| !files.contains_key(&format!("{ROOTFS}{path}")));
        findings.extend(absent.map(|path| format!("{}.yml: {path} is not there", page.name)));
    }
    findings
}

fn folders(files: &Files, services: &Services) -> Findings {
    let mut findings = Findings::new();
    let mut said = BTreeMap::new();
    for line in files.iter().filter(|(path, _)| path.starts_with(TMPFILES)).flat_map(|(_, text)| text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, path, mode, user, group, ..] = words[..] else {
            if !line.is_empty() && !line.starts_with('#') {
                findings.push(format!("{TMPFILES}: `{line}` is no line of tmpfiles.d"));
            }
            continue;
        };
        if line.starts_with('#') {
            continue;
        }
        // systemd-tmpfiles takes one of two lines that differ, and complains.
        if said.insert(path, line).is_some_and(|before| before != line) {
            findings.push(format!("{TMPFILES}: {path} is there twice, in other words"));
        }
        if !["/run/secure-ai", "/var/lib/secure-ai"].iter().any(|it| path == *it || path.starts_with(&format!("{it}/")))
        {
            findings.push(format!("{TMPFILES}: {path} is nobody's here"));
        }
        let known = |name: &str| name == "root" || services.pages().iter().any(|page| page.user == name);
        if !known(user) || !known(group) {
            findings.push(format!("{TMPFILES}: {path}: {user}:{group} is on no page"));
        }
        let others_may_write = mode.chars().last().is_none_or(|digit| !"0145".contains(digit));
        if kind != "d" || others_may_write {
            findings.push(format!("{TMPFILES}: {path}: is no folder, or one that everybody may write to"));
        }
    }
    findings
}

/// A unit's sections with their assignments, in their order.
struct Unit(Vec<(String, Vec<(String, String)>)>);

impl Unit {
    fn of(files: &Files, name: &str, findings: &mut Findings) -> Option<Self> {
        let read = files.get(&format!("{UNITS}{name}")).ok_or("is not there".to_owned()).and_then(|it| Self::parse(it));
        read.map_err(|why| findings.push(format!("{name}: {why}"))).ok()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            if line.ends_with('\\') {
                return Err(format!("`{line}` goes on in the next line, which nobody needs"));
            }
            if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                sections.push((name.into(), Vec::new()));
                continue;
            }
            let assigned = line.split_once('=').map(|(key, value)| (key.trim().into(), value.trim().into()));
            match (sections.last_mut(), assigned) {
                (Some((_, lines)), Some(assigned)) => lines.push(assigned),
                _ => return Err(format!("`{line}` is no assignment of a section")),
            }
        }
        Ok(Self(sections))
    }

    fn section(&self, name: &str) -> Option<&[(String, String)]> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, lines)| &lines[..])
    }

    fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let sections = self.0.iter().filter(|(it, _)| it == section);
        sections.flat_map(|(_, lines)| lines).filter(|(it, _)| it == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a key that is there once.
    fn one(&self, section: &str, key: &str) -> Option<&str> {
        match self.all(section, key)[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

// ---- on the tree ----

#[test]
fn pages_and_units_agree() {
    let findings = findings(&tree());
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn the_audit_daemons_page_names_each_request_once() {
    use secai_api::audit::{Prune, Range, Request};
    let word = |request: &Request| match serde_json::to_value(request).unwrap() {
        serde_json::Value::Object(words) => words.into_iter().next().unwrap().0,
        other => panic!("{other}"),
    };
    // Who may append is said by kind.
    let requests = [
        Request::Forget(Range { from: 0, until: 0 }),
        Request::Prune(Prune { until: 0 }),
        Request::Checkpoint {},
        Request::Open {},
        Request::Acknowledge {},
        Request::Status {},
    ];
    let services = pages(&tree()).unwrap();
    let named: BTreeSet<String> = services.named("audit").unwrap().callers.keys().cloned().collect();
    assert_eq!(named, requests.iter().map(word).collect());
}

/// Who may what, as people decided it: a page that says otherwise is a decision, not a slip.
#[test]
fn the_audit_daemon_obeys_whom_it_should() {
    const PEOPLE: &[u32] = &[0, 1000, 1001, 60_000];
    const NOBODY: &[u32] = &[1, 100, 951, 952, 955, 958, 959, 961, 999, 60_001, 65_534, u32::MAX];
    const WRITER: u32 = 956;
    const DASHBOARD: u32 = 957;
    const WITNESS: u32 = 960;
    let services = pages(&tree()).unwrap();
    let page = services.named("audit").unwrap();
    let may = |request: &str, uid: u32| match request.strip_prefix("append ") {
        Some(kind) => services.may_append(uid, kind),
        None => page.may(request, uid),
    };
    for (request, others) in [
        ("append owner.note", &[][..]),
        ("forget", &[]),
        ("prune", &[]),
        ("acknowledge", &[]),
        ("open", &[WITNESS, DASHBOARD]),
        ("checkpoint", &[WITNESS, DASHBOARD]),
        ("status", &[WITNESS, DASHBOARD]),
    ] {
        for uid in PEOPLE.iter().chain(others) {
            assert!(may(request, *uid), "{request}: {uid}");
        }
        let rest = [WRITER, DASHBOARD, WITNESS].into_iter().filter(|uid| !others.contains(uid));
        for uid in rest.chain(NOBODY.iter().copied()) {
            assert!(!may(request, uid), "{request}: {uid}");
        }
    }
    let all = || PEOPLE.iter().chain(NOBODY).copied().chain([DASHBOARD, WITNESS]);
    assert!(may("append svc.state", WRITER));
    for uid in all() {
        assert!(!may("append svc.state", uid), "{uid}");
    }
    const DNS_LEAK_CHECK: u32 = 961;
    assert!(may("append dns.checked", DNS_LEAK_CHECK));
    for uid in all().chain([WRITER]).filter(|uid| *uid != DNS_LEAK_CHECK) {
        assert!(!may("append dns.checked", uid), "{uid}");
    }
    let kinds = secai_verifier::audit::kind::KINDS.iter().filter(|kind| kind.name.starts_with("audit."));
    for kind in kinds {
        for uid in all().chain([WRITER]) {
            assert!(!services.may_append(uid, kind.name), "{} {uid}", kind.name);
        }
        assert!(page.audit.contains(kind.name), "{} is written by nobody", kind.name);
    }
}

#[test]
fn a_planted_difference_is_found() {
    plant("manifests/services/audit.yml", "uid: 956", "uid: 960", "same `uid`");
    plant("manifests/services/audit.yml", "uid: 956", "uid: 962", "`u secure-ai-audit 962` is not there");
    plant("manifests/services/audit.yml", "memory: 128M", "memory: 256M", "MemoryMax=");
    plant("manifests/services/audit.yml", "about:", "abuot:", "unknown field");
    let audit = format!("{UNITS}secure-ai-audit.service");
    plant(&audit, "User=secure-ai-audit", "User=root", "User=");
    plant(&audit, "Group=secure-ai-audit", "", "Group=");
    plant(&audit, "MemoryMax=128M", "MemoryMax=infinity", "MemoryMax=");
    plant(&audit, "MemoryMax=128M", "MemoryMax=128M\nMemoryMax=1G", "MemoryMax=");
    plant(&audit, "PrivateUsers=no", "PrivateUsers=yes", "PrivateUsers=");
    plant(&audit, "PrivateUsers=no", "", "PrivateUsers=");
    plant(&audit, "ExecStart=", "ExecStart=+", "ExecStart=");
    plant(&audit, "ExecStart=", "ExecStopPost=/usr/libexec/secure-ai/secai-audit\nExecStart=", "ExecStopPost=");
    let profiles = format!("{UNITS}secure-ai-profiles.service");
    plant(&profiles, "ExecStopPost=/usr/libexec/secure-ai/", "ExecStopPost=/usr/bin/", "ExecStopPost=");
    plant(&format!("{UNITS}secure-ai-firewall@.service"), "User=root", "User=nobody", "User=");
    plant(&format!("{SYSUSERS}secure-ai-firewall.conf"), "953", "998", "`u systemd-network 998` is on no page");
    plant(&audit, "ExecStart=", "ExecStartPre=+/bin/sh\nExecStart=", "ExecStartPre=");
    plant(&audit, "AmbientCapabilities=", "AmbientCapabilities=CAP_NET_RAW", "AmbientCapabilities=");
    plant(&audit, "[Service]", "[Service]\nNonsense", "no assignment");
    plant(&audit, "Type=notify", "Type=\\\nnotify", "goes on");
    let socket = format!("{UNITS}secure-ai-audit.socket");
    plant(&socket, "audit.sock", "other.sock", "ListenSequentialPacket=");
    plant(&socket, "SocketMode=0666", "", "SocketMode=");
    plant(&socket, "SocketMode", "ListenStream=127.0.0.1:1\nSocketMode", "ListenStream= is on no page");
    plant(&socket, "[Install]", "[Uninstall]", "nothing installs it");
    plant(&format!("{UNITS}secure-ai-witness.timer"), "[Install]", "[Uninstall]", "nothing installs it");
    let sysusers = format!("{SYSUSERS}secure-ai-audit.conf");
    plant(&sysusers, "956", "950", "`u secure-ai-audit 950` is on no page");
    plant(&sysusers, "secure-ai-audit 956", "secure-ai-witness 960", "`u secure-ai-witness 960` is on no page");
    plant(&sysusers, "chain, its", "chain: its", "has a colon");
    let tmpfiles = format!("{TMPFILES}secure-ai-audit.conf");
    plant(&tmpfiles, "secure-ai-audit secure-ai-audit", "secure-ai-audit secure-ai-audti", "is on no page");
    plant(&tmpfiles, "0700", "0707", "everybody may write to");
    plant(&tmpfiles, "/var/lib/secure-ai/audit-keys", "/etc/x", "nobody's here");
    plant(
        &tmpfiles,
        "d /run/secure-ai 0755",
        "d /run/secure-ai 0700 root root\nd /run/secure-ai 0755",
        "in other words",
    );
    let page = "manifests/services/witness.yml";
    plant(page, "memory:", "files: [/usr/lib/sysctl.d/61.conf]\nmemory:", "/usr/lib/sysctl.d/61.conf is not there");
    let taken = "files: [/usr/lib/systemd/system/secure-ai-audit.socket]\nmemory:";
    plant(page, "memory:", taken, "is of audit and witness");

    let tidy = tree();
    assert_eq!(findings(&tidy), Findings::new());
    for (path, found) in [
        (audit.clone(), "is not there"),
        (socket, "is not there"),
        (format!("{PAGES}audit.yml"), "is on no page"),
        (sysusers, "is not there"),
    ] {
        let mut files = tidy.clone();
        files.remove(&path).unwrap();
        let findings = findings(&files);
        assert!(findings.iter().any(|it| it.contains(found)), "{path}: {findings:?}");
    }
    for (path, text, found) in [
        ("services/airlock/src/main.rs", "//! Fetches.\n", "services/airlock has no"),
        ("manifests/rootfs/usr/lib/systemd/system/secure-ai-more.service", "", "is on no page"),
        ("manifests/rootfs/usr/lib/udev/rules.d/80-x.rules", "", "is no service's"),
        ("manifests/rootfs/usr/lib/sysctl.d/60-secure-ai-more.conf", "", "is no service's"),
        ("manifests/services/other.yml", &tidy["manifests/services/witness.yml"], "is the page of witness"),
    ] {
        let mut files = tidy.clone();
        files.insert(path.into(), text.into());
        let findings = findings(&files);
        assert!(findings.iter().any(|it| it.contains(found)), "{path}: {findings:?}");
    }
}

#[track_caller]
fn plant(path: &str, from: &str, to: &str, found: &str) {
    let mut files = tree();
    let text = files.get_mut(path).unwrap_or_else(|| panic!("{path}"));
    assert!(text.contains(from), "{path}: {from}");
    *text = text.replacen(from, to, 1);
    let findings = findings(&files);
    assert!(findings.iter().any(|it| it.contains(found)), "{path}: {from} → {to}: {findings:?}");
}

// ---- with systemd ----

#[test]
fn units_stay_within_their_exposure() {
    if !require(Tier::Test, &[Need::Program("systemd-analyze")]) {
        return;
    }
    let files = tree();
    let scratch = Scratch::new(TMP, "services-exposure");
    let exposed = |name: &str, text: &str, tenths: u8| {
        let unit = scratch.join(name);
        fs::write(&unit, text).unwrap();
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", "--no-pager", &format!("--threshold={tenths}")]).arg(&unit);
        ran(&mut analyze)
    };
    for page in pages(&files).unwrap().pages() {
        units_of(&files, page).for_each(|name| {
            exposed(&name, &files[&format!("{UNITS}{name}")], page.security.0).good();
        });
        let text = &files[&format!("{UNITS}{}", page.unit)];
        // A budget that any line could be taken from is none.
        for key in ["ProtectSystem", "CapabilityBoundingSet", "RestrictAddressFamilies", "NoNewPrivileges"] {
            let is_of_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
            assert_eq!(text.lines().filter(is_of_key).count(), 1, "{}: {key}", page.unit);
            // Before there are file systems systemd counts none of their protection.
            if key == "ProtectSystem" && text.contains("\nDefaultDependencies=no\n") {
                continue;
            }
            let without: String =
                text.lines().filter(|line| !is_of_key(line)).map(|line| format!("{line}\n")).collect();
            exposed(&page.unit, &without, page.security.0).bad();
        }
    }
}

#[test]
fn systemd_understands_every_unit() {
    if !require(Tier::Test, &[Need::Program("systemd-analyze")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "services-verify");
    // systemd wants the program to be there.
    let program = scratch.join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let units: Vec<(String, String)> = tree()
        .into_iter()
        .filter_map(|(path, text)| Some((path.strip_prefix(UNITS)?.to_owned(), text)))
        // Drop-ins are for units that are not ours.
        .filter(|(name, _)| !name.contains('/'))
        .map(|(name, text)| {
            let lines = text.lines().map(|line| match line.split_once('=') {
                Some((key, value)) if value.starts_with(PROGRAMS) => format!("{key}={}\n", program.display()),
                _ => format!("{line}\n"),
            });
            (name, lines.collect())
        })
        .collect();
    assert!(units.len() >= 4, "{}", units.len());
    let complaints = |more: &str| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["verify", "--man=no"]);
        for (name, text) in &units {
            let text =
                if name == "secure-ai-audit.service" { text.replacen("[Service]\n", more, 1) } else { text.clone() };
            fs::write(scratch.join(name), text).unwrap();
            analyze.arg(scratch.join(name));
        }
        // Of what else is installed on this machine it may complain.
        let text = ran(&mut analyze).text();
        text.lines().filter(|line| line.contains("secure-ai-")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complaints("[Service]\n"), Vec::<String>::new());
    for planted in
        ["[Service]\nNoSuchKey=1\n", "[Service]\nProtectSystem=stern\n", "[Service]\nSystemCallFilter=no_such_call\n"]
    {
        assert!(!complaints(planted).is_empty(), "{planted}");
    }
}
