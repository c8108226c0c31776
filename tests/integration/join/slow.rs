//! Slow clients: whoever holds connections open, and sends a byte now and then, keeps nobody out.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use appliance::join::trust::FirstSeen;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::bed::{Bed, Node, connect_from};

/// How many addresses hold connections open, and how many each. Together this is more than a service accepts.
const ADDRESSES: u8 = 20;
const EACH: usize = 20;

/// The head of a request, and a part of its body.
const BEGINNING: &[u8] = b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";

/// The connections that are held open.
struct Slow {
    _plain: Vec<TcpStream>,
    _encrypted: Vec<StreamOwned<ClientConnection, TcpStream>>,
}

impl Slow {
    /// Opens connections to the service at `port`: most of them stop in the handshake. If the service accepts
    /// clients without a certificate, the first one of each address stops in the body of a request.
    fn at(port: u16, accepts_all: bool) -> Slow {
        let addresses = (1..=ADDRESSES).map(|last| Ipv4Addr::new(127, 0, 9, last));
        let mut slow = Slow {
            _plain: Vec::new(),
            _encrypted: Vec::new(),
        };
        for address in addresses {
            if accepts_all {
                let mut stream = StreamOwned::new(anyone(), connect_from(address, port));
                // The service may close it at once.
                let _ = stream.write_all(BEGINNING).and_then(|()| stream.flush());
                slow._encrypted.push(stream);
            }
            for _ in 0..EACH {
                let mut stream = connect_from(address, port);
                // The head of a TLS record that never comes.
                let _ = stream.write_all(&[22, 3, 1]);
                slow._plain.push(stream);
            }
        }
        slow
    }
}

fn anyone() -> ClientConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(FirstSeen::new(provider)))
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "master".try_into().unwrap()).unwrap()
}

#[test]
fn slow_clients_keep_no_worker_out() {
    let bed = Bed::new();
    let _slow = Slow::at(bed.port, true);
    bed.join(&Node::new("server01")).unwrap();
}

#[test]
fn slow_clients_keep_no_renewal_out() {
    let bed = Bed::new();
    let node = Node::new("server01");
    node.keep(&bed.join(&node).unwrap());
    let _slow = [(bed.port, true), (bed.port + 1, false)].map(|(port, all)| Slow::at(port, all));
    node.renew(&bed).unwrap();
}
