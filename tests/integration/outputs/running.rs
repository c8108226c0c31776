//! What commands print on a system that runs.

use std::sync::Arc;

use appliance_cloud::server::{Answer, Server};
use serde_json::json;

use super::{Documents, appliance};
use crate::fetch;
use crate::harness::{Machine, document, payload, said};
use crate::living::Living;
use crate::preflight::machine::preflight;

/// The node's metadata, in the system.
const INPUTS: [&str; 2] = ["--metadata-dir", "/config-drive"];

/// The documents of the commands that a node's operator and its units run.
pub fn documents() -> Documents {
    let mut documents = Documents::default();
    let living = Living::new(&["--role", "single"]);
    let mut run = |name: &str, arguments: &[&str]| {
        let output = living.run(&[arguments, &["-o", "json"]].concat());
        documents.add(name, &output);
        document(&output)
    };
    run("status", &["status"]);
    let created = run("token-create", &["token", "create"]);
    let token = created["token"].as_str().unwrap().to_owned();
    run("token-revoke", &["token", "revoke", &token]);
    run("token-list", &["token", "list"]);
    living.joined("worker");
    run("node-list", &["node", "list"]);
    run("node-release", &["node", "release", "worker"]);
    run("node-guard", &["node", "guard"]);
    run("doctor", &["doctor"]);
    run(
        "support-bundle",
        &["support-bundle", "--file", "/root/support.tar.gz"],
    );
    run("images-ensure", &["images", "ensure"]);
    run(
        "backup-key",
        &["backup", "key", "--file", "/root/backup.key"],
    );
    run("backup-list", &["backup", "list", "--to", "/config-drive"]);
    run("certs-renew", &[&["certs", "renew"], &INPUTS[..]].concat());
    let master = Living::with_api_server(&[]);
    for (name, arguments) in [
        ("addons-apply", &["addons", "apply"][..]),
        ("check", &["check", "--no-pods"]),
    ] {
        let output = master.run(&[arguments, &["-o", "json"]].concat());
        documents.add(name, &output);
    }
    removed(&mut documents);
    fetched(&mut documents);
    documents
}

/// A machine before it is a node, and after.
fn removed(documents: &mut Documents) {
    let machine = Machine::new();
    documents.add("preflight", &preflight(&machine, "worker", &["-o", "json"]));
    let mut plan = machine.command("plan", &payload(), &["-o", "json"]);
    documents.add("plan", &plan.output().unwrap());
    let mut graph = machine.command("plan", &payload(), &["--graph", "-o", "json"]);
    documents.add("plan-graph", &graph.output().unwrap());
    machine.installed(&[]);
    let bring_up = json!({
        "command": "install",
        "begun": "2026-11-30T12:00:00Z",
        "spans": [
            {"what": "check the machine", "part": "before", "at": "2026-11-30T12:00:00Z", "begin": 0, "end": 900},
            {"what": "start etcd", "part": "step", "step": 1, "at": "2026-11-30T12:00:01Z", "begin": 900, "end": 1000},
            {"what": "etcd", "part": "healthy", "needs": [1], "at": "2026-11-30T12:00:01Z", "begin": 1000, "end": null},
        ],
    });
    machine.put("var/lib/appliance/timeline.json", &bring_up.to_string());
    let root = machine.root();
    let root = root.to_str().unwrap();
    documents.add(
        "timeline",
        &appliance(&["timeline", "--root", root, "-o", "json"]),
    );
    documents.add(
        "reset",
        &appliance(&["reset", "--root", root, "--yes", "-o", "json"]),
    );
}

/// A bundle from a server.
fn fetched(documents: &mut Documents) {
    let (workshop, archive) = fetch::workshop(None);
    let server = Server::start(move |request| Answer::file(&Arc::clone(&archive), request));
    let mirror = format!("example.org={}", server.url());
    let bundle = ["--bundle", "@definition", "--mirror", &mirror, "-o", "json"];
    let mut add = |name: &str, arguments: &[&str]| {
        documents.add(name, &workshop.run(&[arguments, &bundle[..]].concat()));
    };
    add("bundle-fetch", &["bundle", "fetch"]);
    add("bundle-lock", &["bundle", "lock"]);
    let exported = [
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "--file",
        "@tar",
    ];
    let exported = workshop.run(&exported);
    assert!(exported.status.success(), "{}", said(&exported));
    documents.add(
        "bundle-import",
        &workshop.run(&["bundle", "import", "@tar", "-o", "json"]),
    );
}
