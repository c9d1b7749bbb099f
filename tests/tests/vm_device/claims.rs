//! What is promised, judged on the device by what it says of itself.

use secai_tests::machine::Machine;

/// As its owner does it once: the chain's key among those that the disk brought.
const KEY: &str = "mkdir -p /etc/secure-ai/trust && secaictl audit key >/etc/secure-ai/trust/device.vkey";

pub fn are_met(machine: &mut Machine) {
    machine.root(KEY).ended(0);
    let said = machine.root("time verify-release.sh --keep /run/evidence");
    eprintln!("{}: {}", said.code, said.text);
    let units = machine.root("systemctl list-units --state=active --type=timer,socket,path --plain --no-legend");
    eprintln!("{}", units.text);
}
