//! `secai-dns-leak-check` by real packets, as its own user: against the rules of each profile, and where they are gone,
//! wrong, or told wrongly. The far end of the link counts what arrives with the canaries' own question in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Asked, Evidence, Reply, Request};
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_tests::{Need, Ran, Tier, as_root, kill, program, ran, require, top};
use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;
use tempfile::TempDir;

const NEEDS: [Need; 6] = [
    Need::Root,
    Need::Program("nft"),
    Need::Program("ip"),
    Need::Program("nsenter"),
    Need::Program("setpriv"),
    Need::Program("perl"),
];
/// The service's user, who alone may have the verdict recorded.
const OWN: u32 = 961;
/// 16 to nobody's addresses, 2 to groups on the one link, 8 connections.
const CANARIES: u64 = 26;
/// No canary may keep it waiting; a busy machine is slower.
const LASTS_MAX: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// Of UDP, after its header and that of DNS: the label `dns-leak-check`.
const EAR: &str = "table inet ear {
	counter asked { }
	counter begun { }
	chain ear {
		type filter hook prerouting priority -300; policy accept;
		udp dport { 53, 853, 5353, 5355 } @th,160,120 0x0e646e732d6c65616b2d636865636b counter name asked
		tcp dport { 53, 853 } counter name begun
	}
}
";

/// A network namespace, held by a process that sleeps.
struct Net {
    pid: u32,
    child: Child,
}

impl Net {
    fn new() -> Self {
        let mut hold = as_root("unshare");
        hold.args(["--net", "sh", "-c", "echo $$; exec sleep 300"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = hold.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { pid: line.trim().parse().unwrap(), child }
    }

    fn inside(&self) -> Command {
        let mut enter = as_root("nsenter");
        enter.arg(format!("--net=/proc/{}/ns/net", self.pid));
        enter
    }

    fn sh(&self, script: &str) -> Ran {
        ran(self.inside().args(["sh", "-ec", script])).good()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        kill(self.pid);
        let _ = self.child.wait();
    }
}

/// What the service answers: what there is, or what it is told to say.
type Says = Arc<dyn Fn() -> Evidence + Send + Sync>;

/// Stands for the profiles service.
struct Profiles {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Profiles {
    fn start(path: &Path, says: Says) -> Self {
        let listener = bind_without_systemd(path).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match listener.accept().unwrap() {
                    Some(connection) => answer(&connection, &says),
                    None => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(connection: &Connection, says: &Says) {
    let mut buffer = Buffer::new();
    while let Ok(Received::Packet(packet)) = connection.receive(&mut buffer) {
        let Asked { id, ask } = from_packet(packet).unwrap();
        assert_eq!(ask, Request::Evidence {});
        let file = rustix::fs::memfd_create("evidence", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = fs::File::from(file);
        std::io::Write::write_all(&mut file, &serde_json::to_vec(&says()).unwrap()).unwrap();
        let answer = to_packet(&Answered { id, answer: Reply::Evidence {} }).unwrap();
        connection.send(&answer, Some(file.as_fd())).unwrap();
    }
}

/// A device: two namespaces with a link, the audit daemon, and a folder that other users can read.
struct Device {
    near: Arc<Net>,
    far: Net,
    folder: TempDir,
    audit: Child,
    profiles: Option<Profiles>,
}

impl Device {
    /// The link is up once these rules are loaded.
    fn new(rules: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("dns-").tempdir_in("/tmp").unwrap();
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        open(folder.path());
        let at = |name: &str| folder.path().join(name);
        for name in ["root/etc", "root/run", "state", "keys", "policy/profiles"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let policy = top().join("manifests/policy");
        for name in ["loopback.yml", "profiles/offline_private.yml", "profiles/research.yml", "profiles/full_lab.yml"] {
            fs::copy(policy.join(name), at("policy").join(name)).unwrap();
        }
        fs::copy(program("secai-dns-leak-check"), at("program")).unwrap();
        open(&at("program"));
        fs::write(at("root/etc/nsswitch.conf"), "hosts: files\n").unwrap();
        fs::write(at("ear"), EAR).unwrap();

        let mut serve = Command::new(program("secai-audit"));
        serve.arg("serve").arg("--pages").arg(top().join("manifests/services"));
        serve.arg("--state").arg(at("state")).arg("--keys").arg(at("keys"));
        serve.arg("--listen-without-systemd").arg(at("audit.sock"));
        let audit = serve.stdin(Stdio::null()).stderr(fs::File::create(at("audit.log")).unwrap()).spawn().unwrap();

        let (near, far) = (Arc::new(Net::new()), Net::new());
        near.sh(&format!(
            "ip link set lo up
             ip link add names0 address 02:5e:ca:00:00:01 type veth peer name far0 address 02:5e:ca:00:00:02 netns {}",
            far.pid
        ));
        far.sh(&format!("nft -f {}; ip link set lo up; ip link set far0 up", at("ear").display()));
        let link = Arc::clone(&near);
        let says = move || Evidence {
            profile: "on its word alone".to_owned(),
            ruleset: link.sh("nft list ruleset").out,
            links: link.sh("ip -j link").out,
        };
        let profiles = Some(Profiles::start(&at("profiles.sock"), Arc::new(says)));
        let device = Self { near, far, folder, audit, profiles };
        if let Some(rules) = rules {
            device.load(rules);
        }
        device.near.sh("ip address add 10.86.0.2/24 dev names0
             ip address add fd86::2/64 dev names0 nodad
             ip link set names0 up
             ip neighbour replace 10.86.0.1 lladdr 02:5e:ca:00:00:02 dev names0 nud permanent
             ip neighbour replace fd86::1 lladdr 02:5e:ca:00:00:02 dev names0 nud permanent
             ip route add default via 10.86.0.1
             ip route add ::/0 via fd86::1 dev names0");
        let until = Instant::now() + PATIENCE;
        while !device.at("audit.sock").exists() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        device
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, rules: &str) {
        fs::write(self.at("rules"), rules).unwrap();
        self.near.sh(&format!("nft flush ruleset; nft -f {}", self.at("rules").display()));
    }

    /// From now on the service says this.
    fn says(&mut self, says: impl Fn() -> Evidence + Send + Sync + 'static) {
        self.profiles = None;
        self.profiles = Some(Profiles::start(&self.at("profiles.sock"), Arc::new(says)));
    }

    fn check_as(&self, uid: u32) -> Ran {
        let mut check = self.near.inside();
        check.args(["setpriv", &format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]);
        check.arg("--no-new-privs").arg(self.at("program")).arg("--json");
        for (word, name) in
            [("--policy", "policy"), ("--profiles", "profiles.sock"), ("--audit", "audit.sock"), ("--root", "root")]
        {
            check.arg(word).arg(self.at(name));
        }
        let done = ran(&mut check);
        eprintln!("{:.2} s, {:?}: {}", done.took.as_secs_f64(), done.code, last(&done));
        done
    }

    #[track_caller]
    fn check(&self, code: i32, begins: &str, told: &[&str]) -> Ran {
        let done = self.check_as(OWN);
        assert_eq!(done.code, Some(code), "{done}");
        assert!(last(&done).starts_with(begins), "{begins}: {done}");
        for words in told {
            assert!(last(&done).contains(words), "{words}: {done}");
        }
        assert!(done.took < LASTS_MAX, "{done}");
        done
    }

    /// Canaries that arrived at the far end: datagrams with the question in them, and beginnings of connections.
    fn arrived(&self) -> (u64, u64) {
        let count = |name: &str| {
            let listed = self.far.sh(&format!("nft list counter inet ear {name}")).out;
            let after = listed.split("packets ").nth(1).unwrap();
            after.split_whitespace().next().unwrap().parse().unwrap()
        };
        (count("asked"), count("begun"))
    }

    fn chain(&self) -> String {
        fs::read_to_string(self.at("state/chain/seg/000000000000.jsonl")).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.audit.kill();
        let _ = self.audit.wait();
    }
}

fn last(done: &Ran) -> &str {
    done.err.lines().last().unwrap_or_default()
}

fn rules(profile: &str) -> String {
    let (page, loopback) = load_profile(&top().join("manifests/policy"), profile).unwrap();
    ruleset(&page, &loopback, 0x5eca_1005, ["names0"]).to_string()
}

#[test]
fn in_each_profile_all_canaries_are_refused_and_counted() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    for profile in ["offline_private", "research", "full_lab"] {
        let device = Device::new(Some(&rules(profile)));
        let all = format!("clean: {profile}, proven; {CANARIES} canaries: {CANARIES} refused and counted; nobody");
        let done = device.check(0, &all, &[]);
        assert_eq!(done.err.lines().count(), 1, "{done}");
        assert_eq!(device.arrived(), (0, 0), "{profile}");
        let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((&json["sent"], &json["refused"]), (&CANARIES.into(), &CANARIES.into()), "{json}");
        let entry = format!(
            r#"{{"findings":0,"profile":"{profile}","refused":{CANARIES},"sent":{CANARIES},"verdict":"clean"}}"#
        );
        assert!(device.chain().contains(&entry), "{}", device.chain());
    }
}

#[test]
fn without_rules_the_canaries_arrive_and_it_says_so() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let device = Device::new(None);
    device.check(1, "leak: a request for names can leave: ", &["canaries left: udp 192.0.2.53:53"]);
    assert_eq!(device.arrived(), (18, 8));
    assert!(device.chain().contains(r#""verdict":"leak""#), "{}", device.chain());
    // Somebody answers there.
    device.far.sh("ip address add 192.0.2.53/32 dev far0; ip address add 10.86.0.1/24 dev far0");
    device.check(1, "leak: ", &["canaries were answered: tcp 192.0.2.53:53, tcp 192.0.2.53:853"]);
    // Stopped at the link alone: nothing leaves, but these are no rules of ours, and the sender is told nothing.
    let before = device.arrived();
    device.load(
        "table netdev secure_ai_l2 {
	counter frames_refused { }
	chain link_names0 {
		type filter hook egress device \"names0\" priority filter; policy drop;
		counter name \"frames_refused\" drop
	}
}
",
    );
    device.check(2, "unclear: the rules are not proven", &["no request for names can leave by them", "18 not refused"]);
    assert_eq!(device.arrived(), before);
}

#[test]
fn a_port_that_the_rules_leave_out_is_named() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let device = Device::new(None);
    for (without, port) in [("853, 5353, 5355", "53"), ("53, 5353, 5355", "853"), ("53, 853, 5355", "5353")] {
        let loosened = rules("research").replace("53, 853, 5353, 5355", without);
        assert_ne!(loosened, rules("research"));
        device.load(&loosened);
        device.check(1, "leak: a request for names can leave: ", &[&format!("port {port},"), "of user 951"]);
    }
    // Where nobody may leave by it, the rules are others than any profile's, and nothing leaks.
    device.load(&rules("offline_private").replace("53, 853, 5353, 5355", "53, 5353, 5355"));
    let told = ["no request for names can leave by them", "4 canaries were refused by something else"];
    device.check(2, "unclear: the rules are not proven", &told);
    assert_eq!(device.arrived(), (0, 0), "of another user's leak this one is told by the rules alone");
    device.load(&rules("offline_private"));
    device.check(0, "clean: offline_private, proven", &[]);
}

#[test]
fn with_the_link_down_it_rests_on_the_proof() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let device = Device::new(Some(&rules("offline_private")));
    device.near.sh("ip link set names0 down");
    let told = ["26 had no way (link down: names0)", "this rests on the proof alone"];
    device.check(0, "clean: offline_private, proven", &told);
    // The proof is what it rests on.
    device.near.sh("nft flush ruleset");
    device.check(2, "unclear: the rules are not proven", &["26 had no way (link down: names0)"]);
}

#[test]
fn who_listens_or_would_ask_is_named() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let device = Device::new(Some(&rules("research")));
    let script = "$| = 1; $s = IO::Socket::INET->new(LocalAddr => '127.0.0.53:53', Proto => 'udp') or die $!;
        $c = IO::Socket::INET->new(PeerAddr => '127.0.0.53:53', Proto => 'udp') or die $!; print \"$$\\n\"; sleep 60";
    let mut resolver = device.near.inside();
    let mut resolver =
        resolver.args(["perl", "-MIO::Socket::INET", "-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(resolver.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let told = ["2 findings: ", "udp 127.0.0.53:53 of user 0 listens", "is connected to 127.0.0.53:53"];
    let done = device.check(0, "clean: research, proven", &told);
    assert!(!last(&done).contains("nobody listens"), "{done}");
    kill(pid.trim().parse().unwrap());
    let _ = resolver.wait();
    fs::write(device.at("root/etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    fs::write(device.at("root/etc/nsswitch.conf"), "hosts: files resolve\n").unwrap();
    fs::create_dir_all(device.at("root/run/avahi-daemon")).unwrap();
    fs::write(device.at("root/run/avahi-daemon/socket"), "").unwrap();
    let told = [
        "nobody listens on or is connected to",
        "3 findings: resolv.conf names 192.0.2.1, nsswitch.conf has hosts asked for by resolve, avahi-daemon runs",
    ];
    device.check(0, "clean: research, proven", &told);
    assert!(device.chain().contains(r#""findings":3"#), "{}", device.chain());
}

#[test]
fn nobodys_word_is_taken() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let mut device = Device::new(Some(&rules("research")));
    // What it names is another profile's.
    let near = Arc::clone(&device.near);
    let honest = near.sh("nft list ruleset").out;
    let links = near.sh("ip -j link").out;
    let evidence =
        move || Evidence { profile: "offline_private".into(), ruleset: honest.clone(), links: links.clone() };
    device.says(evidence.clone());
    // This text never changes, so its counter does not rise either.
    device.check(2, "unclear: 18 canaries were refused by something else", &["research, proven"]);
    // It tells of rules that are gone: what leaves is seen all the same.
    device.near.sh("nft flush ruleset");
    device.says(evidence);
    device.check(1, "leak: canaries left: ", &["research, proven"]);
    assert_eq!(device.arrived(), (18, 8));
    // Nobody answers.
    device.profiles = None;
    device.load(&rules("research"));
    device.check(2, "unclear: the rules are not known: the profiles service cannot be reached", &[]);
    fs::remove_file(device.at("profiles.sock")).unwrap();
    device.check(2, "unclear: the rules are not known: the profiles service cannot be reached", &[]);
    assert!(device.chain().contains(r#""profile":"","refused":0,"sent":26,"verdict":"unclear""#), "{}", device.chain());
}

#[test]
fn what_is_not_recorded_is_not_done() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let mut device = Device::new(Some(&rules("research")));
    let refused = device.check_as(OWN + 1);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.err.contains("NotAllowed") && last(&refused).starts_with("clean: research"), "{refused}");
    assert!(!device.chain().contains("dns.checked"), "{}", device.chain());
    device.check(0, "clean: research", &[]);
    assert!(device.chain().contains("dns.checked"), "{}", device.chain());
    device.audit.kill().unwrap();
    device.audit.wait().unwrap();
    device.check(2, "clean: research", &[]);
}
