//! `appliance token`.

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::documents::{Created, TokenOfMaster, Tokens as Listed};
use super::{Outcome, not_installed, print};
use crate::cli::{Output, Token as Command, Waiting};
use crate::clients::systemd;
use crate::join::registry;
use crate::join::tokens::Tokens;
use crate::language::{message, tr, translated};
use crate::nodespec::join::Ttl;
use crate::nodespec::token::{Token, TokenId};
use crate::nodespec::{Profile, Refused, Role};
use crate::observe::records;
use crate::observe::user::check_user;
use crate::paths::{CA_CERTIFICATE, CONFIG};
use crate::pki::inspect::inspect;
use crate::pki::issue;
use crate::records::state::State;
use crate::records::tokens::TokenRecord;
use crate::sys::clock::moment;
use crate::sys::lock::Lock;
use crate::sys::out::{self, say};
use crate::sys::process::System;
use crate::sys::root::Root;

/// Makes, lists or revokes tokens.
pub fn run(command: &Command, output: Output) -> Result<Outcome> {
    match command {
        Command::Create { offline: true, .. } => {
            show(&Token::generate()?, None, output, &translated(NEW_CLUSTER))
        }
        Command::Create {
            ttl, uses, waiting, ..
        } => create(*ttl, *uses, *waiting, output),
        Command::List => list(output),
        Command::Revoke { token, waiting } => revoke(token, *waiting, output),
    }
}

/// The tokens of the master at `root`.
fn tokens(root: &Root) -> Result<Tokens> {
    Ok(registry::open(root)?.0)
}

/// The running system, if it is a master whose workers join with tokens.
pub fn master() -> Result<Root> {
    let root = Root::open("/".as_ref())?;
    check_user(&root)?;
    let Some(state) = records::state(&root)? else {
        return Err(not_installed(&root));
    };
    let is_master = |state: &State| {
        state.role != Role::Worker.to_string() && state.profile == Profile::WithCa.to_string()
    };
    if !is_master(&state) {
        bail!(Refused::new(tr!("this machine is not a master with the profile with-ca; run this command on the master \
                 (for a new cluster: appliance token create --offline)")
                    .to_owned()));
    }
    Ok(root)
}

fn create(ttl: Ttl, uses: Option<u32>, waiting: Waiting, output: Output) -> Result<Outcome> {
    let root = master()?;
    let lock = Lock::take(&root, waiting.patience())?;
    let state = records::state(&root)?.context(tr!("this node's state was removed"))?;
    let (tokens, token, now) = (
        tokens(&root)?,
        Token::generate()?,
        OffsetDateTime::now_utc(),
    );
    refuse_early(&root, now)?;
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
    drop(lock);
    systemd::start_without_waiting(&System, "appliance-join", false)?;
    let advice = for_workers(&state, record.expires);
    show(&token, record.expires, output, &advice)
}

/// Refuses a clock that shows a time before the cluster's authority was made: a token or a certificate would have expired
/// as soon as the clock is right.
pub fn refuse_early(root: &Root, now: OffsetDateTime) -> Result<()> {
    let Some(authority) = root.read(CA_CERTIFICATE)? else {
        return Ok(());
    };
    let authority = inspect(&authority).context(CA_CERTIFICATE)?;
    let outcome = issue::refuse_early(authority.not_before, now);
    outcome.map_err(|why| Refused::because(why).into())
}

/// Prints the token to standard output, where scripts take it from, and the advice beside it. The
/// advice does not repeat the token: it may end up in a log.
fn show(
    token: &Token,
    expires: Option<OffsetDateTime>,
    output: Output,
    advice: &str,
) -> Result<Outcome> {
    let document = Created {
        token: token.expose().to_string(),
        expires: expires.map(|end| end.format(&Rfc3339)).transpose()?,
    };
    print::result(output, &document, |document| {
        say!("{}", document.token);
        out::flush();
        log::info!("{advice}");
    })?;
    Ok(Outcome::Done)
}

/// How to use a token before the cluster has a master.
const NEW_CLUSTER: &str = message!(
    "\
This token is shown only once. Put it in place of TOKEN in the user-data of the master and of all
workers, with the master's address:

  #cloud-config
  write_files:
  - path: /etc/appliance/config.yaml
    permissions: \"0600\"
    content: |
      master: 192.168.1.102
      join: {token: TOKEN, ttl: 24h}

On a machine without user-data, write the lines below `content:` to /etc/appliance/config.yaml,
without the blanks in front, before you run `appliance install`."
);

/// How to use a token on a new worker of this master's cluster.
fn for_workers(state: &State, expires: Option<OffsetDateTime>) -> String {
    let until = match expires {
        Some(end) => tr!("until {}", moment(end)),
        None => tr!("until it is revoked"),
    };
    let masters = if state.masters.is_empty() {
        format!("master: {}", state.address)
    } else {
        let masters = state.masters.iter();
        let masters: Vec<String> = masters
            .map(|master| format!("{}={}", master.name, master.address))
            .collect();
        format!("masters: {}", masters.join(","))
    };
    tr!(
        "This token is shown only once. Workers can join with it {until}. On a new worker, write this to \
         /etc/appliance/config.yaml,\nwith the token in place of TOKEN, and run `appliance install`:\n\n\
         role: worker\n{masters}\njoin: {{token: TOKEN}}\n\n\
         Or boot the worker with this user-data:\n\n\
         #cloud-config\nwrite_files:\n- path: {CONFIG}\n  permissions: \"0600\"\n  content: |\n    \
         role: worker\n    {masters}\n    join: {{token: TOKEN}}",
        until,
        masters,
        CONFIG
    )
}

fn list(output: Output) -> Result<Outcome> {
    let (all, now) = (tokens(&master()?)?.all()?, OffsetDateTime::now_utc());
    let rows = all
        .iter()
        .map(|(id, token)| TokenOfMaster::of(id, token, now));
    let listed = Listed(rows.collect::<Result<_>>()?);
    print::result(output, &listed, |listed| print::tokens(&listed.0))?;
    Ok(Outcome::Done)
}

fn revoke(token: &str, waiting: Waiting, output: Output) -> Result<Outcome> {
    let id: TokenId = token
        .split('.')
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(anyhow::Error::msg)?;
    let root = master()?;
    let _lock = Lock::take(&root, waiting.patience())?;
    if tokens(&root)?.revoke(&id, OffsetDateTime::now_utc())? {
        print::done(tr!("token {id} is revoked", id), output)?;
        return Ok(Outcome::Done);
    }
    bail!(tr!(
        "there is no token {id}; `appliance token list` shows all tokens",
        id
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::nodespec::master::Master;
    use crate::nodespec::settings::Settings;
    use crate::nodespec::user_data;
    use crate::nodespec::validate::validate;
    use crate::nodespec::value::{Layer, Place};

    fn state(masters: &[(&str, &str)]) -> State {
        let masters: Vec<Master> = masters
            .iter()
            .map(|(name, address)| Master {
                name: (*name).to_owned(),
                address: address.parse().unwrap(),
            })
            .collect();
        let state = json!({
            "appliance": "1", "bundle": "b", "kubernetes": "v1.9.0", "digest": "d",
            "demonstration": false, "role": "master", "profile": "with-ca", "node": "server02",
            "address": "192.168.1.102", "masters": masters,
        });
        serde_json::from_value(state).unwrap()
    }

    fn is_valid(settings: Settings) {
        validate(&[Layer::new(Place::Config("advice".to_owned()), settings)]).unwrap();
    }

    #[test]
    fn the_advice_for_workers_is_valid_as_file_and_as_user_data() {
        let several = [("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.3")];
        for (masters, line) in [
            (&[][..], "master: 192.168.1.102\n"),
            (&several, "masters: a=192.0.2.1,b=192.0.2.2,c=192.0.2.3\n"),
        ] {
            let advice = for_workers(&state(masters), None);
            assert!(advice.contains(line), "{advice}");
            let token = Token::generate().unwrap();
            let filled =
                advice.replace("{token: TOKEN}", &format!("{{token: {}}}", *token.expose()));
            let parts: Vec<&str> = filled.split("\n\n").collect();
            is_valid(Settings::from_yaml("advice", parts[1]).unwrap());
            let data = user_data::settings(parts[3].as_bytes()).unwrap().unwrap();
            is_valid(data);
        }
        let expires = OffsetDateTime::UNIX_EPOCH;
        assert!(
            for_workers(&state(&[]), Some(expires)).contains(&format!("until {}", moment(expires)))
        );
    }

    #[test]
    fn the_advice_for_a_new_cluster_is_valid() {
        let token = Token::generate().unwrap();
        let filled = NEW_CLUSTER.replace("{token: TOKEN", &format!("{{token: {}", *token.expose()));
        let block = filled.split("\n\n").nth(1).unwrap();
        let block: Vec<&str> = block.lines().map(|line| &line[2..]).collect();
        is_valid(
            user_data::settings(block.join("\n").as_bytes())
                .unwrap()
                .unwrap(),
        );
    }
}
