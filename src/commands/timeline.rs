//! `appliance timeline`: how long each step of the last bring-up took.

use anyhow::{Result, bail};

use super::failure::NotInstalled;
use super::{Outcome, print};
use crate::cli::{Output, Timeline as Arguments};
use crate::language::tr;
use crate::nodespec::Refused;
use crate::observe::records;
use crate::observe::user::check_user;
use crate::sys::out;
use crate::sys::root::Root;
use crate::timeline::{Chart, bars, svg};

/// Shows the last bring-up, or the one that is under way.
pub fn run(arguments: &Arguments, output: Output) -> Result<Outcome> {
    let root = Root::open(&arguments.root).map_err(Refused::because)?;
    check_user(&root)?;
    let under_way = records::run(&root)?.and_then(|run| run.times);
    let times = match under_way {
        Some(times) => Some(times),
        None => records::timeline(&root)?,
    };
    let Some(times) = times else {
        bail!(NotInstalled(
            tr!("no bring-up is recorded on this machine; the next `appliance install` that starts services records itself")
                .to_owned()
        ));
    };
    let chart = Chart::of(&times);
    if let Some(file) = &arguments.file {
        out::file(file, 0o644, svg(&chart).as_bytes())?;
        log::info!("{}", tr!("wrote {}", file.display()));
    }
    print::result(output, &chart, |chart| out::text(&bars(chart)))?;
    Ok(Outcome::Done)
}
