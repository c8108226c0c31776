//! `appliance serve-status`: the status of this node, as a page for a browser on it.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::failure::{NotInstalled, Problem};
use super::{Outcome, check_node};
use crate::cli::ServeStatus;
use crate::language::{self, Language, tr};
use crate::observe::user::check_user;
use crate::page::reading::Reading;
use crate::page::{self, Source};
use crate::sys::lock::Holder;
use crate::sys::process::Limited;
use crate::sys::root::Root;

/// How long a program may take that a reading asks. An API server that hangs holds up nothing else.
const PROGRAM: Duration = Duration::from_secs(15);

/// Serves the page until the process ends.
pub fn run(arguments: &ServeStatus) -> Result<Outcome> {
    // The page is in English.
    language::speak(Language::English);
    let root = Root::open("/".as_ref())?;
    match check_node(&root) {
        Ok(_) => {}
        // A run is making it a node: the page shows how far it is.
        Err(error) if error.is::<NotInstalled>() && Holder::of(&root).is_some() => {
            check_user(&root)?;
        }
        Err(error) => return Err(error),
    }
    let place = (Ipv4Addr::LOCALHOST, arguments.port);
    let listener = TcpListener::bind(place).with_context(|| {
        tr!("cannot listen at 127.0.0.1:{}; choose another port with `--port`, or stop the program that has this one: \
             `ss -ltnp` lists them", arguments.port)
    })?;
    let port = listener.local_addr()?.port();
    log::info!(
        "{}",
        tr!(
            "the page is at http://127.0.0.1:{port}/ of this machine; press Ctrl-C to stop",
            port
        )
    );
    log::info!(
        "{}",
        tr!(
            "to see it on your own computer, run `ssh -L {port}:127.0.0.1:{port} USER@THIS-MACHINE` there, and open the same \
         address",
            port
        )
    );
    let source = Source {
        read: Box::new(move || Reading::of(&root, &Limited(PROGRAM))),
        failure: |error| json!({ "error": Problem::of(error) }),
    };
    page::serve(listener, source)?;
    Ok(Outcome::Done)
}
