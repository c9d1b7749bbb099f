//! The services under real systemd: the device (`recipes/secai.yml`) boots, and its chain says what became of the
//! services – no more, and nothing that somebody else on the bus claims.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use secai_tests::composing::Composing;
use secai_tests::{Need, Tier, as_root, program, ran, require};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 4] = [Need::Device, Need::Root, Need::Program("qemu-system-x86_64"), Need::Program("mke2fs")];
/// What a guest may take under software emulation, on a machine with other work.
const PATIENCE: &str = "900";

/// A service for this test only: it runs until it is stopped or killed.
const PROBE_PAGE: &str = "name: probe
about: runs until it is stopped
unit: secure-ai-probe.service
started_by: secure-ai-probe.timer
user: secure-ai-probe
uid: 990
memory: 16M
security: 10.0
";
const PROBE_UNIT: &str = "[Service]
Type=exec
User=secure-ai-probe
ExecStart=/usr/bin/sleep infinity
";
const TEST_UNIT: &str = "[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStart=/bin/sh -u /usr/lib/secai-test.sh
# Also where a slip ends the script.
ExecStopPost=/bin/sh -c 'echo SECAI-TEST end >/dev/console'
[Install]
WantedBy=multi-user.target
";
/// `SECAI-TEST TOPIC LINE` on the console.
const SCRIPT: &str = r#"exec >/dev/console 2>&1
p() { t=$1; shift; "$@" >/run/said 2>&1; c=$?; sed "s|^|SECAI-TEST $t |" /run/said; echo "SECAI-TEST $t-code $c"; }
as() { u=$1; shift; setpriv --reuid "$u" --regid "$u" --clear-groups -- "$@"; }
states() { secaictl audit show --kind svc.state --json | grep '"k":"svc.state"' | grep -c 'secure-ai-\(probe\|witness\)'; }
# Until the chain has so many changes of state, or half a minute.
await() { for i in $(seq 60); do [ "$(states)" -ge "$1" ] && return; sleep 0.5; done; echo "SECAI-TEST late wanted $1 has $(states)"; }
heard() { for i in $(seq 60); do secaictl audit status --json | grep -q '"hears_systemd":true' && return; sleep 0.5; done; }
for i in $(seq 99); do s=$(systemctl is-system-running); [ "$s" = starting ] || break; sleep 1; done
# Nobody else speaks on this console from now on.
dmesg --console-off
systemctl stop serial-getty@ttyS0.service
echo
p state echo $s
p failed systemctl --failed --no-legend --plain
heard
systemctl stop secure-ai-dns-leak-check.timer secure-ai-dns-leak-check.service
p status secaictl audit status --json

# What services do.
n=$(states)
systemctl start secure-ai-probe; await $((n + 2))
systemctl stop secure-ai-probe; await $((n + 4))
systemctl start secure-ai-probe; await $((n + 6))
systemctl kill --signal=KILL secure-ai-probe; await $((n + 7))
p witness systemctl start secure-ai-witness
await $((n + 9))
p failed-now systemctl --failed --no-legend --plain

# Who is on the bus can claim what they like.
n=$(states)
path=/org/freedesktop/systemd1/unit/secure_2dai_2dprobe_2eservice
us=$(busctl list --no-legend | awk '/secai-audit/ { print $1 }')
claim() { busctl emit "$@" $path org.freedesktop.DBus.Properties PropertiesChanged 'sa{sv}as' \
  org.freedesktop.systemd1.Unit 2 ActiveState s claimed StateChangeTimestampMonotonic t 9999999999999 0; }
p claim as 990 busctl emit --destination=$us $path org.freedesktop.DBus.Properties PropertiesChanged 'sa{sv}as' \
  org.freedesktop.systemd1.Unit 2 ActiveState s claimed StateChangeTimestampMonotonic t 9999999999999 0
p claim-root claim --destination=$us
p claim-all claim
sleep 2
p claimed expr $(states) - $n

# The bus, systemd and the writer itself begin again.
p bus systemctl kill --signal=KILL dbus.service
sleep 3; heard
systemctl reset-failed secure-ai-probe; systemctl start secure-ai-probe; await $((n + 3))
p reexec systemctl daemon-reexec
sleep 3; heard
systemctl stop secure-ai-probe; await $((n + 5))
p kill systemctl kill --signal=KILL secure-ai-audit.service
sleep 2; heard
p again secaictl audit status --json
p main systemctl show --property=NRestarts,Result,ActiveState secure-ai-audit.service
p process cat /proc/$(systemctl show --property=MainPID --value secure-ai-audit.service)/status

# What people and others may.
p note secaictl audit note 'from the guest'
p nobody as 65534 secaictl audit note 'from nobody'
p service as 990 secaictl audit status
p person as 1000 secaictl audit status
mkdir -p /run/trust /run/out; secaictl audit key >/run/trust/device.vkey
p show secaictl audit show --json --payloads
last=$(secaictl audit show --json --kind owner.note | grep '"k":"owner.note"' | sed 's/.*"seq":\([0-9]*\).*/\1/')
cd /run/out
p prove secaictl audit prove "$last" -o proof
p proof verify-release audit --proof proof --trust /run/trust
p export secaictl audit export --tlog tree
p forget secaictl audit forget --from 0 --until 1000000 --yes
p checkpoint secaictl audit checkpoint -o kept
p verify verify-release audit /var/lib/secure-ai/audit/chain --trust /run/trust --format json
p from verify-release audit /var/lib/secure-ai/audit/chain --trust /run/trust --from kept
cp -r /var/lib/secure-ai/audit/chain other
sed -i 's/secure-ai-probe/secure-ai-prove/' other/seg/*.jsonl
p other verify-release audit other --trust /run/trust
p stop systemctl stop secure-ai-audit.socket secure-ai-audit.service
p after secaictl audit show --dir /var/lib/secure-ai/audit/chain --trust /run/trust --json
p journal journalctl --no-pager --output=cat --unit=secure-ai-audit.service --unit=secure-ai-witness.service
"#;

/// The device, and what this test needs on it.
fn compose(composing: &Composing) {
    let mut files = String::new();
    for (name, to, text) in [
        ("probe.yml", "/usr/lib/secure-ai/services/probe.yml", PROBE_PAGE),
        ("probe.service", "/usr/lib/systemd/system/secure-ai-probe.service", PROBE_UNIT),
        ("test.service", "/usr/lib/systemd/system/secai-test.service", TEST_UNIT),
        ("test.sh", "/usr/lib/secai-test.sh", SCRIPT),
    ] {
        fs::write(composing.scratch.join(name), text).unwrap();
        files.push_str(&format!("  - {{path: {to}, source: {name}}}\n"));
    }
    composing.add(&[("\nfiles:\n", files), ("\nunits:\n", "  enable: [secai-test.service]\n".to_owned())]);
    let mut recipe = fs::OpenOptions::new().append(true).open(composing.scratch.join("recipe.yml")).unwrap();
    recipe.write_all(b"\nusers:\n  - {name: secure-ai-probe, uid: 990}\n").unwrap();
}

/// What the guest said, by topic.
struct Said(BTreeMap<String, Vec<String>>);

impl Said {
    fn of(serial: &str) -> Self {
        let mut topics = BTreeMap::<String, Vec<String>>::new();
        // An answer may stand behind the words of a kernel or a login prompt that were there before.
        for (_, rest) in serial.lines().filter_map(|line| line.split_once("SECAI-TEST ")) {
            let (topic, line) = rest.trim_end().split_once(' ').unwrap_or((rest.trim_end(), ""));
            topics.entry(topic.to_owned()).or_default().push(line.to_owned());
        }
        Self(topics)
    }

    fn lines(&self, topic: &str) -> &[String] {
        self.0.get(topic).map_or(&[], |lines| lines)
    }

    fn text(&self, topic: &str) -> String {
        self.lines(topic).join("\n")
    }

    fn json(&self, topic: &str) -> Vec<Value> {
        self.lines(topic)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}")))
            .collect()
    }

    #[track_caller]
    fn ended(&self, topic: &str, code: i32) {
        assert_eq!(self.text(&format!("{topic}-code")), code.to_string(), "{topic}: {}", self.text(topic));
    }
}

#[test]
fn the_chain_of_a_booted_image_says_what_became_of_its_services() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let composing = Composing::device(TMP, "boot-services");
    compose(&composing);
    composing.built();
    let log = composing.scratch.join("serial.log");
    let mut boot = as_root("env");
    boot.args(composing.surroundings()).arg(program("secai-build")).arg("boot").arg(composing.out().join("6-bundle"));
    boot.args(["--credential", "secai.owner=none"]);
    boot.args(["--expect", "SECAI-TEST end", "--timeout", PATIENCE, "--log"]).arg(&log);
    let booted = ran(&mut boot);
    let serial = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    assert_eq!(booted.code, Some(0), "{booted}\n-- console\n{serial}");
    let said = Said::of(&serial);
    let kept = Path::new(TMP).join("boot-services.serial.log");
    fs::write(&kept, &serial).unwrap();
    eprintln!("what the guest said is in {}", kept.display());

    // Every unit started, within its own sandbox.
    assert_eq!(said.text("state"), "running", "{serial}");
    assert_eq!(said.lines("failed"), [""; 0], "failed units");
    assert_eq!(said.lines("late"), [""; 0], "not recorded in time\n{serial}");
    said.ended("witness", 0);
    assert!(said.text("failed-now").contains("secure-ai-probe.service"), "{}", said.text("failed-now"));
    assert_eq!(said.lines("failed-now").len(), 1, "only the killed one failed: {}", said.text("failed-now"));
    let process = said.text("process");
    for wanted in ["Uid:\t956\t956\t956\t956", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        assert!(process.contains(wanted), "{wanted}: {process}");
    }
    assert!(said.text("main").contains("NRestarts=1"), "{}", said.text("main"));

    // A4: what became of the services, and nothing else.
    let shown = said.json("show");
    let states: Vec<String> = (shown.iter().filter(|entry| entry["k"] == "svc.state"))
        .map(|entry| {
            assert_eq!((&entry["w"], &entry["uid"]), (&"audit".into(), &956.into()), "{entry}");
            let word = |key: &str| entry["d"][key].as_str().unwrap().to_owned();
            format!("{} {}→{} {}", word("unit"), word("from"), word("to"), word("result"))
        })
        .collect();
    let of = |unit: &str| -> Vec<&str> { states.iter().filter_map(|line| line.strip_prefix(unit)).collect() };
    let probe = of("secure-ai-probe.service ");
    eprintln!("states of the probe: {probe:?}\nof the witness: {:?}", of("secure-ai-witness.service "));
    assert_eq!(
        probe,
        [
            "inactive→activating success",
            "activating→active success",
            "active→deactivating success",
            "deactivating→inactive success",
            "inactive→activating success",
            "activating→active success",
            "active→failed signal",
            "failed→inactive success",
            "inactive→activating success",
            "activating→active success",
            "active→deactivating success",
            "deactivating→inactive success",
        ],
        "{states:?}"
    );
    // The writer was killed in between: the next one looks at how things stand.
    let witness = of("secure-ai-witness.service ");
    let ran = ["inactive→activating success", "activating→inactive success", "unseen→inactive success"];
    assert_eq!(witness, ran, "{states:?}");
    for (claim, code) in [("claim", 0), ("claim-root", 0), ("claim-all", 0)] {
        said.ended(claim, code);
    }
    assert_eq!(said.text("claimed"), "0", "entries after claims");
    assert!(!states.iter().any(|line| line.contains("claimed")), "{states:?}");

    // Who may what.
    said.ended("note", 0);
    said.ended("nobody", 1);
    said.ended("service", 1);
    said.ended("person", 0);
    assert!(said.text("nobody").contains("may not"), "{}", said.text("nobody"));
    let notes: Vec<&Value> = shown.iter().filter(|entry| entry["k"] == "owner.note").collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((&notes[0]["uid"], &notes[0]["payload"]), (&0.into(), &"ZnJvbSB0aGUgZ3Vlc3Q=".into()), "{}", notes[0]);

    // secaictl and verify-release agree on the chain, in the guest as elsewhere.
    for (topic, code) in [("prove", 0), ("proof", 0), ("export", 0), ("forget", 0), ("checkpoint", 0), ("verify", 0)] {
        said.ended(topic, code);
    }
    said.ended("from", 0);
    said.ended("other", 1);
    said.ended("stop", 0);
    let after = said.json("after");
    let entries: Vec<&Value> = after.iter().filter(|entry| entry["k"].is_string()).collect();
    assert_eq!(entries.last().unwrap()["k"], "audit.stop", "the last word of a writer that was stopped");
    assert_eq!(entries.iter().filter(|entry| entry["k"] == "audit.start").count(), 2, "one start after the kill");
}
