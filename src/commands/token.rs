//! `appliance token`.

use anyhow::{Result, bail};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::user::check_user;
use super::{Outcome, print};
use crate::cli::{Output, Token as Command};
use crate::clients::systemd;
use crate::join::registry;
use crate::join::tokens::Tokens;
use crate::nodespec::join::Ttl;
use crate::nodespec::token::{Token, TokenId};
use crate::nodespec::{Profile, Refused, Role};
use crate::observe::records;
use crate::records::state::State;
use crate::records::tokens::TokenRecord;
use crate::sys::process::System;
use crate::sys::root::Root;

/// Makes, lists or revokes tokens.
pub fn run(command: &Command) -> Result<Outcome> {
    match command {
        Command::Create {
            offline: true,
            output,
            ..
        } => show(&Token::generate()?, None, *output),
        Command::Create {
            ttl, uses, output, ..
        } => create(*ttl, *uses, *output),
        Command::List { output } => list(*output),
        Command::Revoke { token } => revoke(token),
    }
}

/// The tokens of the master that this machine is.
fn tokens() -> Result<Tokens> {
    Ok(registry::open(&master()?)?.0)
}

/// The running system, if it is a master whose workers join with tokens.
pub fn master() -> Result<Root> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let state = records::state(&root)?;
    let is_master = |state: &State| {
        state.role != Role::Worker.to_string() && state.profile == Profile::WithCa.to_string()
    };
    if !state.as_ref().is_some_and(is_master) {
        bail!(Refused {
            problems: vec![
                "this machine is not a master of profile with-ca, where tokens are; run this there \
                 (for a cluster that is yet to be: appliance token create --offline)"
                    .to_owned()
            ],
        });
    }
    Ok(root)
}

fn create(ttl: Ttl, uses: Option<u32>, output: Output) -> Result<Outcome> {
    let (tokens, token, now) = (tokens()?, Token::generate()?, OffsetDateTime::now_utc());
    let record = TokenRecord {
        verifier: token.verifier(),
        created: now,
        expires: ttl.0.map(|ttl| now + ttl),
        uses,
        used: 0,
        revoked: None,
        from: "appliance token create".to_owned(),
    };
    tokens.add(token.id(), &record)?;
    systemd::start_without_waiting(&System, "appliance-join", false)?;
    show(&token, record.expires, output)
}

fn show(token: &Token, expires: Option<OffsetDateTime>, output: Output) -> Result<Outcome> {
    let expires = expires.map(|end| end.format(&Rfc3339)).transpose()?;
    let text = token.expose();
    match output {
        Output::Text => println!("{}", *text),
        Output::Json => println!("{}", json!({ "token": *text, "expires": expires })),
    }
    Ok(Outcome::Done)
}

fn list(output: Output) -> Result<Outcome> {
    let (all, now) = (tokens()?.all()?, OffsetDateTime::now_utc());
    match output {
        Output::Text => print::tokens(&all, now),
        Output::Json => {
            let token = |(id, token): (&TokenId, &TokenRecord)| {
                Ok(json!({
                    "id": id,
                    "standing": token.standing(now),
                    "created": token.created.format(&Rfc3339)?,
                    "expires": token.expires.map(|end| end.format(&Rfc3339)).transpose()?,
                    "uses": token.uses,
                    "used": token.used,
                    "from": token.from,
                }))
            };
            let tokens = all.iter().map(token).collect::<Result<Vec<_>>>()?;
            println!("{}", serde_json::to_string_pretty(&tokens)?);
        }
    }
    Ok(Outcome::Done)
}

fn revoke(token: &str) -> Result<Outcome> {
    let id: TokenId = token
        .split('.')
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(anyhow::Error::msg)?;
    if tokens()?.revoke(&id, OffsetDateTime::now_utc())? {
        log::info!("token {id} is revoked");
        return Ok(Outcome::Done);
    }
    bail!("there is no token {id}; `appliance token list` shows those there are")
}
