//! A script that a guest runs once it is up, given on its kernel's line, which nothing signs: systemd lays it from there for this boot
//! only. What it says comes over the console, in lines of `SECAI-TEST TOPIC LINE`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const UNIT: &str = "[Unit]
After=multi-user.target
[Service]
Type=exec
LoadCredential=s
ExecStart=/bin/sh %d/s
";
/// What is said then is said to somebody: `p TOPIC COMMAND…` runs a command and says what it prints.
const BEGIN: &str = r#"exec >/dev/console 2>&1
p() { n=$1; shift; "$@" 2>&1 | sed "s|^|SECAI-TEST $n |"; }
for i in $(seq 99); do s=$(systemctl is-system-running); [ "$s" = starting ] || break; sleep 2; done
echo
p state echo $s
p failed systemctl --failed --no-legend --plain
"#;

/// The kernel's arguments that have it run. Short: a kernel's line has 2047 bytes.
pub fn arguments(script: &str) -> [String; 3] {
    let credential = |name: &str, text: &str| format!("systemd.set_credential_binary={name}:{}", STANDARD.encode(text));
    [
        credential("systemd.extra-unit.t.service", UNIT),
        credential("s", &format!("{BEGIN}{script}")),
        "systemd.wants=t.service".to_owned(),
    ]
}

/// What was said of a topic. The console is shared with the kernel and a login prompt: an answer may stand behind their words.
pub fn lines<'a>(serial: &'a str, topic: &str) -> Vec<&'a str> {
    let mark = format!("SECAI-TEST {topic} ");
    serial.lines().filter_map(|line| line.split_once(&mark)).map(|(_, rest)| rest.trim_end()).collect()
}
