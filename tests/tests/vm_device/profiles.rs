//! What a person at the console may change, and what holds whatever else happens.

use std::collections::BTreeSet;

use secai_tests::machine::{Machine, Said};
use serde_json::Value;

use crate::{entries, holds, links_are_down};

/// What the airlock's unit will be, for `full_lab`: the image has none yet.
const AIRLOCK: &str = "cat >/run/systemd/system/secure-ai-airlock.service <<'END'
[Service]
Type=exec
User=secure-ai-airlock
ExecStart=/usr/bin/sleep infinity
END
systemctl daemon-reload";
/// So many ways out that the image's kernel has.
const WAYS_MIN: usize = 110;
/// What a link itself needs.
const LINK: [&str; 3] = ["arp", "dhcp", "nd"];

/// Asks for a profile at the console, and types a word when asked.
fn applied(machine: &mut Machine, profile: &str, word: &str) -> Said {
    machine.begin(&format!("secaictl profile apply {profile}"));
    machine.hear(&format!("Type {profile} to confirm: "));
    machine.say(word);
    machine.end()
}

/// Frames by what they are: `arp`, `dhcp`, `nd`, `tcp ADDRESS:PORT of a SYN`, or all of what is something else.
pub fn kinds(frames: &[Vec<u8>]) -> BTreeSet<String> {
    let kind = |frame: &Vec<u8>| {
        let two = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        match two(12) {
            0x0806 => "arp".to_owned(),
            0x0800 if frame[23] == 17 && (two(34), two(36)) == (68, 67) => "dhcp".to_owned(),
            0x0800 if frame[23] == 6 => {
                format!("tcp {}.{}.{}.{}:{}", frame[30], frame[31], frame[32], frame[33], two(36))
            }
            // Routers and neighbours are asked for, and answered.
            0x86dd if frame[20] == 58 && frame[21] == 255 && matches!(frame[54], 133 | 135 | 136) => "nd".to_owned(),
            _ => format!("{frame:02x?}"),
        }
    };
    frames.iter().map(kind).collect()
}

/// From a device that has just booted.
pub fn hold(machine: &mut Machine) {
    machine.root(AIRLOCK).ended(0);
    is_not_loosened_by_whoever_asks(machine);
    lets_out_what_a_person_confirmed(machine);
    keeps_the_rules(machine);
    ends_closed_whatever_fails(machine);
    has_a_chain_for_each_link(machine);
    ends_by_itself(machine, leaks_in_no_way);
    let before = machine.frames().len();
    holds(machine, "offline_private");
    assert_eq!(machine.frames().len(), before, "its hour is over");
}

/// It ends from the profile that lets out most, and begins with the one that lets out nothing.
pub fn end_with_the_device(machine: &mut Machine) {
    machine.root(AIRLOCK).ended(0);
    applied(machine, "full_lab", "full_lab").ended(0);
    holds(machine, "full_lab");
    let until_here = machine.frames().len();
    machine.begin_root("systemctl reboot");
    machine.hear("reboot: Restarting system");
    let others: Vec<String> =
        kinds(&machine.frames()[until_here..]).into_iter().filter(|kind| !LINK.contains(&kind.as_str())).collect();
    assert_eq!(others, [""; 0], "nothing else leaves while it ends");
    let until_here = machine.frames().len();
    machine.hear_login();
    holds(machine, "offline_private");
    links_are_down(machine);
    assert_eq!(machine.frames().len(), until_here, "a profile ends with the system that it was confirmed in");
}

/// P5: neither a program nor a person elsewhere changes what may leave; each try has an entry.
fn is_not_loosened_by_whoever_asks(machine: &mut Machine) {
    let apply = "secaictl profile apply";
    let tries: [(&str, &str, bool, &str, &str); 7] = [
        ("what the image lacks", "secaictl profile apply research", false, "units_missing", "lacks"),
        ("no terminal, as root", "secaictl profile apply full_lab", true, "not_a_person", "terminal"),
        ("in the background", "secaictl profile apply full_lab & wait $!", false, "not_a_person", "background"),
        (
            "a unit, as the person",
            "systemd-run --quiet --wait --pipe --uid=1000 secaictl profile apply full_lab",
            true,
            "not_a_person",
            "terminal",
        ),
        (
            "a terminal inside a terminal",
            "script --quiet --return --command 'secaictl profile apply full_lab' /dev/null",
            false,
            "not_a_person",
            "terminal",
        ),
        ("a token of nobody's", "secaictl profile apply full_lab --token 00", false, "token_unknown", "no such token"),
        ("no such profile", "secaictl profile apply open", false, "unknown_profile", "no profile"),
    ];
    for (how, command, as_root, why, words) in tries {
        let said = if as_root { machine.root(command) } else { machine.person(command) };
        assert!(said.code == 1 && said.text.contains(words), "{how}: {}: {}", said.code, said.text);
        eprintln!("refused, {how}: {}", said.text.lines().last().unwrap_or_default());
        if why != "unknown_profile" {
            let last = entries(machine, "profile.refused").pop().unwrap_or_else(|| panic!("{how}: no entry"));
            assert_eq!(last["d"]["reason"], why, "{how}: {last}");
        }
    }
    let said = applied(machine, "full_lab", "offline_private");
    assert!(said.code == 1 && said.text.contains("another word"), "{}", said.text);
    // A token is for one use, by one user, for one profile.
    let token = |machine: &mut Machine, profile: &str| {
        let said = machine.person(&format!("secaictl profile preview {profile} --json")).ended(0);
        serde_json::from_str::<Value>(&said).unwrap()["token"].as_str().unwrap().to_owned()
    };
    let spent = token(machine, "full_lab");
    machine.root(&format!("{apply} full_lab --token {spent}")).ended(1);
    let said = machine.person(&format!("{apply} full_lab --token {spent}"));
    assert!(said.code == 1 && said.text.contains("no such token"), "used by another, it is void: {}", said.text);
    let other = token(machine, "offline_private");
    let said = machine.person(&format!("{apply} full_lab --token {other}"));
    assert!(said.code == 1 && said.text.contains("another profile"), "{}", said.text);
    let reasons: Vec<String> = (entries(machine, "profile.refused").iter())
        .map(|entry| format!("{} {}", entry["d"]["uid"], entry["d"]["reason"].as_str().unwrap()))
        .collect();
    let last = ["1000 not_confirmed", "0 token_of_another", "1000 token_unknown", "1000 token_for_another"];
    assert!(reasons.ends_with(&last.map(str::to_owned)), "{reasons:?}");
    holds(machine, "offline_private");
    assert_eq!(machine.frames().len(), 0);
}

/// P2, P4: what the page says leaves, and nothing else.
fn lets_out_what_a_person_confirmed(machine: &mut Machine) {
    let shown = machine.person("secaictl profile preview full_lab").ended(0);
    assert!(shown.contains("952") && shown.contains("60 minutes"), "{shown}");
    applied(machine, "full_lab", "full_lab").ended(0);
    holds(machine, "full_lab");
    let address =
        "for i in $(seq 100); do ip -br address | grep -q 10.0.2.15 && break; sleep 0.2; done; ip -br address | cat";
    let address = machine.person(address).ended(0);
    assert!(address.contains("10.0.2.15"), "{address}");
    let routes = machine.person("ip route | cat").ended(0);
    assert!(routes.contains("default via 10.0.2.2"), "{routes}");
    let before = machine.frames();
    let others: Vec<String> = kinds(&before).into_iter().filter(|kind| !LINK.contains(&kind.as_str())).collect();
    assert_eq!(others, [""; 0], "what the link needs, and nothing else");
    assert!(kinds(&before).contains("dhcp"), "{:?}", kinds(&before));

    // Each tries a public and a private address, on three ports; and asks for a name.
    machine
        .root(
            "cat >/run/test/tries <<'END'
for to in 1.1.1.1 10.0.2.2; do
  for port in 80 443 853; do timeout 1 bash -c \"echo >/dev/tcp/$to/$port\" 2>/dev/null; done
  echo name >/dev/udp/$to/53
done
true
END
chmod 644 /run/test/tries",
        )
        .ended(0);
    for uid in [0, 1000, 951, 953, 954, 961, 952] {
        let until_here = machine.frames().len();
        let tries = format!("setpriv --reuid {uid} --regid {uid} --clear-groups bash /run/test/tries 2>/dev/null");
        machine.root(&tries).ended(0);
        let seen: Vec<String> =
            kinds(&machine.frames()[until_here..]).into_iter().filter(|kind| !LINK.contains(&kind.as_str())).collect();
        let wanted: &[&str] = if uid == 952 { &["tcp 1.1.1.1:443"] } else { &[] };
        assert_eq!(seen, wanted, "user {uid}");
    }
    machine.root("systemctl start secure-ai-dns-leak-check").ended(0);
    let said = machine.root("journalctl -u secure-ai-dns-leak-check --no-pager -n 5").ended(0);
    assert!(said.contains("clean: full_lab, proven") && said.contains("26 refused and counted"), "{said}");

    // V3: who changed it, where, and from what; before it happened.
    let [requested, applied] =
        ["profile.requested", "profile.applied"].map(|kind| entries(machine, kind).pop().unwrap());
    let d = &requested["d"];
    assert_eq!((&d["uid"], &d["terminal"], &d["by"]), (&1000.into(), &"ttyS0".into(), &"person".into()), "{requested}");
    assert_eq!((&d["from"], &d["to"]), (&"offline_private".into(), &"full_lab".into()), "{requested}");
    assert!(requested["seq"].as_u64() < applied["seq"].as_u64() && d["digest"] == applied["d"]["digest"], "{applied}");
}

/// T6: what others do to rules and links is undone, and recorded.
fn keeps_the_rules(machine: &mut Machine) {
    let restored = |machine: &mut Machine| entries(machine, "profile.restored").len();
    for (number, change) in [
        "nft flush ruleset",
        "nft insert rule inet secure_ai output accept",
        "nft 'add table ip other; add chain ip other out { type filter hook output priority -500; }'",
        "nft delete chain netdev secure_ai_l2 link_enp0s1",
    ]
    .into_iter()
    .enumerate()
    {
        machine.root(change).ended(0);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while restored(machine) <= number {
            assert!(std::time::Instant::now() < end, "{change}: not restored");
        }
        holds(machine, "full_lab");
        let last = entries(machine, "profile.restored").pop().unwrap();
        eprintln!("{change}: {}", last["d"]["found"]);
        assert_eq!(last["d"]["by"], "nft", "{last}");
    }
    // However the service ends, the strictest profile holds.
    machine
        .root(
            "of() { systemctl show --property=MainPID --value secure-ai-profiles; }
old=$(of)
systemctl kill --signal=KILL secure-ai-profiles
for i in $(seq 300); do
  new=$(of); [ $new != $old ] && [ $new != 0 ] && systemctl is-active --quiet secure-ai-profiles && exit 0
  sleep 0.1
done
exit 1",
        )
        .ended(0);
    holds(machine, "offline_private");
    let until_here = machine.frames().len();
    links_are_down(machine);
    machine.root("systemctl is-active secure-ai-airlock systemd-networkd").ended(3);
    assert_eq!(machine.frames().len(), until_here);
}

/// Faults: a unit that does not start, no audit daemon, no bus.
fn ends_closed_whatever_fails(machine: &mut Machine) {
    machine
        .root("mkdir -p /run/systemd/system/secure-ai-airlock.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\nType=oneshot\\n' >/run/systemd/system/secure-ai-airlock.service.d/fails.conf
systemctl daemon-reload")
        .ended(0);
    let said = applied(machine, "full_lab", "full_lab");
    assert!(said.code != 0 && said.text.contains("offline_private holds"), "{}", said.text);
    let failed = entries(machine, "profile.failed").pop().unwrap();
    assert_eq!(failed["d"]["step"], "start secure-ai-airlock.service", "{failed}");
    holds(machine, "offline_private");
    machine
        .root("rm -r /run/systemd/system/secure-ai-airlock.service.d; systemctl daemon-reload; systemctl reset-failed")
        .ended(0);

    // Cut off while a unit starts.
    machine
        .root("mkdir -p /run/systemd/system/secure-ai-airlock.service.d
printf '[Service]\\nExecStartPre=/usr/bin/sleep 20\\nType=exec\\n' >/run/systemd/system/secure-ai-airlock.service.d/slow.conf
systemctl daemon-reload")
        .ended(0);
    machine.begin_root(
        "for i in $(seq 600); do systemctl is-active secure-ai-airlock | grep -q activating && break; sleep 0.1; done
systemctl kill --signal=KILL secure-ai-profiles
sleep 2
for i in $(seq 300); do systemctl is-active --quiet secure-ai-profiles && break; sleep 0.1; done",
    );
    let said = applied(machine, "full_lab", "full_lab");
    assert_eq!(said.code, 2, "whoever asked is told that nobody answers: {}", said.text);
    machine.end_root().ended(0);
    let interrupted = entries(machine, "profile.interrupted").pop().unwrap();
    assert_eq!(interrupted["d"]["step"], "start secure-ai-airlock.service", "{interrupted}");
    holds(machine, "offline_private");
    machine.root("systemctl is-active secure-ai-airlock systemd-networkd").ended(3);
    machine.root("rm -r /run/systemd/system/secure-ai-airlock.service.d; systemctl daemon-reload").ended(0);

    // A full disk keeps nobody from tightening.
    applied(machine, "full_lab", "full_lab").ended(0);
    machine.root("dd if=/dev/zero of=/var/full bs=1M 2>/dev/null; df --output=avail /var | tail -1").ended(0);
    applied(machine, "offline_private", "offline_private").ended(0);
    let said = applied(machine, "full_lab", "full_lab");
    // The audit daemon keeps room for its last entries; who begins a change notes it first, and has none.
    assert!(said.code != 0 && said.text.contains("(os error 28)); offline_private holds"), "{}", said.text);
    machine.root("rm /var/full; systemctl restart secure-ai-audit").ended(0);
    holds(machine, "offline_private");

    applied(machine, "full_lab", "full_lab").ended(0);
    machine.root("systemctl stop secure-ai-audit.socket secure-ai-audit.service").ended(0);
    // Tightening waits for nobody; loosening is not done unrecorded.
    applied(machine, "offline_private", "offline_private").ended(0);
    let said = applied(machine, "full_lab", "full_lab");
    assert!(said.code == 1 && said.text.contains("recorded"), "{}", said.text);
    machine.root("systemctl start secure-ai-audit.socket secure-ai-audit.service").ended(0);
    holds(machine, "offline_private");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let last = entries(machine, "profile.applied").pop().unwrap();
        if last["d"]["to"] == "offline_private" && last["d"]["by"] == "person" {
            break;
        }
        assert!(std::time::Instant::now() < end, "the tightening is recorded once it can be: {last}");
    }

    // Without the bus nobody is known to be a person, and no unit can be moved: who wants to close does it all the same.
    applied(machine, "full_lab", "full_lab").ended(0);
    machine.root("systemctl stop dbus.socket dbus.service").ended(0);
    applied(machine, "offline_private", "offline_private").ended(0);
    holds(machine, "offline_private");
    links_are_down(machine);
    let shown = machine.person("secaictl profile show").ended(0);
    assert!(shown.contains("systemd does not answer over D-Bus"), "{shown}");
    let said = machine.person("secaictl profile apply full_lab");
    assert!(said.code == 1 && said.text.contains("D-Bus"), "{}", said.text);
    machine.root("systemctl start dbus.socket; systemctl restart systemd-logind").ended(0);
    let stopped =
        "for i in $(seq 60); do systemctl is-active secure-ai-airlock systemd-networkd || exit 0; sleep 1; done";
    let stopped = machine.root(stopped).ended(0);
    assert!(stopped.ends_with("inactive\ninactive\n"), "they are asked again: {stopped}");
    holds(machine, "offline_private");
}

/// A link that comes has its chain before anything brings it up; none of it is taken for somebody's doing.
fn has_a_chain_for_each_link(machine: &mut Machine) {
    let restored = entries(machine, "profile.restored").len();
    let chains = "nft list table netdev secure_ai_l2";
    let wait = |name: &str| {
        format!(
            "for i in $(seq 100); do {chains} | grep -q 'chain link_{name} ' && break; sleep 0.1; done; {chains} | grep device"
        )
    };
    machine.root("ip link add new0 type dummy").ended(0);
    let there = machine.root(&wait("new0")).ended(0);
    assert!(there.contains("\"new0\"") && there.contains("\"enp0s1\""), "{there}");
    machine.root("ip link set new0 name other0").ended(0);
    let there = machine.root(&wait("other0")).ended(0);
    assert!(there.contains("\"other0\"") && !there.contains("new0"), "{there}");
    holds(machine, "offline_private");
    // Brought up by hand, it is set down; with its own name in the entry.
    let up = "ip -br link show other0 | grep -q ,UP";
    let until = |not: &str| format!("for i in $(seq 100); do {not} || exit 0; sleep 0.1; done; exit 1");
    machine.root(&format!("ip link set other0 up; {}", until(up))).ended(0);
    machine.root(&format!("ip link delete other0; {}", until(&format!("{chains} | grep -q other0")))).ended(0);
    holds(machine, "offline_private");
    assert_eq!(entries(machine, "profile.restored").len(), restored + 1, "only what somebody did");
}

/// P5: a profile that is for an hour (here: a minute) ends with it, whatever else goes on.
fn ends_by_itself(machine: &mut Machine, meanwhile: impl FnOnce(&mut Machine)) {
    let page = "/usr/lib/secure-ai/policy/profiles/full_lab.yml";
    let begun = entries(machine, "profile.requested").len();
    machine
        .root(&format!(
            "sed 's/^expires_after_minutes: 60$/expires_after_minutes: 1/' {page} >/run/test/page
mount --bind /run/test/page {page}
systemctl restart secure-ai-profiles"
        ))
        .ended(0);
    let shown = machine.person("secaictl profile preview full_lab").ended(0);
    assert!(shown.contains("1 minute"), "{shown}");
    applied(machine, "full_lab", "full_lab").ended(0);
    let from = std::time::Instant::now();
    holds(machine, "full_lab");
    // Links of modules come meanwhile, some of which cannot be set up.
    meanwhile(machine);
    while entries(machine, "profile.applied").pop().unwrap()["d"]["by"] != "expiry" {
        if from.elapsed() > std::time::Duration::from_secs(180) {
            panic!("it does not end: {}", machine.root("secaictl audit show; secaictl profile show").text);
        }
    }
    eprintln!("ended by itself, seen after {} s", from.elapsed().as_secs());
    links_are_down(machine);
    let asked = entries(machine, "profile.requested");
    assert_eq!(asked.len(), begun + 2, "{asked:?}");
    assert_eq!(
        (&asked[begun + 1]["d"]["by"], &asked[begun + 1]["d"]["to"]),
        (&"expiry".into(), &"offline_private".into())
    );
    machine.root(&format!("umount {page}; systemctl restart secure-ai-profiles")).ended(0);
}

/// The leak suite, by the kernel that the image has.
fn leaks_in_no_way(machine: &mut Machine) {
    for profile in ["offline_private", "research", "full_lab"] {
        let said = machine.root(&format!("secaictl leak-test --profile {profile} --json >/run/leaks 2>&1; c=$?; grep '\"missing\"\\|\"blind\"\\|\"lost\"\\|LEAKS' /run/leaks; exit $c"));
        let lines: Vec<Value> = said.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let sum = lines.last().unwrap_or_else(|| panic!("{}", said.text));
        for one in lines.iter().filter(|line| line["found"] == "missing" || line["found"] == "blind") {
            eprintln!("{profile}: {} here: {} of user {}: {}", one["found"], one["vector"], one["uid"], one["why"]);
        }
        eprintln!("{profile}: {sum}");
        assert_eq!((&sum["leaks"], &sum["lost"]), (&0.into(), &0.into()), "{sum}");
        assert!(sum["ways"].as_u64().unwrap_or(0) >= WAYS_MIN as u64, "{sum}");
        assert_eq!(said.code, 0, "{}", said.text);
    }
}
