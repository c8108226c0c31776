//! A virtual machine that becomes a node, and then an ordinary machine again: real systemd, docker, iptables and
//! Calico's network. The operator's firewall, container, route and mount must survive.
//!
//! `make e2e-reset` runs it; APPLIANCE names the appliance to boot.

use std::path::Path;
use std::time::Duration;

use appliance_vm::drive::ConfigDrive;
use appliance_vm::image::Image;
use appliance_vm::machine::{Clock, Machine, MachineSpec};
use appliance_vm::{drive, genuine};

use crate::vms::appliance;

/// These limits only end a run that hangs.
const LIMIT: Duration = Duration::from_secs(2400);

/// What the operator has: a firewall, a container, a route, a mount, a name in /etc/hosts.
const OPERATOR: &str = "\
    set -e; mkdir -p /run/volume /srv/mine /mnt/mine /root/.docker; \
    mount -o ro LABEL=APPLIANCE /run/volume; cp /run/volume/appliance /root/appliance; umount /run/volume; \
    systemctl start docker; \
    tar -C / -c root/appliance | docker import - mine:1; \
    docker run -d --name mine --restart=always -e NODE_NAME=mine -p 8089:8089 mine:1 \
        /root/appliance check serve --port 8089; \
    iptables -N mine; iptables -A mine -p tcp --dport 22 -j ACCEPT; iptables -I INPUT -j mine; \
    iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE; \
    iptables-legacy -N mine; iptables-legacy -A INPUT -j mine; \
    ip route add blackhole 10.66.0.0/16; \
    echo data >/srv/mine/data; mount --bind /srv/mine /mnt/mine; \
    echo '10.0.0.9 mine' >>/etc/hosts; sync";

/// Everything that a node changes. Logs, caches and what the system itself writes all the time are left out.
const STATE: &str = "\
    for kind in iptables-nft iptables-legacy; do echo == $kind; $kind-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//'; done; \
    echo == ipset; ipset list -n 2>/dev/null; \
    echo == ip; ip -o link | sed -e 's/^[0-9]*: //' -e 's/@if[0-9]*//' -e 's/veth[0-9a-f]*/veth/g' \
        -e 's/link.ether [0-9a-f:]*//' -e 's/link-netnsid [0-9]*//'; \
    ip -o -4 address | sed -e 's/^[0-9]*: //' -e 's/valid_lft.*//'; ip rule; ip route show table all | grep -v fe80; \
    echo == mount; mount | grep -v -e /run/user -e /var/lib/docker -e docker/netns | sort; \
    echo == units; systemctl list-units --all --plain --no-legend | awk '{print $1, $2, $3, $4}' | \
        grep -v -e '^session' -e '^run-' -e '^var-lib-docker' -e '^sys-' -e '^dev-' -e '^user' -e '^apt' -e '^phpsessionclean' \
        -e '^systemd-tmpfiles-clean' -e '^man-db' -e 'veth' -e '^logrotate' -e '^docker-' -e '^e2scrub' -e '^fstrim' -e '^dpkg'; \
    echo == docker; docker ps --all --format '{{.Names}} {{.Image}}'; docker images --format '{{.Repository}}:{{.Tag}}' | sort; \
    echo == users; cut -d: -f1,3 /etc/passwd /etc/group; \
    echo == settings; for key in net.ipv4.ip_forward net.ipv4.ip_local_reserved_ports vm.overcommit_memory kernel.panic \
        kernel.panic_on_oops vm.panic_on_oom net.ipv4.conf.all.route_localnet net.ipv4.conf.all.rp_filter; do \
        echo $key $(sysctl -n $key); done; \
    echo == files; find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /var/log -o -path /var/lib/docker \
        -o -path /var/backups -o -path /var/cache -o -path /var/tmp -o -path /var/lib/systemd -o -path /var/lib/cloud \
        -o -path /var/lib/containerd \\) -prune -o \\( -type d -printf '%p %m\\n' \\) -o -printf '%p %m %s\\n' | \
        grep -v -e '^/etc/passwd-' -e '^/etc/group-' -e '^/etc/shadow-' -e '^/etc/gshadow-' -e '/\\.pwd\\.lock' | sort";

fn boot() -> Machine {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = Image::ensure(&project.join("out/vm")).unwrap();
    // Nothing in its user-data makes it a node.
    let mut server = ConfigDrive::of_tutorial(2, "single", "#cloud-config\n{}\n");
    (server.memory, server.cpus) = (genuine::memory(drive::MEMORY), drive::CPUS);
    let spec = MachineSpec {
        image: &image,
        server: &server,
        clock: Clock::OfTheWall,
        has_config_drive: true,
        port: None,
        appliance: &appliance(),
        beside: None,
        keep: None,
    };
    let mut machine = Machine::boot(&spec).unwrap();
    machine.wait_for_agent(|_| {}).unwrap();
    machine
}

/// Runs a command in the background, and waits until it has ended with 0. The agent's own commands are short.
fn run(machine: &mut Machine, command: &str) -> String {
    // A file needs no quotes, and its redirection is that of the whole command.
    let begin = format!(
        "rm -f /run/ended; cat >/run/command <<'END'\n{command}\nEND\n\
         systemd-run --collect /bin/sh -c '/bin/sh /run/command >/run/said 2>&1; echo $? >/run/ended'"
    );
    machine.shell(&begin).unwrap();
    let ended = |machine: &mut Machine| {
        machine
            .shell("cat /run/ended")
            .ok()
            .filter(|code| !code.is_empty())
    };
    let code = machine.wait_for(command, LIMIT, |_| {}, ended).unwrap();
    let said = machine.shell("cat /run/said").unwrap();
    assert_eq!(code.trim(), "0", "{command}: {said}");
    said
}

fn state(machine: &mut Machine, name: &str) {
    machine
        .shell(&format!("( {STATE} ) >/tmp/{name} 2>&1"))
        .unwrap();
}

/// What differs between both states.
fn difference(machine: &mut Machine, one: &str, other: &str) -> String {
    let diff = [
        "/usr/bin/diff",
        "-u",
        &format!("/tmp/{one}"),
        &format!("/tmp/{other}"),
    ];
    machine.run(&diff).unwrap().stdout
}

#[test]
#[ignore = "boots a virtual machine; make e2e-reset runs it"]
fn a_reset_machine_is_as_before_and_becomes_a_node_again() {
    let mut machine = boot();
    run(&mut machine, "cloud-init status --wait || true");
    machine.shell(OPERATOR).unwrap();
    state(&mut machine, "before");
    for _ in 0..2 {
        let said = run(&mut machine, "/root/appliance install --role single");
        assert!(said.contains("The node is healthy"), "{said}");
        let pods = machine
            .shell("docker ps --quiet --filter label=io.kubernetes.pod.uid")
            .unwrap();
        assert!(!pods.is_empty(), "no pods run");
        println!(
            "{}",
            run(&mut machine, "/root/appliance reset --yes --data --keys")
        );
        state(&mut machine, "after");
        assert_eq!(difference(&mut machine, "before", "after"), "");
        let data = machine.shell("cat /mnt/mine/data").unwrap();
        assert_eq!(data, "data\n");
    }
    let again = machine.shell("/root/appliance reset --yes 2>&1").unwrap();
    assert!(again.contains("this machine is not a node"), "{again}");
}
