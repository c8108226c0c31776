//! The output of rotations of keys.

use super::{print_table, table};
use crate::language::tr;
use crate::rotate::secrets::{Overview, Report, State};
use crate::rotate::{accounts, authority};
use crate::sys::out::say;
use crate::sys::progress::escaped;

/// Prints what a rotation of the key that encrypts secrets did, and what comes next.
pub fn rotation(report: &Report) {
    let keys = report.keys.join(", then ");
    if report.rewritten > 0 {
        say!("{}", tr!("{} secrets were written again", report.rewritten));
    }
    match report.state {
        State::Complete => say!(
            "{}",
            tr!(
                "the rotation is complete; secrets are encrypted with {keys}",
                keys
            )
        ),
        State::Idle => say!(
            "{}",
            tr!(
                "no rotation is under way; secrets are encrypted with {keys}",
                keys
            )
        ),
        State::Waiting => {
            say!(
                "{}",
                tr!(
                    "this master has {keys}; these masters have to follow: {}",
                    report.behind.join(", "),
                    keys
                )
            );
            say!(
                "{}",
                tr!("run this there: appliance secrets rotate --continue")
            );
        }
    }
}

/// Prints which key encrypts how many secrets.
pub fn encryption(overview: &Overview) {
    let mut rows = table(&["KEY", "SECRETS", "USE"]);
    for (name, count) in &overview.secrets {
        let place = overview.keys.iter().position(|key| key == name);
        let used_for = match place {
            Some(0) => tr!("encrypts"),
            Some(_) => tr!("decrypts only"),
            None => tr!("NOT ON THIS MASTER"),
        };
        rows.add_row([&escaped(name), &count.to_string(), &used_for]);
    }
    if overview.plain > 0 {
        rows.add_row(["-", &overview.plain.to_string(), &tr!("not encrypted")]);
    }
    print_table(&rows);
    if overview.under_way {
        say!(
            "{}",
            tr!("a rotation is under way; continue it: appliance secrets rotate --continue")
        );
    }
    if !overview.behind.is_empty() {
        say!(
            "{}",
            tr!(
                "these masters have to follow: {}",
                overview.behind.join(", ")
            )
        );
    }
}

/// Prints how far the replacement of the authorities is, and what comes next.
pub fn authorities(report: &authority::Report, dry_run: bool) {
    if report.complete {
        say!(
            "{}",
            tr!("the rotation is complete: the old authorities are dropped")
        );
        say!(
            "{}",
            tr!("workers drop them at their next daily renewal, or with: appliance certs renew")
        );
        say!(
            "{}",
            tr!("give kubeconfigs on other machines the new authority: appliance kubeconfig")
        );
        return;
    }
    say!("{}", report.stage);
    if !report.masters.is_empty() {
        say!(
            "{}",
            tr!(
                "these masters have to follow: {}",
                report.masters.join(", ")
            )
        );
        say!(
            "{}",
            tr!("run this there: appliance certs rotate-ca --continue")
        );
    }
    if !report.behind.is_empty() {
        say!(
            "{}",
            tr!(
                "these nodes have to follow: {}",
                escaped(&report.behind.join(", "))
            )
        );
        say!(
            "{}",
            tr!(
                "they follow at their daily renewal; to hurry them, run this there: appliance certs renew"
            )
        );
        say!(
            "{}",
            tr!(
                "if one of them is gone for good: kubectl delete node NAME; appliance node release NAME"
            )
        );
    }
    if !report.pods.is_empty() {
        say!(
            "{}",
            tr!("these pods began before their service account had the new authority:")
        );
        for pod in &report.pods {
            say!("  {}", escaped(pod));
        }
        say!(
            "{}",
            tr!(
                "restart them, so that they still trust the API server: kubectl delete pod -n NAMESPACE NAME"
            )
        );
    }
    if report.stage == authority::Stage::Anew {
        say!(
            "{}",
            tr!(
                "kubeconfigs on other machines end with the old authority; write them again now: appliance kubeconfig"
            )
        );
    }
    if report.stage != authority::Stage::None {
        say!(
            "{}",
            tr!("then run this here: appliance certs rotate-ca --continue")
        );
    } else if dry_run {
        say!("{}", tr!("to begin one: appliance certs rotate-ca"));
    }
}

/// Prints how far the replacement of the service accounts' key is, and what comes next.
pub fn accounts(report: &accounts::Report, dry_run: bool) {
    const GO_ON: &str = "appliance certs rotate-service-accounts --continue";
    if !report.renewed.is_empty() {
        say!(
            "{}",
            tr!(
                "these secrets have new tokens; give them to whoever uses them, and restart pods that read them:"
            )
        );
        for secret in &report.renewed {
            say!("  {}", escaped(secret));
        }
    }
    if report.complete {
        say!(
            "{}",
            tr!(
                "the rotation is complete: the old key is dropped, and {} old tokens are removed",
                report.removed
            )
        );
        return;
    }
    say!("{}", report.stage);
    if !report.behind.is_empty() {
        say!(
            "{}",
            tr!("these masters have to follow: {}", report.behind.join(", "))
        );
        say!("{}", tr!("run this there: {GO_ON}", GO_ON));
    }
    if !report.pods.is_empty() {
        say!(
            "{}",
            tr!("these pods have old tokens of their service accounts:")
        );
        for pod in &report.pods {
            say!("  {}", escaped(pod));
        }
        say!(
            "{}",
            tr!("restart them: kubectl delete pod -n NAMESPACE NAME")
        );
    }
    if report.stage != accounts::Stage::None {
        say!("{}", tr!("then run this here: {GO_ON}", GO_ON));
    } else if dry_run {
        say!(
            "{}",
            tr!("to begin one: appliance certs rotate-service-accounts")
        );
    }
}
