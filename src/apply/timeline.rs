//! Completes the record of a bring-up ([`crate::records::timeline`]): when each service became healthy.

use std::collections::BTreeSet;

use super::journal::milliseconds;
use super::records::write_json;
use crate::observe::records;
use crate::paths;
use crate::records::timeline::{Part, Span, Timeline, written};
use crate::sys::root::Root;
use crate::sys::stopwatch::Stopwatch;

/// What is waited for after the last step.
pub struct Healthy<'a> {
    root: &'a Root,
    watch: &'a Stopwatch,
    /// The record of this run; `None` if it recorded none.
    timeline: Option<Timeline>,
}

impl<'a> Healthy<'a> {
    /// The services that the last run started with this watch wait for their health.
    pub fn of(root: &'a Root, watch: &'a Stopwatch) -> Healthy<'a> {
        let timeline = records::timeline(root).ok().flatten();
        let begun = written(watch.begun());
        let mut timeline = timeline.filter(|timeline| timeline.begun == begun);
        if let Some(timeline) = &mut timeline {
            let waits: Vec<Span> = timeline.spans.iter().filter_map(wait).collect();
            timeline.spans.extend(waits);
        }
        Healthy {
            root,
            watch,
            timeline,
        }
    }

    /// These services are healthy at the first look. Nobody waited for them.
    pub fn already(&mut self, services: &[&str]) {
        if let Some(timeline) = &mut self.timeline {
            let waited =
                |span: &Span| span.part != Part::Healthy || !services.contains(&span.what.as_str());
            timeline.spans.retain(waited);
        }
    }

    /// This service is healthy. Only the first call for it counts.
    pub fn is(&mut self, service: &str) {
        let spans = self
            .timeline
            .iter_mut()
            .flat_map(|timeline| &mut timeline.spans);
        let mut waits = spans.filter(|span| span.part == Part::Healthy);
        let wait = waits.find(|span| span.what == service && span.end.is_none());
        if let Some(wait) = wait {
            wait.end = Some(milliseconds(self.watch.elapsed()));
        }
    }

    /// Keeps the record. Where it cannot be written, only `appliance timeline` misses it.
    pub fn keep(self) {
        if let Some(timeline) = &self.timeline
            && let Err(error) = write_json(self.root, paths::TIMELINE, timeline)
        {
            log::debug!("{error:#}");
        }
    }
}

/// The wait that begins when the service is started.
fn wait(span: &Span) -> Option<Span> {
    let name = ["start ", "restart "]
        .iter()
        .find_map(|verb| span.what.strip_prefix(verb))?;
    Some(Span {
        what: name.to_owned(),
        part: Part::Healthy,
        step: None,
        needs: BTreeSet::from([span.step?]),
        at: span.at.clone(),
        begin: span.end?,
        end: None,
        failed: false,
    })
}
