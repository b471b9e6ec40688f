//! **P1 The agent never sees an upstream secret**, not in an answer's body or headers, also of an upstream that echoes it,
//! not in an error, a log, a metric or an audit record.
//!
//! The program itself serves, at its most talkative. One canary for each kind of injection is stored; an upstream
//! repeats what it received in every place of an answer and every form that the README lists. Then all that came back,
//! all that was said, and all that was written is searched for eight bytes in a row of any canary.

mod echo;
mod forms;
mod searcher;
mod traces;
mod wire;

use std::net::SocketAddr;

use echo::{BODIES, BROKEN, Echo, HEADS, KINDS, is_token};
use forms::forms;
use searcher::Searcher;
use wire::{Answer, MARK};

use crate::support::Engine;
use crate::support::database::on_both_engines;
use crate::support::real::{Client, Real};

/// Names the agent in every place where a canary could be, too: whoever does not find it looks in the wrong place.
const AGENT: &str = "agent-0451-xyzzy";

/// What was put in the place of `header`'s canary later.
const ROTATED: &str = "rT%5/+\"\\ >>>???\u{e9}\u{20ac}\u{1f600}=&Hn8Ws3Bx6";

/// A secret for each kind of injection, with characters that each encoding writes in its own way: percent, plus, space,
/// quote, backslash, solidus, what base64 writes as `+` and `/`, and characters of two, three and four bytes.
fn canary(kind: &str) -> String {
    let own = match kind {
        "header" => "Zq81vKx0Lm42",
        "prefixed" => "Yp72uJw9Kn31",
        "bearer" => "Xo63tHv8Jb20",
        "basic" => "Wn54sGu7Ha19",
        "query" => "Vm45rFt6Gz08",
        other => panic!("no canary for {other}"),
    };
    let (begin, end) = own.split_at(6);
    format!("{begin}%7/+\"\\ >>>???{begin}\u{fc}\u{20ac}\u{1f600}=&;'<{end}")
}

fn canaries() -> Vec<String> {
    KINDS.iter().map(|(kind, _)| canary(kind)).chain([ROTATED.to_owned()]).collect()
}

/// A broker that serves, the upstream, and an agent that may call all of it.
struct Scene {
    real: Real,
    echo: Echo,
    address: SocketAddr,
    token: String,
    searcher: Searcher,
}

impl Scene {
    async fn set(mut real: Real) -> Self {
        let echo = Echo::start().await;
        real.binary.set("HALLPASS_LOG__LEVEL", "trace");
        real.binary.serve(None);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let inject = "{ kind: query, name: key, credential: query }";
        let mut document = echo.document();
        document += &echo::upstream("gone", &format!("http://{closed}"), inject);
        document += &echo::upstream("nowhere", "http://no-such-name.invalid", inject);
        document += &echo::upstream("plain", &echo.upstream.url().replace("http:", "https:"), inject);
        let names = KINDS.iter().map(|(kind, _)| *kind).chain(["gone", "nowhere", "plain"]);
        let scopes: Vec<String> = names.map(|name| format!("'{name}:any'")).collect();
        document += &format!("roles: [ {{ name: support, scopes: [{}] }} ]\n", scopes.join(", "));
        real.binary.ok(&["apply", "-f", "-"], &document);
        for (kind, _) in KINDS {
            real.binary.ok(&["credential", "put", "--as-is", kind], &canary(kind));
        }
        let agent: Client = real.register(AGENT);
        let token = real.token(&agent).await;
        let address = real.binary.public.strip_prefix("http://").unwrap().parse().unwrap();
        Self { real, echo, address, token, searcher: Searcher::new(canaries()) }
    }

    /// A call for an echo, in which no part of any canary may be.
    async fn get(&self, method: &str, path: &str) -> Answer {
        let answer = Answer::get(self.address, method, path, &self.token).await;
        let leak = answer.leak(&self.searcher).await;
        assert_eq!(leak, None, "{method} {path}: {}", answer.text());
        answer
    }

    /// Every form of `kind`'s canary in each of these places.
    async fn bodies(&self, kind: &str, places: &[&str]) {
        for (n, (form, echo)) in forms(&canary(kind)).iter().enumerate() {
            for place in places {
                let mut answer = self.get("GET", &format!("/{kind}/{}/{n}", place.replace(' ', "%20"))).await;
                if place.starts_with("utf-") {
                    answer.body.retain(|byte| *byte != 0);
                }
                let what = || format!("{kind}, {place}, {form}: {}", answer.text());
                let (status, marks) = match *place {
                    "error" => (500, 1),
                    "unauthorized" => (401, 1),
                    "multipart" => (200, 2),
                    "cuts" => (200, echo.len() + 1),
                    _ => (200, 1),
                };
                // The mark tells that the secret was in the answer at all; all around it is still there.
                assert_eq!((answer.status(), answer.marks_in_body()), (status, marks), "{}", what());
                let text = String::from_utf8_lossy(&answer.body);
                assert!(text.contains("<<") && text.contains(">>"), "{}", what());
            }
        }
    }

    /// The same around a body.
    async fn heads(&self, kind: &str, places: &[&str]) {
        for (n, (form, echo)) in forms(&canary(kind)).iter().enumerate() {
            for place in places {
                let path = format!("/{kind}/{}/{n}", place.replace(' ', "%20"));
                let answer = self.get("GET", &path).await;
                let what = || format!("{kind}, {place}, {form}: {}", answer.text());
                let (status, marks) = match *place {
                    "no content" => (204, 1..=1),
                    "not modified" => (304, 1..=1),
                    "redirect" => (307, 1..=1),
                    "values" => (200, 8..=20),
                    _ => (200, 0..=0),
                };
                assert_eq!(answer.status(), status, "{}", what());
                assert!(marks.contains(&answer.marks()), "{}", what());
                let body: &[u8] = if status == 200 { b"ok" } else { b"" };
                assert_eq!(answer.body, body, "{}", what());
                if *place == "values" {
                    let answer = self.get("HEAD", &path).await;
                    assert!(answer.marks() >= 8, "{}", answer.text());
                }
                if *place == "trailers" {
                    let answer = Answer::get_http2(self.address, &path, &self.token).await;
                    assert_eq!(answer.leak(&self.searcher).await, None, "{}", answer.text());
                    assert_eq!((answer.marks(), &answer.body[..]), (1, &b"ok"[..]), "{}", answer.text());
                }
                if *place == "names" && is_token(echo) {
                    // Names come in lower case: a secret without its upper case is still most of a secret.
                    let part = String::from_utf8_lossy(&echo[echo.len() / 3..echo.len() / 3 * 2]).to_lowercase();
                    assert!(!answer.text().to_lowercase().contains(&part), "{}", what());
                }
            }
        }
    }

    /// Answers that are none, and upstreams that cannot be reached.
    async fn errors(&self) {
        for (n, (form, _)) in forms(&canary("header")).iter().enumerate() {
            for place in BROKEN {
                for kind in ["header", "query"] {
                    let answer = self.get("GET", &format!("/{kind}/{}/{n}", place.replace(' ', "%20"))).await;
                    // The head may be out before the body turns out to be none: then the connection is cut.
                    let begun = ["cut", "chunk size"].contains(place);
                    let expected: &[u16] = if begun { &[0, 200] } else { &[502] };
                    assert!(expected.contains(&answer.status()), "{kind}, {place}, {form}: {}", answer.text());
                }
            }
        }
        for name in ["gone", "nowhere", "plain"] {
            let answer = self.get("GET", &format!("/{name}/a")).await;
            assert!([502, 504].contains(&answer.status()), "{name}: {}", answer.text());
        }
    }

    /// A secret that was replaced is still good for a while, and still no business of the agent's.
    async fn rotation(&self) {
        self.real.binary.ok(&["credential", "rotate", "--as-is", "header"], ROTATED);
        for n in 0..forms(ROTATED).len() {
            for place in ["length", "old%20length"] {
                let answer = self.get("GET", &format!("/header/{place}/{n}")).await;
                assert_eq!(answer.marks_in_body(), 1, "{place} {n}: {}", answer.text());
            }
        }
        assert_eq!(self.echo.received("header"), [canary("header"), ROTATED.to_owned()]);
    }
}

async fn an_upstream_that_echoes_its_secret_leaves_no_trace_of_it(engine: Engine) {
    let Some(real) = Real::init(engine) else { return };
    let since = traces::Since::now(&real).await;
    let mut scene = Scene::set(real).await;
    scene.bodies("header", BODIES).await;
    scene.heads("header", HEADS).await;
    for (kind, _) in KINDS.iter().skip(1) {
        scene.bodies(kind, &["length"]).await;
        scene.heads(kind, &["values"]).await;
    }
    // Without this an upstream that never got the secret would pass: it has nothing to echo.
    for (kind, _) in KINDS {
        assert_eq!(scene.echo.received(kind), [canary(kind)]);
    }
    scene.errors().await;
    scene.rotation().await;
    traces::of_commands(&scene.real, &scene.searcher);
    traces::of_listeners(&scene.real, &scene.searcher).await;
    traces::of_the_process(&scene.real, &scene.searcher);
    traces::of_storage(&scene.real, &scene.searcher, &since).await;
    // What a clean end writes in addition.
    assert!(scene.real.binary.terminate().success());
    traces::of_storage(&scene.real, &scene.searcher, &since).await;
}

on_both_engines!(an_upstream_that_echoes_its_secret_leaves_no_trace_of_it);

#[test]
fn the_searcher_finds_every_form_wherever_it_is() {
    for (kind, _) in KINDS {
        let searcher = Searcher::new([canary(kind)]);
        for (form, bytes) in forms(&canary(kind)) {
            for around in [&b""[..], b"<", b"\0\x01\xff", b" noise ", b"{\"a\":\"", b"?a=b&key="] {
                let planted = [around, &bytes, b"\n", around].concat();
                assert!(searcher.find(&planted).is_some(), "{kind}, {form}: not found");
            }
            // A third of it is enough: between two canaries' worth of other letters.
            let third = &bytes[bytes.len() / 3..bytes.len() / 3 * 2];
            assert!(searcher.find(&[b"xyz.", third, b".xyz"].concat()).is_some(), "{kind}, {form}: no part found");
        }
    }
}

#[test]
fn the_searcher_finds_nothing_where_nothing_is() {
    let searcher = Searcher::new(canaries());
    let random: Vec<u8> = (0..200_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let near = canary("header").replace(['1', '7', '4', '?', '>'], "_");
    let text = data_encoding::BASE64.encode(&random);
    for clean in [&random[..], MARK, text.as_bytes(), b"", b"%", b"\\", b"\\u12", b"%7", &near.as_bytes()[..12]] {
        assert_eq!(searcher.find(clean), None);
    }
}

/// Each place in which the upstream of this test echoes is one in which the searcher would find it, were it passed on.
#[tokio::test]
async fn the_searcher_finds_it_in_every_answer_that_is_not_redacted() {
    let secret = canary("header");
    let searcher = Searcher::new([&secret]);
    for place in [BODIES, HEADS, BROKEN].concat() {
        for (form, bytes) in forms(&secret) {
            if place == "names" && !is_token(&bytes) {
                continue; // nothing there
            }
            if place == "gzip, br" {
                continue; // each is there alone
            }
            let answer = Answer::parse(echo::answer(place, &bytes).await);
            assert!(answer.leak(&searcher).await.is_some(), "{place}, {form}");
        }
    }
}

#[test]
fn the_searcher_finds_it_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let searcher = Searcher::new(canaries());
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    std::fs::write(folder.path().join("clean"), vec![0; 100_000]).unwrap();
    assert_eq!(searcher.find_in_folder(folder.path()), (None, 100_000));
    let planted = folder.path().join("deep/page");
    let mut page = vec![0; 8192];
    let form = data_encoding::BASE64.encode(ROTATED.as_bytes());
    page[4000..4000 + form.len()].copy_from_slice(form.as_bytes());
    std::fs::write(&planted, page).unwrap();
    assert_eq!(searcher.find_in_folder(folder.path()).0, Some((planted, "base64")));
}
