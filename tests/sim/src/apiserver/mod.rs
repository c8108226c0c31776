//! The stand-in for kube-apiserver: real TLS, real etcd, real authentication, and the part of the
//! API that the other stand-ins use.

mod admission;
mod answers;
mod attributes;
mod audit;
mod authn;
mod authz;
mod checked;
mod defaults;
mod discovery;
mod event_limits;
mod itself;
mod node_proxy;
mod objects;
mod options;
mod patches;
mod pod_policies;
mod pods;
mod rbac;
mod removal;
mod reviews;
mod routes;
mod selector;
mod services;
mod tokens;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

use crate::etcd::Store;
use crate::flags::Flags;
use crate::lifecycle;
use crate::server::{Handler, Request, Response, Server};
use crate::user::User;
use admission::Rules;
use attributes::Attributes;
use audit::Audit;
use authn::Authenticator;
use authz::Authorizer;
use node_proxy::Kubelets;
use options::Options;

/// How many times, a second apart, etcd is tried before giving up.
const ETCD_TRIES: u32 = 20;

/// Runs until it is stopped.
///
/// # Errors Flags, files or an etcd with which the real program would not run.
pub fn run(flags: &Flags) -> Result<()> {
    let options = Options::read(flags)?;
    lifecycle::run_until_stopped(move || serve(options))
}

fn serve(options: Options) -> Result<()> {
    let store = lifecycle::retry(ETCD_TRIES, "etcd", || {
        let store = Store::connect(&options.etcd, &options.etcd_prefix)?;
        store.check()?;
        defaults::write(&store)?;
        Ok(store)
    })?;
    let itself = options.itself;
    let gate = Arc::new(Gate {
        store: Arc::new(store),
        rules: options.rules,
        authenticator: options.authenticator,
        authorizer: options.authorizer,
        kubelets: options.kubelets,
        audit: options.audit,
    });
    let server = Server::new()?;
    let kept = gate.clone();
    let watching = gate.clone();
    thread::spawn(move || watching.store.watch());
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
    itself.keep(&kept.store, &kept.rules)
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

/// The stages of a request on the way to an answer.
struct Gate {
    store: Arc<Store>,
    rules: Rules,
    authenticator: Authenticator,
    authorizer: Authorizer,
    kubelets: Kubelets,
    audit: Option<Audit>,
}

impl Gate {
    fn secure(&self, request: &Request) -> Response {
        let user = match self.authenticator.user(&self.store, request) {
            Ok(Some(user)) => user,
            unknown => {
                if let Err(error) = unknown {
                    eprintln!("Unable to authenticate the request: {error:#}");
                }
                let refusal = answers::status(401, "Unauthorized", "Unauthorized");
                return self.audited(request, &User::anonymous(), refusal);
            }
        };
        let asked = Attributes::of(request);
        let answer = match self.authorizer.allows(&self.store, &user, &asked) {
            Ok(true) => routes::answer(self, &user, &asked, request),
            Ok(false) => answers::status(403, "Forbidden", &authz::refusal(&user, &asked)),
            Err(error) => answers::status(500, "InternalError", &format!("{error:#}")),
        };
        self.audited(request, &user, answer)
    }

    /// The insecure port skips authentication and authorization, like the real one.
    fn insecure(&self, request: &Request) -> Response {
        let (user, asked) = (User::unsecured(), Attributes::of(request));
        let answer = routes::answer(self, &user, &asked, request);
        self.audited(request, &user, answer)
    }

    fn audited(&self, request: &Request, user: &User, answer: Response) -> Response {
        if let Some(audit) = &self.audit {
            audit.record(request, user, answer.status);
        }
        answer
    }
}
