//! Character sets: a secret in UTF-16, UTF-32 or EBCDIC is found in every body, whatever it is called; a label of another
//! set, in which ASCII looks otherwise, is refused (P1). What is no secret passes as it is.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{HEXLOWER, HEXUPPER};
use futures_util::stream;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use reqwest::Method;

use super::{HEADER, SECRET, crm, outcome, problem};
use crate::support::upstream::AnswerBody;
use crate::support::{TestBroker, Upstream};

const MARK: &str = "[redacted by hallpass]";

/// Unicode in units of so many bytes.
fn wide(text: &str, bytes: usize, big: bool) -> Vec<u8> {
    let unit = |unit: u32| {
        let mut unit = unit.to_le_bytes()[..bytes].to_vec();
        if big {
            unit.reverse();
        }
        unit
    };
    match bytes {
        2 => text.encode_utf16().flat_map(|one| unit(one.into())).collect(),
        _ => text.chars().flat_map(|one| unit(one.into())).collect(),
    }
}

const WIDTHS: [(usize, bool); 4] = [(2, false), (2, true), (4, false), (4, true)];

fn pieces(body: &[u8], size: usize) -> AnswerBody {
    let frames: Vec<_> =
        body.chunks(size).map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// An upstream that answers `/n/m` with body `n` under the content type `m`, in pieces of the size in the query.
async fn answering(bodies: Vec<Vec<u8>>, types: &'static [&'static str]) -> Upstream {
    let bodies = Arc::new(bodies);
    Upstream::start(move |seen| {
        let mut numbers = seen.uri.path().split('/').skip(1).map(|number| number.parse::<usize>().unwrap());
        let (body, of) = (&bodies[numbers.next().unwrap()], types[numbers.next().unwrap()]);
        let size = seen.uri.query().map_or(1 << 20, |size| size.parse().unwrap());
        let mut answer = Response::new(pieces(body, size));
        for one in of.split('|').filter(|one| !one.is_empty()) {
            answer.headers_mut().append("content-type", HeaderValue::from_str(one).unwrap());
        }
        answer
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_utf16_and_utf32_are_searched_whatever_the_body_is_called() {
    const TYPES: &[&str] = &[
        "text/plain; charset=UTF-16",
        "text/plain; charset=ISO-10646-UCS-2",
        "text/plain; charset = \"x-utf-16le\"",
        "text/plain|text/plain; charset=utf-32",
        "text/plain; charset=utf-8",
        "application/octet-stream",
        "",
    ];
    let json = serde_json::to_string(SECRET).unwrap();
    let spellings = [SECRET.to_owned(), json.trim_matches('"').to_owned(), HEXUPPER.encode(SECRET.as_bytes())];
    let texts: Vec<String> = spellings
        .iter()
        .flat_map(|one| ["", "\u{feff}"].map(|mark| format!("{mark}<\u{e9}\u{20ac}<{one}>\n>")))
        .collect();
    let mut cases: Vec<(String, usize, bool)> = Vec::new();
    for text in &texts {
        cases.extend(WIDTHS.map(|(bytes, big)| (text.clone(), bytes, big)));
    }
    let upstream = answering(cases.iter().map(|(text, bytes, big)| wide(text, *bytes, *big)).collect(), TYPES).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, (text, bytes, big)) in cases.iter().enumerate() {
        let secret = &spellings[texts.iter().position(|one| one == text).unwrap() / 2];
        let expected = wide(&text.replace(secret, MARK), *bytes, *big);
        for (m, of) in TYPES.iter().enumerate() {
            let path = format!("/crm/{n}/{m}{}", ["", "?1", "?3", "?7"][(n + m) % 4]);
            let answer = broker.call(Method::GET, &path, &token).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{of}");
            let body = answer.bytes().await.unwrap();
            assert!(body == expected, "{of} {bytes} {big} {}", HEXLOWER.encode(&body));
        }
    }
    assert_eq!(outcome(&broker, 0).await["redactions"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_ebcdic_and_utf7_are_searched_where_nothing_says_so() {
    // As iconv writes them: code pages 37 and 500 differ in the bracket and the exclamation mark.
    let secret = "sk!live[0123_AZaz789";
    let ebcdic = |exclamation: u8, bracket: u8| {
        let one = |c: char| match c {
            'a'..='i' => 0x81 + (c as u8 - b'a'),
            'j'..='r' => 0x91 + (c as u8 - b'j'),
            's'..='z' => 0xa2 + (c as u8 - b's'),
            'A'..='I' => 0xc1 + (c as u8 - b'A'),
            'Z' => 0xe9,
            '0'..='9' => 0xf0 + (c as u8 - b'0'),
            '!' => exclamation,
            '[' => bracket,
            _ => 0x6d,
        };
        secret.chars().map(one).collect::<Vec<u8>>()
    };
    // As in code page 930, which has Katakana where others have the small letters.
    let katakana = b"\xab\x73\x5a\x74\x71\xb5\x66\x70\xf0\xf1\xf2\xf3\x6d\xc1\xe9\x62\xb9\xf7\xf8\xf9".to_vec();
    let utf7 = b"sk+ACE-live+AFs-0123+AF8-AZaz789".to_vec();
    let secrets = [ebcdic(0x5a, 0xba), ebcdic(0x4f, 0x4a), katakana, utf7];
    let bodies = secrets.iter().map(|one| [&[0x4c; 600][..], one, &[0x6e; 600]].concat()).collect();
    let upstream = answering(bodies, &["application/octet-stream", "text/plain", ""]).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    broker.put_credential("crm-key", secret).await;
    for (n, one) in secrets.iter().enumerate() {
        for m in 0..3 {
            for size in ["", "?1", "?607"] {
                let path = format!("/crm/{n}/{m}{size}");
                let body = broker.call(Method::GET, &path, &token).send().await.unwrap().bytes().await.unwrap();
                assert!(!body.windows(8).any(|part| one.windows(8).any(|other| part == other)), "{n} {m} {size}");
                assert!(body.starts_with(&[0x4c; 600]) && body.ends_with(&[0x6e; 600]), "{n} {m} {size}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_label_of_a_set_that_is_not_searched_is_refused() {
    const TYPES: &[&str] = &[
        "text/plain; charset=utf-7",
        "text/plain; charset = utf-7",
        "text/plain; Charset=\"UTF-7\"",
        "text/plain; charset=utf-8; charset=utf-7",
        "text/plain; charset=utf-8|text/plain; charset=utf-7",
        "text/plain; charset*=us-ascii''utf-7",
        "text/plain;charset=unicode-1-1-utf-7",
        "text/plain; charset=ibm037",
        "text/plain; charset=cp500",
        "text/plain; charset=x-ebcdic-us",
        "text/plain; charset=IBM1047",
        "text/plain; charset=utf-ebcdic",
        "text/plain; charset=hz-gb-2312",
        "text/plain; charset=iso-2022-kr",
        "text/plain; charset=iso-2022-jp",
        "text/plain; charset=scsu",
        "text/plain; charset=no-such-set-0123",
    ];
    let upstream = answering(vec![b"hello".to_vec()], TYPES).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (m, of) in TYPES.iter().enumerate() {
        let answer = broker.call(Method::GET, &format!("/crm/0/{m}"), &token).send().await.unwrap();
        assert_eq!(problem(answer, 502).await, "upstream_encoding", "{of}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_no_secret_passes_byte_for_byte() {
    const TYPES: &[&str] =
        &["application/x-tar", "application/gzip", "text/plain; charset=windows-1252", "text/plain; charset=none", ""];
    let tar = [&b"name\0\0\0"[..], &[0; 505], &[1, 0, 2, 0, 3, 0, 0, 0, 7, 0, 0, 0].repeat(500), &[0; 1024]].concat();
    let random: Vec<u8> = (0..200_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let long = wide(&"a text that has no secret in it. ".repeat(3000), 2, false);
    let bodies = vec![tar, random, long, "\u{feff}hello".into(), vec![0; 100_000]];
    let upstream = answering(bodies.clone(), TYPES).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, body) in bodies.iter().enumerate() {
        for m in 0..TYPES.len() {
            for size in ["", "?777"] {
                let path = format!("/crm/{n}/{m}{size}");
                let answer = broker.call(Method::GET, &path, &token).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.bytes().await.unwrap() == body, "{n} {m} {size}");
            }
        }
    }
}

/// Lines in UTF-16 come as they are sent, the zero behind the line end included.
#[tokio::test(flavor = "multi_thread")]
async fn lines_in_utf16_are_not_held_back() {
    for (bytes, big) in WIDTHS {
        let (lines, coming) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        let coming = std::sync::Mutex::new(Some(coming));
        let upstream = Upstream::start(move |_| {
            let coming = coming.lock().unwrap().take().unwrap();
            let frames = stream::unfold(coming, |mut coming| async {
                coming.recv().await.map(|line| (Ok::<_, std::io::Error>(Frame::data(Bytes::from(line))), coming))
            });
            Response::new(StreamBody::new(Box::pin(frames)).boxed_unsync())
        })
        .await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        let first = wide("data: 1\n", bytes, big);
        lines.send(first.clone()).unwrap();
        let mut answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        let mut got = Vec::new();
        while got.len() < first.len() {
            let piece = tokio::time::timeout(std::time::Duration::from_secs(5), answer.chunk()).await;
            got.extend(piece.expect("held back").unwrap().unwrap());
        }
        assert_eq!(got, first);
    }
}
