//! DNS over UDP and TCP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a server or a client may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The largest message.
const LARGEST: usize = 65535;

/// The largest answer over UDP that every client accepts.
const SMALL: usize = 512;

/// The transport of a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In one packet.
    Udp,
    /// Over a connection.
    Tcp,
}

/// Answers messages; `None` means no answer.
pub type Handler = Arc<dyn Fn(&[u8], Way) -> Option<Vec<u8>> + Send + Sync>;

/// Answers on `port` of all addresses, over both transports, from its own threads.
///
/// # Errors A port that cannot be bound.
pub fn listen(port: u16, handler: &Handler) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let socket = UdpSocket::bind(address).with_context(|| format!("listen on {address}/udp"))?;
    let listener =
        TcpListener::bind(address).with_context(|| format!("listen on {address}/tcp"))?;
    let (packets, connections) = (handler.clone(), handler.clone());
    thread::spawn(move || by_packets(&Arc::new(socket), &packets));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = connections.clone();
            // A client may close its connection.
            thread::spawn(move || drop(by_connection(stream, &handler)));
        }
    });
    eprintln!("serving DNS on {address}");
    Ok(())
}

fn by_packets(socket: &Arc<UdpSocket>, handler: &Handler) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let Ok((size, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let (question, socket, handler) =
            (buffer[..size].to_vec(), socket.clone(), handler.clone());
        thread::spawn(move || {
            if let Some(answer) = handler(&question, Way::Udp) {
                let answer = if answer.len() > SMALL {
                    cut(&answer)
                } else {
                    answer
                };
                // The sender may be gone.
                let _ = socket.send_to(&answer, peer);
            }
        });
    }
}

/// The header of an answer that is too long, with the truncation bit: the client then asks over
/// TCP.
fn cut(answer: &[u8]) -> Vec<u8> {
    let mut head = answer[..12].to_vec();
    head[2] |= 2;
    // No question, no answers.
    head[4..].fill(0);
    head
}

fn by_connection(mut stream: TcpStream, handler: &Handler) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    loop {
        let question = read(&mut stream)?;
        let Some(answer) = handler(&question, Way::Tcp) else {
            return Ok(());
        };
        write(&mut stream, &answer)?;
    }
}

fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let length = u16::try_from(message.len()).context("a message that is too long")?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())?;
    Ok(())
}

/// A server's answer to a message.
///
/// # Errors It does not answer.
pub fn ask(server: SocketAddr, question: &[u8], way: Way) -> Result<Vec<u8>> {
    if way == Way::Tcp {
        let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write(&mut stream, question)?;
        return read(&mut stream);
    }
    let own = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; LARGEST];
    let size = socket.recv(&mut buffer)?;
    if buffer[..size].get(..2) != question.get(..2) {
        bail!("the answer belongs to another query");
    }
    Ok(buffer[..size].to_vec())
}
