//! A machine whose clock is wrong: a week ahead after a VM was resumed, months ahead, back, and in 1970. It uses what
//! docs/operations.md says.

use std::time::Duration;

use appliance_vm::machine::Machine;

use super::{LIMIT, assert_healthy, boot, problems, status};
use crate::vms::{APPLIANCE, brought_up};

/// How long timers and services have to notice another time.
const NOTICE: Duration = Duration::from_secs(600);

/// The timer of renewals begins at once.
const AT_ONCE: &str = "cd /etc/systemd/system && mkdir -p appliance-renew.timer.d && \
    printf '[Timer]\\nRandomizedDelaySec=0\\n' >appliance-renew.timer.d/test.conf && \
    systemctl daemon-reload && systemctl restart appliance-renew.timer";

/// Sets the clock of the machine.
fn set(machine: &mut Machine, when: &str) {
    let now = format!("date --utc --set '{when}'");
    println!("the clock is {}", machine.shell(&now).unwrap().trim());
}

/// Waits until the node is healthy, and all its certificates are valid.
fn becomes_healthy(machine: &mut Machine, what: &str) {
    let healthy = |machine: &mut Machine| {
        let (code, report) = status(machine);
        (code == 8 && problems(&report).is_empty()).then_some(())
    };
    if let Err(late) = machine.wait_for(what, NOTICE, |_| {}, healthy) {
        let state = format!("{APPLIANCE} status --all; journalctl --boot --lines 100 --no-pager");
        let state = machine.shell(&format!("({state}) 2>&1; true"));
        panic!("{late:#}\n{}", state.unwrap());
    }
}

/// Waits until the service for renewals has got another certificate of its own so many times, because the clock was set.
fn renewals_served(machine: &mut Machine, times: usize) {
    let journal = "journalctl --boot --unit appliance-renewals --output cat";
    let got = |machine: &mut Machine| {
        let journal = machine.shell(journal).unwrap();
        (journal.matches("a new certificate").count() == times).then_some(())
    };
    let what = "the service for renewals has a valid certificate";
    machine.wait_for(what, NOTICE, |_| {}, got).unwrap();
}

/// What a command says that has to fail with this exit code.
fn refused(machine: &mut Machine, command: &[&str], code: i64) -> String {
    let output = machine.run(&[&[APPLIANCE], command].concat()).unwrap();
    assert_eq!(output.code, code, "{output:?}");
    output.stdout + &output.stderr
}

#[test]
#[ignore = "boots a virtual machine; make test-more runs it"]
fn a_clock_that_is_wrong_is_told_and_does_no_lasting_harm() {
    let mut machine = boot(|_| {});
    brought_up(&mut machine, LIMIT);
    let token = "token create --ttl 2h --uses 1";
    machine.shell(&format!("{APPLIANCE} {token}")).unwrap();
    let begun = machine.shell("date --utc '+%F %T'").unwrap();
    let begun = begun.trim();

    // As after a week in which the VM was suspended.
    set(&mut machine, &format!("{begun} UTC +8 days"));
    becomes_healthy(&mut machine, "the node is healthy a week later");
    let tokens = machine.shell(&format!("{APPLIANCE} token list"));
    assert!(tokens.unwrap().contains("expired"));

    // Within the hour that the timer spreads its runs over, which the test does not wait for.
    machine.shell(AT_ONCE).unwrap();
    // The certificates end after a year: the timer renews them before and after that.
    set(&mut machine, &format!("{begun} UTC +400 days"));
    becomes_healthy(
        &mut machine,
        "nobody renewed the certificates but the timer",
    );

    renewals_served(&mut machine, 1);

    // Back to the truth: what was issued ahead of it is not valid yet.
    set(&mut machine, &format!("{begun} UTC +1 hour"));
    assert_eq!(status(&mut machine).0, 3);
    machine.shell(&format!("{APPLIANCE} certs renew")).unwrap();
    // The token, too: the service for joining begins again.
    becomes_healthy(&mut machine, "the certificates are valid again");
    renewals_served(&mut machine, 2);

    set(&mut machine, "1970-01-02 00:00:00");
    for command in [
        &["token", "create"][..],
        &["certs", "renew"],
        &["install", "--metadata-timeout", "1"],
    ] {
        let said = refused(&mut machine, command, 2);
        assert!(said.contains("1970-01-02"), "{command:?}: {said}");
    }
    let found = refused(&mut machine, &["doctor"], 3);
    assert!(found.contains("clock"), "{found}");

    set(&mut machine, &format!("{begun} UTC +2 hours"));
    becomes_healthy(&mut machine, "the node is healthy once its clock is right");
    assert_healthy(&mut machine);
}
