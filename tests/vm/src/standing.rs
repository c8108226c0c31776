//! The VM that the demonstration leaves on: its record, and how to switch it off.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How to reach the VM.
pub const REACH: &str = "  \
    a root shell inside it:   make demo-shell\n  \
    one command inside it:    make demo-shell CMD='kubectl get pods --all-namespaces'\n  \
    switch it off:            make demo-stop";
/// The record of the VM, in its directory.
const RECORD: &str = "vm.json";
/// The file that marks a directory of the demonstration. The demonstration locks it.
const MARK: &str = "lock";
/// How long the kernel may take to end QEMU. This limit only ends a hang; it measures nothing.
const END: Duration = Duration::from_secs(60);
/// The pause between two checks whether QEMU has ended.
const POLL: Duration = Duration::from_millis(50);

/// A process that cannot be taken for a later one with the same number.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Process {
    pid: i32,
    /// When it started, in ticks since the machine booted.
    started: u64,
    /// The boot of this machine.
    boot: String,
}

impl Process {
    /// The process that runs now with this number.
    pub fn running(pid: u32) -> Result<Process> {
        let started = started(&format!("/proc/{pid}/stat"))?;
        Ok(Process {
            pid: i32::try_from(pid)?,
            started: started.with_context(|| format!("process {pid} has ended"))?,
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?
                .trim()
                .to_owned(),
        })
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        u32::try_from(self.pid)
            .ok()
            .and_then(|pid| Process::running(pid).ok())
            .is_some_and(|now| now == *self)
    }

    /// Ends it, and waits until it is gone.
    fn end(&self) -> Result<()> {
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => bail!("cannot end QEMU, process {}: {error}", self.pid),
        }
        let start = Instant::now();
        while self.is_running() {
            ensure!(
                start.elapsed() < END,
                "QEMU, process {}, does not end",
                self.pid
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// The start of a process according to its `stat` file; `None` if it is gone or a zombie.
fn started(stat: &str) -> Result<Option<u64>> {
    let text = match fs::read_to_string(stat) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(stat.to_owned()),
    };
    // The name of the program, in parentheses, can contain anything.
    let (_, fields) = text.rsplit_once(')').context(stat.to_owned())?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The third field of the file is the first one here, and the 22nd is the start.
    let (state, start) = (fields.first(), fields.get(19));
    match (state, start) {
        (Some(&("Z" | "X")), _) => Ok(None),
        (Some(_), Some(start)) => Ok(Some(start.parse().context(stat.to_owned())?)),
        _ => bail!("{stat}: too few fields"),
    }
}

/// The directory of the demonstration's VM.
#[derive(Clone, Debug)]
pub struct Standing {
    dir: PathBuf,
}

/// What [`Standing::stop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing.
    Nothing,
    /// Files of a VM that had ended.
    Files,
    /// A running VM.
    Machine,
}

impl Standing {
    /// The VM with its files in `dir`.
    pub fn at(dir: &Path) -> Standing {
        Standing {
            dir: dir.to_owned(),
        }
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Records that it runs in the process `pid`.
    pub fn record(&self, pid: u32) -> Result<()> {
        let text = serde_json::to_string(&Process::running(pid)?)?;
        let (new, record) = (self.dir.join("vm.json.new"), self.dir.join(RECORD));
        fs::write(&new, text).with_context(|| new.display().to_string())?;
        fs::rename(&new, &record).with_context(|| record.display().to_string())
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Result<Option<Process>> {
        let record = self.dir.join(RECORD);
        let text = match fs::read_to_string(&record) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(record.display().to_string()),
        };
        // Half a record, after a crash of this machine, is the record of no running VM.
        let process = serde_json::from_str(&text).ok();
        Ok(process.filter(Process::is_running))
    }

    /// Fails if it does not run, or if the demonstration still uses it.
    pub fn ensure_usable(&self) -> Result<()> {
        if self.process()?.is_none() {
            bail!("no cluster of a demonstration runs here; start one with: make demo");
        }
        self.lock(false).map(drop)
    }

    /// Fails if it runs.
    pub fn ensure_free(&self) -> Result<()> {
        let Some(process) = self.process()? else {
            return Ok(());
        };
        bail!(
            "the cluster of an earlier demonstration still runs (QEMU is process {})\n{REACH}\n  \
             replace it by a new one:  make demo REPLACE=yes",
            process.pid
        )
    }

    /// Makes the directory empty for a new VM. The directory belongs to the caller until the
    /// returned lock is dropped.
    pub fn claim(&self) -> Result<File> {
        let lock = self.lock(true)?.context("a lock")?;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path != self.dir.join(MARK) {
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(lock)
    }

    /// Switches it off and removes its files.
    pub fn stop(&self) -> Result<Stopped> {
        let Some(_lock) = self.lock(false)? else {
            return Ok(Stopped::Nothing);
        };
        let process = self.process()?;
        if let Some(process) = &process {
            process.end()?;
        }
        fs::remove_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        Ok(process.map_or(Stopped::Files, |_| Stopped::Machine))
    }

    /// Locks the directory; `None` if it does not exist. `create` makes it.
    fn lock(&self, create: bool) -> Result<Option<File>> {
        let place = || self.dir.display().to_string();
        let mark = self.dir.join(MARK);
        if create {
            fs::create_dir_all(&self.dir).with_context(place)?;
        }
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(place),
        };
        ensure!(
            mark.exists() || entries.count() == 0,
            "{} is not a directory of the demonstration, because it has files but no file {MARK}; \
             choose another directory",
            self.dir.display()
        );
        let lock = File::create(&mark).with_context(|| mark.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => bail!(
                "a demonstration with the files in {} is not finished; wait for it, or end it with \
                 Ctrl-C, which switches its VM off, too",
                self.dir.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(place),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Child, ChildStdin, Command, Stdio};

    use super::*;

    /// A process that runs until it is ended.
    struct Idle {
        cat: Child,
        /// Held apart from the process: `Child::wait` closes the input that it holds, and `cat`
        /// would end by itself.
        input: Option<ChildStdin>,
    }

    impl Idle {
        fn new() -> Idle {
            let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let input = cat.stdin.take();
            Idle { cat, input }
        }
    }

    impl Drop for Idle {
        fn drop(&mut self) {
            drop(self.input.take());
            self.cat.wait().unwrap();
        }
    }

    fn standing() -> (tempfile::TempDir, Standing) {
        let parent = tempfile::tempdir().unwrap();
        let standing = Standing::at(&parent.path().join("demo"));
        (parent, standing)
    }

    #[test]
    fn a_running_vm_is_named_with_the_commands_and_stopped_once() {
        let (_parent, standing) = standing();
        let mut idle = Idle::new();
        drop(standing.claim().unwrap());
        standing.ensure_free().unwrap();
        standing.record(idle.cat.id()).unwrap();
        let refusal = standing.ensure_free().unwrap_err().to_string();
        for word in ["make demo-shell", "make demo-stop", "REPLACE=yes"] {
            assert!(refusal.contains(word), "{refusal}");
        }
        fs::write(standing.dir().join("disk.qcow2"), "a disk").unwrap();
        // The parent of a real QEMU waits for it, too.
        let stopped = std::thread::scope(|scope| {
            let stopped = scope.spawn(|| standing.stop().unwrap());
            assert!(!idle.cat.wait().unwrap().success());
            stopped.join().unwrap()
        });
        assert_eq!(stopped, Stopped::Machine);
        assert!(!standing.dir().exists());
        assert_eq!(standing.stop().unwrap(), Stopped::Nothing);
    }

    #[test]
    fn a_later_process_with_the_same_number_is_not_the_vm() {
        let (_parent, standing) = standing();
        let mut idle = Idle::new();
        drop(standing.claim().unwrap());
        let now = Process::running(idle.cat.id()).unwrap();
        let others = [
            Process {
                started: now.started - 1,
                ..now.clone()
            },
            Process {
                boot: "another boot".to_owned(),
                ..now.clone()
            },
        ];
        for other in others {
            let text = serde_json::to_string(&other).unwrap();
            fs::create_dir_all(standing.dir()).unwrap();
            fs::write(standing.dir().join(MARK), "").unwrap();
            fs::write(standing.dir().join(RECORD), text).unwrap();
            standing.ensure_free().unwrap();
            assert_eq!(standing.stop().unwrap(), Stopped::Files);
            assert!(!standing.dir().exists());
        }
        assert!(idle.cat.try_wait().unwrap().is_none(), "it was ended");
    }

    #[test]
    fn the_record_of_a_vm_that_ended_is_removed() {
        let (_parent, standing) = standing();
        drop(standing.claim().unwrap());
        let idle = Idle::new();
        standing.record(idle.cat.id()).unwrap();
        drop(idle);
        assert_eq!(standing.process().unwrap(), None);
        // Half a record.
        fs::write(standing.dir().join(RECORD), "{\"pid\": 1").unwrap();
        assert_eq!(standing.process().unwrap(), None);
        drop(standing.claim().unwrap());
        let left: Vec<_> = fs::read_dir(standing.dir()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(standing.stop().unwrap(), Stopped::Files);
    }

    #[test]
    fn a_directory_with_other_files_stays_as_it_is() {
        let (_parent, standing) = standing();
        fs::create_dir(standing.dir()).unwrap();
        let file = standing.dir().join("letters");
        fs::write(&file, "mine").unwrap();
        for refusal in [standing.stop().map(drop), standing.claim().map(drop)] {
            let refusal = refusal.unwrap_err().to_string();
            assert!(refusal.contains("not a directory of the demonstration"));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn two_demonstrations_do_not_share_a_directory() {
        let (_parent, standing) = standing();
        let lock = standing.claim().unwrap();
        for refusal in [standing.stop().map(drop), standing.claim().map(drop)] {
            let refusal = refusal.unwrap_err().to_string();
            assert!(refusal.contains("is not finished"), "{refusal}");
        }
        drop(lock);
        standing.claim().unwrap();
    }
}
