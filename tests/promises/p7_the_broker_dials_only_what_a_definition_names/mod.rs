//! **P7 The broker dials only what an upstream's definition names**: every resolved address is checked, that very address
//! is dialled, redirects are not followed, and link-local and metadata addresses never.
//!
//! Names are looked up over UDP at a name server that lies. The victim is whatever listens on loopback: it counts who
//! connects, and nobody may.

mod dns;
mod ranges;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hallpass::app::Surroundings;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::exchange::{HEADER, RawUpstream, crm, document, problem, raw, status_of};
use crate::support::real::{Real, crm_document};
use crate::support::{Engine, TestBroker, Upstream};
use dns::NameServer;
use ranges::{LOOPBACK, NEVER, PRIVATE};

/// Counts as public, and leads nowhere: the range was given back (RFC 3701), and nobody routes it.
const PUBLIC: &str = "3ffe::1";

/// Listens on 127.0.0.1 and, where there is one, ::1, on one port, and counts connections.
struct Victim {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
    }
}

impl Victim {
    async fn listen() -> Self {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let connections: Arc<AtomicUsize> = Arc::default();
        let second = TcpListener::bind(("::1", address.port())).await.ok();
        let tasks = [Some(first), second]
            .into_iter()
            .flatten()
            .map(|listener| {
                let connections = connections.clone();
                tokio::spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        connections.fetch_add(1, Ordering::SeqCst);
                        // Held open and never answered: a connection that was made is not taken for one that failed.
                        tokio::spawn(async move {
                            let mut piece = [0; 4096];
                            while matches!(stream.read(&mut piece).await, Ok(1..)) {}
                        });
                    }
                })
            })
            .collect();
        Self { address, connections, tasks }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many came. Whoever had connected before this one was counted before it, too.
    async fn visitors(&self) -> usize {
        let before = self.connections.load(Ordering::SeqCst);
        drop(tokio::net::TcpStream::connect(self.address).await.unwrap());
        while self.connections.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.connections.fetch_sub(1, Ordering::SeqCst) - 1
    }
}

/// A broker that asks this name server.
async fn broker(names: &NameServer) -> TestBroker {
    let surroundings = Surroundings { resolver: names.resolver(), ..Surroundings::default() };
    TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap()
}

/// One upstream, impatient.
fn upstream(base_url: &str, allow_private: bool) -> String {
    let text = document(base_url, HEADER, "timeouts: { connect_seconds: 1, response_seconds: 4 }");
    text.replace("allow_private: true", &format!("allow_private: {allow_private}"))
}

/// Declares it; the agent's token.
async fn declared(broker: &TestBroker, base_url: &str, allow_private: bool) -> String {
    broker.apply(&upstream(base_url, allow_private)).await;
    broker.put_credential("crm-key", crate::exchange::SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    broker.token(&agent).await
}

/// The code of a call that must fail.
async fn refused(broker: &TestBroker, token: &str) -> String {
    let answer = broker.call(Method::GET, "/crm/a", token).send().await.unwrap();
    let status = answer.status().as_u16();
    assert!([502, 504].contains(&status), "{status}");
    problem(answer, status).await
}

/// The whole table through the real router: what a name leads to decides, for calls and for `upstream test` alike.
#[tokio::test(flavor = "multi_thread")]
async fn no_range_that_is_not_public_is_dialled() {
    let (names, victim) = (NameServer::start().await, Victim::listen().await);
    let broker = broker(&names).await;
    let base = |n: usize| format!("http://n{n}.example.com:{}", victim.port());
    let token = declared(&broker, &base(0), false).await;
    let never = NEVER.iter().flat_map(|ip| [(ip, false), (ip, true)]);
    let closed = PRIVATE.iter().chain(LOOPBACK).map(|ip| (ip, false));
    for (n, (ip, allow_private)) in never.chain(closed).enumerate() {
        names.says(&format!("n{n}.example.com"), &[&[ip]]);
        broker.apply(&upstream(&base(n), allow_private)).await;
        assert_eq!(refused(&broker, &token).await, "upstream_address", "{ip}, allow_private: {allow_private}");
        let probe = broker.admin_ok("POST", "/admin/v1/upstreams/crm/test", json!({})).await;
        assert_eq!(probe["code"], "upstream_address", "{ip}, allow_private: {allow_private}: {probe}");
    }
    assert_eq!(victim.visitors().await, 0);
}

/// What the switch opens: loopback and the private ranges, of which loopback can be dialled here.
#[tokio::test(flavor = "multi_thread")]
async fn allow_private_opens_loopback_and_private_ranges() {
    let (names, victim) = (NameServer::start().await, Victim::listen().await);
    let broker = broker(&names).await;
    let base = format!("http://crm.example.com:{}", victim.port());
    names.says("crm.example.com", &[&["127.0.0.1"]]);
    let token = declared(&broker, &base, true).await;
    assert_eq!(refused(&broker, &token).await, "upstream_timeout");
    assert_eq!(victim.visitors().await, 1);
    for ip in PRIVATE.iter().chain(LOOPBACK) {
        let ip = ip.parse().unwrap();
        assert!(hallpass::policy::address::check(ip, true).is_ok(), "{ip}");
        assert!(hallpass::policy::address::check(ip, false).is_err(), "{ip}");
    }
}

/// DNS rebinding: the name is public when it is checked and loopback when somebody looks again.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let (names, victim) = (NameServer::start().await, Victim::listen().await);
    let broker = broker(&names).await;
    let token = declared(&broker, &format!("http://rebind.example.com:{}", victim.port()), false).await;
    let rounds: [&[&str]; 6] = [&[PUBLIC], &["127.0.0.1"], &[PUBLIC], &["::1"], &[PUBLIC], &["127.0.0.1", "::1"]];
    names.says("rebind.example.com", &rounds);
    for (n, round) in rounds.iter().enumerate() {
        let code = refused(&broker, &token).await;
        if *round == [PUBLIC] {
            // It was dialled, and is not there.
            assert!(["upstream_connect", "upstream_connect_timeout"].contains(&&*code), "{n}: {code}");
        } else {
            assert_eq!(code, "upstream_address", "{n}");
        }
        assert_eq!(names.asked("rebind.example.com"), n + 1, "a second look-up is one to lie to");
    }
    assert_eq!(victim.visitors().await, 0);

    // The other way round: checked as loopback, which is allowed here; metadata when somebody looks again.
    let echo = Upstream::echo().await;
    broker.apply(&upstream(&format!("http://other.example.com:{}", echo.address.port()), true)).await;
    names.says("other.example.com", &[&["127.0.0.1"], &["169.254.169.254"]]);
    assert_eq!(broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().status(), 200);
    assert_eq!((names.asked("other.example.com"), echo.seen().len()), (1, 1));
    // A new connection is a new look-up, and a new check.
    broker.apply(&upstream(&format!("http://other.example.com:{}/v2", echo.address.port()), true)).await;
    assert_eq!(refused(&broker, &token).await, "upstream_address");
    assert_eq!((names.asked("other.example.com"), echo.seen().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_address_among_good_ones_spoils_the_answer() {
    let (names, victim) = (NameServer::start().await, Victim::listen().await);
    let broker = broker(&names).await;
    let base = |n: usize| format!("http://mixed{n}.example.com:{}", victim.port());
    let token = declared(&broker, &base(0), false).await;
    let answers: [(&[&str], bool); 9] = [
        (&["127.0.0.1", PUBLIC], false),
        (&[PUBLIC, "127.0.0.1"], false),
        (&["1.1.1.1", "10.0.0.1"], false),
        (&["::1", PUBLIC], false),
        (&["::ffff:127.0.0.1", PUBLIC], false),
        (&["127.0.0.1", "169.254.169.254"], true),
        (&["127.0.0.1", "fe80::1"], true),
        (&["127.0.0.1", "::1", "fd00:ec2::254"], true),
        (&["127.0.0.1", "0.0.0.0"], true),
    ];
    for (n, (answer, allow_private)) in answers.into_iter().enumerate() {
        names.says(&format!("mixed{n}.example.com"), &[answer]);
        broker.apply(&upstream(&base(n), allow_private)).await;
        assert_eq!(refused(&broker, &token).await, "upstream_address", "{answer:?}");
    }
    assert_eq!(victim.visitors().await, 0);
}

/// Each spelling is refused when it is declared; or if one is not, when it is dialled.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_host_leads_to_loopback_or_metadata() {
    let (names, victim) = (NameServer::start().await, Victim::listen().await);
    let broker = broker(&names).await;
    let token = declared(&broker, "http://n.example.com", false).await;
    for host in ranges::SPELLINGS {
        for allow_private in [false, true] {
            if allow_private && ranges::ARE_LOOPBACK.contains(host) {
                continue; // then it says what it is, and is allowed
            }
            let base_url = serde_json::to_string(&format!("http://{host}:{}", victim.port())).unwrap();
            let body = json!({ "document": upstream(&base_url, allow_private) });
            let (status, answer) = broker.admin("POST", "/admin/v1/apply", body).await;
            if status == 200 {
                let code = refused(&broker, &token).await;
                assert!(["upstream_address", "upstream_dns"].contains(&&*code), "{host}: {code}");
            } else {
                assert_eq!((status, &answer["code"]), (400, &json!("document_invalid")), "{host}: {answer}");
            }
        }
    }
    assert_eq!(victim.visitors().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let victim = Victim::listen().await;
    let port = victim.port();
    let broker = TestBroker::start().await;
    let mut token = None;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for location in [
            format!("http://{}/x", victim.address),
            format!("//{}/x", victim.address),
            format!("http://localhost:{port}/"),
            "http://169.254.169.254/latest/meta-data/iam/security-credentials/".to_owned(),
            "http://[fd00:ec2::254]/latest/meta-data/".to_owned(),
            "/elsewhere".to_owned(),
        ] {
            let upstream = RawUpstream::answering(format!(
                "HTTP/1.1 {status} Over there\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
                 Refresh: 0; url={location}\r\nAlt-Svc: h2=\"{0}\"; ma=60, http/1.1=\"{0}\"\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n",
                victim.address
            ))
            .await;
            if token.is_none() {
                token = Some(crm(&broker, &upstream.url(), HEADER, "").await);
            }
            broker.apply(&document(&upstream.url(), HEADER, "")).await;
            for (n, method) in [Method::GET, Method::POST].into_iter().enumerate() {
                let answer = broker.call(method, "/crm/a", token.as_ref().unwrap()).send().await.unwrap();
                assert_eq!(answer.status(), status);
                // A path is one at the upstream, which agents reach here; everything else is left as it is.
                let expected = match location.strip_prefix("/e") {
                    Some(_) => broker.url(&format!("/exchange/crm{location}")),
                    None => location.clone(),
                };
                assert_eq!(answer.headers()["location"], expected);
                assert_eq!(upstream.heads().len(), n + 1, "{status} {location}");
            }
        }
    }
    assert_eq!(victim.visitors().await, 0);
}

/// What an agent writes into its request decides the path at most.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_name_another_host() {
    let victim = Victim::listen().await;
    let there = victim.address;
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let auth = format!("Connection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    for head in [
        format!("GET http://{there}/a HTTP/1.1\r\nHost: {there}\r\n"),
        format!("GET http://{there}/exchange/crm/a HTTP/1.1\r\nHost: b\r\n"),
        format!("CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n"),
        format!("GET /exchange/crm/a HTTP/1.1\r\nHost: {there}\r\n"),
        format!("GET /exchange/{there}/a HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm@{there}/a HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm//{there}/a HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm/@{there}/a HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm/http://{there}/a HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm/a?url=http://{there}/ HTTP/1.1\r\nHost: b\r\n"),
        format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-Forwarded-Host: {there}\r\nForwarded: host={there}\r\n"),
        format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-Original-URL: http://{there}/\r\n"),
        format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nProxy: http://{there}/\r\nX-Real-IP: {there}\r\n"),
    ] {
        let answer = raw(broker.running.public, format!("{head}{auth}")).await;
        assert!([200, 400, 404, 405, 421].contains(&status_of(&answer)), "{head}: {answer}");
    }
    let own = format!("\r\nhost: {}\r\n", upstream.address);
    assert!(!upstream.heads().is_empty() && upstream.heads().iter().all(|head| head.contains(&own)));
    assert_eq!(victim.visitors().await, 0);
}

/// A proxy is no place that a definition names, whatever the environment says. The program itself, and its own resolver.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_cannot_name_another_host() {
    let victim = Victim::listen().await;
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        real.binary.set(name, &format!("http://{}", victim.address));
    }
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let token = real.token(&agent).await;
    assert_eq!(real.call_status("/crm/any/a", &token).await, 200);
    assert_eq!(upstream.seen().len(), 1);
    // A name of this machine, as the system resolves it.
    let local = format!("http://localhost:{}", victim.port());
    real.binary.ok(&["apply", "-f", "-"], &crm_document(&local).replace("allow_private: true", "allow_private: false"));
    let answer = real.call("/crm/any/a", &token).await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "upstream_address");
    assert_eq!(victim.visitors().await, 0);
}

/// The victim counts: else none of the above could fail.
#[tokio::test]
async fn the_victim_counts_its_visitors() {
    let victim = Victim::listen().await;
    assert_eq!(victim.visitors().await, 0);
    let _first = tokio::net::TcpStream::connect(victim.address).await.unwrap();
    drop(tokio::net::TcpStream::connect(victim.address).await.unwrap());
    assert_eq!(victim.visitors().await, 2);
    assert_eq!(victim.visitors().await, 2);
}
