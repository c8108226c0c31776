//! `metadata-service`: OpenStack's metadata service for a test, in the foreground.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use appliance_cloud::metadata::{Fault, Service};
use appliance_cloud::server::Server;
use clap::Parser;

/// Serves a directory laid out like a config drive as OpenStack's metadata service does.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory; its file openstack/versions lists the formats of this cloud
    fixture: PathBuf,

    /// Address and port to listen on
    #[arg(long, default_value = "169.254.169.254:80")]
    listen: SocketAddr,

    /// How to fail: silent, drop, 404, 429, 500, 503, html, cut, redirect or endless
    #[arg(long)]
    fault: Option<Fault>,

    /// Fail only for paths with this end, such as meta_data.json
    #[arg(long, default_value = "")]
    at: String,

    /// How many requests fail before all succeed
    #[arg(long, default_value_t = usize::MAX)]
    times: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut service = Service::new(&arguments.fixture)?;
    if let Some(fault) = arguments.fault {
        service = service.failing(fault, &arguments.at, arguments.times);
    }
    let listener = TcpListener::bind(arguments.listen)
        .with_context(|| format!("listen at {}", arguments.listen))?;
    println!("listening at {}", arguments.listen);
    let _server = Server::start_at(listener, move |request| service.answer(request));
    loop {
        std::thread::park();
    }
}
