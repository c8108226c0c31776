//! Keys of a cluster at work are replaced: the key that encrypts secrets, the certificate authorities, and the key of
//! service accounts.

use crate::site::Site;
use crate::vms::{APPLIANCE, Bed, ETCDCTL};

/// The nodes whose keys are replaced.
pub struct Nodes<'a> {
    /// The masters. The first one begins each rotation.
    pub masters: &'a [&'a str],
    /// The other nodes.
    pub workers: &'a [&'a str],
}

impl Site {
    /// Its nodes. The master may run pods, too.
    pub fn keys(&self) -> Nodes<'_> {
        Nodes {
            masters: std::slice::from_ref(&self.master),
            workers: match self.workers {
                [alone] if *alone == self.master => &[],
                workers => workers,
            },
        }
    }
}

/// How often a command may wait for others: each of its steps, and once for pods.
const ROUNDS: usize = 6;
/// The exit code while others have to follow.
const WAITS: i64 = 6;
/// The digest of the cluster's authority, and how many certificates its file has.
const AUTHORITY: &str =
    "sha256sum < /etc/kubernetes/ca/ca.pem; grep -c BEGIN /etc/kubernetes/ca/ca.pem";

/// The secrets in etcd, as it stores them.
pub fn stored_secrets(bed: &mut Bed, master: &str) -> String {
    let get = format!("{ETCDCTL} get /registry/secrets --prefix | tr -cd '[:print:]\\n'");
    bed.shell(master, &get)
}

/// Replaces the key that encrypts secrets. The stand-in for the API server does not encrypt.
pub fn the_key_of_secrets_is_replaced(bed: &mut Bed, nodes: &Nodes<'_>) {
    completes(bed, nodes, &["secrets", "rotate"], |_| ());
    let secrets = stored_secrets(bed, nodes.masters[0]);
    let keys = secrets.matches("/registry/secrets/").count();
    let new = secrets.matches("k8s:enc:aescbc:v1:key2:").count();
    assert!(keys > 10 && new == keys, "{new} of {keys}");
    bed.say(&format!("{new} of {keys} secrets have the new key"));
    bed.wait_until_healthy();
}

/// Begins the rotation `command` on the first master, and continues it on all in turn until it is complete. Starts pods
/// again when it asks for that. `follow` does what else each round waits for.
fn completes(bed: &mut Bed, nodes: &Nodes<'_>, command: &[&str], follow: impl Fn(&mut Bed)) {
    let run = |bed: &mut Bed, master: &str, more: &[&str]| {
        // Timers of the node run, too.
        let line = [&[APPLIANCE], command, &["--wait"], more].concat();
        let said = bed.machine(master).run(&line).unwrap();
        let name = command.join(" ");
        bed.say(&format!("{master}: {name}: {}{}", said.stdout, said.stderr));
        assert!(matches!(said.code, 0 | WAITS), "{said:?}");
        if said.stdout.contains("restart them") {
            start_pods_again(bed, master);
        }
        said.code
    };
    let (first, others) = nodes.masters.split_first().unwrap();
    let mut code = run(bed, first, &[]);
    for _ in 0..ROUNDS {
        if code == 0 {
            return;
        }
        for other in others {
            run(bed, other, &["--continue"]);
        }
        follow(bed);
        code = run(bed, first, &["--continue"]);
    }
    panic!("the rotation does not end");
}

fn start_pods_again(bed: &mut Bed, master: &str) {
    bed.shell(
        master,
        "export HOME=/root; for namespace in default kube-system; do \
         kubectl -n $namespace delete pods --all; done",
    );
}

/// Replaces the authorities, while workers follow and pods start again.
pub fn the_authorities_are_replaced(bed: &mut Bed, nodes: &Nodes<'_>) {
    let master = nodes.masters[0];
    let before = bed.shell(master, AUTHORITY);
    let follow = |bed: &mut Bed| {
        for worker in nodes.workers {
            bed.shell(worker, &format!("{APPLIANCE} certs renew --wait"));
        }
    };
    completes(bed, nodes, &["certs", "rotate-ca"], follow);
    // Nothing waits for this, but each worker drops the old one.
    follow(bed);
    let after = bed.shell(master, AUTHORITY);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    assert_ne!(before[0], after[0]);
    assert_eq!(after[1], "1", "the old authority is trusted");
    for other in nodes.masters.iter().chain(nodes.workers) {
        assert_eq!(lines(&bed.shell(other, AUTHORITY)), after, "{other}");
    }
    bed.wait_until_healthy();
}

/// The names of all tokens of service accounts.
const TOKENS: &str =
    "export HOME=/root; kubectl get secrets --all-namespaces -o name | grep -e '-token-' | sort";
/// Replaces the key that signs the tokens of service accounts, while pods start again.
pub fn the_key_of_service_accounts_is_replaced(bed: &mut Bed, nodes: &Nodes<'_>) {
    let master = nodes.masters[0];
    let before = bed.shell(master, TOKENS);
    completes(bed, nodes, &["certs", "rotate-service-accounts"], |_| ());
    let after = bed.shell(master, TOKENS);
    let left: Vec<&str> = before
        .lines()
        .filter(|name| after.lines().any(|now| now == *name))
        .collect();
    assert!(
        left.is_empty() && !after.trim().is_empty(),
        "{left:?} of {after}"
    );
    bed.wait_until_healthy();
}
