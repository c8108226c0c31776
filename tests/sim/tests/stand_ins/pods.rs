//! Pods in a real docker, with network plugins that the test writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker::Docker;
use crate::harness::{Running, command, eventually, file, flag, free_port, wait_for_status};
use crate::plane::Plane;

const PAUSE: &str = "gcr.io/google_containers/pause-amd64:3.0";

/// A cluster with one node that runs pods.
struct Setup {
    kubelet: Option<Running>,
    docker: Docker,
    plane: Plane,
    flags: Vec<String>,
    health: u16,
}

impl Setup {
    fn start() -> Self {
        let plane = Plane::start();
        let directory = plane.directory();
        let docker = Docker::start(directory);
        let (plugins, configurations) = network(directory);
        let authority = &plane.cluster.authority;
        let serving = authority.issue("serving", "k8s");
        let kubeconfig = plane
            .cluster
            .kubeconfig("system:node:node-a", "system:nodes");
        let health = free_port();
        let flags = vec![
            file("kubeconfig", &kubeconfig),
            flag("hostname-override", "node-a"),
            flag("node-ip", "127.0.0.1"),
            flag("docker-endpoint", docker.endpoint()),
            file("root-dir", &directory.join("kubelet")),
            flag("network-plugin", "cni"),
            file("cni-conf-dir", &configurations),
            file("cni-bin-dir", &plugins),
            flag("pod-infra-container-image", PAUSE),
            flag("cluster-dns", "10.68.0.2"),
            flag("cluster-domain", "cluster.local"),
            flag("address", "127.0.0.1"),
            flag("port", free_port()),
            flag("read-only-port", 0),
            flag("cadvisor-port", 0),
            flag("healthz-port", health),
            flag("fail-swap-on", false),
            flag("image-gc-high-threshold", 90),
            flag("minimum-image-ttl-duration", "1h"),
            flag("eviction-hard", "memory.available<5%"),
            file("client-ca-file", &authority.certificate()),
            file("tls-cert-file", &serving.certificate),
            file("tls-private-key-file", &serving.key),
        ];
        let mut setup = Self {
            kubelet: None,
            docker,
            plane,
            flags,
            health,
        };
        setup.start_kubelet();
        setup.plane.until("get nodes --no-headers", " Ready ");
        setup
    }

    fn start_kubelet(&mut self) {
        self.kubelet = Some(Running::start(command("kubelet").args(&self.flags)));
        wait_for_status(self.health, "/healthz", 200);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.plane.directory().join(name)
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("cni.log")).unwrap_or_default()
    }

    /// Makes a pod of one container with the pause image.
    fn pod(&self, name: &str, container: &str, spec: &str) -> String {
        self.plane.manifests(
            "create",
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
                 terminationGracePeriodSeconds: 5\n  containers: [{{name: c, image: '{PAUSE}', \
                 {container}}}]\n  {spec}\n"
            ),
        )
    }
}

/// Writes a network's plugins and configuration. Returns their directories.
fn network(directory: &Path) -> (PathBuf, PathBuf) {
    let plugins = directory.join("cni-bin");
    let configurations = directory.join("cni-conf");
    for made in [&plugins, &configurations] {
        fs::create_dir(made).unwrap();
    }
    // Each pod gets another address; the calls are recorded.
    let log = directory.join("cni.log");
    let plugin = format!(
        "#!/bin/sh\ncat > /dev/null\ntest \"$CNI_COMMAND\" = DEL || test -e \"$CNI_NETNS\" || exit \
         1\necho \"$CNI_COMMAND $CNI_IFNAME $CNI_ARGS\" >> {log}\nn=$(wc -l < {log})\necho \
         \"{{\\\"cniVersion\\\": \\\"0.3.1\\\", \\\"ips\\\": [{{\\\"version\\\": \\\"4\\\", \
         \\\"address\\\": \\\"10.9.0.$n/32\\\"}}]}}\"\n",
        log = log.display()
    );
    for name in ["loopback", "fake"] {
        let path = plugins.join(name);
        fs::write(&path, &plugin).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let conf = r#"{"name": "n", "cniVersion": "0.3.1", "type": "fake"}"#;
    fs::write(configurations.join("10-fake.conf"), conf).unwrap();
    (plugins, configurations)
}

/// A pod's container is in the network of the pod, and has the files and variables of the cluster.
fn check_pod(setup: &Setup, pod: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (name, uid) = (
        text(&pod["metadata"]["name"]),
        text(&pod["metadata"]["uid"]),
    );
    let called = format!("ADD eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};");
    assert!(setup.calls().contains(&called));
    let directory = setup.path("kubelet/pods").join(&uid);
    let resolv = fs::read_to_string(directory.join("resolv.conf")).unwrap();
    let cluster = "nameserver 10.68.0.2\nsearch default.svc.cluster.local ";
    assert!(resolv.starts_with(cluster), "{resolv}");
    let secret = text(&pod["spec"]["volumes"][0]["name"]);
    let secrets = directory.join("volumes/kubernetes.io~secret");
    let token = fs::read_to_string(secrets.join(secret).join("token")).unwrap();
    assert!(token.starts_with("ey"));
    let own = setup.docker.containers(&name, "web");
    let [own] = &own[..] else {
        panic!("{own:?}");
    };
    let inspected: Value = serde_json::from_str(&setup.docker.run(&["inspect", own])).unwrap();
    let sandbox = setup.docker.containers(&name, "POD").remove(0);
    assert_eq!(
        inspected[0]["HostConfig"]["NetworkMode"],
        format!("container:{sandbox}")
    );
    let variables = inspected[0]["Config"]["Env"].to_string();
    assert!(
        variables.contains("KUBERNETES_SERVICE_HOST=10.68.0.1"),
        "{variables}"
    );
}

#[test]
fn a_deployment_becomes_running_pods_and_endpoints() {
    let setup = Setup::start();
    let plane = &setup.plane;
    plane.kubectl(&format!("run web --image={PAUSE} --port=8080 --replicas=2"));
    assert_eq!(
        plane.kubectl("expose deploy web --port=80 --target-port=8080"),
        "service \"web\" exposed\n"
    );
    plane.until(
        "rollout status deploy web",
        "deployment \"web\" successfully rolled out",
    );
    let pods = plane.object("pods -l run=web");
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2);
    let mut addresses = Vec::new();
    for pod in pods {
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["hostIP"], "127.0.0.1");
        check_pod(&setup, pod);
        let address = pod["status"]["podIP"].as_str().unwrap();
        addresses.push(format!("{address}:8080"));
    }
    addresses.sort();
    plane.until("get ep web --no-headers", &addresses.join(","));

    plane.kubectl("delete deploy web");
    eventually("everything is gone", || {
        plane.kubectl("get pods").contains("No resources found")
            && setup.docker.run(&["ps", "--all", "--quiet"]).is_empty()
    });
    assert_eq!(setup.calls().matches("DEL eth0").count(), 2);
    plane.until("get ep web --no-headers", "<none>");
}

#[test]
fn an_image_that_is_nowhere_is_reported_with_what_docker_says() {
    let setup = Setup::start();
    let plane = &setup.plane;
    plane.manifests(
        "create",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: lost}\nspec: {containers: [{name: c, image: \
         '127.0.0.1:1/none:1'}]}\n",
    );
    plane.until("get pods --no-headers", "ErrImagePull");
    plane.until("get pods --no-headers", "ImagePullBackOff");
    let waiting = "get pod lost -o jsonpath={.status.containerStatuses[0].state.waiting.message}";
    plane.until(waiting, "Back-off pulling image \"127.0.0.1:1/none:1\"");
    let events = plane.kubectl("get events");
    assert!(
        events.contains("Error response from daemon") && events.contains("127.0.0.1:1"),
        "{events}"
    );
    plane.kubectl("delete pod lost");
    plane.until("get pods", "No resources found");
}

#[test]
fn a_kubelet_that_starts_again_makes_no_pod_twice() {
    let mut setup = Setup::start();
    setup.pod("one", "ports: []", "");
    setup.plane.until("get pods --no-headers", "Running");
    let all = || {
        let mut ids = setup.docker.containers("one", "POD");
        ids.extend(setup.docker.containers("one", "c"));
        ids
    };
    let before = all();
    let address = setup
        .plane
        .kubectl("get pod one -o jsonpath={.status.podIP}");
    assert_eq!(before.len(), 2);
    assert!(setup.kubelet.take().unwrap().stop());
    setup.start_kubelet();
    // It works again as soon as it has created another pod.
    setup.pod("two", "ports: []", "");
    setup.plane.until("get pod two --no-headers", "Running");
    let mut after = setup.docker.containers("one", "POD");
    after.extend(setup.docker.containers("one", "c"));
    assert_eq!(after, before);
    let now = setup
        .plane
        .kubectl("get pod one -o jsonpath={.status.podIP}");
    assert_eq!(now, address);

    // A pod that was deleted while the kubelet was down is removed.
    setup.kubelet = None;
    setup
        .plane
        .kubectl("delete pod one --grace-period=0 --force");
    setup.start_kubelet();
    eventually("its containers go", || {
        setup.docker.containers("one", "c").is_empty()
            && setup.docker.containers("one", "POD").is_empty()
    });
}

#[test]
fn a_container_that_ends_is_started_again() {
    let setup = Setup::start();
    let plane = &setup.plane;
    setup.pod("one", "args: ['--version']", "");
    plane.until("get pod one --no-headers", "CrashLoopBackOff");
    let pod = plane.object("pod one");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["restartCount"].as_u64().unwrap() >= 1, "{status}");
    assert_eq!(status["lastState"]["terminated"]["reason"], "Completed");
    let log = plane.kubectl("logs one");
    assert!(log.starts_with("Kubernetes v1.9.0"), "{log}");

    setup.pod("once", "args: ['--version']", "restartPolicy: Never");
    plane.until("get pod once -o jsonpath={.status.phase}", "Succeeded");
    plane.until("get pod once --no-headers", "Completed");
}

#[test]
fn probes_tell_who_is_ready_and_who_lives() {
    let setup = Setup::start();
    let plane = &setup.plane;
    let exec =
        |argument: &str| format!("{{exec: {{command: [/pause, '{argument}']}}, periodSeconds: 1}}");
    setup.pod(
        "good",
        &format!("readinessProbe: {}", exec("--version")),
        "",
    );
    setup.pod(
        "bad",
        "readinessProbe: {exec: {command: [/none]}, periodSeconds: 1}",
        "",
    );
    let dead = "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 1}";
    setup.pod("dead", dead, "hostNetwork: true");
    plane.until("get pod good --no-headers", "1/1");
    plane.until("get pod bad --no-headers", "0/1       Running");
    plane.until("describe pod bad", "Readiness probe failed");
    eventually("a restart", || {
        let count = "get pod dead -o jsonpath={.status.containerStatuses[0].restartCount}";
        plane
            .kubectl(count)
            .parse::<u64>()
            .is_ok_and(|count| count > 0)
    });
    assert_eq!(
        plane.kubectl("get pod dead -o jsonpath={.status.podIP}"),
        "127.0.0.1"
    );
    let version = plane.kubectl("exec good -- /pause --version");
    assert!(version.starts_with("Kubernetes v1.9.0"), "{version}");
}

#[test]
fn volumes_of_a_pod_are_what_it_asks_for() {
    let setup = Setup::start();
    let plane = &setup.plane;
    let file = setup.path("program");
    fs::copy(env!("CARGO_BIN_EXE_sim"), &file).unwrap();
    let volumes = |kind: &str| {
        format!(
            "volumes: [{{name: p, hostPath: {{path: '{}', type: {kind}}}}}, {{name: e, emptyDir: {{}}}}]",
            file.display()
        )
    };
    let container = "command: [/kubectl, version, --client], volumeMounts: [{name: p, mountPath: \
                     /kubectl, readOnly: true}, {name: e, mountPath: /e}]";
    let spec = format!("restartPolicy: Never\n  {}", volumes("File"));
    setup.pod("good", container, &spec);
    plane.until("get pod good -o jsonpath={.status.phase}", "Succeeded");
    assert!(
        plane
            .kubectl("logs good")
            .contains("Client Version: v1.9.0")
    );

    setup.pod("bad", container, &volumes("Directory"));
    plane.until("describe pod bad", "hostPath type check failed");
    plane.until("get pod bad --no-headers", "CreateContainerConfigError");
}
