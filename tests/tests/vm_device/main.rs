//! The device, booted once, from its disk: a person at its console changes what may leave, rules and links are taken away, services are killed,
//! power fails; and every frame that comes out of its network card is looked at. Behind that card is a network of one, which gives
//! it an address and sends nothing further. Between two parts the guest is taken back to how it was when it had just booted.

mod claims;
mod power;
mod profiles;
mod wire;

use std::time::Instant;

use secai_tests::composing::Composing;
use secai_tests::disk::Disk;
use secai_tests::machine::{Machine, with_person};
use secai_tests::{Need, Tier, as_root, program, require};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 7] = [
    Need::Device,
    Need::Root,
    Need::Program("qemu-system-x86_64"),
    Need::Program("qemu-img"),
    Need::Program("mke2fs"),
    Need::Program("mcopy"),
    Need::Program("debugfs"),
];
/// The airlock's, for `full_lab`: the image has no airlock yet.
const AIRLOCK_USER: &str = "  - {name: secure-ai-airlock, uid: 952}\n";

/// Memory of each of our services that runs: its own, and its control group's.
const IDLE: &str = r#"for unit in $(systemctl list-units --state=running --plain --no-legend 'secure-ai-*.service' | cut -d' ' -f1); do
  pid=$(systemctl show -P MainPID $unit); own=$(sed -n 's/^RssAnon:[[:space:]]*//p' /proc/$pid/status)
  echo "idle: $unit has $own of its own, $(($(systemctl show -P MemoryCurrent $unit) / 1024)) kB counted"
done"#;

/// What is done to a device that has just booted.
type Part = fn(&mut Machine);

#[test]
fn a_device_that_booted_once_holds_whatever_is_done_to_it() {
    if !require(Tier::Vm, &NEEDS) {
        return;
    }
    let composing = Composing::device(TMP, "vm-device");
    with_person(&composing, &[], AIRLOCK_USER);
    // A processor's counter of time goes on while a guest is taken back; a timer of the machine's does not.
    composing.add(&[("\nkernel_args:\n", "  - quiet\n  - tsc=unstable\n  - clocksource=hpet\n".to_owned())]);
    composing.built();
    let disk = composing.scratch.join("disk.qcow2");
    let mut make = as_root("env");
    make.args(composing.surroundings()).arg(program("secai-build")).args(["--json", "disk"]);
    make.arg(composing.out().join("6-bundle")).args(["--format", "qcow2", "--output"]).arg(&disk);
    make.arg("--trust").arg(composing.out().join("trust"));
    let disk = Disk::made(&mut make, &disk);

    let mut clock = Clock(Instant::now());
    let mut machine = Machine::boot_disk(&composing, &disk.path);
    begins_closed(&mut machine);
    clock.says("booted, and closed");
    says_what_idle_services_need(&mut machine);
    let booted = machine.keep("booted");
    clock.says("kept");
    let parts: [(&str, Part); 6] = [
        ("claims", claims::are_met),
        ("profiles", profiles::hold),
        ("rules, and links forced up", wire::keeps_all_where_rules_are),
        ("no rules, and links down", wire::has_nothing_where_links_are_down),
        ("no rules, and links up", wire::has_all_where_neither_holds),
        ("killed services", wire::keeps_all_while_services_die),
    ];
    for (name, part) in parts {
        part(&mut machine);
        clock.says(name);
        machine.back_to(&booted);
    }
    claims::turn_red(&mut machine, &booted);
    clock.says("claims planted");
    machine.back_to(&booted);
    let cuts = power::cut(&mut machine, &booted);
    clock.says("power cut");
    machine.back_to(&booted);
    profiles::end_with_the_device(&mut machine);
    clock.says("started again from full_lab");
    machine.back_to(&booted);
    let until_here = machine.frames().len();
    let frames = machine.power_off();
    assert_eq!(frames.len(), until_here, "as shipped nothing leaves until power is off");
    clock.says("powered off");
    power::was_kept(&composing, &disk, &cuts);
    clock.says("what the cuts left");
}

/// What each part took: who adds one sees what it costs.
struct Clock(Instant);

impl Clock {
    fn says(&mut self, part: &str) {
        eprintln!("{:>4.0} s  {part}", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// What the chain has of a kind.
fn entries(machine: &mut Machine, kind: &str) -> Vec<Value> {
    let text = machine.root(&format!("secaictl audit show --kind {kind} --json")).ended(0);
    let lines =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|why| panic!("{line}: {why}")));
    lines.filter(|entry| entry["k"] == kind).collect()
}

/// The profile that holds, and the prover's word for the rules that there are.
#[track_caller]
fn holds(machine: &mut Machine, profile: &str) {
    let said = machine.root("/usr/libexec/secure-ai/secai-firewall check --json").ended(0);
    let checked: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!((&checked["verdict"], &checked["profile"]), (&"proven".into(), &profile.into()), "{said}");
    let shown: Value = serde_json::from_str(&machine.person("secaictl profile show --json").ended(0)).unwrap();
    assert_eq!(shown["profile"], profile, "{shown}");
}

/// P1: everything runs, nothing has left, the seed's commands say so.
fn begins_closed(machine: &mut Machine) {
    machine
        .person("for i in $(seq 99); do s=$(systemctl is-system-running); [ $s = starting ] || break; sleep 1; done");
    let state = machine.person("systemctl is-system-running").text;
    let failed =
        machine.root("systemctl --failed --no-legend; journalctl --boot --priority=err --no-pager --lines=20").text;
    assert_eq!(state.trim(), "running", "{failed}");
    holds(machine, "offline_private");
    assert!(machine.person("ip -br link | cat").ended(0).contains("enp0s1"), "there is a network card");
    links_are_down(machine);
    // As the policy prints them.
    let rules = machine.root("sudo nft list ruleset | grep -A5 \"chain output\"").ended(0);
    assert!(rules.contains("policy drop") && !rules.replace("oif \"lo\" accept", "").contains("accept"), "{rules}");
    let open = machine.root("ss -tunap | grep -v '127.0.0.1'").ended(0);
    assert_eq!(open.lines().count(), 1, "a line of titles: {open}");
    machine.root("systemctl start secure-ai-dns-leak-check").ended(0);
    let said = machine.root("journalctl -u secure-ai-dns-leak-check --no-pager -n 5").ended(0);
    assert!(said.contains("clean: offline_private, proven") && !said.contains(" finding"), "{said}");
    assert_eq!(entries(machine, "profile.restored"), [Value::Null; 0], "links that come are nobody's doing");
    let applied = entries(machine, "profile.applied");
    assert!(applied.len() == 1 && applied[0]["d"]["by"] == "boot", "{applied:?}");
    assert_eq!(
        machine.frames().len(),
        0,
        "not one frame since power was given: {:?}",
        profiles::kinds(&machine.frames())
    );
}

/// What our services keep for themselves while nobody asks them anything: printed, with what the kernel counts for each, pages of
/// files as well.
fn says_what_idle_services_need(machine: &mut Machine) {
    let said = machine.root(IDLE).ended(0);
    assert!(said.lines().count() >= 2 && said.contains("secure-ai-profiles.service "), "{said}");
    eprint!("{said}");
}

/// Whatever a link's carrier says: it is not set up.
fn links_are_down(machine: &mut Machine) {
    let up = machine.person("ip -o link show up | cat").ended(0);
    assert!(up.lines().count() == 1 && up.contains(": lo: "), "{up}");
}
