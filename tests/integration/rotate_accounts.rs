//! The rotation of the key that signs the tokens of service accounts: against an API over HTTP, and on an installed
//! master.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use appliance::clients::api::Api;
use appliance::nodespec::Refused;
use appliance::paths::{NEXT_SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC};
use appliance::pki::Secret;
use appliance::pki::account::{AccountKey, signed, verifying};
use appliance::rotate::accounts::here::Here;
use appliance::rotate::accounts::tokens::{Seen, holders};
use appliance::rotate::accounts::{Stage, Tokens, Wish, rotate};
use appliance::rotate::masters::Alone;
use appliance::sys::http;
use appliance::sys::process::{Command, Output, Runner};
use appliance_cloud::server::{Answer, Request, Server};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::harness::Machine;
use crate::outputs::validate;
use crate::rotate::prepared;
use crate::verify::assert_as_installed;

pub const BEGIN: Wish = Wish {
    begin: true,
    without_pods: false,
};
pub const GO_ON: Wish = Wish {
    begin: false,
    without_pods: false,
};
const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// A token of the secret `name`, as kube-controller-manager makes it.
fn token(key: &Secret, name: &str) -> String {
    let key = appliance::pki::key::read(key.expose()).unwrap();
    let random = SystemRandom::new();
    let signer = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &key.serialize_der(),
        &random,
    );
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!(
        "{}.{}",
        part(json!({"alg": "ES256", "typ": "JWT"})),
        part(json!({"kubernetes.io/serviceaccount/secret.name": name}))
    );
    let signature = signer.unwrap().sign(&random, text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The objects of an API by their paths below `/api/v1/`, and the controller manager of v1.9.
struct Cluster {
    objects: BTreeMap<String, Value>,
    /// The key with which the controller manager signs.
    key: Secret,
    version: u64,
    /// The next write conflicts with another writer.
    conflicts: bool,
    /// Whether the controller manager works.
    works: bool,
}

impl Cluster {
    fn new() -> Cluster {
        let mut cluster = Cluster {
            objects: BTreeMap::new(),
            key: AccountKey::generate().unwrap(),
            version: 0,
            conflicts: false,
            works: true,
        };
        for (namespace, accounts) in [
            ("default", &["default"][..]),
            ("kube-system", &["default", "kube-dns"]),
            ("going", &["default"]),
        ] {
            let deletion = (namespace == "going").then_some("2018-01-01T00:00:00Z");
            cluster.put(
                &format!("namespaces/{namespace}"),
                json!({"metadata": {"name": namespace, "deletionTimestamp": deletion}}),
            );
            for account in accounts {
                cluster.put(
                    &format!("namespaces/{namespace}/serviceaccounts/{account}"),
                    json!({"metadata": {"name": account, "namespace": namespace}}),
                );
            }
        }
        cluster.control();
        // A user's own, and a secret that is no token.
        cluster.put(
            "namespaces/default/secrets/robot",
            json!({
                "metadata": {"name": "robot", "namespace": "default", "annotations": {ACCOUNT: "default"}},
                "type": "kubernetes.io/service-account-token", "data": {},
            }),
        );
        cluster.put(
            "namespaces/default/secrets/password",
            json!({"metadata": {"name": "password", "namespace": "default"}, "type": "Opaque"}),
        );
        cluster.control();
        cluster
    }

    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object);
    }

    fn of_kind(&self, kind: &str) -> Vec<(String, Value)> {
        let is_kind = |path: &str| {
            let parts: Vec<&str> = path.split('/').collect();
            parts.len() == 4 && parts[2] == kind || parts.len() == 2 && parts[0] == kind
        };
        let all = self.objects.iter().filter(|(path, _)| is_kind(path));
        all.map(|(path, object)| (path.clone(), object.clone()))
            .collect()
    }

    /// What the controller for tokens does, except in namespaces that are being deleted.
    fn control(&mut self) {
        if !self.works {
            return;
        }
        for (path, mut account) in self.of_kind("serviceaccounts") {
            let (name, namespace) = (text(&account, "name"), text(&account, "namespace"));
            let secret = |name: &str| format!("namespaces/{namespace}/secrets/{name}");
            let listed = account["secrets"].as_array().cloned().unwrap_or_default();
            let is_there = |one: &Value| {
                let name = one["name"].as_str().unwrap();
                self.objects.contains_key(&secret(name))
            };
            let is_going =
                self.objects[&format!("namespaces/{namespace}")]["metadata"]["deletionTimestamp"]
                    .is_string();
            if listed.iter().any(is_there) || is_going {
                continue;
            }
            let made = format!("{name}-token-{:05}", self.version);
            let object = json!({
                "metadata": {"name": made, "namespace": namespace, "annotations": {ACCOUNT: name}},
                "type": "kubernetes.io/service-account-token",
                "data": {"token": BASE64.encode(token(&self.key, &made))},
            });
            self.put(&secret(&made), object);
            account["secrets"] = json!([{"name": made}]);
            self.put(&path, account);
        }
        for (path, mut secret) in self.of_kind("secrets") {
            if secret["type"] == "kubernetes.io/service-account-token"
                && secret["data"]["token"].is_null()
            {
                let made = token(&self.key, &text(&secret, "name"));
                secret["data"]["token"] = json!(BASE64.encode(made));
                self.put(&path, secret);
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let target = request.target.strip_prefix("/api/v1/").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let found = self.objects.get(path).cloned();
        let ok = |value: &Value| Answer::status("200 OK").body(value.to_string().as_bytes());
        match (&*request.method, found) {
            ("GET", Some(object)) => ok(&object),
            ("GET", None) if !path.contains('/') => {
                let mut items = self.of_kind(path);
                items.retain(|(_, one)| {
                    query.is_empty() || one["type"] == "kubernetes.io/service-account-token"
                });
                let items: Vec<Value> = items.into_iter().map(|(_, object)| object).collect();
                ok(&json!({"items": items}))
            }
            (_, None) => Answer::status("404 Not Found"),
            ("PUT", Some(before)) => {
                let object: Value = serde_json::from_slice(&request.body).unwrap();
                let version = |of: &Value| of["metadata"]["resourceVersion"].clone();
                if self.conflicts || version(&object) != version(&before) {
                    self.conflicts = false;
                    return Answer::status("409 Conflict");
                }
                self.put(path, object.clone());
                self.control();
                ok(&object)
            }
            ("DELETE", Some(before)) => {
                let options: Value = serde_json::from_slice(&request.body).unwrap();
                if options["preconditions"]["uid"] != before["metadata"]["uid"] {
                    return Answer::status("409 Conflict");
                }
                self.objects.remove(path);
                self.control();
                ok(&json!({}))
            }
            _ => Answer::status("405 Method Not Allowed"),
        }
    }

    /// The secrets with tokens, and whether the key `public` signed each.
    fn tokens(&self, public: &[u8]) -> BTreeMap<String, bool> {
        let secrets = self.of_kind("secrets").into_iter();
        let tokens = secrets.filter(|(_, secret)| secret["data"]["token"].is_string());
        let token = |(path, secret): (String, Value)| {
            let text = BASE64.decode(secret["data"]["token"].as_str().unwrap());
            let text = String::from_utf8(text.unwrap()).unwrap();
            (path, signed(&text, public))
        };
        tokens.map(token).collect()
    }
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap().to_owned()
}

/// kubectl, which lists these pods.
struct Pods(RefCell<Value>);

impl Runner for Pods {
    fn run(&self, command: &Command) -> Result<Output> {
        assert!(command.to_string().contains("get pods --all-namespaces"));
        Ok(Output {
            code: Some(0),
            stdout: self.0.borrow().to_string(),
            stderr: String::new(),
        })
    }
}

fn pod(namespace: &str, name: &str, secret: &str, phase: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"volumes": [{"emptyDir": {}}, {"secret": {"secretName": secret}}]},
        "status": {"phase": phase},
    })
}

fn api(cluster: &Arc<Mutex<Cluster>>) -> (Server, Api) {
    let shared = Arc::clone(cluster);
    let server = Server::start(move |request| shared.lock().unwrap().answer(request));
    let client = http::client(b"", None, Duration::from_secs(10)).unwrap();
    let api = Api::at(client, server.url().trim_end_matches('/'));
    (server, api)
}

#[test]
fn tokens_of_the_old_key_stay_until_no_pod_has_them_and_names_that_users_chose_stay() {
    let cluster = Arc::new(Mutex::new(Cluster::new()));
    let (_server, api) = api(&cluster);
    let old: Vec<String> = {
        let cluster = cluster.lock().unwrap();
        cluster.tokens(b"").into_keys().collect()
    };
    assert_eq!(old.len(), 4, "{old:?}");
    let of = |namespace: &str, account: &str| {
        let prefix = format!("namespaces/{namespace}/secrets/{account}-token-");
        let path = old.iter().find(|path| path.starts_with(&prefix)).unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    };
    let dns = of("kube-system", "kube-dns");
    let pods = Pods(RefCell::new(json!({"items": [
        pod("kube-system", "dns", &dns, "Running"),
        pod("kube-system", "ended", &of("kube-system", "default"), "Succeeded"),
        // The same name of a secret in another namespace is another secret.
        pod("default", "other", &dns, "Running"),
        pod("default", "robot", "robot", "Running"),
    ]})));
    let seen = Seen::at(api, &pods);

    let new = AccountKey::generate().unwrap();
    let public = AccountKey::read(&new).unwrap().public();
    {
        let mut cluster = cluster.lock().unwrap();
        cluster.key = new;
        cluster.conflicts = true;
    }
    seen.renew(&public).unwrap();
    let now = cluster.lock().unwrap().tokens(&public);
    // Each account that stays has a new one, and each old one is as it was.
    assert!(old.iter().all(|path| !now[path]), "{now:?}");
    assert_eq!(now.values().filter(|new| **new).count(), 3, "{now:?}");
    assert_eq!(seen.pods(&public).unwrap(), ["kube-system/dns"]);
    // A second run has nothing to do.
    let version = cluster.lock().unwrap().version;
    seen.renew(&public).unwrap();
    assert_eq!(cluster.lock().unwrap().version, version);

    assert_eq!(seen.renew_others(&public).unwrap(), ["default/robot"]);
    assert!(cluster.lock().unwrap().tokens(&public)["namespaces/default/secrets/robot"]);
    assert!(seen.renew_others(&public).unwrap().is_empty());

    // The token of the pod stays as long as the pod has it.
    assert_eq!(seen.remove_old(&public).unwrap(), 2);
    let dns = format!("namespaces/kube-system/secrets/{dns}");
    assert!(cluster.lock().unwrap().objects.contains_key(&dns));
    *pods.0.borrow_mut() = json!({"items": []});
    assert_eq!(seen.remove_old(&public).unwrap(), 1);
    let cluster = cluster.lock().unwrap();
    let left = cluster.tokens(&public);
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.values().all(|new| *new), "{left:?}");
    assert!(
        cluster
            .objects
            .contains_key("namespaces/default/secrets/password")
    );
}

#[test]
fn a_pod_has_a_secret_in_any_volume() {
    let secrets: BTreeSet<String> = ["a/one".to_owned()].into();
    let projected = json!({
        "metadata": {"namespace": "a", "name": "projected"},
        "spec": {"volumes": [{"projected": {"sources": [{"configMap": {}}, {"secret": {"name": "one"}}]}}]},
    });
    let list = json!({"items": [
        projected,
        pod("a", "mounted", "one", "Pending"),
        pod("a", "ended", "one", "Failed"),
        pod("b", "other", "one", "Running"),
        pod("a", "another", "two", "Running"),
    ]});
    assert_eq!(holders(&list, &secrets), ["a/projected", "a/mounted"]);
}

/// Tokens of a cluster without service accounts, whose pods a test chooses.
#[derive(Default)]
pub struct NoTokens(pub RefCell<Vec<String>>);

impl Tokens for NoTokens {
    fn renew(&self, _public: &[u8]) -> Result<()> {
        Ok(())
    }

    fn pods(&self, _public: &[u8]) -> Result<Vec<String>> {
        Ok(self.0.borrow().clone())
    }

    fn renew_others(&self, _public: &[u8]) -> Result<Vec<String>> {
        Ok(vec![])
    }

    fn remove_old(&self, _public: &[u8]) -> Result<usize> {
        Ok(0)
    }
}

#[test]
fn on_an_installed_master_only_the_keys_of_service_accounts_change() {
    let machine = Machine::new();
    machine.installed(&[]);
    let read = |path: &str| machine.read(&path[1..]);
    let installed = prepared(&machine, &[]);
    let here = Here(&installed);
    let (key, public) = (read(SERVICE_ACCOUNT_PRIVATE), read(SERVICE_ACCOUNT_PUBLIC));
    let others = prepared(&machine, &["mtu=1400"]);
    let tokens = NoTokens::default();
    let error = rotate(&Here(&others), &Alone::default(), &tokens, BEGIN).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("run `appliance install` first"),
        "{error:#}"
    );
    let before = machine.snapshot();

    *tokens.0.borrow_mut() = vec!["default/a".to_owned()];
    let run = |wish| rotate(&here, &Alone::default(), &tokens, wish).unwrap();
    let report = run(BEGIN);
    validate("certs-rotate-service-accounts", &report);
    assert_eq!((report.stage, report.pods.len()), (Stage::Anew, 1));
    assert_ne!(read(SERVICE_ACCOUNT_PRIVATE), key);
    assert_eq!(verifying(&read(SERVICE_ACCOUNT_PUBLIC)).unwrap().len(), 2);
    assert!(read(SERVICE_ACCOUNT_PUBLIC).starts_with(&public));
    for path in [SERVICE_ACCOUNT_PRIVATE, NEXT_SERVICE_ACCOUNT] {
        assert_eq!(machine.mode(&path[1..]), 0o600, "{path}");
    }
    // An installation keeps both keys.
    machine.installed(&[]);
    assert_eq!(verifying(&read(SERVICE_ACCOUNT_PUBLIC)).unwrap().len(), 2);

    tokens.0.borrow_mut().clear();
    assert!(run(GO_ON).complete);
    assert_eq!(verifying(&read(SERVICE_ACCOUNT_PUBLIC)).unwrap().len(), 1);
    assert!(!machine.root().join(&NEXT_SERVICE_ACCOUNT[1..]).exists());
    let after = machine.snapshot();
    let changed = |path: &&std::path::PathBuf| {
        before.get(*path) != after.get(*path) && !after[*path].3.eq(&0o40755)
    };
    let changed: Vec<String> = (after.keys().filter(changed))
        .map(|path| path.display().to_string())
        .collect();
    assert!(
        !changed.is_empty()
            && changed
                .iter()
                .all(|path| ["service-account", "rotation", "written.json"]
                    .iter()
                    .any(|part| path.contains(part))),
        "{changed:?}"
    );
    assert_as_installed(&machine);
    machine.installed(&[]);
    assert_eq!(machine.snapshot(), after);
}
