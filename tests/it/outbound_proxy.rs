//! A network whose only way out is a proxy: calls go through it, and what a definition may name stays the same.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use hallpass::app::Surroundings;
use hallpass::outbound::Resolve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::real::Real;
use crate::support::{Engine, TestBroker, Upstream};

/// What the proxy was asked for, head by head.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

/// A proxy that leads every CONNECT to the same place, or refuses it with this line.
async fn proxy(to: std::net::SocketAddr, refusal: Option<&'static str>) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let heads = Heads::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                seen.0.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                if let Some(line) = refusal {
                    return client.write_all(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
                }
                let mut server = TcpStream::connect(to).await?;
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
            });
        }
    });
    (url, heads)
}

/// Knows `inside.example.com`, at a private address; of all else there is no look-up here.
struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            match host {
                "inside.example.com" => Ok(vec![IpAddr::from([10, 0, 0, 9])]),
                _ => Err(io::Error::other("no look-up in this network")),
            }
        })
    }
}

struct Scene {
    broker: TestBroker,
    upstream: Upstream,
    heads: Heads,
}

impl Scene {
    async fn new(refusal: Option<&'static str>, base_url: &str) -> Self {
        let upstream = Upstream::echo().await;
        let (proxy, heads) = proxy(upstream.address, refusal).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("http://broker:pa55-w0rd@{proxy}\n")).unwrap();
        let settings = [
            ("HALLPASS_OUTBOUND__PROXY_FILE", file.path().to_str().unwrap()),
            ("HALLPASS_OUTBOUND__NO_PROXY", "direct.example.com"),
        ];
        let surroundings = Surroundings { resolver: Arc::new(Names), ..Surroundings::default() };
        let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &settings).await.unwrap();
        let document = crate::support::real::crm_document(base_url).replace("    allow_private: true\n", "");
        broker.apply(&document).await;
        broker.put_credential("crm-key", "sk-live-0123456789abcdef").await;
        Self { broker, upstream, heads }
    }

    async fn call(&self) -> (u16, String) {
        let agent = self.broker.register("helpdesk", &["support"]).await;
        let token = self.broker.token(&agent).await;
        let url = self.broker.url("/exchange/crm/v1/contacts");
        let answer = self.broker.http.get(url).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_the_proxy_by_name_and_the_proxy_sees_who_asks() {
    let scene = Scene::new(None, "http://crm.example.com:8080").await;
    let (status, body) = scene.call().await;
    assert_eq!(status, 200, "{body}");
    let heads = scene.heads.0.lock().unwrap().clone();
    assert!(heads[0].starts_with("CONNECT crm.example.com:8080 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].to_lowercase().contains("proxy-authorization: basic "), "{heads:?}");
    let seen = scene.upstream.seen();
    assert_eq!((seen.len(), seen[0].headers.contains_key("proxy-authorization")), (1, false));
    assert_eq!(seen[0].headers["x-api-key"], "sk-live-0123456789abcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_what_is_named_is_checked_before_the_proxy_is_asked() {
    for base_url in [
        "http://10.1.2.3:8080",
        "http://100.64.0.1",
        "http://inside.example.com",
        "http://metadata.google.internal",
        "http://printer",
    ] {
        let scene = Scene::new(None, base_url).await;
        let (status, body) = scene.call().await;
        assert_eq!(status, 502, "{base_url}: {body}");
        assert!(scene.heads.0.lock().unwrap().is_empty(), "{base_url} was asked for");
        assert!(scene.upstream.seen().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_told_as_what_it_is() {
    for refusal in ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"] {
        let scene = Scene::new(Some(refusal), "http://crm.example.com").await;
        let (status, body) = scene.call().await;
        assert!(status == 502 && body.contains("outbound_proxy"), "{refusal}: {body}");
        assert!(!body.contains("pa55-w0rd"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excepted_host_is_not_asked_of_the_proxy() {
    let scene = Scene::new(None, "http://direct.example.com").await;
    let (status, body) = scene.call().await;
    assert!(status == 502 && body.contains("upstream_dns"), "{body}");
    assert!(scene.heads.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxy_is_used_where_the_settings_say_so() {
    let upstream = Upstream::echo().await;
    let (proxy, heads) = proxy(upstream.address, None).await;
    for setting in [None, Some("environment")] {
        let mut real = Real::init(Engine::Sqlite).unwrap();
        real.binary.set("HTTP_PROXY", &format!("http://{proxy}"));
        setting.iter().for_each(|value| real.binary.set("HALLPASS_OUTBOUND__PROXY", value));
        real.binary.serve(None);
        let document =
            crate::support::real::crm_document("http://crm.invalid").replace("    allow_private: true\n", "");
        real.binary.ok(&["apply", "-f", "-"], &document);
        real.binary.ok(&["credential", "put", "crm-key"], "sk-live-0123456789abcdef");
        let agent = real.register("helpdesk");
        let token = real.token(&agent).await;
        let status = real.call_status("/crm/v1/contacts", &token).await;
        assert_eq!(status, if setting.is_some() { 200 } else { 502 });
    }
    let heads = heads.0.lock().unwrap().clone();
    assert!(heads.len() == 1 && heads[0].starts_with("CONNECT crm.invalid:80 HTTP/1.1\r\n"), "{heads:?}");
}

#[test]
fn a_proxys_url_is_checked_at_start_and_a_password_stands_in_a_file() {
    for (value, words) in [
        ("https://proxy.example.com", "no http:// URL of a proxy"),
        ("socks5://proxy.example.com", "no http:// URL of a proxy"),
        ("http://user:s3cr3t-w0rd@proxy.example.com", "holds a password"),
        ("http://proxy.example.com/path", "more than a host and a port"),
    ] {
        let mut binary = crate::support::Binary::init(None);
        binary.set("HALLPASS_OUTBOUND__PROXY", value);
        let output = binary.run(&["serve", "--listen", "127.0.0.1:0"], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("outbound.proxy") && said.contains(words), "{said}");
        assert!(!said.contains("s3cr3t-w0rd"), "{said}");
    }
}
