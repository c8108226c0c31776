//! A bring-up whose steps run at once, with programs that are only recorded.

use anyhow::Result;
use appliance::apply::Executor;
use appliance::clients::docker::Docker;
use appliance::observe::records;
use appliance::plan::{Current, Live, OBJECTS, Plan, Step};
use appliance::records::run::INSTALL;
use appliance::sys::root::Root;
use appliance::sys::stopwatch::Stopwatch;

use crate::plan::{APPLY, Recorder, desired};

/// A bring-up whose steps run at once as far as may be, with the record of its times.
fn bring_up(root: &Root, recorder: &Recorder) -> Result<()> {
    let fresh = Current {
        live: Some(Live::default()),
        ..Current::default()
    };
    let mut plan = Plan::build(&desired(), &fresh);
    // The kernel's settings are those of the test machine.
    plan.steps
        .retain(|step| !matches!(step, Step::LoadModule(_) | Step::SetSysctl { .. }));
    Executor {
        root,
        runner: recorder,
        docker: &Docker::new("/usr/bin/docker"),
        unpack: &|_, _| Ok(()),
        install_program: &|_| Ok(()),
        command: Some(INSTALL),
        at_once: 3,
        watch: Some(&Stopwatch::start()),
    }
    .run(&plan)
}

#[test]
fn a_bring_up_runs_every_step_and_records_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let (root, recorder) = (Root::open(dir.path()).unwrap(), Recorder::default());
    bring_up(&root, &recorder).unwrap();
    let ran = recorder.ran.lock().unwrap().clone();
    let at = |part: &str| ran.iter().position(|ran| ran.contains(part)).unwrap();
    assert!(at("start docker.service") < at("docker load"), "{ran:?}");
    assert!(
        at("docker load") < at("start kube-calico.service"),
        "{ran:?}"
    );
    assert!(at("kubectl") < at("start kube-calico.service"), "{ran:?}");
    assert_eq!(records::run(&root).unwrap(), None);
    let timeline = records::timeline(&root).unwrap().unwrap();
    assert_eq!(timeline.command, INSTALL);
    let mut steps: Vec<(usize, &str)> = timeline
        .spans
        .iter()
        .map(|span| (span.step.unwrap(), span.what.as_str()))
        .collect();
    steps.sort_unstable();
    assert_eq!(
        steps,
        [
            (1, "unpack bundle d1"),
            (2, "install /usr/local/bin/appliance"),
            (3, "start etcd"),
            (4, "start docker"),
            (5, APPLY),
            (6, "load image example.org/calico/node:v2.6.2"),
            (7, "start kube-calico"),
        ]
    );
    for span in &timeline.spans {
        assert!(span.end.unwrap() >= span.begin && !span.failed, "{span:?}");
        let ended = |step: &usize| {
            let needed = timeline.spans.iter().find(|one| one.step == Some(*step));
            needed.unwrap().end.unwrap() <= span.begin
        };
        assert!(span.needs.iter().all(ended), "{span:?}");
    }
}

#[test]
fn what_does_not_need_a_failed_step_is_done_and_the_error_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder {
        fails: Some("start docker"),
        ..Recorder::default()
    };
    let root = Root::open(dir.path()).unwrap();
    let error = format!("{:#}", bring_up(&root, &recorder).unwrap_err());
    assert!(
        error.starts_with("step 4 of 7: start docker (2 steps did not begin"),
        "{error}"
    );
    for part in [
        "load image example.org/calico/node:v2.6.2, start kube-calico; the rest is done)",
        "`systemctl start docker.service` ended with status 1: no such luck",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let started = records::started_with(&root).unwrap();
    assert_eq!(started.keys().collect::<Vec<_>>(), [OBJECTS, "etcd"]);
    // The journal says how far it is, and keeps the times.
    let run = records::run(&root).unwrap().unwrap();
    let failed = run
        .times
        .unwrap()
        .spans
        .into_iter()
        .filter(|span| span.failed);
    assert_eq!(
        failed.map(|span| span.what).collect::<Vec<_>>(),
        ["start docker"]
    );
    assert_eq!(records::timeline(&root).unwrap(), None);
    // The next run begins anew with what is left.
    bring_up(&root, &Recorder::default()).unwrap();
    assert_eq!(records::run(&root).unwrap(), None);
}
