//! What a device makes at its first boot, and what becomes of it: one disk, with somebody at its console, from an empty /var over a
//! power cut, an encrypted one, the release after, and the owner's word that all of it is to go, to a first boot once more.
//!
//! Between the starts the disk is looked at from outside, as whoever steals it would.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use secai_tests::console::{BOOTS_WITHIN, Console};
use secai_tests::disk::Disk as Made;
use secai_tests::{Need, Scratch, Tier, as_root, device, program, ran, require};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 6] = [
    Need::Device,
    Need::Root,
    Need::Program("qemu-system-x86_64"),
    Need::Program("qemu-img"),
    Need::Program("newuidmap"),
    Need::Program("swtpm"),
];
/// What a guest may take under software emulation, on a machine with other work.
const PATIENCE: &str = "900";
/// A guest that was cut lets go of its disk at once.
const LETS_GO_WITHIN: Duration = Duration::from_secs(20);

const TOO_SHORT: &str = "s3cr3t7";
const PASSPHRASE: &str = "correct horse";
/// The firmware with no keys: the TPM measures that nothing was to be signed.
const WITHOUT_SECURE_BOOT: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const NEXT_PASSPHRASE: &str = "another horse";
const PASSWORD: &str = "battery staple";
/// A person, and `battery staple` as `openssl passwd -6 -salt secai` has it.
const NEXT_OWNER: &str =
    "secai.owner=eve:$6$secai$l2mbRnJEwiax2H/1pTqYoWFRvsIMi5nnr.d72GIeDK1a91w.mSSLwJWS5w4iqyjnbjUvSPFc3Je26vAIkPC9J/";
const MARKER: &str = "SECAI-MARKER-7c1f";
/// Where no file system has its first bytes.
const FOREIGN_AT: u64 = 8192;

/// Where LUKS2 lays its header and the slots of its keys.
const HEADER_BYTES: usize = 16 << 20;
/// How it begins, and where its label stands.
const LUKS: &[u8] = b"LUKS\xba\xbe\x00\x02";
const LABEL: std::ops::Range<usize> = 24..72;
const PIECE_BYTES: usize = 1 << 20;

/// A release after the one that runs, made of it on the device: a file of /etc more, two changed, and a user more.
const NEXT_RELEASE: &str = r#"now=$(ostree admin status | sed -n "s/^\* secai \(.*\)\.0.*/\1/p")
new=/run/next
mkdir -p $new/usr/etc $new/usr/lib/sysusers.d
for name in secai-next motd issue.net; do echo next >$new/usr/etc/$name; done
echo "u secure-ai-next 970 Next" >$new/usr/lib/sysusers.d/secure-ai-next.conf
export now new
unshare --mount sh -euc "mount -o remount,rw /sysroot
ostree commit --repo=/sysroot/ostree/repo --branch=next --tree=ref=$now --tree=dir=$new --owner-uid=0 --owner-gid=0"
ostree admin deploy --os=secai next
"#;

struct Disk {
    made: Made,
    scratch: Scratch,
}

impl Disk {
    fn made() -> Self {
        let scratch = Scratch::new(TMP, "vm-first-boot");
        let path = scratch.join("disk.raw");
        let mut make = as_root(program("secai-build"));
        make.args(["--json", "disk"]).arg(device().join("6-bundle")).args(["--format", "raw", "--output"]).arg(&path);
        let made = Made::made(make.arg("--trust").arg(device().join("trust")), &path);
        Self { made, scratch }
    }

    /// As a machine starts it, told these credentials, with what else it has.
    fn start(&self, credentials: &[&str], machine: &[&str]) -> Console {
        let mut boot = Command::new(program("secai-build"));
        boot.arg("boot").arg(&self.made.path).args(["--console", "--keep", "--timeout", PATIENCE]);
        boot.args(credentials.iter().flat_map(|it| ["--credential", it]));
        boot.args(machine)
            .arg("--log")
            .arg(self.scratch.join("serial.log"))
            .env("XDG_CACHE_HOME", self.scratch.join("cache"));
        Console::begin(boot)
    }

    /// Power fails. What the guest had on its disk by then is there.
    fn cut(&self, console: Console) -> String {
        let heard = console.cut();
        let until = Instant::now() + LETS_GO_WITHIN;
        while ran(Command::new("qemu-img").args(["info", "-f", "raw"]).arg(&self.made.path)).code != Some(0) {
            assert!(Instant::now() < until, "the guest is still there");
            std::thread::sleep(Duration::from_millis(100));
        }
        heard
    }

    fn pieces(&self, name: &str) -> impl Iterator<Item = Vec<u8>> {
        let (offset, bytes) = self.made.partition(name);
        let file = File::open(&self.made.path).unwrap();
        (offset..offset + bytes).step_by(PIECE_BYTES).map(move |at| {
            // With what begins in this one and ends in the next.
            let mut piece = vec![0; (PIECE_BYTES + MARKER.len()).min((offset + bytes - at) as usize)];
            file.read_exact_at(&mut piece, at).unwrap();
            piece
        })
    }

    fn is_zero(&self, name: &str) -> bool {
        self.pieces(name).all(|piece| piece.iter().all(|byte| *byte == 0))
    }

    fn holds_the_marker(&self, name: &str) -> bool {
        self.pieces(name).any(|piece| piece.windows(MARKER.len()).any(|it| it == MARKER.as_bytes()))
    }

    /// Of an encrypted /var.
    fn label(&self) -> Option<String> {
        let head = self.pieces("var").next().unwrap();
        let label = head[LABEL].split(|byte| *byte == 0).next().unwrap();
        head.starts_with(LUKS).then(|| String::from_utf8_lossy(label).into_owned())
    }

    fn header(&self) -> Vec<u8> {
        self.pieces("var").take(HEADER_BYTES / PIECE_BYTES).flat_map(|piece| piece[..PIECE_BYTES].to_vec()).collect()
    }
}

#[test]
fn a_first_boot_is_gone_through_by_a_person_who_errs_and_can_be_had_again() {
    if !require(Tier::Vm, &NEEDS) {
        return;
    }
    let disk = Disk::made();
    let mut begun = Instant::now();
    let mut says = |what: &str| {
        eprintln!("{what}: {:.0} s", begun.elapsed().as_secs_f64());
        begun = Instant::now();
    };
    refuses_what_is_malformed(&disk);
    says("malformed");
    refuses_what_cannot_be_had(&disk);
    says("not to be had");
    is_cut_while_var_is_made(&disk);
    says("cut");
    asks_whoever_sits_there(&disk);
    says("asked");
    let key = keeps_what_a_person_changed_over_two_releases(&disk);
    says("two releases");
    let tpm = disk.scratch.join("tpm").display().to_string();
    begins_again_when_everything_was_erased(&disk, &tpm, &key);
    says("erased");
    is_opened_by_its_own_tpm_alone(&disk, &tpm);
    says("TPM");
}

fn refuses_what_is_malformed(disk: &Disk) {
    let mut console = disk.start(&[&format!("secai.luks={TOO_SHORT}"), "secai.owner=none"], &[]);
    let reason = "the credential secai.luks is malformed: it has fewer than 8 bytes";
    console.hear_within(reason, BOOTS_WITHIN);
    console.hear("hint: nothing was changed");
    // Nor does it go on when somebody tells it to.
    console.hear("Press Enter to continue");
    console.say("");
    console.hear(reason);
    console.hear("Press Enter to continue");
    let heard = disk.cut(console);
    assert!(!heard.contains(TOO_SHORT) && !heard.contains("login:"), "{heard}");
    assert!(disk.is_zero("var") && !disk.is_zero("root"), "nothing is formatted");
}

fn refuses_what_cannot_be_had(disk: &Disk) {
    let credentials = [&format!("secai.luks={PASSPHRASE}"), "secai.tpm=yes", "secai.owner=none"];
    let mut console = disk.start(&credentials, &[]);
    console.hear_within("secai.tpm asks for a TPM, and this machine has none", BOOTS_WITHIN);
    console.hear("Press Enter to continue");
    disk.cut(console);
    assert!(disk.is_zero("var"), "nothing is formatted");

    // Where something lies already, it stays.
    let at = disk.made.partition("var").0 + FOREIGN_AT;
    let file = File::options().write(true).open(&disk.made.path).unwrap();
    file.write_all_at(MARKER.as_bytes(), at).unwrap();
    let mut console = disk.start(&credentials[..1], &[]);
    console.hear_within(
        "the partition of /var is not empty, and not made by this system: data of no known kind",
        BOOTS_WITHIN,
    );
    console.hear("hint: nothing was formatted");
    console.hear("Press Enter to continue");
    disk.cut(console);
    assert!(disk.holds_the_marker("var"));
    file.write_all_at(&vec![0; MARKER.len()], at).unwrap();
    assert!(disk.is_zero("var"), "nothing else was written");
}

fn is_cut_while_var_is_made(disk: &Disk) {
    let mut console = disk.start(&[&format!("secai.luks={PASSPHRASE}"), "secai.owner=none"], &[]);
    console.hear_within("making /var", BOOTS_WITHIN);
    let until = Instant::now() + BOOTS_WITHIN;
    while disk.label().is_none() {
        assert!(Instant::now() < until, "{}", console.heard());
        std::thread::sleep(Duration::from_millis(20));
    }
    let heard = disk.cut(console);
    assert!(!heard.contains("/var is made") && !heard.contains(PASSPHRASE), "{heard}");
    assert_eq!(disk.label().as_deref(), Some("secai-new"));
}

fn asks_whoever_sits_there(disk: &Disk) {
    let mut console = disk.start(&[], &[]);
    for (before, question, answer) in [
        ("it is not encrypted", "Passphrase of /var:", "short"),
        ("it has fewer than 8 bytes", "Passphrase of /var:", PASSPHRASE),
        ("", "The same again:", "correct hose"),
        ("two different ones", "Passphrase of /var:", PASSPHRASE),
        ("", "The same again:", PASSPHRASE),
        ("/var is made", "Name of the owner:", "ada"),
        ("", "Password of ada:", PASSWORD),
        ("", "The same again:", PASSWORD),
    ] {
        let heard = console.answer(question, answer);
        assert!(heard.contains(before), "{before}: {heard}");
    }
    // Before what is kept of her password is worked out.
    let heard = disk.cut(console);
    assert!(!heard.contains("ada owns this device"), "{heard}");
    assert_eq!(disk.label().as_deref(), Some("secai-var"));

    let mut console = disk.start(&[&format!("secai.luks={PASSPHRASE}")], &[]);
    for (before, question, answer) in [
        ("", "Name of the owner:", "root"),
        ("not one of a person", "Name of the owner:", "ada"),
        ("", "Password of ada:", "short"),
        ("it has fewer than 8 bytes", "Password of ada:", PASSWORD),
        ("", "The same again:", "battery stable"),
        ("two different ones", "Password of ada:", PASSWORD),
        ("", "The same again:", PASSWORD),
    ] {
        let heard = console.answer(question, answer);
        assert!(heard.contains(before), "{before}: {heard}");
    }
    console.hear("ada owns this device, and may become root with sudo.");
    log_in(&mut console, "ada");
    let heard = console.heard();
    assert!(!heard.contains(PASSPHRASE) && !heard.contains(PASSWORD), "{heard}");
    assert_eq!(console.run("systemctl is-system-running --wait").text.trim(), "running", "{}", failed(&mut console));
    may_become_root(&mut console, "ada");
    assert_eq!(root(&mut console, "findmnt -no SOURCE,OPTIONS /var | cut -c1-27"), "/dev/mapper/var rw,nosuid,n");
    root(&mut console, "dmsetup table var | grep -q crypt");
    // Nobody else is let in, nor with another password.
    assert_eq!(root(&mut console, "grep -vc \"^[^:]*:[*!]\" /etc/shadow"), "1");
    root(
        &mut console,
        &format!("yes {MARKER} | head -n 4096 >/home/ada/marker; cp /home/ada/marker /etc/marker; sync"),
    );
    power_off(console);
    assert_eq!(disk.label().as_deref(), Some("secai-var"));
    assert!(disk.holds_the_marker("root"), "what is not encrypted is read by whoever holds the disk");
    assert!(!disk.holds_the_marker("var"), "what is encrypted is not");
}

/// The key of the audit chain. In the end everything is marked to be erased.
fn keeps_what_a_person_changed_over_two_releases(disk: &Disk) -> String {
    let mut console = disk.start(&[&format!("secai.luks={PASSPHRASE}")], &[]);
    log_in(&mut console, "ada");
    assert!(!console.heard().contains("Passphrase of /var:"), "nobody is asked: {}", console.heard());
    may_become_root(&mut console, "ada");
    assert_eq!(root(&mut console, "head -n 1 /home/ada/marker"), MARKER);
    root(&mut console, "rm /etc/marker; for name in secai-own issue.net; do echo hers >/etc/$name; done");
    assert_eq!(console.run("getent passwd secure-ai-next").code, 2);
    root(&mut console, NEXT_RELEASE);
    console.say("sudo systemctl reboot");
    log_in(&mut console, "ada");
    may_become_root(&mut console, "ada");
    let lines = root(&mut console, "cd /etc; cat secai-own issue.net secai-next motd; cat /usr/etc/issue.net");
    assert_eq!(lines.lines().collect::<Vec<_>>(), ["hers", "hers", "next", "next", "next"]);
    assert_eq!(root(&mut console, "getent passwd secure-ai-next | cut -d: -f3"), "970");
    assert_eq!(root(&mut console, "head -n 1 /home/ada/marker"), MARKER);
    assert_eq!(console.run("systemctl is-system-running --wait").text.trim(), "running", "{}", failed(&mut console));
    let key = root(&mut console, "secaictl audit key");

    assert_eq!(opens(&mut console, PASSPHRASE), 0);
    assert_eq!(opens(&mut console, NEXT_PASSPHRASE), 2);
    const RESET: &str = "sudo /usr/libexec/secure-ai/secai-first-boot reset --erase-everything";
    console.begin_command(RESET);
    console.answer("To have it so, type ", "yes");
    let said = console.end_command().ended(2);
    assert!(said.contains("nothing is erased"), "{said}");
    assert_eq!(root(&mut console, "cd /sysroot/ostree/deploy/secai/deploy; grep -l ^ada: *.0/etc/passwd | wc -l"), "2");
    let word = root(&mut console, "cut -c1-6 /etc/machine-id");
    console.begin_command(RESET);
    console.answer(&format!("To have it so, type {word}:"), &word);
    let said = console.end_command().ended(0);
    assert!(said.contains("everything is erased at the next boot"), "{said}");
    power_off(console);
    assert!(disk.header().iter().any(|byte| *byte != 0), "it is not erased yet");
    key
}

fn begins_again_when_everything_was_erased(disk: &Disk, tpm: &str, key: &str) {
    let credentials = [&format!("secai.luks={NEXT_PASSPHRASE}"), "secai.tpm=yes", NEXT_OWNER];
    let mut console = disk.start(&credentials, &["--tpm", tpm]);
    console.hear_within("erasing everything: the owner said so", BOOTS_WITHIN);
    disk.cut(console);
    let mut console = disk.start(&credentials, &["--tpm", tpm]);
    console.hear_within("erasing everything: the owner said so", BOOTS_WITHIN);
    console.hear("everything is erased; the machine starts again");
    assert!(disk.header().iter().all(|byte| *byte == 0), "no slot of a key is left");
    console.hear_within("making /var", BOOTS_WITHIN);
    console.hear_within("/var is made", BOOTS_WITHIN);
    log_in(&mut console, "eve");
    assert_eq!(console.run("systemctl is-system-running --wait").text.trim(), "running", "{}", failed(&mut console));
    may_become_root(&mut console, "eve");
    assert_eq!(root(&mut console, "ls /home"), "eve", "her files are gone");
    assert_eq!(console.run("getent passwd ada").code, 2);
    assert_eq!(root(&mut console, "cat /etc/issue.net; ls /etc/secai-own 2>&1 || :").lines().next(), Some("next"));
    root(&mut console, "! test -e /etc/secai-own && ! test -e /etc/secure-ai/begun && test -e /etc/fstab");
    // The other deployment has an /etc of its own.
    let deployments = "cd /sysroot/ostree/deploy/secai/deploy";
    assert_eq!(root(&mut console, &format!("{deployments}; ls -d *.0/etc/passwd | wc -l")), "2");
    root(&mut console, &format!("{deployments}; ! grep -l ada *.0/etc/passwd *.0/etc/shadow *.0/etc/group"));
    root(&mut console, &format!("{deployments}; ! ls *.0/etc/secai-own *.0/etc/secure-ai/begun 2>/dev/null"));
    assert_ne!(root(&mut console, "secaictl audit key"), key, "another key, another chain");
    assert_eq!(opens(&mut console, PASSPHRASE), 2, "what opened it before opens nothing");
    assert_eq!(opens(&mut console, NEXT_PASSPHRASE), 0);
    power_off(console);
}

fn is_opened_by_its_own_tpm_alone(disk: &Disk, tpm: &str) {
    let mut console = disk.start(&[], &["--tpm", tpm]);
    let heard = console.hear_within("/var was opened by the TPM", BOOTS_WITHIN) + &console.hear(" login: ");
    assert!(!heard.contains("Passphrase of /var:"), "nobody is asked: {heard}");
    disk.cut(console);

    // The TPM of another machine; and its own, in a machine that starts otherwise than it did.
    let other = disk.scratch.join("other-tpm").display().to_string();
    for machine in [&["--tpm", &other][..], &["--tpm", tpm, "--variables", WITHOUT_SECURE_BOOT]] {
        is_asked_for_its_passphrase(disk, machine);
    }
}

fn is_asked_for_its_passphrase(disk: &Disk, machine: &[&str]) {
    let mut console = disk.start(&[], machine);
    console.answer("Passphrase of /var:", PASSPHRASE);
    let heard = console.answer("Passphrase of /var:", NEXT_PASSPHRASE);
    assert!(heard.contains("It does not open /var."), "{heard}");
    let heard = console.hear_within(" login: ", BOOTS_WITHIN);
    assert!(!heard.contains("by the TPM"), "{heard}");
    disk.cut(console);
}

fn log_in(console: &mut Console, name: &str) {
    console.answer(" login: ", name);
    console.answer("Password: ", PASSWORD);
    console.hear(&format!("{name}@"));
    console.settle();
}

fn may_become_root(console: &mut Console, name: &str) {
    // Not without the password.
    assert_ne!(console.run("sudo -n true").code, 0);
    console.begin_command("sudo id -u");
    console.answer(&format!("password for {name}: "), PASSWORD);
    assert_eq!(console.end_command().ended(0).trim(), "0");
}

/// In one word for the shell: no single quotes in it. Each part of it ends well.
#[track_caller]
fn root(console: &mut Console, script: &str) -> String {
    console.run(&format!("sudo sh -euc '{script}'")).ended(0).trim().to_owned()
}

/// cryptsetup's exit code: 2 where it opens nothing. Without being told so, it would ask the TPM as well.
fn opens(console: &mut Console, passphrase: &str) -> i32 {
    let open = "sudo cryptsetup open --test-passphrase --disable-external-tokens --key-file - /dev/vda4";
    console.run(&format!("printf %s '{passphrase}' | {open}")).code
}

fn failed(console: &mut Console) -> String {
    console.run("systemctl --failed --no-legend --plain").text
}

fn power_off(mut console: Console) {
    console.say("sudo systemctl poweroff");
    console.is_off();
}
