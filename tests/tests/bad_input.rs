//! What can go wrong around a build: a recipe with a fault, no network, a key that cannot sign, a full disk, a kill. Each
//! is said early and plainly, and leaves nothing that could be taken for a release.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use secai_tests::composing::{Cached, Composing, report, users_cache};
use secai_tests::{Need, Ran, Scratch, Tier, as_root, program, ran, release, require};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Seven lines that are right; each case adds what is wrong.
const BASE: &str = "name: minimal
version: 0.1.0
base:
  debian:
    suite: trixie
    kernel: linux-image-cloud-amd64
    packages: [ostree, ostree-boot, dracut]
";

/// What is added, and all that is said.
const COMPLAINTS: &[(&str, &str)] = &[
    (
        "pakages: [nftables]\n",
        "error: recipe.yml:8:1: unknown field `pakages`, expected one of name, version, extends, base, packages, services, files, units, users, set_id, kernel_args, trust, channel
hint: did you mean `packages`?
",
    ),
    (
        "packages: nftables\n",
        "error: recipe.yml:8:11: expected a list
hint: `secai-build schema` prints every key and its type
",
    ),
    (
        "kernel_args: [quiet, {b: c}]\n",
        "error: recipe.yml:8:22: expected a text
hint: `secai-build schema` prints every key and its type
",
    ),
    (
        "version: 0.2.0\n",
        "error: recipe.yml:8:1: `version` stands twice
hint: a key stands once; remove one
",
    ),
    (
        "packages: [nftables, nftables]\n",
        "error: recipe.yml:8:22: `nftables` stands twice
hint: it stands first at 8:12; remove one
",
    ),
    (
        "files:\n  - {path: /etc/a, content: a}\n  - {path: /etc/a, content: b}\n",
        "error: recipe.yml:10:12: `/etc/a` stands twice
hint: it stands first at 9:12; remove one
",
    ),
    (
        "services: [audit]\n",
        "error: recipe.yml:8:12: services need their programs, and no --pack says where they are
hint: `cargo ci pack` fills out/pack; then give --pack out/pack
",
    ),
    (
        "services: [Audit]\n",
        "error: recipe.yml:8:12: `Audit` is not the name of a service
hint: see `secai-build schema`
",
    ),
    (
        "files:\n  - {path: /etc/a, source: absent}\n",
        "error: recipe.yml:9:28: absent cannot be read: No such file or directory (os error 2)
hint: paths in a recipe are relative to the recipe's own folder
",
    ),
    (
        "files:\n  - {path: /etc/a, source: ../outside}\n",
        "error: recipe.yml:9:28: ../outside lies outside the recipe's folder
hint: copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder
",
    ),
    (
        "files:\n  - {path: /etc/a, source: /etc/hostname}\n",
        "error: recipe.yml:9:28: /etc/hostname lies outside the recipe's folder
hint: copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder
",
    ),
    (
        "files:\n  - {path: /etc/a, source: link}\n",
        "error: recipe.yml:9:28: link lies outside the recipe's folder
hint: copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder
",
    ),
    (
        "trust: ../outside-folder\n",
        "error: recipe.yml:8:8: ../outside-folder lies outside the recipe's folder
hint: copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder
",
    ),
    (
        "extends: absent.yml\n",
        "error: recipe.yml:8:10: absent.yml cannot be read: No such file or directory (os error 2)
hint: paths in a recipe are relative to the recipe's own folder
",
    ),
    (
        "extends: ../outside\n",
        "error: recipe.yml:8:10: ../outside lies outside the recipe's folder
hint: copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder
",
    ),
    (
        "extends: parent.yml\n",
        "error: parent.yml:2:1: unknown field `pakages`, expected one of name, version, extends, base, packages, services, files, units, users, set_id, kernel_args, trust, channel
hint: did you mean `packages`?
",
    ),
    (
        "files:\n  - {path: /var/lib/a, content: a}\n",
        "error: recipe.yml:9:12: `/var/lib/a` cannot be in an image
hint: a commit keeps nothing of /var; write a tmpfiles.d entry under /usr/lib/tmpfiles.d that makes it at boot
",
    ),
];

/// Those that only the package index can tell.
const IMPOSSIBLE: &[(&str, &str)] = &[
    (
        "packages: [nftables, no-such-package]\n",
        "error: recipe.yml:8:22: package `no-such-package` is not in trixie
hint: look it up with `apt-cache search`; trixie has only the component main
",
    ),
    ("packages: [systemd-sysv, sysvinit-core]\n", "systemd-sysv : Conflicts: sysvinit-core"),
];

fn without_network(command: &mut Command) -> Command {
    let mut alone = as_root("unshare");
    alone.args(["--net", "--"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        alone.current_dir(folder);
    }
    alone
}

#[test]
fn a_fault_in_the_recipe_is_shown_at_its_place_before_anything_is_made() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "bad-recipe", Cached::Packages);
    let inner = here.scratch.join("recipe");
    fs::create_dir_all(inner.join("folder")).unwrap();
    fs::create_dir_all(here.scratch.join("outside-folder")).unwrap();
    fs::write(here.scratch.join("outside"), "the machine's").unwrap();
    symlink("../outside", inner.join("link")).unwrap();
    fs::write(inner.join("parent.yml"), "name: parent\npakages: [nftables]\n").unwrap();
    let build = |text: &str| {
        fs::write(inner.join("recipe.yml"), format!("{BASE}{text}")).unwrap();
        let mut command = here.build();
        ran(without_network(&mut command).current_dir(&inner))
    };
    let nothing_made = |ended: &Ran| {
        assert_eq!(ended.code, Some(2), "{ended}");
        assert!(ended.out.is_empty(), "{ended}");
        let made = fs::read_dir(inner.join("out/minimal")).into_iter().flatten().flatten();
        let made: Vec<_> =
            made.map(|entry| entry.file_name()).filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert!(made.is_empty(), "{made:?}: {ended}");
    };
    for (text, said) in COMPLAINTS {
        let ended = build(text);
        nothing_made(&ended);
        assert_eq!(ended.err, *said, "{text}");
        assert!(!inner.join("out").exists(), "{text}");
    }
    for (text, said) in IMPOSSIBLE {
        let ended = build(text);
        nothing_made(&ended);
        assert!(
            ended.err == *said || ended.err.contains(said) && ended.err.starts_with("error: recipe.yml:"),
            "{ended}"
        );
        assert!(ended.err.contains("\nhint: "), "{ended}");
    }
    // Allowed by the flag, the same recipe gets as far as the plan.
    fs::write(inner.join("recipe.yml"), format!("{BASE}files:\n  - {{path: /etc/a, source: ../outside}}\n")).unwrap();
    let mut plan = as_root("env");
    plan.args(here.surroundings()).arg(program("secai-build")).args(["plan", "recipe.yml"]);
    let mut plan = without_network(plan.current_dir(&inner));
    ran(plan.arg("--allow-files-outside-the-recipe-folder")).good();
}

#[test]
fn without_a_network_what_is_missing_has_a_name() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "bad-network", Cached::Nothing);
    let ended = ran(&mut without_network(&mut here.build()));
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(
        ended.err.starts_with("error: the package index of trixie is not in the cache and cannot be fetched\nhint: "),
        "{ended}"
    );
    assert_eq!(here.outputs(), Vec::<String>::new());
    drop(here);

    let here = Composing::new(TMP, "bad-network", Cached::Packages);
    let plan: Value = serde_json::from_slice(&fs::read(release().join("1-plan.json")).unwrap()).unwrap();
    let lost = plan["packages"].as_array().unwrap().iter().find(|package| package["name"] == "nftables").unwrap();
    let deb = format!("cache/secai/debs/{}.deb", lost["sha256"].as_str().unwrap());
    ran(as_root("rm").arg(here.scratch.join(deb))).good();
    let ended = ran(&mut without_network(&mut here.build()));
    assert_eq!(ended.code, Some(2), "{ended}");
    let said = format!(
        "error: package nftables {} is not in the cache and cannot be fetched\nhint: ",
        lost["version"].as_str().unwrap()
    );
    assert!(ended.err.starts_with(&said), "{said}{ended}");
    assert_eq!(here.outputs(), Vec::<String>::new());
}

#[test]
fn a_key_that_cannot_sign_is_said_before_the_long_work() {
    if !require(Tier::Test, &[Need::Release, Need::Root, Need::Program("openssl"), Need::Program("gpg")]) {
        return;
    }
    // No index and no package: whoever asks for one fails in another way.
    let here = Composing::new(TMP, "bad-key", Cached::Nothing);
    let key = |name: &str, arguments: &[&str]| {
        let path = here.scratch.join(name);
        let mut openssl = Command::new("openssl");
        ran(openssl.arg("genpkey").args(arguments).arg("-out").arg(&path)).good();
        path
    };
    let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let stranger = key("stranger.key", &p256);
    let locked = key("locked.key", &[&p256[..], &["-aes256", "-pass", "pass:word"]].concat());
    let other_curve = key("p384.key", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let other_kind = key("ed25519.key", &["-algorithm", "ed25519"]);
    let absent = here.scratch.join("absent.key");
    let cases: [(&str, &Path, &str); 6] = [
        ("--build-key", &absent, "No such file or directory"),
        ("--build-key", &locked, "is locked by a passphrase\nhint: put the passphrase into SECAI_KEY_PASSPHRASE"),
        ("--release-key", &other_curve, "a key file is PKCS#8 PEM with an ECDSA P-256 key"),
        ("--release-key", &other_kind, "a key file is PKCS#8 PEM with an ECDSA P-256 key"),
        ("--release-key", &stranger, "does not hold this role"),
        ("--gpg-key", Path::new("0123456789ABCDEF0123456789ABCDEF01234567"), "the commit key cannot sign"),
    ];
    let refused = |what: &str, ended: &Ran, said: &str| {
        eprintln!("{what}: {:.2} s: {}", ended.took.as_secs_f64(), ended.err.lines().next().unwrap_or_default());
        assert_eq!(ended.code, Some(2), "{ended}");
        assert!(
            ended.err.starts_with("error: the ") && ended.err.contains(said) && ended.err.contains("\nhint: "),
            "{ended}"
        );
        assert!(!here.scratch.join("out").exists(), "{what}: something was made");
    };
    for (option, value, said) in cases {
        refused(option, &ran(here.build().arg(option).arg(value)), said);
    }

    // An OpenPGP key whose passphrase nobody gives. GnuPG's home has to be short: it holds sockets.
    let home = Scratch::new("/tmp", &format!("secai-gpg-{}", std::process::id()));
    ran(as_root("chmod").arg("700").arg(home.path())).good();
    let gpg = |arguments: &[&str]| {
        ran(as_root("gpg").arg("--homedir").arg(home.path()).arg("--batch").args(arguments)).good()
    };
    let quick = [
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "word",
        "--quick-generate-key",
        "Locked <locked@example.org>",
        "ed25519",
        "sign",
        "never",
    ];
    gpg(&quick);
    let listed = gpg(&["--with-colons", "--list-keys"]).out;
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
    let stop = || ran(as_root("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"])).good();
    // The agent remembers the passphrase it was just told.
    stop();
    let mut command = as_root("env");
    command.arg(format!("GNUPGHOME={}", home.path().display()));
    command.args(here.words("build")).args(["--gpg-key", &fingerprint]);
    let ended = ran(command.current_dir(here.scratch.path()));
    stop();
    refused("--gpg-key, locked", &ended, "the commit key cannot sign");
}

fn accepted(bundle: &Path) -> Ran {
    ran(Command::new(program("verify-release")).arg("bundle").arg(bundle).arg("--trust").arg(release().join("trust")))
}

/// The manifest's digest, as the index of the composed release has it.
fn composed() -> Value {
    let index = fs::read(release().join("6-bundle/image/index.json")).unwrap();
    serde_json::from_slice::<Value>(&index).unwrap()["manifests"][0]["digest"].clone()
}

/// Every moment at which a build has begun a stage, or finished one and not yet noted it.
const MOMENTS: &[&str] = &[
    "2-rootfs.partial",
    "2-rootfs",
    "3-commit.json.partial",
    "3-commit.json",
    "4-image.partial",
    "4-image",
    "5-attest.partial",
    "5-attest",
    "6-bundle.partial",
    "6-bundle",
];

/// As often a moment is tried.
const ATTEMPTS_MAX: usize = 5;

/// Builds until this is there, and no longer; whether it was met before the build was over.
fn killed_at(here: &Composing, moment: &str) -> bool {
    // Looks without a pause, and kills the build itself, not a sudo around it.
    let script = r#"moment=$1; shift
env "$@" >/dev/null 2>&1 & builder=$!
while [ ! -e "$moment" ] && kill -0 $builder 2>/dev/null; do :; done
kill -KILL $builder 2>/dev/null || true
wait $builder"#;
    let mut command = as_root("sh");
    command.args(["-uc", script, "sh"]).arg(here.out().join(moment)).args(here.words("build"));
    let ended = ran(command.current_dir(here.scratch.path()));
    eprintln!("killed at {moment} after {:.1} s: {}", ended.took.as_secs_f64(), here.outputs().join(" "));
    gone(here);
    if here.outputs().iter().any(|name| name == "6-bundle") {
        accepted(&here.out().join("6-bundle")).good();
    }
    ended.code == Some(128 + 9)
}

#[test]
fn a_killed_build_is_resumed_and_one_changed_file_makes_little_again() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "bad-kill", Cached::Everything);
    let mut killed = 0;
    for moment in MOMENTS {
        // On a busy machine a moment passes unseen: then that stage is made once more.
        for attempt in 1..=ATTEMPTS_MAX {
            if killed_at(&here, moment) {
                killed += 1;
                break;
            }
            eprintln!("not killed at {moment}, attempt {attempt}");
            let unmade = here.outputs().into_iter().filter(|name| name[..1] >= moment[..1]);
            ran(as_root("rm").arg("-rf").args(unmade.map(|name| here.out().join(name)))).good();
        }
    }
    assert!(killed + 2 >= MOMENTS.len(), "only {killed} builds were killed");
    let last = here.built();
    assert_eq!(last["manifest"], composed(), "after so many kills");
    accepted(&here.out().join("6-bundle")).good();
    assert_eq!(
        here.outputs(),
        ["1-plan.json", "2-rootfs", "3-commit.json", "4-image", "5-attest", "6-bundle", "trust"]
    );
    let steps = fs::read_dir(here.scratch.join("cache/secai/scratch")).into_iter().flatten().flatten();
    assert_eq!(steps.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count(), 0);

    let again = here.built();
    for stage in ["rootfs", "commit", "image", "attest"] {
        assert_eq!(state(&again, stage)["state"], "cached", "{stage} of an unchanged recipe");
    }
    let number = |report: &Value| report["release"]["number"].as_u64().unwrap();
    assert_eq!(number(&again), number(&last) + 1);

    let recipe = here.scratch.join("recipe.yml");
    let text = fs::read_to_string(&recipe).unwrap();
    let changed = text.replace("SecAI OS minimal (", "SecAI OS minimal, changed (");
    assert_ne!(text, changed);
    fs::write(&recipe, changed).unwrap();
    let kept = |kind: &str| {
        let entries = fs::read_dir(here.scratch.join("cache/secai").join(kind)).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap())).collect();
        names.sort();
        names
    };
    let before = (kept("base"), kept("initramfs"));
    let after_change = here.built();
    eprintln!("one file changed: {}", after_change["stages"]);
    assert_eq!(before, (kept("base"), kept("initramfs")), "a changed file made a base or an initramfs again");
    assert_eq!(state(&after_change, "rootfs")["why"], "changed: file /etc/issue");
    assert_ne!(after_change["manifest"], last["manifest"]);
    accepted(&here.out().join("6-bundle")).good();
}

fn state<'a>(report: &'a Value, stage: &str) -> &'a Value {
    report["stages"].as_array().unwrap().iter().find(|it| it["stage"] == stage).unwrap()
}

/// Nothing that a killed build started outlives it for long.
fn gone(here: &Composing) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = here.processes();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left by a killed build: {left:#?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_stops_each_stage_and_room_lets_it_go_on() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "bad-disk", Cached::Everything);
    let out = here.scratch.join("out");
    fs::create_dir(&out).unwrap();
    let third = {
        let du = ran(as_root("du").args(["--summarize", "--block-size=1"]).arg(release().join("2-rootfs/tree"))).good();
        du.out.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 3
    };
    // A small disk of its own, which these builds alone see. With room it is filled up to a stage; then there is next to
    // none left for the stage after it.
    let script = r#"out=$1; verify=$2; trust=$3; third=$4; shift 4
mount -t tmpfs -o mode=755,size=64k none "$out"
for done in nothing rootfs commit image attest bundle; do
  case $done in
    nothing) size=$third ;;
    bundle) size=4g ;;
    *)
      mount -o remount,size=4g "$out"
      env "$@" "$done" recipe.yml --out out >/dev/null 2>&1
      size=$(($(df --block-size=1 --output=used "$out" | tail -n 1) + 65536))
      ;;
  esac
  mount -o "remount,size=$size" "$out"
  code=0; said=$(env "$@" build recipe.yml --out out --json 2>&1 >"$out/../report") || code=$?
  echo "after $done: exit $code; $(ls "$out/minimal" | tr '\n' ' '); $(printf %s "$said" | tr '\n' '|')"
  if [ -e "$out/minimal/6-bundle" ]; then "$verify" bundle "$out/minimal/6-bundle" --trust "$trust" >/dev/null; fi
done"#;
    let mut command = as_root("unshare");
    command.args(["--mount", "--", "sh", "-euc", script, "sh"]).arg(&out).arg(program("verify-release"));
    command.arg(release().join("trust")).arg(third.to_string()).args(here.surroundings()).arg(program("secai-build"));
    let ended = ran(command.current_dir(here.scratch.path())).good();
    eprint!("{}", ended.out);
    let (last, full) =
        ended.out.lines().collect::<Vec<_>>().split_last().map(|(last, full)| (*last, full.to_vec())).unwrap();
    assert_eq!(full.len(), 5);
    for line in &full {
        assert!(line.contains(": exit 2;") && line.contains("the disk is full; free some space"), "{line}");
        assert!(!line.contains("partial "), "half an output takes the room: {line}");
        assert!(!line.contains("6-bundle "), "a bundle on a full disk: {line}");
    }
    // Each stopped at the stage after the one that was done.
    let ends = ["1-plan.json ; ", "2-rootfs ; ", "3-commit.json ; ", "4-image ; ", "5-attest ; "];
    for (line, end) in full.iter().zip(ends) {
        assert!(line.contains(end), "{end}: {line}");
    }
    assert!(last.contains("after bundle: exit 0;"), "{last}");
    let said: Value = serde_json::from_slice(&fs::read(here.scratch.join("report")).unwrap()).unwrap();
    assert_eq!(said["manifest"], composed());
}

#[test]
fn other_surroundings_make_the_same_bytes() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    // Only what was fetched is kept: base, initramfs and layers are made again.
    let here = Composing::new(TMP, "same bytes, elsewhere", Cached::Packages);
    assert!(users_cache().join("base").is_dir(), "the release was composed with another cache");
    let script = r#"hostname elsewhere; umask 077; exec env TZ=Pacific/Kiritimati LC_ALL=C LANG=tr_TR.UTF-8 USER=nobody "$@" --json"#;
    let mut command = as_root("unshare");
    command.args(["--uts", "--", "sh", "-euc", script, "sh"]).args(here.words("build"));
    let ended = ran(command.current_dir(here.scratch.path())).good();
    let second = report(&ended);
    let first: Value = {
        let envelope: Value =
            serde_json::from_slice(&fs::read(release().join("6-bundle/release.json")).unwrap()).unwrap();
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&payload).unwrap()
    };
    eprintln!(
        "made again from packages in {:.0} s: {} {} {}",
        ended.took.as_secs_f64(),
        second["manifest"],
        second["commit"],
        second["sbom"]
    );
    assert_eq!(second["manifest"], first["image"]["digest"]);
    assert_eq!(second["commit"], first["commit"]);
    assert_eq!(second["sbom"], first["sbom"]["digest"]);
    assert_ne!(second["release"]["created"], first["created"], "the release act has its own time");
    accepted(&here.out().join("6-bundle")).good();
}
