//! `appliance join`: the parts of the join service, each in a separate process.

use std::net::TcpListener;

use anyhow::{Context, Result};

use super::Outcome;
use crate::cli::{Join, Serve};
use crate::join::master;
use crate::join::service::{self, Doors};
use crate::language::tr;
use crate::observe::user::check_user;
use crate::sys::process::System;
use crate::sys::root::Root;
use crate::upgrade::Follower;

/// Runs one part.
pub fn run(command: &Join) -> Result<Outcome> {
    match command {
        Join::Sign { socket, user, root } => master::sign(socket, user, &Root::open(root)?)?,
        Join::Serve(serve) => run_service(serve, &Doors::Join)?,
        Join::ServeRenewals { serve, authority } => {
            let authorities =
                std::fs::read(authority).with_context(|| authority.display().to_string())?;
            run_service(serve, &Doors::Renew(authorities))?;
        }
        Join::Follow { masters, port } => {
            let root = Root::open("/".as_ref())?;
            check_user(&root)?;
            let follower = Follower {
                root: &root,
                runner: &System,
                masters,
                port: *port,
            };
            log::info!("{}", follower.follow()?);
        }
    }
    Ok(Outcome::Done)
}

fn run_service(serve: &Serve, doors: &Doors) -> Result<()> {
    let place = || {
        tr!(
            "cannot listen at {}; if another program uses this port (`ss -ltnp`), stop it",
            serve.listen
        )
    };
    let listener = TcpListener::bind(serve.listen).with_context(place)?;
    service::run(listener, &serve.socket, doors)
}
