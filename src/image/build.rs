//! From a distribution's image to a golden one, offline: copy, attach, prepare, check, detach, and
//! only then the name it is to have.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::attach::{Machine, Means};
use super::base::{self, Base};
use super::checks::{self, Subject};
use super::prepare::Preparation;
use crate::bundle::payload::Payload;
use crate::check::{Checked, Verdict, is_sound};
use crate::preflight::{RESERVE, mebibytes};
use crate::spec::Refused;
use crate::sys::digest::Sha256;
use crate::sys::interrupt::Interruption;
use crate::sys::process::{Command, Interruptible, Runner, argument};
use crate::sys::root::Root;
use crate::sys::stream::{Counting, Hashing};
use crate::sys::{atomic, host, mount, progress};

/// Between two looks how far another program is.
const POLL: Duration = Duration::from_millis(500);
/// Permission bits of what is made.
const MODE: u32 = 0o644;

/// What is made of what.
pub struct Build<'a> {
    /// The distribution's image.
    pub base: &'a Path,
    /// The image to make, in the format qcow2.
    pub output: &'a Path,
    /// What it is to carry.
    pub payload: &'a Payload,
    /// The file the payload is in, where that is not this program.
    pub carrier: Option<&'a Path>,
    /// The program's manual pages: the name of each file, and its content.
    pub manuals: &'a [(String, Vec<u8>)],
    /// How the copy is attached; the best way there is if `None`.
    pub means: Option<Means>,
    /// Whether the image is compressed: smaller, and slower to make.
    pub compress: bool,
    /// Whether this process was told to end.
    pub interruption: Interruption,
}

/// What was made.
#[derive(Debug)]
pub struct Built {
    /// Every check of the finished image.
    pub checked: Vec<Checked>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// The seconds each part took.
    pub stages: Vec<(&'static str, u64)>,
}

/// Makes the image.
///
/// # Errors
/// A [`Refused`] where the base cannot become one, or the machine lacks what that takes; it says
/// why. Whatever goes wrong, nothing is under the output's name that was not there before, and
/// nothing stays attached.
pub fn build(build: &Build<'_>) -> Result<Built> {
    let runner = Interruptible(build.interruption.clone());
    let machine = Machine {
        runner: &runner,
        sys_class_block: Path::new("/sys/class/block"),
        dev: Path::new("/dev"),
    };
    build.check_names().map_err(Refused::because)?;
    let base = base::inspect(&runner, argument(build.base)?)?;
    let means = machine.choose(build.means)?;
    build.check_room(&base)?;
    log::info!(
        "{}: {}, attached by {means}",
        build.base.display(),
        base.format
    );
    let staging = Staging::make(build.output)?;
    let mut stages = Stages::default();
    let work = staging.dir.join("work");
    stages.run("copy the base", || {
        let from = (build.base, base.format.as_str());
        convert(&runner, from, (&work, means.format()), false, base.used)
    })?;
    let checked = stages.run("prepare and check", || {
        build.bake(&machine, means, &staging.dir)
    })?;
    let image = staging.dir.join("image");
    stages.run("write the image", || {
        let used = base.used + Preparation::needed(build.payload, build.carrier)?;
        convert(
            &runner,
            (&work, means.format()),
            (&image, "qcow2"),
            build.compress,
            used,
        )?;
        Ok(fs::remove_file(&work)?)
    })?;
    let size = fs::metadata(&image)?.len();
    let sha256 = stages.run("sha256", || sha256(&image, size))?;
    build.interruption.check()?;
    publish(&image, build.output, &sha256)?;
    Ok(Built {
        checked,
        size,
        sha256,
        stages: stages.0,
    })
}

impl Build<'_> {
    fn check_names(&self) -> Result<()> {
        let (base, output) = (self.base.display(), self.output.display());
        ensure!(self.base.exists(), "the base image {base} is not there");
        let dir = atomic::parent(self.output);
        ensure!(dir.is_dir(), "the directory {} is not there", dir.display());
        ensure!(self.output.file_name().is_some(), "{output} names no file");
        ensure!(!self.output.is_dir(), "{output} is a directory");
        let same =
            self.output.exists() && self.output.canonicalize()? == self.base.canonicalize()?;
        ensure!(
            !same,
            "{output} is the base image itself; give the new one another name"
        );
        Ok(())
    }

    /// The copy and the image are there at once, each with the bundle in it.
    fn check_room(&self, base: &Base) -> Result<()> {
        let dir = atomic::parent(self.output);
        let needed = 2 * (base.used + Preparation::needed(self.payload, self.carrier)?) + RESERVE;
        let free = host::file_system(dir)?.free;
        if free >= needed {
            return Ok(());
        }
        let problem = anyhow!(
            "making the image takes {} MiB in {}, and {} MiB are free; make room, or write it elsewhere",
            mebibytes(needed),
            dir.display(),
            free / (1024 * 1024)
        );
        Err(Refused::because(problem).into())
    }

    /// Attaches the copy in `staging`, prepares and checks it, and detaches it, whatever happens.
    fn bake(&self, machine: &Machine<'_>, means: Means, staging: &Path) -> Result<Vec<Checked>> {
        let dir = staging.join("root");
        fs::create_dir(&dir)?;
        let disk = machine.attach(means, &staging.join("work"))?;
        let inside = || -> Result<Vec<Checked>> {
            let runner = Interruptible(self.interruption.clone());
            let mounted = disk.mount(&runner, &dir)?;
            let checked = self.prepare(&runner, mounted.dir())?;
            // What was deleted would be part of the image for ever.
            let trim = Command::new("fstrim", &[argument(mounted.dir())?]);
            if let Err(error) = runner.check(&trim) {
                self.interruption.check()?;
                log::debug!("{error:#}");
            }
            mounted.unmount()?;
            Ok(checked)
        };
        mount::with_own(inside).context("only root can mount the image; run this as root")?
    }

    fn prepare(&self, runner: &dyn Runner, dir: &Path) -> Result<Vec<Checked>> {
        let root = Root::open(dir)?;
        let preparation = Preparation {
            root: &root,
            runner,
            payload: self.payload,
            carrier: self.carrier,
            manuals: self.manuals,
            announce: &|step| {
                log::info!("{step}");
                self.interruption.check()
            },
        };
        preparation.check()?;
        preparation.run()?;
        self.interruption.check()?;
        log::info!("check the image");
        let manifest = checks::manifest(&root)?;
        let checked = checks::all(&Subject {
            root: &root,
            runner,
            manifest: manifest.as_ref(),
        });
        if !is_sound(&checked) {
            bail!("the image is not what it should be: {}", failures(&checked));
        }
        Ok(checked)
    }
}

fn failures(checked: &[Checked]) -> String {
    let failed = checked.iter().filter_map(|one| match &one.verdict {
        Verdict::Failed { found, .. } => Some(format!("{}: {found}", one.check)),
        _ => None,
    });
    failed.collect::<Vec<_>>().join("; ")
}

/// Copies an image, and tells how far that is. Each is a path and a format; about `size` bytes are
/// written.
fn convert(
    runner: &dyn Runner,
    (from, from_format): (&Path, &str),
    (to, to_format): (&Path, &str),
    compress: bool,
    size: u64,
) -> Result<()> {
    let mut arguments = vec!["convert", "-f", from_format, "-O", to_format];
    arguments.extend(compress.then_some("-c"));
    arguments.extend([argument(from)?, argument(to)?]);
    let command = Command::new("qemu-img", &arguments);
    let progress = progress::standard_error("copy", size);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = || {
            let mut before = 0;
            while !ended.load(Ordering::Relaxed) {
                std::thread::park_timeout(POLL);
                let now = written(to);
                progress.advance(now.saturating_sub(before));
                before = now.max(before);
            }
        };
        let watcher = scope.spawn(watch);
        let outcome = runner.check(&command);
        ended.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        outcome
    })?;
    // The image is only as good as what is on the disk.
    Ok(File::open(to)?.sync_all()?)
}

/// The bytes the file takes on its disk.
fn written(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// What `st_blocks` counts in.
    const BLOCK: u64 = 512;
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * BLOCK)
}

fn sha256(path: &Path, size: u64) -> Result<Sha256> {
    let progress = progress::standard_error("sha256", size);
    let advance = |bytes| progress.advance(bytes);
    let mut reader = Hashing::new(Counting::new(File::open(path)?, &advance));
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}

/// Gives the image its name. No digest of another image is ever beside it.
fn publish(image: &Path, output: &Path, sha256: &Sha256) -> Result<()> {
    let beside = digest_file(output);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", beside.display()));
        }
        _ => {}
    }
    fs::set_permissions(image, Permissions::from_mode(MODE))?;
    fs::rename(image, output).with_context(|| output.display().to_string())?;
    File::open(atomic::parent(output))?.sync_all()?;
    let name = output.file_name().unwrap_or_default().display();
    atomic::replace(&beside, MODE, |file| {
        Ok(io::Write::write_all(
            file,
            format!("{sha256}  {name}\n").as_bytes(),
        )?)
    })
}

/// Where the image's digest is, in the form `sha256sum --check` reads.
fn digest_file(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

/// A directory beside the output that holds everything unfinished. Dropping it removes it.
struct Staging {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Staging {
    /// Its name is the same in every run, so that the next one finds what one left that was killed.
    fn make(output: &Path) -> Result<Staging> {
        let name = output.file_name().unwrap_or_default().display();
        let dir = atomic::parent(output).join(format!(".{name}.building"));
        let make = || -> Result<Staging> {
            fs::create_dir_all(&dir)?;
            let lock = Flock::lock(File::open(&dir)?, FlockArg::LockExclusiveNonblock)
                .map_err(|_| anyhow!("another run is making this image; wait for it to end"))?;
            empty(&dir)?;
            Ok(Staging {
                dir: dir.clone(),
                _lock: lock,
            })
        };
        make().with_context(|| dir.display().to_string())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = empty(&self.dir).and_then(|()| fs::remove_dir(&self.dir)) {
            log::warn!("{}: {error}; remove it by hand", self.dir.display());
        }
    }
}

/// Removes what is in the directory: files, and mount points with nothing in them. What is in one
/// is an image's, and not for removal.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The parts of a run with the seconds each took.
#[derive(Default)]
struct Stages(Vec<(&'static str, u64)>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        log::info!("{name}");
        let start = Instant::now();
        let outcome = work().with_context(|| name);
        self.0.push((name, start.elapsed().as_secs()));
        outcome
    }
}
