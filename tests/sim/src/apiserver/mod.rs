//! The stand-in for kube-apiserver: real TLS, real etcd, real authentication, and
//! as much of the API as its peers among the stand-ins use.

mod audit;
mod authn;
mod authz;
mod options;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::etcd::Store;
use crate::flags::Flags;
use crate::lifecycle;
use crate::server::{Handler, Request, Response, Server};
use audit::Audit;
use authn::{Authenticator, User};
use authz::Authorizer;
use options::Options;

/// How many times, a second apart, etcd is asked before giving up.
const ETCD_TRIES: u32 = 20;

/// Runs until told to stop.
///
/// # Errors
/// Flags, files or an etcd that the real program would not run with.
pub fn run(flags: &Flags) -> Result<()> {
    let options = Options::read(flags)?;
    lifecycle::run_until_stopped(move || serve(options))
}

fn serve(options: Options) -> Result<()> {
    let store = lifecycle::retry(ETCD_TRIES, "etcd", || {
        let store = Store::connect(&options.etcd, &options.etcd_prefix)?;
        store.check()?;
        Ok(store)
    })?;
    let gate = Arc::new(Gate {
        store,
        authenticator: options.authenticator,
        authorizer: options.authorizer,
        audit: options.audit,
    });
    let server = Server::new()?;
    if let Some((address, config)) = options.secure {
        let gate = gate.clone();
        let handler: Handler = Arc::new(move |request| gate.secure(&request));
        listen(&server, address, Some(config), handler)?;
    }
    if let Some(address) = options.insecure {
        let handler: Handler = Arc::new(move |request| gate.insecure(&request));
        listen(&server, address, None, handler)?;
    }
    lifecycle::notify_ready()?;
    loop {
        std::thread::park();
    }
}

fn listen(
    server: &Server,
    address: SocketAddr,
    tls: Option<rustls::ServerConfig>,
    handler: Handler,
) -> Result<()> {
    server
        .listen(address, tls, handler)
        .context("failed to create listener")
}

/// What a request passes on its way to an answer.
struct Gate {
    store: Store,
    authenticator: Authenticator,
    authorizer: Authorizer,
    audit: Option<Audit>,
}

impl Gate {
    fn secure(&self, request: &Request) -> Response {
        let Some(user) = self.authenticator.user(request) else {
            let refusal = routes::status(401, "Unauthorized", "Unauthorized");
            return self.audited(request, &User::anonymous(), refusal);
        };
        let answer = match self.authorizer.decide(&user, request) {
            Ok(()) => routes::answer(&self.store, request),
            Err(refusal) => routes::status(403, "Forbidden", &refusal),
        };
        self.audited(request, &user, answer)
    }

    /// The insecure port skips authentication and authorization, as the real one.
    fn insecure(&self, request: &Request) -> Response {
        let answer = routes::answer(&self.store, request);
        self.audited(request, &User::unsecured(), answer)
    }

    fn audited(&self, request: &Request, user: &User, answer: Response) -> Response {
        if let Some(audit) = &self.audit {
            audit.record(request, user, answer.status);
        }
        answer
    }
}
