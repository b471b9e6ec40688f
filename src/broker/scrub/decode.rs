//! Content decoding, so that a compressed answer can be scanned: what cannot be read cannot be redacted.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, StreamBody};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio_util::io::{ReaderStream, StreamReader};

use super::charset;

/// A body that is decoded while it arrives.
pub type DecodedBody = UnsyncBoxBody<Bytes, io::Error>;

/// A content coding (RFC 9110, § 8.4.1) that we can undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, `x-gzip` (RFC 1952), also of several members.
    Gzip,
    /// `deflate`: the zlib format (RFC 1950), or the raw one that some servers send instead (RFC 1951).
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878), also of several frames.
    Zstd,
}

/// A `Content-Encoding` that we cannot undo. The answer must be refused, not passed on: an upstream that mirrors
/// the secret in a coding unknown to us would hand it to the agent.
///
/// A name that nobody knows is not repeated: it is the upstream's word, and may be the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedCoding {
    /// Not one of ours.
    #[error("the content coding '{0}'")]
    Named(&'static str),
    /// Nobody's.
    #[error("an unknown content coding")]
    Unknown,
    /// More than [`MAX_CODINGS`] on top of each other.
    #[error("more than {MAX_CODINGS} content codings on top of each other")]
    TooMany,
}

/// Codings that are known, and not ours: IANA's, and what programs send besides.
const KNOWN: [&str; 14] = [
    "aes128gcm",
    "bzip2",
    "compress",
    "dcb",
    "dcz",
    "exi",
    "lz4",
    "lzma",
    "pack200-gzip",
    "sdch",
    "snappy",
    "x-bzip2",
    "x-compress",
    "xz",
];

/// How many codings may be stacked. Each multiplies what a small bomb can make us decompress.
pub const MAX_CODINGS: usize = 3;

/// Decoded bytes are read in pieces of at most this.
const PIECE: usize = 16 * 1024;

/// Base 2 logarithm of the window a zstd stream may ask us to keep: 8 MiB, as RFC 9659 demands. The format itself
/// would let an upstream claim gigabytes.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The codings that the values of the `Content-Encoding` fields name, in the order in which they were applied.
/// `identity` is none. Nor are what upstreams write there by mistake and no client undoes: `none`, a character set, and
/// how the body came (`chunked`, and `aws-chunked`, which is of requests and stays in what S3 and its likes have stored).
pub fn plan<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<Coding>, UnsupportedCoding> {
    let mut codings = Vec::new();
    for name in values.flat_map(|value| value.split(',')).map(|name| name.trim_matches([' ', '\t'])) {
        let coding = match name.to_ascii_lowercase().as_str() {
            "identity" | "chunked" | "aws-chunked" => continue,
            // Empty list members are ignored, too (RFC 9110, § 5.6.1.2).
            other if charset::is_searched(other.as_bytes()) => continue,
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            "br" => Coding::Brotli,
            "zstd" => Coding::Zstd,
            other => {
                let known = KNOWN.into_iter().find(|known| *known == other);
                return Err(known.map_or(UnsupportedCoding::Unknown, UnsupportedCoding::Named));
            }
        };
        if codings.len() == MAX_CODINGS {
            return Err(UnsupportedCoding::TooMany);
        }
        codings.push(coding);
    }
    Ok(codings)
}

/// `body` without its `codings`; the last one applied comes off first.
///
/// Data comes out as it arrives, as far as the upstream flushed it. Memory is bounded whatever the ratio, but the
/// length is not: the caller counts the bytes that come out. A body that ends too early or is not in its coding is
/// an error while reading; of stacked codings, what is broken behind the end of an outer one need not be noticed, as
/// nobody reads it. Trailers are kept only if there is nothing to decode. A body that has none by the rules of HTTP
/// (to `HEAD`, with 204 or 304) must not be passed here: it is no valid gzip.
pub fn decoded<B, E>(body: B, codings: &[Coding]) -> DecodedBody
where
    B: Body<Data = Bytes, Error = E> + Send + Unpin + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    let mut body = body.map_err(io::Error::other).boxed_unsync();
    for coding in codings.iter().rev() {
        let encoded = StreamReader::new(BodyDataStream::new(body));
        body = match coding {
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(encoded);
                decoder.multiple_members(true); // else an echo in the second member would be cut off, not redacted
                read(decoder)
            }
            Coding::Deflate => read(Inflate::Unread(Some(encoded))),
            Coding::Brotli => read(BrotliDecoder::new(encoded)),
            Coding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
                let mut decoder = ZstdDecoder::with_params(encoded, &[window]);
                decoder.multiple_members(true);
                read(decoder)
            }
        };
    }
    body
}

impl Coding {
    /// As it is written in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// `deflate` in either format, told by its first byte: that of zlib names the method 8. In the raw format such a byte
/// would begin a stored block whose padding is not zero, which no encoder writes.
enum Inflate<R> {
    Unread(Option<R>),
    Known(Pin<Box<dyn AsyncRead + Send>>),
}

impl<R: AsyncBufRead + Send + Unpin + 'static> AsyncRead for Inflate<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            *self = match &mut *self {
                Self::Known(decoder) => return decoder.as_mut().poll_read(cx, out),
                Self::Unread(encoded) => {
                    let Some(reader) = encoded.as_mut() else { return Poll::Ready(Ok(())) };
                    let first = ready!(Pin::new(reader).poll_fill_buf(cx))?.first().copied();
                    let is_zlib = first.is_none_or(|byte| byte & 0x8f == 8);
                    match encoded.take() {
                        Some(encoded) if is_zlib => Self::Known(Box::pin(ZlibDecoder::new(encoded))),
                        Some(encoded) => Self::Known(Box::pin(DeflateDecoder::new(encoded))),
                        None => return Poll::Ready(Ok(())),
                    }
                }
            };
        }
    }
}

fn read(decoder: impl AsyncRead + Send + 'static) -> DecodedBody {
    StreamBody::new(ReaderStream::with_capacity(decoder, PIECE).map_ok(Frame::data)).boxed_unsync()
}

#[cfg(test)]
mod tests {
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
}
