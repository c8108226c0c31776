//! The operator's manifests: variables are filled in, and errors are found before anything is
//! written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use appliance::bundle::definition::Definition;
use appliance::nodespec::settings::Settings;
use appliance::nodespec::value::{Layer, Place};
use appliance::nodespec::{HostFacts, Inputs, NodeSpec};
use appliance::workloads::{Given, Images, prepare};

use crate::harness::{Machine, image};

fn spec(yaml: &str) -> NodeSpec {
    let yaml = format!("{{role: master, address: 192.168.1.102, {yaml}}}");
    let settings = Settings::from_yaml("test", &yaml).unwrap();
    NodeSpec::resolve(&Inputs {
        layers: vec![Layer::new(Place::Flag, settings)],
        host: HostFacts {
            hostname: "server02".to_owned(),
            ..HostFacts::default()
        },
        ..Inputs::default()
    })
    .unwrap_or_else(|refused| panic!("{refused}"))
}

fn given(name: &str, manifest: &str) -> Given {
    Given {
        name: name.to_owned(),
        place: format!("{name}.yaml"),
        manifest: manifest.to_owned(),
        after: vec![],
    }
}

fn images(references: &[&str]) -> Images {
    let there: BTreeSet<String> = references.iter().map(|&r| r.to_owned()).collect();
    Images {
        there,
        perhaps_more: false,
    }
}

/// A pod with that line about its image.
fn pod(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    {image}\n"
    )
}

fn service(name: &str, port: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}\n"
    )
}

fn refusal_of(given: &[Given], yaml: &str, images: &Images) -> String {
    prepare(given, &spec(yaml), images).unwrap_err().to_string()
}

fn refusal(manifest: &str) -> String {
    refusal_of(&[given("w", manifest)], "", &images(&["example.org/a:1"]))
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn values_of_the_cluster_are_filled_in_and_the_rest_stays() {
    let manifest = "# {{ '{{' }} stays\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  \
                    all: \"{{HUB}} {{ CLUSTER_DOMAIN }} {{ DNS_IP }} {{ POD_CIDR }} {{MASTER}}\"\n";
    let prepared = prepare(
        &[given("w", manifest)],
        &spec("hub: 'hub.example.org:8080'"),
        &Images::default(),
    )
    .unwrap();
    assert_holds(
        &prepared[0].manifest,
        &[
            "# {{ stays",
            "\"hub.example.org:8080 cluster.local 10.68.0.2 172.20.0.0/16 192.168.1.102\"",
        ],
    );
}

#[test]
fn an_unknown_variable_is_refused_by_name_and_line() {
    let text = refusal("apiVersion: v1\nkind: X\nmetadata: {name: \"{{ HUBB }}\"}\n");
    assert_holds(
        &text,
        &["w.yaml: line 3: `HUBB` is not a variable", "HUB, MASTER"],
    );
    let text = refusal("a: {{ HUB }}\n");
    assert_holds(&text, &["line 1: `HUB` is not set", "setting `hub`"]);
    let text = refusal("a: {{ HUB\n");
    assert_holds(&text, &["line 1: `{{` without `}}`"]);
}

#[test]
fn what_is_not_yaml_or_no_object_is_refused_with_its_place() {
    let text = refusal("apiVersion: v1\nkind: [\n");
    assert_holds(&text, &["w.yaml: not valid YAML", "line"]);
    let text = refusal("just words\n");
    assert_holds(
        &text,
        &["w.yaml", "not every document is a Kubernetes object"],
    );
    let text = refusal("---\n# nothing\n");
    assert_holds(&text, &["w.yaml: the manifest is empty"]);
}

#[test]
fn an_image_that_is_nowhere_is_refused_with_those_there_are() {
    let text = refusal(&pod("image: example.org/b:1"));
    assert_holds(
        &text,
        &[
            "image \"example.org/b:1\" is neither in the bundle nor in a tarball",
            "no `hub` is set",
            "example.org/a:1",
        ],
    );
    // At any depth.
    let nested = "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: j}\nspec: {jobTemplate: \
                  {spec: {template: {spec: {initContainers: [{name: i, image: example.org/c:1}]}}}}}\n";
    assert_holds(&refusal(nested), &["example.org/c:1"]);
    let known = [given("w", &pod("image: example.org/a:1"))];
    assert!(prepare(&known, &spec(""), &images(&["example.org/a:1"])).is_ok());
    let of_hub = [given("w", &pod("image: \"{{ HUB }}/b:1\""))];
    assert!(prepare(&of_hub, &spec("hub: hub.example.org"), &images(&[])).is_ok());
}

#[test]
fn an_image_the_kubelet_would_pull_though_it_is_there_is_refused() {
    let there = images(&["example.org/a:latest", "example.org/a:1"]);
    for line in [
        "image: example.org/a",
        "{image: example.org/a:1, imagePullPolicy: Always}",
    ] {
        let line = line
            .trim_matches(['{', '}'])
            .replace(", image", "\n    image");
        let text = refusal_of(&[given("w", &pod(&line))], "", &there);
        assert_holds(
            &text,
            &["would still pull it", "imagePullPolicy: IfNotPresent"],
        );
    }
    let line = "image: example.org/a\n    imagePullPolicy: IfNotPresent";
    assert!(prepare(&[given("w", &pod(line))], &spec(""), &there).is_ok());
}

#[test]
fn a_node_port_out_of_range_or_used_twice_is_refused() {
    let text = refusal(&service("s", 8080));
    assert_holds(
        &text,
        &[
            "service s of w.yaml",
            "8080 is outside the range 20000-40000",
            "nodePortRange",
        ],
    );
    let two = [
        given("a", &service("s", 30080)),
        given("b", &service("t", 30080)),
    ];
    let text = refusal_of(&two, "", &images(&[]));
    assert_holds(
        &text,
        &["service t of b.yaml: nodePort 30080 is already used by service s of a.yaml"],
    );
}

#[test]
fn a_workload_waits_only_for_one_before_it() {
    let mut late = given("w", &service("s", 30080));
    late.after = vec!["other".to_owned()];
    let text = refusal_of(&[late], "", &images(&[]));
    assert_holds(&text, &["`after` names \"other\""]);
}

fn config(machine: &Machine, yaml: &str) {
    machine.put("etc/appliance/config.yaml", yaml);
}

#[test]
fn settings_bring_workloads_to_the_master_in_their_order() {
    let machine = Machine::new();
    fs::create_dir_all(machine.root().join("mnt")).unwrap();
    fs::write(
        machine.root().join("mnt/app.tar"),
        image("example.org/app:1"),
    )
    .unwrap();
    machine.put("mnt/app.yaml", &pod("image: example.org/app:1"));
    config(
        &machine,
        "workloads:\n- name: app\n  file: /mnt/app.yaml\n  images: [/mnt/app.tar]\n- name: door\n  \
         after: [app]\n  manifest: |\n    apiVersion: v1\n    kind: Service\n    metadata: {name: door}\n    \
         spec: {ports: [{port: 80}]}\n",
    );
    machine.installed(&[]);
    let index = machine.read("etc/kubernetes/addons/index.json");
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let told: Vec<String> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|addon| format!("{} {}", addon["name"].as_str().unwrap(), addon["after"]))
        .collect();
    assert_eq!(
        told,
        [
            "calico []",
            "kube-dns []",
            "app [\"calico\",\"kube-dns\"]",
            "door [\"calico\",\"kube-dns\",\"app\"]",
        ]
    );
    assert_holds(
        &machine.read("etc/kubernetes/addons/50-app.yaml"),
        &["image: example.org/app:1"],
    );
    // A master runs no pods, so it needs none of their images.
    let images = machine.read("etc/kubernetes/appliance-images.json");
    assert!(!images.contains("example.org/app"), "{images}");
    assert!(!images.contains("example.org/kube-dns"), "{images}");

    let single = Machine::new();
    fs::create_dir_all(single.root().join("mnt")).unwrap();
    fs::write(
        single.root().join("mnt/app.tar"),
        image("example.org/app:1"),
    )
    .unwrap();
    single.put("mnt/app.yaml", &pod("image: example.org/app:1"));
    config(
        &single,
        "workloads: [{name: app, file: /mnt/app.yaml, images: [/mnt/app.tar]}]\n",
    );
    single.installed(&["--role", "single"]);
    let images = single.read("etc/kubernetes/appliance-images.json");
    assert_holds(
        &images,
        &["example.org/app:1", "/mnt/app.tar", "example.org/kube-dns"],
    );
}

#[test]
fn workloads_that_cannot_be_are_refused_before_the_first_write() {
    let cases = [
        (
            "[{name: A_b, manifest: x}]",
            "`workloads[0].name` is \"A_b\"",
        ),
        (
            "[{name: a}]",
            "either `manifest` (the YAML itself) or `file`",
        ),
        ("[{name: a, file: app.yaml}]", "expected an absolute path"),
        (
            "[{name: a, file: /mnt/a.yaml}]",
            "/mnt/a.yaml: there is no such file",
        ),
        (
            "[{name: a, manifest: 'a: {{ X }}'}]",
            "line 1: `X` is not a variable",
        ),
        (
            "[{name: kube-dns, manifest: '{apiVersion: v1, kind: X, metadata: {name: x}}'}]",
            "an add-on of the cluster has this name",
        ),
        (
            "[{name: a, manifest: x}, {name: a, manifest: x}]",
            "workloads[0] has the same name",
        ),
        (
            "[{name: a, images: [/mnt/bad.tar], manifest: '{apiVersion: v1, kind: X, metadata: {name: x}}'}]",
            "not a tarball from `docker save`",
        ),
    ];
    for (workloads, expected) in cases {
        let machine = Machine::new();
        machine.put("mnt/bad.tar", &"no tarball ".repeat(200));
        config(&machine, &format!("workloads: {workloads}\n"));
        let said = machine.refusal(&[]);
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
}

#[test]
fn a_tarball_has_to_be_where_pods_run_and_may_be_missing_on_a_master() {
    let yaml = "workloads: [{name: a, images: [/mnt/a.tar], manifest: '{apiVersion: v1, kind: Pod, \
                metadata: {name: p}, spec: {containers: [{name: c, image: \"example.org/elsewhere:1\"}]}}'}]\n";
    let machine = Machine::new();
    config(&machine, yaml);
    let said = machine.installed(&[]);
    assert_holds(&said, &["/mnt/a.tar is not on this master"]);
    let single = Machine::new();
    config(&single, yaml);
    let said = single.refusal(&["--role", "single"]);
    assert_holds(&said, &["/mnt/a.tar", "this node runs pods"]);
}

#[test]
fn the_switches_of_add_ons_are_checked_and_do_what_they_say() {
    let machine = Machine::new();
    machine.installed(&["--set", "dashboard=on", "--set", "defaultDeny=on"]);
    for file in ["30-dashboard.yaml", "40-default-deny.yaml"] {
        machine.read(&format!("etc/kubernetes/addons/{file}"));
    }
    let policies = Machine::new();
    policies.installed(&["--set", "podSecurityPolicy=on"]);
    let index = policies.read("etc/kubernetes/addons/index.json");
    assert!(index.find("pod-security").unwrap() < index.find("calico").unwrap());
    let said = Machine::new().refusal(&["--set", "dashboard=yes please"]);
    assert_holds(&said, &["--set dashboard", "expected on or off"]);
    let said = Machine::new().refusal(&["--set", "hub=https://hub.example.org"]);
    assert_holds(&said, &["without https://"]);
    let simple = ["--profile", "simple", "--set", "defaultDeny=on"];
    let said = Machine::new().refusal(&simple);
    assert_holds(&said, &["simple enforces no NetworkPolicy"]);
    let simple = ["--profile", "simple", "--set", "podSecurityPolicy=on"];
    let said = Machine::new().refusal(&simple);
    assert_holds(&said, &["no PodSecurityPolicy has an effect"]);
    let said = Machine::new().installed(&["--set", "alwaysPullImages=on"]);
    assert_holds(&said, &["no pod starts while the registry"]);
}

/// The example as its README adds it to a bundle, with nothing else in the bundle.
fn example() -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle/examples/micro-services");
    let dir = tempfile::tempdir().unwrap();
    let mut toml =
        "[bundle]\nname = \"mine\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n".to_owned();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            toml += &fs::read_to_string(&path).unwrap();
        }
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(dir.path().join("bundle.toml"), toml).unwrap();
    dir
}

#[test]
fn the_tutorials_services_are_a_bundle_that_is_whole() {
    let dir = example();
    let definition = Definition::read(dir.path()).unwrap();
    let references = definition
        .components
        .iter()
        .filter_map(|c| c.reference.clone());
    let images = Images {
        there: references.collect(),
        perhaps_more: false,
    };
    let given: Vec<Given> = definition
        .workloads
        .iter()
        .map(|workload| Given {
            after: workload.after.clone(),
            ..given(&workload.name, &workload.manifest)
        })
        .collect();
    let prepared = prepare(&given, &spec("hub: hub.example.org"), &images).unwrap();
    let names: Vec<&str> = prepared.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message-service",
            "user-service",
            "course-service",
            "api-gateway"
        ]
    );
    let all: String = prepared.iter().map(|w| w.manifest.as_str()).collect();
    for image in &images.there {
        assert!(
            all.contains(&format!("image: \"{image}\"")),
            "{image} is not used"
        );
    }
    assert!(images.there.len() == 6 && all.contains("nodePort: 30080"));
}

#[test]
fn a_bundles_workload_without_its_file_is_refused() {
    let dir = example();
    fs::remove_file(dir.path().join("user-service.yaml")).unwrap();
    let error = format!("{:#}", Definition::read(dir.path()).unwrap_err());
    assert_holds(
        &error,
        &[
            "workload user-service",
            "user-service.yaml: there is no such file",
        ],
    );
}
