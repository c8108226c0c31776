//! What a source of metadata says that cannot be read, or that lets one wait.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::harness::{Machine, detected, document, said, setting};

/// A server that accepts connections and never answers, and where it is.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn lines_of(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let waiting = text.lines().filter(|line| line.contains("waiting for"));
    waiting.map(str::to_owned).collect()
}

#[test]
fn a_source_that_does_not_answer_says_at_once_how_long_it_will_be_tried() {
    let (_listener, address) = silent();
    let source = format!("service=http://{address}");
    let output = detected(&["--metadata-source", &source, "--metadata-timeout", "3"]);
    // The first line is printed within the first second, and the next one after ten.
    let expected = format!("waiting for {address} (0 s of 3 s)");
    assert_eq!(lines_of(&output), [expected], "{}", said(&output));
    assert!(
        said(&output).contains("tried for up to 3 s"),
        "{}",
        said(&output)
    );
}

#[test]
fn on_a_terminal_the_line_lives() {
    let (_listener, address) = silent();
    let root = tempfile::tempdir().unwrap();
    let line = format!(
        "{} detect --root {} --metadata-source service=http://{address} --metadata-timeout 6",
        env!("CARGO_BIN_EXE_appliance"),
        root.path().display()
    );
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .output()
        .unwrap();
    let text = said(&output);
    let shown = (0..6).filter(|n| text.contains(&format!("waiting for {address} ({n} s of 6 s)")));
    assert!(shown.count() >= 2, "{text}");
    assert!(text.contains('\u{1b}'), "{text:?}");
}

/// Runs `work` where the kernel lists only the block device `name`.
fn with_block_device<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let devices = tempfile::tempdir().unwrap();
    let device = devices.path().join(name);
    fs::create_dir(&device).unwrap();
    fs::write(device.join("size"), "8\n").unwrap();
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).unwrap();
        let list = Path::new("/sys/class/block");
        mount(Some(devices.path()), list, none, MsFlags::MS_BIND, none).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

#[test]
fn an_unreadable_block_device_is_named_once_and_stops_nothing() {
    let machine = Machine::new();
    let sources = format!("config-drive,directory={}", machine.metadata().display());
    // `/dev/shm` is a directory: reading it fails, as reading a broken disk does.
    let output = with_block_device("shm", || {
        detected(&["--metadata-source", &sources, "--explain", "-o", "json"])
    });
    assert!(output.status.success(), "{}", said(&output));
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(told.matches("/dev/shm").count(), 1, "{told}");
    assert!(
        told.starts_with("warning: cannot look for a config drive on /dev/shm (Is a directory"),
        "{told}"
    );
    let document = document(&output);
    assert_eq!(setting(&document, "role").0, "master");
    let why = document["sources"][0]["passedOver"].as_str().unwrap();
    assert!(why.contains("/dev/shm"), "{why}");
}
