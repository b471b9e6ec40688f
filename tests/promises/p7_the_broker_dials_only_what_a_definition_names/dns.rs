//! A name server that lies as the test tells it to, and a resolver that asks it over UDP: DNS as far as it is needed
//! (RFC 1035 §4.1), A and AAAA.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hallpass::outbound::Resolve;
use tokio::net::UdpSocket;

const A: u16 = 1;
const AAAA: u16 = 28;
const NO_SUCH_NAME: u8 = 3;

/// For each name its answers, look-up by look-up; the last one is given for ever.
type Zone = HashMap<String, Vec<Vec<IpAddr>>>;

/// The server.
pub(super) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    /// The names that were looked up, in order.
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (zone, asked) = (Arc::<Mutex<Zone>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (known, heard) = (zone.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let (name, kind) = question(&query[..length]);
                let answer = {
                    let (known, mut heard) = (known.lock().unwrap(), heard.lock().unwrap());
                    // The resolver asks for A, then for AAAA: one look-up.
                    if kind == A {
                        heard.push(name.clone());
                    }
                    let times = heard.iter().filter(|one| **one == name).count();
                    known.get(&name).map(|answers| answers[(times - 1).min(answers.len() - 1)].clone())
                };
                _ = socket.send_to(&reply(&query[..length], kind, answer), from).await.is_ok();
            }
        });
        Self { address, zone, asked, task }
    }

    /// What `name` leads to, look-up by look-up.
    pub(super) fn says(&self, name: &str, answers: &[&[&str]]) {
        let parse = |one: &&[&str]| one.iter().map(|ip| ip.parse().unwrap()).collect();
        self.zone.lock().unwrap().insert(name.into(), answers.iter().map(parse).collect());
    }

    /// How often `name` was looked up.
    pub(super) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|one| *one == name).count()
    }

    pub(super) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::new(Resolver(self.address))
    }
}

/// Asks the server anew each time: nothing is remembered between two look-ups.
struct Resolver(SocketAddr);

impl Resolve for Resolver {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let mut found = self.ask(host, A).await?;
            found.extend(self.ask(host, AAAA).await?);
            Ok(found)
        })
    }
}

impl Resolver {
    async fn ask(&self, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.0).await?;
        // Id 7, recursion desired, one question.
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.trim_end_matches('.').split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind as u8, 0, 1]);
        socket.send(&query).await?;
        let mut answer = [0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await??;
        let answer = &answer[..length];
        if answer[3] & 15 == NO_SUCH_NAME {
            return Err(io::Error::other("no such name"));
        }
        let mut rest = &answer[query.len()..];
        let mut found = Vec::new();
        while let [_, _, _, kind, _, _, _, _, _, _, high, low, data @ ..] = rest {
            let (address, after) = data.split_at(usize::from(*high) << 8 | usize::from(*low));
            found.push(match u16::from(*kind) {
                A => IpAddr::from(<[u8; 4]>::try_from(address).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(address).unwrap()),
            });
            rest = after;
        }
        Ok(found)
    }
}

fn question(query: &[u8]) -> (String, u16) {
    let mut rest = &query[12..];
    let mut labels = Vec::new();
    while let [length, more @ ..] = rest
        && *length > 0
    {
        let (label, after) = more.split_at(usize::from(*length));
        labels.push(String::from_utf8(label.to_vec()).unwrap());
        rest = after;
    }
    (labels.join("."), u16::from(rest[1]) << 8 | u16::from(rest[2]))
}

/// The question again, and each address of its kind, to be remembered for no time at all.
fn reply(query: &[u8], kind: u16, answer: Option<Vec<IpAddr>>) -> Vec<u8> {
    let code = if answer.is_none() { NO_SUCH_NAME } else { 0 };
    let addresses: Vec<Vec<u8>> = answer
        .unwrap_or_default()
        .into_iter()
        .filter_map(|ip| match (ip, kind) {
            (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
            (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut out = query.to_vec();
    out[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    out[7] = addresses.len() as u8;
    for address in addresses {
        out.extend([0xc0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 0, 0, address.len() as u8]);
        out.extend(address);
    }
    out
}
