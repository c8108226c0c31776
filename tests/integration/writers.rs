//! Writers, which count what the API acknowledges.

use std::collections::BTreeSet;

use appliance_vm::machine::Machine;

use crate::vms::Bed;

/// Writes numbered objects until it is stopped, and records which were acknowledged.
const WRITER: &str = r#"
n=0
while [ ! -e /run/writer-stop ]; do
    n=$((n + 1))
    if printf 'apiVersion: v1
kind: ConfigMap
metadata: {name: "%s-%d", namespace: default, labels: {writer: "%s"}}
data: {number: "%d"}
' "$1" $n "$1" $n | timeout 30 kubectl --kubeconfig="$2" create --validate=false -f - >/run/writer-said 2>&1
    then echo $n >>"/var/tmp/$1.acknowledged"
    else echo "$n: $(tail -n 1 /run/writer-said)" >>"/var/tmp/$1.failed"
    fi
    sleep 1
done
"#;
/// How many more writes show that a writer continues.
const SOME: usize = 15;

/// One writer: its name, and the VM on which it runs.
pub struct Writer {
    pub name: &'static str,
    at: &'static str,
}

impl Writer {
    /// Starts one that writes with this kubeconfig.
    pub fn start(name: &'static str, at: &'static str, bed: &mut Bed, kubeconfig: &str) -> Writer {
        let start = format!(
            "rm -f /run/writer-stop; cat >/run/writer.sh <<'END'\n{WRITER}END\n\
             touch /var/tmp/{name}.acknowledged /var/tmp/{name}.failed; \
             systemd-run --unit=writer-{name} /bin/sh /run/writer.sh {name} {kubeconfig}"
        );
        bed.shell(at, &start);
        bed.say(&format!("{name} writes on {at} with {kubeconfig}"));
        Writer { name, at }
    }

    /// Waits until this many more of its writes were acknowledged.
    pub fn goes_on(&self, bed: &mut Bed) {
        let count = |machine: &mut Machine| {
            let count = format!("wc -l </var/tmp/{}.acknowledged", self.name);
            machine.shell(&count).unwrap().trim().parse().unwrap()
        };
        let before: usize = count(bed.machine(self.at));
        let what = format!("{} writes on", self.name);
        bed.wait_at(self.at, &what, |machine| count(machine) >= before + SOME);
        let (now, failed) = (count(bed.machine(self.at)), self.failures(bed).len());
        bed.say(&format!(
            "{}: {now} writes acknowledged, {failed} failed",
            self.name
        ));
    }

    fn failures(&self, bed: &mut Bed) -> Vec<String> {
        let failed = bed.shell(self.at, &format!("cat /var/tmp/{}.failed", self.name));
        failed.lines().map(str::to_owned).collect()
    }

    /// Ends it after its current write, and returns the numbers that were acknowledged.
    pub fn stop(&self, bed: &mut Bed) -> BTreeSet<u32> {
        bed.shell(self.at, "touch /run/writer-stop");
        let active = format!("systemctl is-active writer-{}", self.name);
        bed.wait_at(self.at, "the writer ends", |machine| {
            machine.shell(&active).is_err()
        });
        let said = bed.shell(self.at, &format!("cat /var/tmp/{}.acknowledged", self.name));
        for failure in self.failures(bed) {
            println!("         {} failed: {failure}", self.name);
        }
        said.lines().map(|line| line.parse().unwrap()).collect()
    }
}
