//! A backup of a lost master on a machine with another name and address, and a backup of three lost masters.

use appliance_vm::cluster::{FIVE, journal};

use super::{
    BACKUP, KEY, authority, back_up, bring, nothing_is_lost, the_worker_reconnects, write,
};
use crate::changes::{bring_appliance, gives_up};
use crate::vms::{APPLIANCE, Bed, ETCDCTL, OF_FIVE, address};

const MASTERS: [&str; 3] = ["server02", "server04", "server05"];
const WORKER: &str = "server03";
const CONFIG: &str = "/etc/appliance/config.yaml";

/// Writes the settings of a machine, as its operator would.
fn configure(bed: &mut Bed, name: &str, settings: &str) {
    let write =
        format!("install -m 600 /dev/null {CONFIG}; cat >{CONFIG} <<'END'\n{settings}END\n");
    bed.shell(name, &format!("mkdir -p /etc/appliance; {write}"));
}

/// Restores, and shows what it says.
fn restore(bed: &mut Bed, name: &str, options: &str) {
    let restore = format!("{APPLIANCE} restore {BACKUP} --identity {KEY} {options}");
    println!("{}", bed.shell(name, &format!("{restore} --dry-run")));
    let output = bed
        .machine(name)
        .run(&["/bin/sh", "-c", &format!("{restore} --yes")]);
    let output = output.unwrap();
    println!("{}{}", output.stdout, output.stderr);
    assert!(matches!(output.code, 0 | 3 | 8), "{output:?}");
    bed.say(&format!("the backup is restored on {name}"));
}

#[test]
#[ignore = "boots virtual machines; make e2e-restore runs it"]
fn a_cluster_comes_back_on_a_machine_with_another_name_and_address() {
    let [master, new, _] = MASTERS;
    let mut bed = Bed::new(&FIVE, &OF_FIVE, |token| {
        format!(
            "  roleRules:\n  - {{hostName: {master}*, role: master}}\n  - {{hostName: {WORKER}*, role: worker}}\n  \
             master: {}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n",
            address(master)
        )
    });
    bed.switch_on(&[master, WORKER]);
    bed.wait_for_bring_up();
    let before = authority(&mut bed, master);
    let acknowledged = write(&mut bed, master);
    let (key, backup) = back_up(master, &mut bed);

    bed.say("the master is lost");
    bed.cluster.power_off(master).unwrap();
    bed.switch_on(&[new]);
    bring_appliance(&mut bed, new);
    gives_up(&mut bed, new);
    let moved = format!("master: {}\n", address(new));
    configure(&mut bed, new, &format!("role: master\n{moved}"));
    bring(&mut bed, new, KEY, &key);
    bring(&mut bed, new, BACKUP, &backup);
    restore(&mut bed, new, "");
    assert_eq!(authority(&mut bed, new), before);
    nothing_is_lost(&mut bed, new, &acknowledged);

    // As docs/backup.md says.
    configure(&mut bed, WORKER, &moved);
    bed.shell(WORKER, &format!("{APPLIANCE} install"));
    the_worker_reconnects(&mut bed, new, WORKER);
    bed.wait_at(new, "its cluster is ready", |machine| {
        let status = machine.run(&[APPLIANCE, "status"]);
        status.is_ok_and(|status| status.code == 0)
    });
    bed.shell(new, &format!("{APPLIANCE} check"));
    println!("kept: {}", bed.keep.display());
}

#[test]
#[ignore = "boots four virtual machines; make e2e-restore runs it"]
fn three_lost_masters_come_back_from_one_file() {
    let mut bed = Bed::new(&FIVE, &OF_FIVE, |token| {
        let entry = |name: &str, role| {
            format!(
                "  - {{name: {name}, role: {role}, address: {}}}\n",
                address(name)
            )
        };
        let masters = MASTERS.iter().map(|name| entry(name, "master"));
        let inventory: String = masters.chain([entry(WORKER, "worker")]).collect();
        format!("  inventory:\n{inventory}  join: {{token: {token}, ttl: 8h, uses: 5}}\n")
    });
    let [founder, others @ ..] = MASTERS;
    bed.switch_on(&[&MASTERS[..], &[WORKER]].concat());
    bed.wait_for_bring_up();
    let before = authority(&mut bed, founder);
    let acknowledged = write(&mut bed, others[0]);
    let (key, backup) = back_up(others[1], &mut bed);

    bed.say("all masters are lost");
    for name in MASTERS {
        bed.cluster.power_off(name).unwrap();
    }
    bed.switch_on(&[founder]);
    // As docs/backup.md says.
    bed.wait_at(founder, "its boot waits for the others", |machine| {
        journal(machine).is_ok_and(|said| said.contains("too few of the other masters"))
    });
    bed.shell(founder, "systemctl stop appliance-install");
    bring(&mut bed, founder, KEY, &key);
    bring(&mut bed, founder, BACKUP, &backup);
    restore(&mut bed, founder, "--replace");
    assert_eq!(authority(&mut bed, founder), before);
    nothing_is_lost(&mut bed, founder, &acknowledged);
    the_worker_reconnects(&mut bed, founder, WORKER);

    let create = format!("{APPLIANCE} token create --ttl 2h --uses 2");
    let token = bed.shell(founder, &create).trim().to_owned();
    for name in others {
        bed.switch_on(&[name]);
        gives_up(&mut bed, name);
        configure(&mut bed, name, &format!("join: {{token: {token}}}\n"));
        bed.shell(name, &format!("{APPLIANCE} install"));
        bed.say(&format!("{name} is a master again"));
    }
    bed.wait_until_healthy();
    for name in MASTERS {
        nothing_is_lost(&mut bed, name, &acknowledged);
    }
    let members = bed.shell(founder, &format!("{ETCDCTL} member list"));
    let started = members.lines().filter(|member| member.contains("started"));
    assert_eq!(started.count(), MASTERS.len(), "{members}");
    println!("kept: {}", bed.keep.display());
}
