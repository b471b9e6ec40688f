//! Content decoding, so that a compressed answer can be scanned: what cannot be read cannot be redacted.

use std::error::Error;
use std::io;
use std::mem;
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
/// nobody reads it. Behind a whole gzip member or zstd frame another one may follow; zero bytes and white space there are
/// padding, which clients pass over, too. What follows the end of the other codings is left out. Trailers are kept only if there is nothing to decode. A body that has none by the rules of HTTP
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
            Coding::Gzip => read(Members::<_, GzipDecoder<_>>::of(encoded)),
            Coding::Deflate => read(Inflate::Unread(Some(encoded))),
            Coding::Brotli => read(BrotliDecoder::new(encoded)),
            Coding::Zstd => read(Members::<_, ZstdDecoder<_>>::of(encoded)),
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

/// A coding whose data may be several, one behind the other (RFC 1952 §2.2, RFC 8878 §3.1).
trait Member<R>: AsyncRead + Unpin {
    fn begin(encoded: R) -> Self;
    /// What stands behind the end.
    fn behind(self) -> R;
}

impl<R: AsyncBufRead + Unpin> Member<R> for GzipDecoder<R> {
    fn begin(encoded: R) -> Self {
        Self::new(encoded)
    }

    fn behind(self) -> R {
        self.into_inner()
    }
}

impl<R: AsyncBufRead + Unpin> Member<R> for ZstdDecoder<R> {
    fn begin(encoded: R) -> Self {
        Self::with_params(encoded, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)])
    }

    fn behind(self) -> R {
        self.into_inner()
    }
}

/// All members of a body: an echo in the second one would be cut off otherwise, not redacted. Archives are padded to whole
/// blocks with zeros, and scripts end what they write with a line end; neither makes good data bad.
enum Members<R, D> {
    Within(D),
    Behind(R),
    Ended,
}

impl<R: AsyncBufRead + Unpin, D: Member<R>> Members<R, D> {
    fn of(encoded: R) -> Self {
        Self::Within(D::begin(encoded))
    }
}

impl<R: AsyncBufRead + Unpin, D: Member<R>> AsyncRead for Members<R, D> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this {
                Self::Within(decoder) => {
                    let before = out.filled().len();
                    ready!(Pin::new(decoder).poll_read(cx, out))?;
                    if out.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                    if let Self::Within(decoder) = mem::replace(this, Self::Ended) {
                        *this = Self::Behind(decoder.behind());
                    }
                }
                Self::Behind(encoded) => {
                    let there = ready!(Pin::new(&mut *encoded).poll_fill_buf(cx))?;
                    let padding = there.iter().take_while(|byte| is_padding(**byte)).count();
                    let (is_over, goes_on) = (there.is_empty(), padding < there.len());
                    Pin::new(&mut *encoded).consume(padding);
                    if is_over {
                        *this = Self::Ended;
                    } else if goes_on && let Self::Behind(encoded) = mem::replace(this, Self::Ended) {
                        *this = Self::of(encoded);
                    }
                }
                Self::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn is_padding(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace()
}

fn read(decoder: impl AsyncRead + Send + 'static) -> DecodedBody {
    StreamBody::new(ReaderStream::with_capacity(decoder, PIECE).map_ok(Frame::data)).boxed_unsync()
}

#[cfg(test)]
mod tests;
