//! `secai-firewall` in namespaces of its own: profiles hold or stricter ones do, links that come and go get their chains,
//! and what others change is found.

use std::fs;
use std::path::PathBuf;

use secai_tests::{Need, Scratch, Tier, as_root, program, ran, require, top};
use secai_verifier::files::load_profiles;
use secai_verifier::network::bind::shipped;
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 4] = [Need::Root, Need::Program("nft"), Need::Program("ip"), Need::Program("unshare")];

/// What every script begins with: two links that are up, as a machine has them before anything else has run.
const MACHINE: &str = r#"set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
firewall() { "$program" "$@" --json --policy "$policy" --rules rules --run run; }
# What it answers, under a name; its exit code beside it.
says() { local name=$1; shift; code=0; firewall "$@" >"$name" 2>"$name.err" || code=$?; echo $code >"$name.code"; }
up() { ip -o link show up | grep -o '^[0-9]*: [^:@]*' | sed 's/.* //' | grep -v '^lo$' | sort | xargs echo >"$1"; }
ip link set lo up
ip link add eth0 type veth peer name w-lan.5
ip link set eth0 up
ip link set w-lan.5 up
"#;

struct Lab(Scratch);

impl Lab {
    /// Runs a script in a network namespace, beside the rules that an image ships.
    fn run(name: &str, script: &str) -> Self {
        let lab = Self(Scratch::new(TMP, &format!("firewall-{name}")));
        let policy = top().join("manifests/policy");
        let (profiles, loopback) = load_profiles(&policy).unwrap();
        fs::create_dir(lab.0.join("rules")).unwrap();
        for page in profiles.iter() {
            let path = lab.0.join("rules").join(format!("{}.nft", page.name));
            fs::write(path, shipped(page, &loopback).to_string()).unwrap();
        }
        let whole = format!("{MACHINE}{script}");
        let mut command = as_root("unshare");
        command.args(["--net", "--mount", "env"]);
        command.arg(variable("program", program("secai-firewall"))).arg(variable("policy", policy));
        ran(command.args(["bash", "-c", &whole]).current_dir(lab.0.path())).good();
        lab
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// The answer under this name, which ended with this code.
    fn said(&self, name: &str, code: i32) -> Value {
        let (out, err) = (self.text(name), self.text(&format!("{name}.err")));
        assert_eq!(self.text(&format!("{name}.code")).trim(), code.to_string(), "{name}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{name}: {why}: {out}{err}"))
    }

    /// This profile holds, proven, on these links.
    fn proven(&self, name: &str, profile: &str) {
        let said = self.said(name, 0);
        assert_eq!((&said["verdict"], &said["profile"]), (&"proven".into(), &profile.into()), "{name}: {said}");
    }

    /// The rules are not what a profile promises, for this reason.
    fn refused(&self, name: &str, reason: &str) {
        let said = self.said(name, 1);
        let names: Vec<&str> =
            said["refusals"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert!(said["verdict"] == "refused" && names.contains(&reason), "{name}: {names:?}");
    }
}

fn variable(name: &str, path: PathBuf) -> String {
    format!("{name}={}", path.display())
}

#[test]
fn a_profile_holds_and_links_are_up_where_something_may_leave() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "holds",
        r#"
up before
says nothing check
for profile in offline_private research full_lab offline_private; do
  says apply-$profile apply --profile $profile
  says check-$profile check
  up up-$profile
  nft list set inet secure_ai epoch >epoch-$profile 2>/dev/null || :
done
says again apply --profile research
nft list set inet secure_ai epoch >epoch-again
"#,
    );
    assert_eq!(lab.text("before").trim(), "eth0 w-lan.5");
    lab.refused("nothing", "RulesetForeign");
    for (profile, up) in [("offline_private", ""), ("research", "eth0 w-lan.5"), ("full_lab", "eth0 w-lan.5")] {
        let applied = lab.said(&format!("apply-{profile}"), 0);
        assert_eq!(applied["profile"], profile);
        assert_eq!(applied["links"], serde_json::json!(["eth0", "w-lan.5"]));
        lab.proven(&format!("check-{profile}"), profile);
        assert_eq!(lab.text(&format!("up-{profile}")).trim(), up, "{profile}");
    }
    assert_ne!(lab.text("epoch-research"), lab.text("epoch-again"), "each switch has a mark of its own");
    assert_ne!(lab.text("epoch-research"), lab.text("epoch-full_lab"));
}

#[test]
fn links_that_come_and_go_get_their_chains() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "links",
        r#"
firewall apply --profile research >/dev/null
nft list set inet secure_ai epoch >epoch-before
ip link add usb0 type veth peer name usb1
says come check; says come-link link; says come-after check; up come-up
ip link delete usb0
says gone check; says gone-link link; says gone-after check
ip link set eth0 down; ip link set eth0 name renamed0
says renamed check; says renamed-link link; says renamed-after check; up renamed-up
# The same name, another device.
ip link delete renamed0; ip link add renamed0 type veth peer name w-lan.5
says other check; says other-link link; says other-after check
# In the strictest profile a new link stays down, and one that somebody sets up is set down.
firewall apply >/dev/null
ip link add usb0 type veth peer name usb1; ip link set usb0 up
says closed check; says closed-link link; says closed-after check; up closed-up
firewall apply --profile research >/dev/null
says flows-link link
nft list set inet secure_ai epoch >epoch-one
says flows-link link
nft list set inet secure_ai epoch >epoch-two
"#,
    );
    for what in ["come", "gone", "renamed", "other"] {
        // From Linux 6.16 on a chain finds a new device of the old name by itself.
        if what != "other" || lab.text("other.code").trim() != "0" {
            assert_eq!(lab.said(what, 1)["profile"], "research", "{what}: the packets' table says so");
        }
        lab.said(&format!("{what}-link"), 0);
        lab.proven(&format!("{what}-after"), "research");
    }
    lab.refused("come", "LinkUnguarded");
    lab.refused("renamed", "LinkUnguarded");
    lab.refused("gone", "EgressChainWithoutLink");
    assert_eq!(lab.text("come-up").trim(), "eth0 usb0 usb1 w-lan.5");
    assert_eq!(lab.text("renamed-up").trim(), "renamed0 w-lan.5");
    lab.refused("closed", "LinkUnguarded");
    lab.proven("closed-after", "offline_private");
    assert_eq!(lab.text("closed-up").trim(), "");
    assert_eq!(lab.text("epoch-one"), lab.text("epoch-two"), "a new link ends nobody's flow");
}

/// A device goes and another one takes its name just when it is set up: it is not left up without a chain.
#[test]
fn a_link_that_took_anothers_name_is_judged_before_it_stays_up() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "names",
        r#"
cp /usr/bin/ip real-ip
mount --make-rprivate /
cat >false-ip <<SH
#!/bin/sh
cd $PWD
SH
cat >>false-ip <<'SH'
if [ "$*" = "link set dev eth0 up" ] && [ "$(cat times)" -gt 0 ]; then
  echo $(($(cat times) - 1)) >times
  [ "$(cat how)" != never ] || exit 2
  ./real-ip link delete eth0
  [ "$(cat how)" = gone ] || ./real-ip link add eth0 type veth peer name w-lan.5
fi
exec ./real-ip "$@"
SH
chmod +x false-ip
try() { # NAME HOW TIMES
  firewall apply >/dev/null
  ip link show eth0 >/dev/null 2>&1 || ip link add eth0 type veth peer name w-lan.5
  firewall link >/dev/null
  echo $2 >how; echo $3 >times
  mount --bind false-ip /usr/bin/ip
  says $1 apply --profile research
  umount --lazy /usr/bin/ip
  says $1-check check; up $1-up; cp times $1-left
}
try other other 1
try gone gone 1
try restless other 100
try never never 100
# It goes while its chain is on its way: before Linux 6.16 that fails the whole text.
cp /usr/sbin/nft real-nft
cat >false-nft <<SH
#!/bin/sh
cd $PWD
SH
cat >>false-nft <<'SH'
case $* in *-f*) [ "$(cat times)" = 0 ] || { echo 0 >times; cat >text; ./real-ip link delete eth0
  ! grep -q 'device "eth0"' text || [ "$(cat how)" != old ] || exit 1
  exec ./real-nft -f text; } ;; esac
exec ./real-nft "$@"
SH
chmod +x false-nft
for how in old new; do
  firewall apply >/dev/null
  ip link show eth0 >/dev/null 2>&1 || ip link add eth0 type veth peer name w-lan.5
  firewall link >/dev/null
  echo $how >how; echo 1 >times
  mount --bind false-nft /usr/sbin/nft
  says $how apply --profile research
  umount --lazy /usr/sbin/nft
  says $how-check check; cp times $how-left
done
"#,
    );
    for name in ["old", "new"] {
        assert_eq!(lab.said(name, 0)["links"], serde_json::json!([]), "{name}");
        lab.proven(&format!("{name}-check"), "research");
    }
    for name in ["other", "gone", "restless", "never", "old", "new"] {
        assert_ne!(lab.text(&format!("{name}-left")).trim(), "1", "{name}: it was not tried");
    }
    assert_eq!(lab.said("other", 0)["profile"], "research");
    lab.proven("other-check", "research");
    assert_eq!(lab.text("other-up").trim(), "eth0 w-lan.5");
    assert_eq!(lab.said("gone", 0)["links"], serde_json::json!([]));
    lab.proven("gone-check", "research");
    // One that cannot be set up stays down, and is nobody's reason to close: the kernel makes such with its modules.
    assert_eq!(lab.said("never", 0)["profile"], "research");
    lab.proven("never-check", "research");
    assert_eq!(lab.text("never-up").trim(), "w-lan.5");
    // From Linux 6.16 on a chain finds a new device of the old name by itself: nothing is restless then.
    if lab.text("restless.code").trim() != "0" {
        let said = lab.said("restless", 2);
        assert_eq!(said["profile"], "offline_private", "{said}");
        lab.proven("restless-check", "offline_private");
        assert_eq!(lab.text("restless-up").trim(), "");
    }
}

#[test]
fn what_others_change_is_found_and_undone() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "others",
        r#"
firewall apply --profile full_lab >/dev/null
says ours check
change() { name=$1; shift; "$@"; says $name check; says $name-apply apply --profile full_lab; says $name-after check; }
change table nft add table ip foo
change nat nft 'add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }'
change rule nft insert rule inet secure_ai output accept
change flush nft flush ruleset
change policy nft 'chain inet secure_ai output { policy accept; }'
change element nft add element inet secure_ai epoch '{ 7 }'
change counter nft delete chain netdev secure_ai_l2 link_eth0
# What was counted is not forgotten.
ip route add 1.86.0.0/16 dev eth0
setpriv --reuid 1000 bash -c 'echo >/dev/udp/1.86.0.1/123' 2>/dev/null || :
nft list counter inet secure_ai refused >counted
firewall apply --profile research >/dev/null
nft list counter inet secure_ai refused >counted-after
"#,
    );
    lab.proven("ours", "full_lab");
    for name in ["table", "nat", "rule", "flush", "policy", "element", "counter"] {
        let said = lab.said(name, 1);
        eprintln!("{name}: {}", said["refusals"]);
        assert_eq!(lab.said(&format!("{name}-apply"), 0)["profile"], "full_lab", "{name}");
        lab.proven(&format!("{name}-after"), "full_lab");
    }
    let packets = |name: &str| -> u64 {
        let text = lab.text(name);
        let words: Vec<&str> = text.split_whitespace().collect();
        words[words.iter().position(|it| *it == "packets").unwrap() + 1].parse().unwrap()
    };
    assert!(packets("counted") > 0 && packets("counted-after") >= packets("counted"), "{}", lab.text("counted-after"));
}

#[test]
fn what_is_missing_or_broken_ends_in_stricter_rules() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "broken",
        r#"
cp -r rules good
try() { # NAME PROFILE: what became of it, from full_lab on
  says $1 apply --profile $2; says $1-check check; up $1-up; nft list ruleset >$1-rules
  rm -rf rules; cp -r good rules
}
start() { firewall apply --profile full_lab >/dev/null; }
start; rm rules/research.nft; try missing research
start; cp rules/full_lab.nft rules/research.nft; try looser research
start; sed -i 's/952/1000/' rules/full_lab.nft; try widened full_lab
start; head -c 300 good/research.nft >rules/research.nft; try torn research
start; sed -i 's/0x00000000/0x00000007/' rules/research.nft; try marked research
start; try unknown no_such_profile
start; rm rules/research.nft rules/offline_private.nft; try nothing research
start; policy=$PWD/absent; try policy research
"#,
    );
    for name in ["missing", "looser", "widened", "torn", "marked", "unknown"] {
        let said = lab.said(name, 2);
        assert_eq!(said["profile"], "offline_private", "{name}: {said}");
        assert!(said["instead"].as_str().is_some_and(|why| !why.is_empty()), "{name}: {said}");
        lab.proven(&format!("{name}-check"), "offline_private");
        assert_eq!(lab.text(&format!("{name}-up")).trim(), "", "{name}");
    }
    // Not even the strictest profile can be had: no chain lets anything through.
    for name in ["nothing", "policy"] {
        assert_eq!(lab.said(name, 2)["profile"], Value::Null, "{name}");
        assert_eq!(lab.text(&format!("{name}-up")).trim(), "", "{name}");
        let rules = lab.text(&format!("{name}-rules"));
        assert_eq!(rules.matches("policy drop").count(), 5, "{name}: {rules}");
        assert!(!rules.contains("accept"), "{name}: {rules}");
    }
    lab.refused("nothing-check", "RulesetForeign");
    let hint = lab.text("unknown.err");
    assert!(hint.contains("secaictl profile show"), "{hint}");
}

/// `check` asks nft a second time, for JSON, and refuses where that says something else.
#[test]
fn two_readers_that_do_not_agree_are_no_proof() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "readers",
        r##"
mount --make-rprivate /
cp /usr/sbin/nft real-nft
between() { # NAME SED: what is checked with this between nft and the second reader
  printf '#!/bin/sh\ncase "$*" in *-j*table\\ inet*) %s "$@" | sed %s ;; *) exec %s "$@" ;; esac\n' \
    "$PWD/real-nft" "'$2'" "$PWD/real-nft" >false-nft
  chmod +x false-nft
  mount --bind false-nft /usr/sbin/nft
  says $1 check
  umount --lazy /usr/sbin/nft
}
firewall apply --profile research >/dev/null
between same s/x/x/
between policy s/\"drop\"}}/\"accept\"}}/
between user s/951/1000/
between rule s/.null/7/
between nothing d
between torn 's/]}}.*//'
says after check
"##,
    );
    lab.proven("same", "research");
    for name in ["policy", "user", "rule", "nothing", "torn"] {
        lab.refused(name, "ReadersDisagree");
        assert_eq!(lab.said(name, 1)["refusals"].as_array().unwrap().len(), 1, "{name}: nothing else is wrong");
    }
    let said = lab.said("user", 1);
    let detail = said["refusals"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("(951, 951)") && detail.contains("(1000, 1000)"), "what differs is named: {detail}");
    lab.proven("after", "research");
}

/// `nft` fails, or is killed with the program at any moment: nothing is looser than before or after.
#[test]
fn a_run_that_is_cut_off_leaves_no_looser_rules() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "killed",
        r#"
# nft is a script that fails in its Nth run, or kills who runs it.
cp /usr/sbin/nft real-nft
mount --make-rprivate /
cat >false-nft <<SH
#!/bin/sh
cd $PWD
SH
cat >>false-nft <<'SH'
n=$(($(cat runs) + 1)); echo $n >runs
[ "$n" != "$(cat fails)" ] || exit 1
[ "$n" != "$(cat kills)" ] || { kill -9 $PPID; exit 1; }
exec ./real-nft "$@"
SH
chmod +x false-nft
for n in 1 2 3 4 5 6; do for how in fails kills; do
  firewall apply --profile full_lab >/dev/null
  mount --bind false-nft /usr/sbin/nft
  echo 0 | tee runs fails kills >/dev/null
  echo $n >$how
  says $how-$n apply --profile offline_private
  umount --lazy /usr/sbin/nft
  nft list ruleset >$how-$n-rules
  cp runs $how-$n-runs
  # What systemd does then.
  says $how-$n-then apply; says $how-$n-check check; up $how-$n-up
done; done
"#,
    );
    let mut outcomes = Vec::new();
    for n in 1..=6 {
        for how in ["fails", "kills"] {
            let name = format!("{how}-{n}");
            outcomes.push(format!(
                "{name}: {} {}",
                lab.text(&format!("{name}.code")).trim(),
                lab.text(&format!("{name}-runs")).trim()
            ));
            lab.said(&format!("{name}-then"), 0);
            lab.proven(&format!("{name}-check"), "offline_private");
            assert_eq!(lab.text(&format!("{name}-up")).trim(), "", "{name}");
        }
    }
    eprintln!("{outcomes:#?}");
}

/// How long a switch takes, with all its programs.
#[test]
fn a_switch_is_quick() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let lab = Lab::run(
        "quick",
        r#"
for i in $(seq 1 20); do for profile in research full_lab offline_private; do
  begun=$(date +%s%N); firewall apply --profile $profile >/dev/null; ended=$(date +%s%N)
  echo $(((ended - begun) / 1000)) >>took
done; done
"#,
    );
    let mut took: Vec<u64> = lab.text("took").lines().map(|it| it.parse().unwrap()).collect();
    took.sort_unstable();
    eprintln!(
        "{} switches: median {} us, 9 of 10 below {} us",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 9 / 10]
    );
    assert_eq!(took.len(), 60);
}
