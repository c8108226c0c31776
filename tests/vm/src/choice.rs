//! Which bundle the demonstration and the tests of whole clusters boot: the genuine programs of
//! Kubernetes and Calico where they can be had, else the stand-ins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The bundle whose programs are genuine, if nobody asks for another one.
const GENUINE: &str = "v1.9.11";
/// The bundle of stand-ins.
const STAND_INS: &str = "demo";
/// The amount of a download without sizes.
const UNKNOWN: &str = "How much is downloaded is not known yet.";
/// The directory of the definition of a bundle that was carried here, below the output.
const CARRIED: &str = "bundles/carried";

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The program without a bundle.
    pub builder: PathBuf,
    /// The directory of the bundles' definitions.
    pub bundles: PathBuf,
    /// The directory of built files.
    pub output: PathBuf,
    /// The name of a bundle (BUNDLE).
    pub bundle: Option<String>,
    /// The directory of its definition, if it is another one (BUNDLE_DIR).
    pub definition: Option<PathBuf>,
    /// A directory with programs (COMPONENTS).
    pub components: Option<PathBuf>,
    /// A file of `bundle export` (BUNDLE_FROM).
    pub carried: Option<PathBuf>,
    /// Mirrors of the sources, `HOST=URL` (MIRRORS).
    pub mirrors: Vec<String>,
    /// Whether first downloads are trusted (TRUST).
    pub trusts: bool,
}

/// The bundle to boot, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The directory of its definition.
    pub bundle: PathBuf,
    /// The directory with its programs; otherwise they are stand-ins or in the cache.
    pub components: Option<PathBuf>,
    /// Whether the cache is filled from the sources.
    pub downloads: bool,
    /// Whether the programs are genuine, as far as is known: they need more memory and time.
    pub is_genuine: bool,
    /// One line for the user.
    pub about: String,
}

/// The fields of a bundle's definition that matter here.
#[derive(Deserialize)]
struct Definition {
    bundle: Bundle,
}

#[derive(Deserialize)]
struct Bundle {
    name: String,
    kubernetes: String,
    #[serde(default)]
    demonstration: bool,
}

/// The answer of `bundle doctor`.
#[derive(Deserialize)]
struct Diagnosis {
    ready: bool,
    #[serde(default)]
    download: Option<u64>,
    #[serde(default)]
    problem: Option<String>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
}

/// An artifact in that answer.
#[derive(Deserialize)]
struct Artifact {
    place: String,
    #[serde(default)]
    size: Option<u64>,
}

impl Asked {
    /// Decides.
    pub fn choose(&self) -> Result<Choice> {
        if let Some(file) = &self.carried {
            ensure!(
                self.bundle.is_none() && self.definition.is_none() && self.components.is_none(),
                "BUNDLE_FROM carries a whole bundle; leave out BUNDLE, BUNDLE_DIR and COMPONENTS"
            );
            return self.carried(file);
        }
        if let Some(directory) = &self.components {
            return self.components(directory);
        }
        match self.named() {
            Some(definition) => self.named_bundle(definition),
            None => self.whatever_is_there(),
        }
    }

    /// The definition that the user names.
    fn named(&self) -> Option<PathBuf> {
        let by_name = || Some(self.bundles.join(self.bundle.as_ref()?));
        self.definition.clone().or_else(by_name)
    }

    fn carried(&self, file: &Path) -> Result<Choice> {
        let definition = self.output.join(CARRIED);
        if definition.exists() {
            fs::remove_dir_all(&definition).with_context(|| definition.display().to_string())?;
        }
        let status = Command::new(&self.builder)
            .args(["bundle", "import"])
            .arg(file)
            .arg("--definition")
            .arg(&definition)
            .status()
            .with_context(|| self.builder.display().to_string())?;
        ensure!(
            status.success(),
            "BUNDLE_FROM={}: the bundle cannot be imported",
            file.display()
        );
        let why = format!("BUNDLE_FROM={} carries them", file.display());
        choice(definition, &why, "Nothing is downloaded.")
    }

    fn components(&self, directory: &Path) -> Result<Choice> {
        ensure!(
            directory.is_dir(),
            "COMPONENTS={}: there is no such directory",
            directory.display()
        );
        let own = directory.join("bundle.toml").exists();
        let definition = match self.named() {
            Some(definition) => definition,
            None if own => directory.to_owned(),
            None => self.bundles.join(STAND_INS),
        };
        let bundle = read(&definition)?;
        Ok(Choice {
            about: format!(
                "These are the programs in {} (bundle {}), because COMPONENTS names that directory. \
                 Nothing is downloaded.",
                directory.display(),
                bundle.name
            ),
            bundle: definition,
            components: Some(directory.to_owned()),
            downloads: false,
            // Nobody hands in what the project makes itself.
            is_genuine: true,
        })
    }

    fn named_bundle(&self, definition: PathBuf) -> Result<Choice> {
        let bundle = read(&definition)?;
        let why = format!("BUNDLE={} asks for them", bundle.name);
        if bundle.demonstration {
            return choice(definition, &why, "Nothing is downloaded.");
        }
        let download = match self.ask_doctor(&definition) {
            Ok(diagnosis) if diagnosis.ready || self.trusts => download(&diagnosis),
            Ok(diagnosis) => bail!(
                "the bundle {} cannot be built from here: {}\n  for every source, run: {} bundle \
                 doctor --bundle {}\n  for stand-ins, run the same with BUNDLE={STAND_INS}",
                bundle.name,
                problem(diagnosis),
                self.builder.display(),
                definition.display()
            ),
            Err(_) => UNKNOWN.to_owned(),
        };
        Ok(Choice {
            downloads: true,
            ..choice(definition, &why, &download)?
        })
    }

    /// Genuine programs if every source answers, else stand-ins.
    fn whatever_is_there(&self) -> Result<Choice> {
        let definition = self.bundles.join(GENUINE);
        let diagnosis = self.ask_doctor(&definition);
        let reason = match diagnosis {
            Ok(diagnosis) if diagnosis.ready => {
                let why = "all of them can be had here";
                return Ok(Choice {
                    downloads: true,
                    ..choice(definition, why, &download(&diagnosis))?
                });
            }
            Ok(diagnosis) => problem(diagnosis),
            Err(error) => format!("{error:#}"),
        };
        let why = format!("the genuine bundle {GENUINE} cannot be built from here ({reason})");
        choice(
            self.bundles.join(STAND_INS),
            &why,
            "Nothing is downloaded. BUNDLE, BUNDLE_FROM and COMPONENTS choose others: see README.md.",
        )
    }

    fn ask_doctor(&self, definition: &Path) -> Result<Diagnosis> {
        ensure!(
            definition.join("bundle.toml").exists(),
            "{} is not there",
            definition.display()
        );
        let mut doctor = Command::new(&self.builder);
        doctor.args(["bundle", "doctor", "--output", "json", "--bundle"]);
        doctor.arg(definition).stderr(Stdio::inherit());
        for mirror in &self.mirrors {
            doctor.args(["--mirror", mirror]);
        }
        let output = doctor
            .output()
            .with_context(|| self.builder.display().to_string())?;
        let mut diagnosis: Diagnosis = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`bundle doctor` gave no answer and {}", output.status))?;
        diagnosis.ready &= output.status.success();
        Ok(diagnosis)
    }
}

fn read(definition: &Path) -> Result<Bundle> {
    let path = definition.join("bundle.toml");
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: no bundle is defined there; `ls bundle` lists the project's bundles",
            path.display()
        )
    })?;
    let definition: Definition =
        toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(definition.bundle)
}

/// A bundle with programs from its own sources.
fn choice(definition: PathBuf, why: &str, download: &str) -> Result<Choice> {
    let bundle = read(&definition)?;
    let programs = if bundle.demonstration {
        "stand-ins for Kubernetes and Calico".to_owned()
    } else {
        format!("the genuine programs of Kubernetes {}", bundle.kubernetes)
    };
    Ok(Choice {
        about: format!(
            "These are {programs} (bundle {}), because {why}. {download}",
            bundle.name
        ),
        bundle: definition,
        components: None,
        downloads: false,
        is_genuine: !bundle.demonstration,
    })
}

fn problem(diagnosis: Diagnosis) -> String {
    let problem = diagnosis.problem.unwrap_or_default();
    let line: Vec<&str> = problem.split_whitespace().collect();
    match line.join(" ").trim_end_matches('.') {
        "" => "`bundle doctor` names no reason".to_owned(),
        line => line.to_owned(),
    }
}

fn download(diagnosis: &Diagnosis) -> String {
    let mut artifacts = diagnosis.artifacts.iter();
    let is_partial = artifacts.any(|one| one.place == "server" && one.size.is_none());
    match diagnosis.download {
        None => UNKNOWN.to_owned(),
        Some(0) if is_partial => UNKNOWN.to_owned(),
        Some(0) => "Nothing is downloaded: everything is in the cache.".to_owned(),
        // The size is for people: tenths of a megabyte are enough.
        Some(bytes) => {
            let tenths = bytes.div_ceil(100_000);
            let least = if is_partial { "At least " } else { "" };
            format!("{least}{}.{} MB are downloaded.", tenths / 10, tenths % 10)
        }
    }
}

impl Choice {
    /// Writes it for make: one `NAME VALUE` a line.
    pub fn write(&self, file: &Path) -> Result<()> {
        let word = |yes: bool| if yes { "yes" } else { "" };
        let path = |path: &Path| path.display().to_string();
        let components = self.components.as_deref().map(path).unwrap_or_default();
        let text = format!(
            "bundle {}\ncomponents {components}\ndownloads {}\ngenuine {}\nabout {}\n",
            path(&self.bundle),
            word(self.downloads),
            word(self.is_genuine),
            self.about
        );
        fs::write(file, text).with_context(|| file.display().to_string())
    }

    /// The line for the user, from the file.
    pub fn about_in(file: &Path) -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let about = text.lines().find_map(|line| line.strip_prefix("about "));
        Ok(about
            .with_context(|| file.display().to_string())?
            .to_owned())
    }
}
