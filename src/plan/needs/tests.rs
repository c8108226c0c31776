//! Tests of what steps need.

#![allow(clippy::unwrap_used)]
use super::super::Form;
use super::*;
use crate::desired::{Content, Objects};
use crate::paths;
use crate::records::images::NodeImage;

fn start(name: &'static str, program: ProgramOf, image: Option<&str>) -> Step {
    Step::Start {
        service: RunningService {
            name,
            program,
            needs_images: image.is_some(),
            image: image.map(str::to_owned),
            may_end: false,
            files: Vec::new(),
            inputs: String::new(),
        },
        restart: false,
    }
}

fn file(path: &str) -> Step {
    Step::WriteFile {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::Whole(Vec::new()),
        replaces: None,
        new: true,
        purpose: Purpose::Other,
    }
}

fn link(path: &str, target: &str) -> Step {
    Step::SetLink(Link {
        path: path.to_owned(),
        target: target.to_owned(),
        yields: false,
        purpose: Purpose::Other,
    })
}

fn image(name: &str) -> Step {
    Step::LoadImage(NodeImage {
        reference: name.to_owned(),
        id: name.to_owned(),
        tarball: format!("{CURRENT}/images/{name}.tar"),
    })
}

fn program(name: &str) -> ProgramOf {
    ProgramOf::File(format!("bin/{name}"))
}

/// The bring-up of a node that is all: with these steps by their words.
fn plan() -> Plan {
    let objects = Objects {
        path: paths::CLUSTER_OBJECTS.to_owned(),
        digest: String::new(),
    };
    Plan {
        steps: vec![
            Step::Unpack {
                digest: "d".to_owned(),
            },
            file("/etc/a"),
            file("/etc/systemd/system/etcd.service"),
            link(CURRENT, "d"),
            link("/usr/local/bin/kubectl", &format!("{CURRENT}/bin/kubectl")),
            Step::InstallProgram,
            Step::ReloadUnits,
            Step::LoadModule("br_netfilter".to_owned()),
            start("appliance-machine", ProgramOf::Appliance, None),
            start("etcd", program("etcd"), None),
            start("kube-apiserver", program("kube-apiserver"), None),
            start("docker", ProgramOf::Machine, None),
            Step::ApplyObjects(objects),
            image("calico"),
            image("pause"),
            image("dns"),
            file(paths::CNI_CONFIG),
            start("kube-calico", ProgramOf::Image, Some("calico")),
            Step::EndContainers("calico-kube-controllers"),
            start("kubelet", program("kubelet"), Some("pause")),
            start("kube-proxy", program("kube-proxy"), None),
            start("appliance-addons", ProgramOf::Appliance, None),
            start("appliance-renew.timer", ProgramOf::Appliance, None),
        ],
    }
}

/// All that a step needs, also through others.
fn all_needs(plan: &Plan, words: &str) -> BTreeSet<String> {
    let (needs, all) = (plan.needs(), plan.words());
    let at = all.iter().position(|step| step == words).unwrap();
    let mut open = vec![at];
    let mut found = BTreeSet::new();
    while let Some(step) = open.pop() {
        for need in &needs[step] {
            if found.insert(need.step) {
                open.push(need.step);
            }
        }
    }
    found.into_iter().map(|step| all[step].clone()).collect()
}

/// The plan's order is one in which each step comes after all that it needs, but unpacking yields to the files.
#[test]
fn every_step_comes_after_all_that_it_needs() {
    let plan = plan();
    let reload = plan
        .steps
        .iter()
        .position(|step| *step == Step::ReloadUnits);
    for (index, needs) in plan.needs().iter().enumerate() {
        let later = needs.iter().filter(|need| need.step >= index);
        let later: Vec<usize> = later.map(|need| need.step).collect();
        match index {
            0 => assert_eq!(later, Vec::from_iter(reload)),
            _ => assert!(later.is_empty(), "{index}: {needs:?}"),
        }
    }
}

#[test]
fn only_what_needs_an_image_waits_for_it_and_only_for_that_one() {
    let plan = plan();
    let of = |words: &str| all_needs(&plan, words);
    let images = [
        "load image calico",
        "load image pause",
        "load image dns",
        "start docker",
    ];
    for service in ["start etcd", "start kube-apiserver", "start kube-proxy"] {
        assert!(
            images.iter().all(|image| !of(service).contains(*image)),
            "{service}"
        );
    }
    let waits = |words: &str| -> Vec<&str> {
        let needs = of(words);
        images
            .into_iter()
            .filter(|image| needs.contains(*image))
            .collect()
    };
    assert_eq!(
        waits("start kube-calico"),
        ["load image calico", "start docker"]
    );
    assert_eq!(waits("start kubelet"), images);
    let kubelet = of("start kubelet");
    assert!(
        kubelet.iter().any(|step| step.starts_with("apply ")),
        "{kubelet:?}"
    );
}

/// The kubelet takes pods only with a configuration of their network, and their images cannot be pulled. A kubelet that
/// starts before there is one looks for it later, and calls its node Ready up to 15 s after it.
#[test]
fn a_kubelet_takes_no_pods_before_all_images_are_loaded() {
    let mut plan = plan();
    let network = format!("create {} (0644)", paths::CNI_CONFIG);
    let all = ["load image calico", "load image pause", "load image dns"];
    let needs = all_needs(&plan, &network);
    assert!(all.iter().all(|image| needs.contains(*image)), "{needs:?}");
    assert!(all_needs(&plan, "start kubelet").contains(&network));
    plan.steps.retain(|step| !lets_pods_in(step));
    let needs = all_needs(&plan, "start kubelet");
    assert!(all.iter().all(|image| needs.contains(*image)), "{needs:?}");
}

#[test]
fn docker_and_the_files_do_not_wait_for_the_bundle() {
    let plan = plan();
    let docker = all_needs(&plan, "start docker");
    let expected = [
        "create /etc/a (0644)",
        "create /etc/systemd/system/etcd.service (0644)",
        "load kernel module br_netfilter",
        "reload systemd's units",
    ];
    assert_eq!(
        docker.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    let etcd = all_needs(&plan, "start etcd");
    assert!(etcd.contains("unpack bundle d") && etcd.contains("start appliance-machine"));
}

#[test]
fn a_program_waits_for_its_file_only_and_the_link_for_the_directory() {
    let plan = plan();
    let parts = |words: &str| -> Vec<Option<String>> {
        let at = plan.words().iter().position(|step| step == words).unwrap();
        let needs = plan.needs();
        let needs = needs[at].iter().filter(|need| need.step == 0);
        needs.map(|need| need.part.clone()).collect()
    };
    assert_eq!(parts("start etcd"), [Some("bin/etcd".to_owned())]);
    assert_eq!(
        parts("load image pause"),
        [Some("images/pause.tar".to_owned())]
    );
    let link = format!("link {CURRENT} -> d");
    assert_eq!(parts(&link), [Some(DIRECTORY.to_owned())]);
    // People call it: it has to be there.
    let link = format!("link /usr/local/bin/kubectl -> {CURRENT}/bin/kubectl");
    assert_eq!(parts(&link), [None]);
}

#[test]
fn addons_and_timers_come_when_all_else_is_done() {
    let plan = plan();
    let count = plan.steps.len();
    assert_eq!(all_needs(&plan, "start appliance-addons").len(), count - 2);
    assert_eq!(
        all_needs(&plan, "start appliance-renew.timer").len(),
        count - 1
    );
}

#[test]
fn what_removes_something_has_the_machine_for_itself() {
    let mut plan = plan();
    plan.steps.insert(1, Step::RemoveFile("/etc/old"));
    assert!(all_needs(&plan, "start docker").contains("remove /etc/old"));
    assert!(all_needs(&plan, "remove /etc/old").contains("unpack bundle d"));
}

#[test]
fn a_graph_has_every_step_and_shows_files_as_one() {
    let plan = plan();
    let dot = plan.graph(Form::Dot);
    assert!(
        dot.starts_with("digraph plan {") && dot.ends_with("}\n"),
        "{dot}"
    );
    assert!(
        dot.contains("s2 [label=\"2 directories and files\"];"),
        "{dot}"
    );
    assert!(dot.contains("s1 -> s10;"), "{dot}");
    assert!(!dot.contains("s12 -> s10;"), "{dot}");
    let mermaid = plan.graph(Form::Mermaid);
    assert!(mermaid.contains("s12[\"start docker\"]"), "{mermaid}");
    assert!(mermaid.contains("s12 --> s14"), "{mermaid}");
}
