use std::convert::Infallible;

use async_compression::Level;
use async_compression::tokio::bufread as encode;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn encoded(plain: &[u8], coding: Coding) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => encode::GzipEncoder::new(plain).read_to_end(&mut out).await,
        Coding::Deflate => encode::ZlibEncoder::new(plain).read_to_end(&mut out).await,
        Coding::Brotli => encode::BrotliEncoder::new(plain).read_to_end(&mut out).await,
        Coding::Zstd => encode::ZstdEncoder::new(plain).read_to_end(&mut out).await,
    }
    .unwrap();
    out
}

fn body(data: &[u8], chunk: usize) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    let chunks: Vec<_> = data.chunks(chunk).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    StreamBody::new(stream::iter(chunks))
}

async fn read_all(body: DecodedBody) -> io::Result<Vec<u8>> {
    Ok(body.collect().await?.to_bytes().to_vec())
}

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

#[test]
fn plans_what_it_can_undo() {
    let plan = |values: &[&'static str]| plan(values.iter().copied());
    assert_eq!(plan(&[]), Ok(vec![]));
    assert_eq!(plan(&["identity", " ", "GZip"]), Ok(vec![Coding::Gzip]));
    assert_eq!(plan(&["deflate, br", "x-gzip"]), Ok(vec![Coding::Deflate, Coding::Brotli, Coding::Gzip]));
    assert_eq!(plan(&["zstd"]), Ok(vec![Coding::Zstd]));
    assert_eq!(plan(&["gzip, compress"]), Err(UnsupportedCoding::Named("compress")));
    assert_eq!(plan(&["gzip;q=1"]), Err(UnsupportedCoding::Unknown));
    for none in
        ["none", "utf-8", "UTF8", "iso-8859-1", "aws-chunked", "identity, identity", "chunked", "binary", "8bit"]
    {
        assert_eq!(plan(&[none]), Ok(vec![]), "{none}");
    }
    assert_eq!(plan(&["aws-chunked,gzip"]), Ok(vec![Coding::Gzip]));
    assert_eq!(plan(&["identity, gzip, identity"]), Ok(vec![Coding::Gzip]));
    for bad in ["utf-7", "?", "-", "gzip\u{fc}"] {
        assert_eq!(plan(&[bad]), Err(UnsupportedCoding::Unknown), "{bad}");
    }
    assert_eq!(plan(&["gzip,gzip,gzip,gzip"]), Err(UnsupportedCoding::TooMany));
}

#[tokio::test]
async fn undoes_each_coding_and_a_stack_of_them() {
    let plain = b"hello scanner ".repeat(5_000);
    for coding in ALL {
        let data = encoded(&plain, coding).await;
        for chunk in [1, 7, 100_000] {
            assert_eq!(read_all(decoded(body(&data, chunk), &[coding])).await.unwrap(), plain, "{coding:?}");
        }
    }
    let stacked = encoded(&encoded(&plain, Coding::Gzip).await, Coding::Brotli).await;
    assert_eq!(read_all(decoded(body(&stacked, 9), &[Coding::Gzip, Coding::Brotli])).await.unwrap(), plain);
    assert_eq!(read_all(decoded(body(&plain, 999), &[])).await.unwrap(), plain);
}

#[tokio::test]
async fn deflate_without_the_zlib_header_is_undone_too() {
    let plain = b"hello scanner ".repeat(5_000);
    let mut data = Vec::new();
    encode::DeflateEncoder::new(&plain[..]).read_to_end(&mut data).await.unwrap();
    // And as one stored block, uncompressed.
    let stored = [&[1, 5, 0, 0xfa, 0xff][..], b"hello"].concat();
    for chunk in [1, 7, 100_000] {
        assert_eq!(read_all(decoded(body(&data, chunk), &[Coding::Deflate])).await.unwrap(), plain);
        assert_eq!(read_all(decoded(body(&stored, chunk), &[Coding::Deflate])).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn decodes_all_members() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let two = [encoded(b"one,", coding).await, encoded(b"two", coding).await].concat();
        for chunk in [1, two.len()] {
            assert_eq!(read_all(decoded(body(&two, chunk), &[coding])).await.unwrap(), b"one,two", "{coding:?}");
        }
    }
}

#[tokio::test]
async fn padding_behind_a_member_is_passed_over_and_what_hides_behind_it_is_not() {
    let plain = b"hello scanner ".repeat(5_000);
    for coding in ALL {
        let data = encoded(&plain, coding).await;
        for padding in [&[0; 16][..], &[0; 5_000], b"\n", b"\r\n \t", b"\0\n\0"] {
            let padded = [&data[..], padding].concat();
            for chunk in [1, 7, 100_000] {
                let read = read_all(decoded(body(&padded, chunk), &[coding])).await;
                assert_eq!(read.unwrap(), plain, "{coding:?} {padding:?} {chunk}");
            }
        }
    }
    for coding in [Coding::Gzip, Coding::Zstd] {
        let (one, two) = (encoded(b"one,", coding).await, encoded(b"two", coding).await);
        let hidden = [&one[..], &[0; 600], &two, b"\n"].concat();
        for chunk in [1, 100_000] {
            assert_eq!(read_all(decoded(body(&hidden, chunk), &[coding])).await.unwrap(), b"one,two", "{coding:?}");
        }
        for garbage in [&b"garbage"[..], b"\0\0garbage", b"\x1f", b"\x28"] {
            let data = [&one[..], garbage].concat();
            assert!(read_all(decoded(body(&data, 5), &[coding])).await.is_err(), "{coding:?} {garbage:?}");
        }
        let cut = [&one[..], &[0; 9], &two[..two.len() - 2]].concat();
        assert!(read_all(decoded(body(&cut, 5), &[coding])).await.is_err(), "{coding:?}");
    }
}

#[tokio::test]
async fn what_is_cut_or_nonsense_is_an_error() {
    for coding in ALL {
        let data = encoded(&b"hello".repeat(99), coding).await;
        let cut = &data[..data.len() - 3];
        assert!(read_all(decoded(body(cut, 5), &[coding])).await.is_err(), "{coding:?}");
        assert!(read_all(decoded(body(b"\xffno such coding at all", 5), &[coding])).await.is_err(), "{coding:?}");
    }
}

#[tokio::test]
async fn events_come_out_as_they_were_flushed() {
    async fn flushed<W: tokio::io::AsyncWrite + Unpin>(mut w: W, at: impl Fn(&W) -> Vec<u8>) -> Vec<Vec<u8>> {
        let mut ends = Vec::new();
        for n in 0..3 {
            w.write_all(format!("data: {n}\n\n").as_bytes()).await.unwrap();
            w.flush().await.unwrap();
            ends.push(at(&w));
        }
        ends
    }
    for (coding, prefixes) in [
        (Coding::Gzip, flushed(GzipEncoder::new(Vec::new()), |w| w.get_ref().clone()).await),
        (
            Coding::Brotli,
            flushed(BrotliEncoder::with_quality(Vec::new(), Level::Precise(3)), |w| w.get_ref().clone()).await,
        ),
        (Coding::Zstd, flushed(ZstdEncoder::new(Vec::new()), |w| w.get_ref().clone()).await),
    ] {
        let (tx, rx) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
        let source = stream::unfold(rx, |mut rx| async { rx.recv().await.map(|frame| (frame, rx)) });
        let mut out = BodyDataStream::new(decoded(StreamBody::new(Box::pin(source)), &[coding]));
        let mut sent = 0;
        for (n, prefix) in prefixes.iter().enumerate() {
            tx.send(Ok(Frame::data(Bytes::copy_from_slice(&prefix[sent..])))).unwrap();
            sent = prefix.len();
            let event = tokio::time::timeout(std::time::Duration::from_secs(5), out.next()).await;
            assert_eq!(event.expect("no delay").unwrap().unwrap(), format!("data: {n}\n\n"), "{coding:?}");
        }
    }
}

#[tokio::test]
async fn a_bomb_comes_out_in_small_pieces() {
    let data = encoded(&vec![0; 20_000_000], Coding::Gzip).await;
    let mut out = BodyDataStream::new(decoded(body(&data, data.len()), &[Coding::Gzip]));
    let mut len = 0;
    while let Some(piece) = out.next().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= PIECE);
        len += piece.len();
    }
    assert_eq!(len, 20_000_000);
}
