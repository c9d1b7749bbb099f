//! The long half of `bad_input.rs`: builds with nothing but packages in their cache, killed inside of the programs they run,
//! and caches on disks that fill up.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use secai_tests::composing::{Cached, Composing};
use secai_tests::{Need, Tier, as_root, kill, program, ran, release, require};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");

fn composed() -> Value {
    let index = fs::read(release().join("6-bundle/image/index.json")).unwrap();
    serde_json::from_slice::<Value>(&index).unwrap()["manifests"][0]["digest"].clone()
}

fn judged(bundle: &Path) {
    let mut verify = std::process::Command::new(program("verify-release"));
    ran(verify.arg("bundle").arg(bundle).arg("--trust").arg(release().join("trust"))).good();
}

/// Programs inside of which a build is killed, in the order in which it runs them.
const PROGRAMS: [&str; 4] = ["/mmdebstrap ", "apt-get ", "dpkg --", "dracut --quiet"];

#[test]
fn a_build_killed_inside_the_programs_it_runs_leaves_none_of_them() {
    if !require(Tier::Vm, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "killed inside", Cached::Packages);
    let ours = |line: &String| line.contains("secai-build") && !line.contains("sudo");
    for name in PROGRAMS {
        let mut child =
            here.build().stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let runs = loop {
            let running = here.processes();
            if running.iter().any(|line| line.contains(name)) {
                break true;
            }
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            assert!(start.elapsed() < Duration::from_secs(600), "{name} was never run");
        };
        for line in here.processes().iter().filter(|line| ours(line)) {
            kill(line.split('\t').next().unwrap().parse().unwrap());
        }
        let _ = child.wait();
        eprintln!("killed in {name} after {:.0} s", start.elapsed().as_secs_f64());
        assert!(runs, "{name} was not seen");
        let end = Instant::now() + Duration::from_secs(15);
        while !here.processes().is_empty() {
            assert!(Instant::now() < end, "left: {:#?}", here.processes());
            thread::sleep(Duration::from_millis(100));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*here.scratch.path().to_string_lossy()), "{mounts}");
        assert!(!here.outputs().iter().any(|output| output == "6-bundle"));
    }
    assert_eq!(here.built()["manifest"], composed());
    judged(&here.out().join("6-bundle"));
    let left = fs::read_dir(here.scratch.join("cache/secai/scratch")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count(), 0);
}

#[test]
fn a_full_cache_stops_a_build_and_room_lets_it_go_on() {
    if !require(Tier::Vm, &[Need::Release, Need::Root]) {
        return;
    }
    let here = Composing::new(TMP, "full cache", Cached::Packages);
    // Copied onto a small disk; each round leaves it a little more room than it uses.
    let script = r#"cache=$1; shift
mount -t tmpfs -o mode=755,size=4g none /mnt
cp -a "$cache/secai" /mnt/
used() { df --block-size=1 --output=used /mnt | tail -n 1; }
for room in 100000 60000000 330000000 400000000 layers; do
  if [ $room = layers ]; then
    mount -o remount,size=8g /mnt
    env "$@" rootfs recipe.yml --out out >/dev/null 2>&1
    room=20000000
  fi
  mount -o "remount,size=$(($(used) + room))" /mnt
  code=0; said=$(env "$@" build recipe.yml --out out 2>&1 >/dev/null) || code=$?
  echo "room $room: exit $code; $(ls out/minimal | tr '\n' ' '); $(printf %s "$said" | tail -n 4 | tr '\n' '|')"
done
mount -o remount,size=8g /mnt
env "$@" build recipe.yml --out out --json >report"#;
    let surroundings = here.surroundings().into_iter().filter(|pair| !pair.starts_with("XDG_CACHE_HOME="));
    let mut command = as_root("unshare");
    command.args(["--mount", "--", "sh", "-euc", script, "sh"]).arg(here.scratch.join("cache")).args(surroundings);
    command.arg("XDG_CACHE_HOME=/mnt").arg(program("secai-build"));
    let ended = ran(command.current_dir(here.scratch.path())).good();
    eprint!("{}", ended.out);
    let mut stopped = 0;
    for line in ended.out.lines() {
        assert!(
            line.contains(": exit 0;")
                || line.contains(": exit 2;") && line.contains("the disk is full; free some space"),
            "{line}"
        );
        stopped += usize::from(line.contains(": exit 2;"));
    }
    assert!(
        ended.out.lines().last().unwrap().contains("3-commit.json ; "),
        "the last stops at the layers: {}",
        ended.out
    );
    assert!(stopped >= 4, "{}", ended.out);
    let said: Value = serde_json::from_slice(&fs::read(here.scratch.join("report")).unwrap()).unwrap();
    assert_eq!(said["manifest"], composed());
    judged(&here.out().join("6-bundle"));
}
