//! Builds a golden image from a distribution's image, without booting it: copy, attach, prepare,
//! check, detach. The image gets its final name only after all of this.

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
use crate::digest::Sha256;
use crate::language::tr;
use crate::nodespec::Refused;
use crate::preflight::{RESERVE, mebibytes};
use crate::sys::interrupt::Interruption;
use crate::sys::process::{Command, Interruptible, Runner, argument};
use crate::sys::root::Root;
use crate::sys::stream::{Counting, Hashing};
use crate::sys::{atomic, host, mount, progress};

/// The pause between two checks of another program's progress.
const POLL: Duration = Duration::from_millis(500);
/// Permission bits of the image.
const MODE: u32 = 0o644;

/// The inputs of a build.
pub struct Build<'a> {
    /// The distribution's image.
    pub base: &'a Path,
    /// The image to make, in the format qcow2.
    pub output: &'a Path,
    /// The payload that it carries.
    pub payload: &'a Payload,
    /// The program's manual pages: the name of each file, and its content.
    pub manuals: &'a [(String, Vec<u8>)],
    /// How to attach the copy; `None` for the best way that this machine supports.
    pub means: Option<Means>,
    /// Whether to compress the image: it gets smaller, but the build takes longer.
    pub compress: bool,
    /// Whether the user interrupted this process.
    pub interruption: Interruption,
}

/// The finished image.
#[derive(Debug)]
pub struct Built {
    /// Every check of the finished image.
    pub checked: Vec<Checked>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// The duration of each part in seconds.
    pub stages: Vec<(&'static str, u64)>,
}

/// Builds the image.
///
/// # Errors
/// A [`Refused`] if the base is not suitable, or if this machine lacks what the build needs; it
/// says why. After any error, the file with the output's name is unchanged, and nothing stays
/// attached.
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
        "base image {} has format {}; attached by {means}",
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
        let used = base.used + Preparation::needed(build.payload)?;
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
        ensure!(
            self.base.exists(),
            tr!("the base image {base} does not exist; check `--base`", base)
        );
        let dir = atomic::parent(self.output);
        ensure!(
            dir.is_dir(),
            tr!(
                "the directory {0} does not exist; create it: `mkdir -p {0}`",
                dir.display()
            )
        );
        ensure!(
            self.output.file_name().is_some(),
            tr!(
                "{output} is not the name of a file; give one with `--output`",
                output
            )
        );
        ensure!(
            !self.output.is_dir(),
            tr!(
                "{output} is a directory; give the name of a file with `--output`",
                output
            )
        );
        let same =
            self.output.exists() && self.output.canonicalize()? == self.base.canonicalize()?;
        ensure!(
            !same,
            tr!(
                "{output} is the base image itself; give another name with `--output`",
                output
            )
        );
        Ok(())
    }

    /// Checks the free space: the copy and the image exist at the same time, each with the bundle.
    fn check_room(&self, base: &Base) -> Result<()> {
        let dir = atomic::parent(self.output);
        let needed = 2 * (base.used + Preparation::needed(self.payload)?) + RESERVE;
        let free = host::file_system(dir)?.free;
        if free >= needed {
            return Ok(());
        }
        let problem = anyhow!(tr!(
            "the build needs {} MiB in {}, but only {} MiB are free; delete files there, or write \
             the image to another file system with `--output`",
            mebibytes(needed),
            dir.display(),
            free / (1024 * 1024)
        ));
        Err(Refused::because(problem).into())
    }

    /// Attaches the copy in `staging`, prepares and checks it, and always detaches it.
    fn bake(&self, machine: &Machine<'_>, means: Means, staging: &Path) -> Result<Vec<Checked>> {
        let dir = staging.join("root");
        fs::create_dir(&dir)?;
        let disk = machine.attach(means, &staging.join("work"))?;
        let inside = || -> Result<Vec<Checked>> {
            let runner = Interruptible(self.interruption.clone());
            let mounted = disk.mount(&runner, &dir)?;
            let checked = self.prepare(&runner, mounted.dir())?;
            // Without this, deleted data would stay in the image.
            let trim = Command::new("fstrim", &[argument(mounted.dir())?]);
            if let Err(error) = runner.check(&trim) {
                self.interruption.check()?;
                log::debug!("{error:#}");
            }
            mounted.unmount()?;
            Ok(checked)
        };
        mount::with_own(inside).context(tr!(
            "only root can mount the image; run the same command with `sudo`"
        ))?
    }

    fn prepare(&self, runner: &dyn Runner, dir: &Path) -> Result<Vec<Checked>> {
        let root = Root::open(dir)?;
        let preparation = Preparation {
            root: &root,
            runner,
            payload: self.payload,
            manuals: self.manuals,
            announce: &|step| {
                log::info!("{step}");
                self.interruption.check()
            },
        };
        preparation.check()?;
        preparation.run()?;
        self.interruption.check()?;
        log::info!("checking the image");
        let manifest = checks::manifest(&root)?;
        let checked = checks::all(&Subject {
            root: &root,
            runner,
            manifest: manifest.as_ref(),
        });
        if !is_sound(&checked) {
            bail!(tr!(
                "the finished image fails its checks: {}",
                failures(&checked)
            ));
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

/// Copies an image and shows the progress. Each image is a path and a format. The copy has about
/// `size` bytes.
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
    let progress = progress::standard_error(&tr!("copy"), size);
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
        // Without a thread, there is no progress to see.
        let watcher = std::thread::Builder::new().spawn_scoped(scope, watch).ok();
        let outcome = runner.check(&command);
        ended.store(true, Ordering::Relaxed);
        if let Some(watcher) = watcher {
            watcher.thread().unpark();
        }
        outcome
    })?;
    // Make sure that the image is on the disk.
    Ok(File::open(to)?.sync_all()?)
}

/// The space that the file takes on its disk, in bytes.
fn written(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`.
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

/// Gives the image its name. At no time is the checksum of another image next to it.
fn publish(image: &Path, output: &Path, sha256: &Sha256) -> Result<()> {
    let beside = digest_file(output);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| tr!("cannot remove {}", beside.display()));
        }
        _ => {}
    }
    fs::set_permissions(image, Permissions::from_mode(MODE))?;
    fs::rename(image, output).with_context(|| tr!("cannot write {}", output.display()))?;
    atomic::sync_directory(atomic::parent(output))?;
    let name = output.file_name().unwrap_or_default().display();
    atomic::replace(&beside, MODE, |file| {
        Ok(io::Write::write_all(
            file,
            format!("{sha256}  {name}\n").as_bytes(),
        )?)
    })
}

/// The file with the image's checksum, in the format of `sha256sum --check`.
fn digest_file(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

/// A directory next to the output, for all unfinished files. Dropping it removes it.
struct Staging {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Staging {
    /// Creates it. Its name is the same in every run, so that the next run finds and removes the
    /// files of a killed run.
    fn make(output: &Path) -> Result<Staging> {
        let name = output.file_name().unwrap_or_default().display();
        let dir = atomic::parent(output).join(format!(".{name}.building"));
        let make = || -> Result<Staging> {
            fs::create_dir_all(&dir)?;
            let lock =
                Flock::lock(File::open(&dir)?, FlockArg::LockExclusiveNonblock).map_err(|_| {
                    anyhow!(tr!("another run is making this image; wait for it to end"))
                })?;
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
            log::warn!(
                "cannot remove {0}: {error}; run `rm -r {0}`",
                self.dir.display()
            );
        }
    }
}

/// Removes the content of the directory: files, and empty mount points. A mount point that is not
/// empty contains the files of an image, which must not be removed.
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

/// The parts of a run with the duration of each in seconds.
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
