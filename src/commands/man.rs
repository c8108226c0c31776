//! `appliance man`: the manual pages, made from the help of every command.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::documents::Files;
use super::{Outcome, files, print};
use crate::cli::{Cli, Named};
use crate::language::tr;
use crate::sys::out;

/// Writes every page to a directory.
pub fn run(dir: Option<&Path>, named: &Named) -> Result<Outcome> {
    let dir = files::needed(dir, named, "--dir DIR")?;
    let pages = pages()?;
    out::files(&dir, 0o644, &pages)?;
    let directory = dir.display().to_string();
    log::info!(
        "{}",
        tr!(
            "wrote {} manual pages to {directory}",
            pages.len(),
            directory
        )
    );
    let files = pages.into_iter().map(|(name, _)| name).collect();
    print::result(named.format(), &Files { directory, files }, |_| ())?;
    Ok(Outcome::Done)
}

/// Every page: its file's name, such as `appliance-bundle-fetch.1`, and its content.
pub fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages).context("cannot make the manual pages")?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man = Man::new(command.clone()).source(concat!("appliance ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_long_help() {
        end_of_page(&help.to_string()).to_writer(&mut page)?;
    }
    pages.push((man.get_filename(), page));
    command
        .get_subcommands()
        .try_for_each(|below| collect(below, pages))
}

/// The last part of a help page: a list below a title becomes a section, with its lines as they
/// are.
fn end_of_page(help: &str) -> Roff {
    let mut roff = Roff::new();
    for block in help.split("\n\n") {
        let title = block.lines().next().unwrap_or_default();
        let is_list = block
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("  "));
        let mut lines = block.lines();
        if let Some(title) = title.strip_suffix(':').filter(|_| is_list) {
            roff.control("SH", [title.to_uppercase().as_str()]);
            lines.next();
        } else {
            roff.control("PP", []);
        }
        let is_code = is_list || title.starts_with("  ");
        if is_code {
            roff.control("nf", []);
        }
        for line in lines {
            roff.text([roman(line)]);
        }
        if is_code {
            roff.control("fi", []);
        }
    }
    roff
}
