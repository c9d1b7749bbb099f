//! The six stages one after the other, as far as asked; each resumes from its stamp.

use crate::bundle::{Act, Bundle, LIFETIME_SECONDS};
use crate::cache::Cache;
use crate::error::{At, Error};
use crate::keys::DevelopmentKeys;
use crate::plan::{Plan, PlanOptions, trust_files};
use crate::progress::{Stage, Voice};
use crate::recipe::{OutsideFiles, Recipe};
use crate::release::{KeyChoice, Keys};
use crate::rootfs::SetId;
use crate::services::PlannedServices;
use crate::stage::{Inputs, State, Workspace, remove, write_atomically};
use crate::{attest, bundle, commit, contents, image, owners, rootfs};
use secai_verifier::release::Release;
use secai_verifier::time::Time;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// Pin everything and say what would be rebuilt.
    Plan,
    /// The tree.
    Rootfs,
    /// The commit.
    Commit,
    /// The image.
    Image,
    /// The SBOM.
    Attest,
    /// The bundle.
    Bundle,
}

impl Until {
    fn name(self) -> &'static str {
        match self {
            Until::Plan => "plan",
            Until::Rootfs => "rootfs",
            Until::Commit => "commit",
            Until::Image => "image",
            Until::Attest => "attest",
            Until::Bundle => "bundle",
        }
    }
}

/// What a build is told besides its recipe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of outputs (`out`).
    pub out: PathBuf,
    /// Mirror and index.
    pub plan: PlanOptions,
    /// The service pack.
    pub pack: Option<PathBuf>,
    /// May the recipe name files outside its folder?
    pub outside: OutsideFiles,
    /// Release number.
    pub number: Option<u64>,
    /// Channel; none: the recipe's, else `dev`.
    pub channel: Option<String>,
    /// Leave out the release act.
    pub unsigned: bool,
    /// Private keys.
    pub build_key: Option<PathBuf>,
    /// Private key of the release role.
    pub release_key: Option<PathBuf>,
    /// OpenPGP key.
    pub gpg_key: Option<String>,
    /// Bars or silence.
    pub voice: Voice,
}

/// What was done, for `--json`.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Name of the image.
    pub name: String,
    /// The stages that were looked at.
    pub stages: Vec<StageReport>,
    /// Output of the last stage that was asked for.
    pub output: PathBuf,
    /// Number of packages.
    pub packages: usize,
    /// Which files kept their set-id bits and capabilities, and which lost them, where the recipe has a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_id: Option<SetId>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The manifest's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The SBOM's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
    /// The bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PathBuf>,
    /// Its trust directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// One stage of a report.
#[derive(Debug, Serialize)]
pub struct StageReport {
    /// Its name.
    pub stage: &'static str,
    /// Cached, or rebuilt and why.
    #[serde(flatten)]
    pub state: State,
    /// Seconds.
    pub seconds: f64,
    /// Its output.
    pub output: PathBuf,
}

/// Builds a recipe as far as `until`.
///
/// # Errors
/// Whatever stops it.
pub fn run(recipe: &Path, options: &Options, until: Until) -> Result<Report, Error> {
    // Files of an image have the modes that the recipe and the packages give them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let recipe = Recipe::load(recipe, options.outside)?;
    let services = PlannedServices::of(&recipe, options.pack.as_deref())?;
    let act = act(&recipe, options)?;
    let signing = match until {
        Until::Bundle if !options.unsigned => Some(Signing::prepare(&recipe, options)?),
        _ => None,
    };
    if until > Until::Plan && !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { what: "composing an image with its real owners" });
    }
    let cache = Cache::of_user()?;
    let workspace = Workspace::open(&options.out, &recipe.name)?;
    let mut report = Report { name: recipe.name.clone(), ..Report::default() };
    let stage = Stage::begin("plan", options.voice);
    if services.is_none() && options.pack.is_some() {
        stage.note("--pack is not used: the recipe names no services");
    }
    stage.say("resolving packages");
    let (note, bytes) = (|note: &str| stage.note(note), |done, total| stage.bytes(done, total));
    let plan = Plan::make(recipe, services, &cache, &options.plan, &note, &bytes)?;
    let text = serde_json::to_vec_pretty(&plan).map_err(std::io::Error::from).at("write", workspace.output("plan"))?;
    write_atomically(&workspace.output("plan"), &text)?;
    report.packages = plan.packages.len();
    let mut finish = |stage: Stage, name: &'static str, state: State, what: String| {
        let seconds = stage.end(&state, &what);
        report.stages.push(StageReport { stage: name, state, seconds, output: workspace.output(name) });
    };
    finish(stage, "plan", State::Rebuilt(String::new()), format!("{} packages", plan.packages.len()));
    report.output = workspace.output(until.name());
    if until == Until::Plan {
        for (name, inputs) in [("rootfs", plan.rootfs_inputs()), ("commit", commit::inputs(&plan))] {
            let state = workspace.state(name, &inputs);
            crate::progress::foresee(name, &state, options.voice);
            report.stages.push(StageReport { stage: name, state, seconds: 0.0, output: workspace.output(name) });
        }
        return Ok(report);
    }
    let begin =
        |name: &'static str, inputs: &Inputs| (Stage::begin(name, options.voice), workspace.state(name, inputs));

    let (stage, state) = begin("rootfs", &plan.rootfs_inputs());
    let rootfs = rootfs::build(&plan, &workspace, &cache, &|what| stage.say(what))?;
    let mut what = format!("kernel {}", rootfs.kernel);
    if let Some(it) = &rootfs.set_id {
        what.push_str(&format!("; {} of {} set-id programs kept", it.kept.len(), it.kept.len() + it.taken.len()));
    }
    finish(stage, "rootfs", state, what);
    report.set_id = rootfs.set_id.clone();
    if until == Until::Rootfs {
        return Ok(report);
    }
    let (stage, state) = begin("commit", &commit::inputs(&plan));
    let commit = commit::build(&plan, &rootfs, &workspace, &|what| stage.say(what))?;
    finish(stage, "commit", state, format!("{}", commit.checksum));
    let mut ends = Ends { commit: Some(commit.checksum.to_string()), ..Ends::default() };
    if until == Until::Commit {
        return Ok(ends.into(report));
    }
    let listed = contents::of_packages(&plan.packages, &cache.folder("debs")?, cache.root(), &|| {})?;
    let owners = owners::of(&plan, &commit.tree, &rootfs.path, &commit.kernel, &listed)?;
    drop(listed);
    let (stage, state) = begin("image", &image::inputs(&plan, &commit, &owners));
    let image = image::build(&plan, &rootfs, &commit, &owners, &workspace, &cache, &|what| stage.say(what))?;
    finish(stage, "image", state, format!("{} layers, {:.1} MB", image.layers, image.bytes as f64 / 1e6));
    ends.manifest = Some(image.manifest.digest.oci());
    if until == Until::Image {
        return Ok(ends.into(report));
    }
    let (stage, state) = begin("attest", &attest::inputs(&plan, &commit, &image, &owners));
    let files: usize = owners.iter().map(|o| o.files.len()).sum();
    let attestation = attest::build(&plan, &commit, &image, owners, &workspace, &|what| stage.say(what))?;
    finish(stage, "attest", state, format!("{files} files"));
    ends.sbom = Some(attestation.sbom.digest.oci());
    if until == Until::Attest {
        return Ok(ends.into(report));
    }
    let stage = Stage::begin("bundle", options.voice);
    let keys = signing.as_ref().map(|s| &s.keys);
    let Bundle { path, release } =
        bundle::build(&plan, &commit, &image, attestation, &act, keys, &workspace, &|what| stage.say(what))?;
    let what = release.as_ref().map_or("unsigned".into(), |r| format!("release {} for {}", r.number, r.channel));
    finish(stage, "bundle", State::Rebuilt(String::new()), what);
    report.trust = signing.map(|s| s.lay_trust(workspace.root())).transpose()?;
    report.bundle = Some(path);
    report.release = release;
    Ok(ends.into(report))
}

/// Digests of what is done so far.
#[derive(Default)]
struct Ends {
    commit: Option<String>,
    manifest: Option<String>,
    sbom: Option<String>,
}

impl Ends {
    fn into(self, report: Report) -> Report {
        Report { commit: self.commit, manifest: self.manifest, sbom: self.sbom, ..report }
    }
}

fn act(recipe: &Recipe, options: &Options) -> Result<Act, Error> {
    let created = Time::now().map_err(|e| Error::Tree(e.to_string()))?;
    let expires = Time::from_seconds(created.seconds() + LIFETIME_SECONDS).map_err(|e| Error::Tree(e.to_string()))?;
    let channel = options.channel.clone().or_else(|| recipe.channel.clone()).unwrap_or_else(|| "dev".into());
    if !secai_verifier::release::is_name(&channel) {
        return Err(Error::Usage {
            option: "--channel",
            value: channel,
            reason: "is not lower-case letters, digits and `-`".into(),
        });
    }
    if options.number == Some(0) {
        return Err(Error::Usage { option: "--number", value: "0".into(), reason: "must be at least 1".into() });
    }
    Ok(Act { number: options.number, channel, created, expires })
}

/// Keys that were tried, and the trust directory they stand in.
struct Signing {
    keys: Keys,
    trust: PathBuf,
}

impl Signing {
    fn prepare(recipe: &Recipe, options: &Options) -> Result<Signing, Error> {
        let development = DevelopmentKeys::of_user()?;
        if options.build_key.is_none() || options.release_key.is_none() || options.gpg_key.is_none() {
            development.make()?;
        }
        let trust = recipe.trust.clone().or_else(|| options.plan.trust.clone()).unwrap_or_else(|| development.trust());
        let choice = KeyChoice {
            build: options.build_key.clone(),
            release: options.release_key.clone(),
            gpg: options.gpg_key.clone(),
            development,
        };
        Ok(Signing { keys: Keys::open(&choice, &trust)?, trust })
    }

    /// Copies the public halves beside the outputs, so that the printed command works as it stands.
    fn lay_trust(&self, root: &Path) -> Result<PathBuf, Error> {
        let (to, partial) = (root.join("trust"), root.join("trust.partial"));
        remove(&partial)?;
        fs::create_dir(&partial).at("create", &partial)?;
        for path in trust_files(&self.trust)? {
            if let Some(name) = path.file_name() {
                fs::copy(&path, partial.join(name)).at("copy", &path)?;
            }
        }
        remove(&to)?;
        fs::rename(&partial, &to).at("move", &partial)?;
        Ok(to)
    }
}
