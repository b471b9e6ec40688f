//! Request smuggling: whatever an agent writes, the upstream gets one request with one framing, or none, and it is the
//! one that was checked. The upstream here remembers every byte and reads it by its own strict parser.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::TestBroker;

/// What must never reach the upstream: it is in each attack, without a token.
pub(super) const SMUGGLED: &str = "GET /any/smuggled HTTP/1.1\r\nHost: b\r\n\r\n";

/// One request as the strict parser read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Parsed>,
    violations: Vec<String>,
}

/// Reads requests strictly, remembers them, and answers each with its target.
pub(super) struct Recorder {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log: Arc<Mutex<Log>> = Arc::default();
        let remembered = log.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, remembered.clone()));
            }
        });
        Self { address, log, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came since the last time; fails if any byte was not as it should be.
    pub(super) fn take(&self, of: &str) -> Vec<Parsed> {
        let mut log = self.log.lock().unwrap();
        assert!(log.violations.is_empty(), "{of}: {:#?}", log.violations);
        std::mem::take(&mut log.requests)
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Log>>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match parse(&bytes) {
            Ok(Some((request, used))) => {
                bytes.drain(..used);
                let target = request.line.split(' ').nth(1).unwrap().to_owned();
                {
                    let mut log = log.lock().unwrap();
                    // The broker never pipelines: what follows an unanswered request was smuggled.
                    if !bytes.is_empty() {
                        log.violations
                            .push(format!("{request:?} is followed by {:?}", String::from_utf8_lossy(&bytes)));
                    }
                    log.requests.push(request);
                }
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read(&mut piece).await {
                // A request that breaks off is none.
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            },
            Err(why) => {
                let text = format!("{why}: {:?}", String::from_utf8_lossy(&bytes));
                return log.lock().unwrap().violations.push(text);
            }
        }
    }
}

/// One request and the bytes it took; `None` while there is not all of it.
fn parse(bytes: &[u8]) -> Result<Option<(Parsed, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    match *line.split(' ').collect::<Vec<_>>() {
        [method, target, "HTTP/1.1"]
            if is_token(method) && target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic()) => {}
        _ => return Err("request line".into()),
    }
    let mut headers = Vec::new();
    for one in lines {
        let (name, value) = one.split_once(':').ok_or("header without a colon")?;
        if !is_token(name) {
            return Err(format!("header name {name:?}"));
        }
        if value.chars().any(|c| c != '\t' && (c < ' ' || c == '\u{7f}')) {
            return Err(format!("header value {value:?}"));
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches(' ').to_owned()));
    }
    let all = |wanted: &str| {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    if all("host").len() != 1 {
        return Err("not one Host".into());
    }
    let start = end + 4;
    let (body, used) = match (&*all("content-length"), &*all("transfer-encoding")) {
        ([], []) => (Vec::new(), start),
        ([length], []) => {
            if !length.bytes().all(|b| b.is_ascii_digit()) || (length.starts_with('0') && *length != "0") {
                return Err(format!("Content-Length {length:?}"));
            }
            let length: usize = length.parse().map_err(|_| "Content-Length")?;
            match bytes.get(start..start + length) {
                Some(body) => (body.to_vec(), start + length),
                None => return Ok(None),
            }
        }
        ([], ["chunked"]) => match chunks(bytes, start)? {
            Some(all) => all,
            None => return Ok(None),
        },
        (lengths, codings) => return Err(format!("two framings: {lengths:?} {codings:?}")),
    };
    let body = body.iter().map(|byte| char::from(*byte)).collect();
    Ok(Some((Parsed { line, headers, body }, used)))
}

/// The body of chunks from `at`, and where it ends. No extensions, no trailers: the broker sends none.
fn chunks(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[..end]).map_err(|_| "chunk size")?;
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk size {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| "chunk size")?;
        let (start, next) = (at + end + 2, at + end + 2 + size + 2);
        let Some(data) = bytes.get(start..next) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk without its end".into());
        }
        if size == 0 {
            return Ok(Some((body, next)));
        }
        body.extend_from_slice(&data[..size]);
        at = next;
    }
}

/// A broker with one upstream, at which everything below `/any/` may be called.
pub(super) async fn broker_before(base_url: &str) -> (TestBroker, String) {
    let broker = TestBroker::start().await;
    let document = format!(
        r#"
upstreams:
  - name: crm
    base_url: {base_url}
    allow_private: true
    inject: {{ kind: header, name: X-Api-Key, credential: crm-key }}
    timeouts: {{ response_seconds: 5, idle_seconds: 5 }}
    operations: [ {{ id: any, methods: [GET, POST, PUT, HEAD], path: "/any/{{*rest}}", scope: any }} ]
roles: [ {{ name: support, scopes: ["crm:any"] }} ]
"#
    );
    broker.apply(&document).await;
    broker.put_credential("crm-key", "sk-live-0123456789abcdef").await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    (broker, token)
}

/// Asserts that a good call over the pooled connections is answered with its own answer.
pub(super) async fn good_call(broker: &TestBroker, token: &str, of: &str) {
    for n in 0..2 {
        let path = format!("/any/good-{n}");
        let answer = broker.call(Method::GET, &format!("/crm{path}"), token).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, path), "after {of}");
    }
}

/// Sends these bytes (each char one byte); gives what came back when the broker closed or said nothing for a while.
async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes: Vec<u8> = request.chars().map(|c| c as u8).collect();
    _ = stream.write_all(&bytes).await.is_ok();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        // The first answer may take its time on a busy machine. What follows it was asked for in the same bytes.
        let patience = Duration::from_millis(if answer.is_empty() { 1500 } else { 100 });
        match tokio::time::timeout(patience, stream.read(&mut piece)).await {
            Ok(Ok(n @ 1..)) => answer.extend_from_slice(&piece[..n]),
            _ => return answer.iter().map(|byte| char::from(*byte)).collect(),
        }
    }
}

/// What may come of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// 400 (or another refusal, or a hung-up connection), and the upstream hears nothing.
    Refused,
    /// The upstream gets one request with this body.
    One(&'static str),
    /// The broker waits for more, which never comes; the upstream gets no whole request.
    Waits,
}

use End::{One, Refused, Waits};

/// Heads between `POST … HTTP/1.1\r\nHost…\r\n` and the empty line, and what follows it. `{S}` is the smuggled request.
const FRAMINGS: &[(&str, &str, &str, End)] = &[
    ("CL.0", "Content-Length: 0", "{S}", One("")),
    ("no framing", "X-A: b", "{S}", One("")),
    // hyper takes the chunks, drops Content-Length, and closes: nothing of the rest is read.
    ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\n{S}", One("")),
    ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4", "1\r\nx\r\n0\r\n\r\n{S}", One("x")),
    ("TE xchunked", "Transfer-Encoding: xchunked", "0\r\n\r\n{S}", Refused),
    ("TE identity", "Transfer-Encoding: identity", "{S}", Refused),
    ("TE chunked, identity", "Transfer-Encoding: chunked, identity", "0\r\n\r\n{S}", Refused),
    ("TE identity, chunked", "Transfer-Encoding: identity, chunked", "0\r\n\r\n{S}", Refused),
    ("TE gzip, chunked", "Transfer-Encoding: gzip, chunked", "0\r\n\r\n{S}", Refused),
    ("TE chunked, chunked", "Transfer-Encoding: chunked, chunked", "0\r\n\r\n{S}", Refused),
    ("TE quoted", "Transfer-Encoding: \"chunked\"", "0\r\n\r\n{S}", Refused),
    ("TE ;parameter", "Transfer-Encoding: chunked;a=b", "0\r\n\r\n{S}", Refused),
    ("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    ("TE and another TE", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n{S}", Refused),
    ("another TE and TE", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    ("TE empty", "Transfer-Encoding:", "0\r\n\r\n{S}", Refused),
    ("TE, VT", "Transfer-Encoding: \u{b}chunked", "0\r\n\r\n{S}", Refused),
    ("TE, FF", "Transfer-Encoding: \u{c}chunked", "0\r\n\r\n{S}", Refused),
    ("TE, NEL", "Transfer-Encoding: \u{85}chunked", "0\r\n\r\n{S}", Refused),
    ("TE, NBSP", "Transfer-Encoding: chunked\u{a0}", "0\r\n\r\n{S}", Refused),
    ("TE, NUL", "Transfer-Encoding: chunked\u{0}", "0\r\n\r\n{S}", Refused),
    ("TE, bare CR", "Transfer-Encoding: chunked\rX: y", "0\r\n\r\n{S}", Refused),
    ("TE folded", "Transfer-Encoding:\r\n chunked", "0\r\n\r\n{S}", Refused),
    ("folded into TE", "X-A: b\r\n Transfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    ("TE, space before the colon", "Transfer-Encoding : chunked", "0\r\n\r\n{S}", Refused),
    ("TE, tab before the colon", "Transfer-Encoding\t: chunked", "0\r\n\r\n{S}", Refused),
    ("TE, space in the name", "Transfer Encoding: chunked", "0\r\n\r\n{S}", Refused),
    ("TE, space before the name", " Transfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    // No other framing than ours: white space around a value is no part of it, and names have no case (RFC 9112 §5.1).
    ("TE, two spaces", "Transfer-Encoding:  chunked ", "1\r\nx\r\n0\r\n\r\n", One("x")),
    ("TE, tab", "Transfer-Encoding:\tchunked", "1\r\nx\r\n0\r\n\r\n", One("x")),
    ("TE, mixed case", "tRaNsFeR-eNcOdInG: cHuNkEd", "1\r\nx\r\n0\r\n\r\n", One("x")),
    // Another name is no framing, and does not travel on: see the underscore.
    ("TE with an underscore", "Transfer_Encoding: chunked", "{S}", One("")),
    ("CL with an underscore", "Content_Length: 5", "{S}", One("")),
    ("two CL", "Content-Length: 5\r\nContent-Length: 6", "hello!{S}", Refused),
    // hyper makes one of two that are equal (RFC 9112 §6.3 allows it): the upstream gets one.
    ("two equal CL", "Content-Length: 5\r\nContent-Length: 5", "hello{S}", One("hello")),
    ("CL 5, 5", "Content-Length: 5, 5", "hello{S}", Refused),
    ("CL 5,6", "Content-Length: 5,6", "hello{S}", Refused),
    ("CL +5", "Content-Length: +5", "hello{S}", Refused),
    ("CL -5", "Content-Length: -5", "hello{S}", Refused),
    ("CL 0x5", "Content-Length: 0x5", "hello{S}", Refused),
    ("CL 5.0", "Content-Length: 5.0", "hello{S}", Refused),
    ("CL 5 5", "Content-Length: 5 5", "hello{S}", Refused),
    ("CL empty", "Content-Length:", "{S}", Refused),
    ("CL overflow", "Content-Length: 18446744073709551621", "hello{S}", Refused),
    ("CL, space before the colon", "Content-Length : 5", "hello{S}", Refused),
    ("CL folded", "Content-Length: 0\r\n 5", "hello{S}", Refused),
    ("CL, spaces", "Content-Length:   5  ", "hello", One("hello")),
    ("CL, leading zeros", "Content-Length: 0005", "hello", One("hello")),
    ("bare CR in a value", "X-A: b\rTransfer-Encoding: chunked", "{S}", Refused),
    ("NUL in a value", "X-A: b\u{0}c", "{S}", Refused),
    ("NUL in a name", "X-\u{0}A: b", "{S}", Refused),
    ("space in a name", "X A: b", "{S}", Refused),
    ("empty name", ": b", "{S}", Refused),
    ("no colon", "X-A", "{S}", Refused),
    ("bare CR for a line's end", "X-A: b\rX-B: c\r", "{S}", Refused),
    ("obs-fold", "X-A: b\r\n c", "{S}", Refused),
    (
        "Connection names the framing",
        "Connection: Content-Length, Transfer-Encoding\r\nContent-Length: 5",
        "hello",
        One("hello"),
    ),
    ("Expect", "Expect: 100-continue\r\nContent-Length: 5", "hello", One("hello")),
    ("chunk size 0x", "Transfer-Encoding: chunked", "0x1\r\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size +", "Transfer-Encoding: chunked", "+1\r\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size -", "Transfer-Encoding: chunked", "-1\r\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size empty", "Transfer-Encoding: chunked", "\r\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size overflow", "Transfer-Encoding: chunked", "10000000000000001\r\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size, bare LF", "Transfer-Encoding: chunked", "1\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size, bare CR", "Transfer-Encoding: chunked", "1\rx\r\n0\r\n\r\n{S}", Refused),
    ("chunk longer than its size", "Transfer-Encoding: chunked", "1\r\nxyz\r\n0\r\n\r\n{S}", Refused),
    ("chunk end, bare LF", "Transfer-Encoding: chunked", "1\r\nx\n0\r\n\r\n{S}", Refused),
    ("extension, bare LF", "Transfer-Encoding: chunked", "1;a\nx\r\n0\r\n\r\n{S}", Refused),
    ("chunk size, leading zeros", "Transfer-Encoding: chunked", "0001\r\nx\r\n000\r\n\r\n", One("x")),
    ("extension", "Transfer-Encoding: chunked", "1;a=\"b\"\r\nx\r\n0;c\r\n\r\n", One("x")),
    ("trailers", "Transfer-Encoding: chunked", "1\r\nx\r\n0\r\nContent-Length: 9\r\nX-T: y\r\n\r\n", One("x")),
    ("no final CRLF", "Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n", Waits),
    ("no last chunk", "Transfer-Encoding: chunked", "1\r\nx\r\n", Waits),
    ("less than CL", "Content-Length: 50", "hello", Waits),
];

/// Request lines before ` … Host, Authorization, empty line`, with `{P}` for the path.
const LINES: &[(&str, &str, End)] = &[
    ("two spaces", "GET  {P} HTTP/1.1\r\n", Refused),
    ("two spaces before the version", "GET {P}  HTTP/1.1\r\n", Refused),
    ("a tab", "GET\t{P}\tHTTP/1.1\r\n", Refused),
    ("a space before", " GET {P} HTTP/1.1\r\n", Refused),
    ("a space in the target", "GET {P}/a b HTTP/1.1\r\n", Refused),
    ("a version within the target", "GET {P} HTTP/1.1 HTTP/1.1\r\n", Refused),
    ("a tab in the target", "GET {P}\t HTTP/1.1\r\n", Refused),
    ("a bare CR", "GET {P} HTTP/1.1\rX: y\r\n", Refused),
    ("NUL in the target", "GET {P}\u{0} HTTP/1.1\r\n", Refused),
    ("HTTP/0.9", "GET {P}\r\n", Refused),
    ("HTTP/1.2", "GET {P} HTTP/1.2\r\n", Refused),
    ("HTTP/2.0", "GET {P} HTTP/2.0\r\n", Refused),
    ("http/1.1", "GET {P} http/1.1\r\n", Refused),
    ("HTTP/1.10", "GET {P} HTTP/1.10\r\n", Refused),
    ("a whole URL", "GET http://b{P} HTTP/1.1\r\n", Refused),
    // `Host: b` beside it: two servers.
    ("a whole URL of ours", "GET http://{A}{P} HTTP/1.1\r\n", Refused),
    ("a whole URL of ours, a user in it", "GET http://b@{A}{P} HTTP/1.1\r\n", Refused),
    ("a whole URL of ours, Host twice", "GET http://{A}{P} HTTP/1.1\r\nHost: {A}\r\n", Refused),
    ("a whole URL of ours, HTTP/1.0 with TE", "POST http://{A}{P} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", Refused),
    ("a host and a port", "GET {A} HTTP/1.1\r\n", Refused),
    ("encoded line ends", "GET {P}%0d%0aX:y HTTP/1.1\r\n", Refused),
    ("a method that is none", "GE(T {P} HTTP/1.1\r\n", Refused),
    ("HTTP/1.0 with TE", "POST {P} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", Refused),
    ("HTTP/1.0", "GET {P} HTTP/1.0\r\n", One("")),
    ("an empty line before", "\r\nGET {P} HTTP/1.1\r\n", One("")),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_one_request_or_none() {
    let upstream = Recorder::start().await;
    let (broker, token) = broker_before(&upstream.url()).await;
    let authorization = format!("Host: b\r\nAuthorization: Bearer {token}\r\n");
    let framings = FRAMINGS.iter().map(|(name, head, body, end)| {
        let request = format!("POST /exchange/crm/any/row HTTP/1.1\r\n{authorization}{head}\r\n\r\n{body}");
        (*name, request.replace("{S}", SMUGGLED), *end)
    });
    let lines = LINES.iter().map(|(name, line, end)| {
        let body = if line.contains("chunked") { "0\r\n\r\n" } else { "" };
        let line = line.replace("{P}", "/exchange/crm/any/row").replace("{A}", &broker.running.public.to_string());
        let request = format!("{line}{authorization}\r\n{body}{SMUGGLED}");
        (*name, request, *end)
    });
    let mut wrong = Vec::new();
    // A whole URL that names us, and a Host that says the same: one request, framed as any other.
    let own = broker.running.public;
    let whole = FRAMINGS.iter().map(|(name, head, body, end)| {
        let host = authorization.replace("Host: b", &format!("Host: {own}"));
        let request = format!("POST http://{own}/exchange/crm/any/row HTTP/1.1\r\n{host}{head}\r\n\r\n{body}");
        (*name, request.replace("{S}", SMUGGLED), *end)
    });
    for (name, request, end) in framings.chain(lines).chain(whole) {
        let answer = send(broker.running.public, &request).await;
        let status: u16 = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let seen = upstream.take(name);
        let lines: Vec<_> = seen.iter().map(|one| one.line.split(' ').nth(1).unwrap()).collect();
        let right = match end {
            Refused => seen.is_empty() && (status == 0 || (400..500).contains(&status)),
            One(body) => {
                lines == ["/any/row"] && seen[0].body == body && (status == 200 || answer.contains("HTTP/1.1 200"))
            }
            Waits => seen.is_empty() && !(200..300).contains(&status),
        };
        if !right {
            wrong.push(format!("{name}: wanted {end:?}, got {status}, upstream saw {seen:?}"));
        }
        good_call(&broker, &token, name).await;
        let good = upstream.take(name);
        assert_eq!(good.len(), 2, "after {name}: {good:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Every call that the log allowed is one of those, and none is the smuggled one.
    let records = broker.records().await;
    let mut intents = records.iter().filter(|one| one["kind"] == "call.intent");
    assert!(
        intents.all(|one| one["target"] == "/any/row" || one["target"].as_str().unwrap().starts_with("/any/good-"))
    );
}
