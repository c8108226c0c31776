//! The images that only answer requests, and kube-controllers.

use std::fs;
use std::process::Command;

use crate::harness::{Running, command, eventually, flag, free_port, said, wait_for_status};
use crate::lab::{self, Lab};

#[test]
fn an_example_service_answers_with_its_name_on_its_port() {
    for name in ["message-service", "api-gateway-zuul"] {
        let port = free_port();
        let mut service = Running::start(command(name).env("PORT", port.to_string()));
        assert_eq!(wait_for_status(port, "/any", 200), format!("{name}\n"));
        assert!(service.stop());
    }
    let refused = command("user-service").env("PORT", "http").output();
    assert!(said(&refused.unwrap()).contains("\"http\" is not a port"));
}

#[test]
fn the_dashboard_speaks_tls() {
    let port = free_port();
    let arguments = [
        "--auto-generate-certificates".to_owned(),
        flag("port", port),
    ];
    let _dashboard = Running::start(command("dashboard").args(arguments));
    let url = format!("https://127.0.0.1:{port}/");
    eventually("the dashboard", || {
        let mut curl = Command::new("curl");
        let output = curl.args(["-sk", "--noproxy", "*", &url]).output().unwrap();
        said(&output).contains("Kubernetes Dashboard")
    });
}

#[test]
fn kube_controllers_mirrors_network_policies_while_they_are_there() {
    if !lab::is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let (_etcd, etcd) = lab.etcd(1);
    // An API with only this list.
    let directory = lab.directory.path().join("api/apis/networking.k8s.io/v1");
    fs::create_dir_all(&directory).unwrap();
    let list = directory.join("networkpolicies");
    let policy = r#"{"metadata": {"namespace": "shop", "name": "web"}, "spec": {}}"#;
    fs::write(&list, format!("{{\"items\": [{policy}]}}")).unwrap();
    let mut server = lab.on(1, "python3");
    let server = server.args(["-m", "http.server", "8080", "--directory"]);
    let _api = Running::start(server.arg(lab.directory.path().join("api")));
    let mut controllers = Running::start(
        lab.sim(1, "kube-controllers")
            .env("ETCD_ENDPOINTS", &etcd)
            .env("ENABLED_CONTROLLERS", "policy,profile,workloadendpoint")
            .env("K8S_API", "http://127.0.0.1:8080"),
    );
    let policies = || {
        let url = format!("{etcd}/v2/keys/calico/v1/policy?recursive=true");
        let output = lab.on(1, "curl").args(["-s", &url]).output().unwrap();
        said(&output)
    };
    let key = "/calico/v1/policy/tier/default/policy/knp.default.shop.web";
    eventually("the policy in etcd", || policies().contains(key));
    assert!(policies().contains("calico/k8s_ns == 'shop'"));
    fs::write(&list, "{\"items\": []}").unwrap();
    eventually("no policy in etcd", || !policies().contains(key));
    assert!(controllers.stop());

    let mut wrong = lab.sim(1, "kube-controllers");
    wrong
        .env("ETCD_ENDPOINTS", &etcd)
        .env("ENABLED_CONTROLLERS", "policies");
    let output = wrong.output().unwrap();
    assert!(said(&output).contains("Invalid controller 'policies'"));
    let missing = lab
        .sim(1, "kube-controllers")
        .env("ETCD_ENDPOINTS", &etcd)
        .env("K8S_API", "https://10.68.0.1:443")
        .output()
        .unwrap();
    assert!(said(&missing).contains("serviceaccount/ca.crt"));
}
