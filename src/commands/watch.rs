//! `appliance status --watch`: asks again and again, until Ctrl-C.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;

use super::{Outcome, print};
use crate::language::tr;
use crate::status::{Lack, Report};
use crate::sys::clock::moment;
use crate::sys::interrupt::at_signal;
use crate::sys::out::{self, say};
use crate::sys::progress::escaped;
use crate::sys::terminal::is_living;

/// The least pause between two questions.
const PAUSE: Duration = Duration::from_secs(2);
/// Moves the cursor of a terminal to its beginning, and clears all that it shows.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What the main thread hears.
enum News {
    /// The node was asked.
    Asked(Box<Result<Report>>),
    /// A signal ends this process.
    Signal,
}

/// Shows what `ask` returns, again and again, until a signal comes: on a terminal with `show`, elsewhere as a line when it
/// changed. Returns what the last state means.
///
/// # Errors
/// That of `ask`, or if a signal comes before its first answer.
pub fn run(
    ask: impl Fn() -> Result<Report> + Send + 'static,
    show: impl Fn(&Report),
) -> Result<Outcome> {
    let (tell, hear) = mpsc::channel();
    let signal = tell.clone();
    // Nobody listens any more if that fails.
    at_signal(move || drop(signal.send(News::Signal)))?;
    let asking = thread::Builder::new().spawn(move || keep_asking(&ask, &tell));
    asking.context(tr!("cannot ask the node again and again"))?;
    let is_living = is_living(&io::stdout());
    let mut last: Option<(Outcome, String)> = None;
    for news in hear {
        let report = match news {
            News::Asked(report) => (*report)?,
            News::Signal => break,
        };
        let now = told(&report);
        let is_new = last.as_ref().is_none_or(|(_, before)| *before != now);
        if is_living {
            out::text(CLEAR);
            say!(
                "{}",
                tr!(
                    "{}  (every {} s, until Ctrl-C)\n",
                    moment(OffsetDateTime::now_utc()),
                    PAUSE.as_secs()
                )
            );
            show(&report);
        } else if is_new {
            let line = print::report::line(&report);
            say!("{}  {}", moment(OffsetDateTime::now_utc()), escaped(&line));
        }
        out::flush();
        last = Some((report.overall.into(), now));
    }
    match last {
        Some((outcome, _)) => Ok(outcome),
        None => bail!(tr!("interrupted before the node answered")),
    }
}

fn keep_asking(ask: &impl Fn() -> Result<Report>, tell: &Sender<News>) {
    loop {
        let began = Instant::now();
        let report = ask();
        let failed = report.is_err();
        if tell.send(News::Asked(Box::new(report))).is_err() || failed {
            return;
        }
        // Spend at most half of the time on questions.
        thread::sleep(PAUSE.max(began.elapsed()));
    }
}

/// The report without what changes all the time: its ages.
fn told(report: &Report) -> String {
    let cluster = report.verdict.cluster.iter().flat_map(|part| &part.lacks);
    let lacks: Vec<String> = report
        .verdict
        .node
        .lacks
        .iter()
        .chain(cluster)
        .map(Lack::words)
        .collect();
    let step = report.changing.as_ref().and_then(|run| run.step.clone());
    format!("{:?} {lacks:?} {step:?}", report.overall)
}
