//! Keys of a cluster at work are replaced: the key that encrypts secrets, the certificate authorities, and the key of
//! service accounts.

use crate::site::Site;
use crate::vms::{APPLIANCE, Bed};

/// How often the command may wait for others: each of its steps, and once for pods.
const ROUNDS: usize = 6;
/// The exit code while others have to follow.
const WAITS: i64 = 6;
/// The digest of the cluster's authority, and how many certificates its file has.
const AUTHORITY: &str =
    "sha256sum < /etc/kubernetes/ca/ca.pem; grep -c BEGIN /etc/kubernetes/ca/ca.pem";

/// The secrets in etcd, as it stores them.
pub fn stored_secrets(site: &Site, bed: &mut Bed) -> String {
    bed.shell(
        site.master,
        "ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 \
         --cacert=/etc/kubernetes/ca/ca.pem --cert=/etc/kubernetes/ca/etcd/etcd.pem \
         --key=/etc/kubernetes/ca/etcd/etcd-key.pem get /registry/secrets --prefix | tr -cd '[:print:]\\n'",
    )
}

/// Replaces the key that encrypts secrets. The stand-in for the API server does not encrypt.
pub fn the_key_of_secrets_is_replaced(site: &Site, bed: &mut Bed) {
    let said = bed
        .machine(site.master)
        .run(&[APPLIANCE, "secrets", "rotate", "--wait"])
        .unwrap();
    println!("{}{}", said.stdout, said.stderr);
    assert_eq!(said.code, 0, "{said:?}");
    let secrets = stored_secrets(site, bed);
    let keys = secrets.matches("/registry/secrets/").count();
    let new = secrets.matches("k8s:enc:aescbc:v1:key2:").count();
    assert!(keys > 10 && new == keys, "{new} of {keys}");
    bed.say(&format!("{new} of {keys} secrets have the new key"));
    bed.wait_until_healthy();
}

/// Begins the rotation `command` and continues it until it is complete. `follow` does what each round waits for.
fn completes(
    site: &Site,
    bed: &mut Bed,
    command: &str,
    rounds: usize,
    follow: impl Fn(&mut Bed, usize),
) {
    // Timers of the node run, too.
    let run = [APPLIANCE, "certs", command, "--wait", "--continue"];
    for round in 0..rounds {
        // The first run begins the rotation.
        let run = if round == 0 { &run[..4] } else { &run[..] };
        let said = bed.machine(site.master).run(run).unwrap();
        bed.say(&format!("{command}: {}{}", said.stdout, said.stderr));
        if said.code == 0 {
            return;
        }
        assert_eq!(said.code, WAITS, "{said:?}");
        follow(bed, round);
    }
    panic!("the rotation does not end");
}

fn start_pods_again(site: &Site, bed: &mut Bed) {
    bed.shell(
        site.master,
        "export HOME=/root; for namespace in default kube-system; do \
         kubectl -n $namespace delete pods --all; done",
    );
}

/// Replaces the authorities, while workers follow and pods start again.
pub fn the_authorities_are_replaced(site: &Site, bed: &mut Bed) {
    let before = bed.shell(site.master, AUTHORITY);
    completes(site, bed, "rotate-ca", ROUNDS, |bed, round| {
        for worker in site.workers.iter().filter(|worker| **worker != site.master) {
            bed.shell(worker, &format!("{APPLIANCE} certs renew --wait"));
        }
        if round == 0 {
            start_pods_again(site, bed);
        }
    });
    let after = bed.shell(site.master, AUTHORITY);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    assert_ne!(before[0], after[0]);
    assert_eq!(after[1], "1", "the old authority is trusted");
    bed.wait_until_healthy();
}

/// The names of all tokens of service accounts.
const TOKENS: &str =
    "export HOME=/root; kubectl get secrets --all-namespaces -o name | grep -e '-token-' | sort";
/// How often the rotation of the service accounts' key may wait: for pods.
const PODS: usize = 3;

/// Replaces the key that signs the tokens of service accounts, while pods start again.
pub fn the_key_of_service_accounts_is_replaced(site: &Site, bed: &mut Bed) {
    let before = bed.shell(site.master, TOKENS);
    completes(site, bed, "rotate-service-accounts", PODS, |bed, _| {
        start_pods_again(site, bed);
    });
    let after = bed.shell(site.master, TOKENS);
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
