//! The functions of the table: each judges one thing.

pub(super) mod docker;
pub(super) mod kernel;
pub(super) mod network;
pub(super) mod others;
pub(super) mod storage;
pub(super) mod system;

use super::Finding;
use super::facts::{Booted, Facts};
use crate::language::{message, tr, translated};

/// Why a check does not apply to a system that is not booted.
const NOT_BOOTED: &str = message!("this system is not booted");

/// Judges what only a booted system has.
fn booted(facts: &Facts, judge: impl Fn(&Booted) -> Finding) -> Finding {
    match &facts.booted {
        Some(booted) => judge(booted),
        None => Finding::elsewhere(translated(NOT_BOOTED)),
    }
}

/// Judges what concerns only nodes that run pods.
fn of_workers(facts: &Facts, judge: impl Fn() -> Finding) -> Finding {
    match facts.wanted.role.is_worker() {
        true => judge(),
        false => Finding::elsewhere(tr!("a master runs no kubelet")),
    }
}

/// Text of others in a message, so that a terminal does not obey it.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}
