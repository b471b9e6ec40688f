//! A first look at a body: where no match can begin.
//!
//! Of a match, either the first elements are all raw, and then two certain bytes stand side by side a few bytes behind
//! its beginning; or one of these elements is escaped, and then an escape stands there that means it. A piece that has
//! none of them needs no closer look. That is a handful of comparisons, which the compiler makes for 16 bytes at once, and
//! a look at each escape, where the closer look has a table to ask for each byte.

use zeroize::Zeroizing;

use super::{Digits, Element, Kind, SHORT, first_char, nibble};

/// Bytes that are looked at in one go.
pub(super) const PIECE: usize = 128;

/// How far behind a match's beginning its sign may stand: the pair is chosen among so many first elements. The time of a
/// search tells no more of a secret than these.
pub(super) const REACH: usize = 8;

/// More pairs than this for one form are no help.
const MOST: usize = 4;

/// The signs of some forms.
pub(super) struct Sieve {
    /// Wiped, as they are bytes of the secrets.
    pairs: Zeroizing<Vec<[u8; 2]>>,
    /// What an escape means that may be one of the first elements. Wiped, too.
    meant: Zeroizing<[bool; 256]>,
    /// Whether one of the first elements may be part of a character of several bytes, which has escapes of its own.
    wide: bool,
    /// Not if a form is too short to have a pair.
    pub(super) usable: bool,
}

impl Sieve {
    pub(super) fn new(forms: usize) -> Self {
        // Reserved once: a vector that grows leaves unwiped copies behind.
        let pairs = Zeroizing::new(Vec::with_capacity(forms.saturating_mul(MOST)));
        Self { pairs, meant: Zeroizing::new([false; 256]), wide: false, usable: true }
    }

    /// Takes a form in, by those two neighbours among its first elements that the fewest bytes stand for.
    pub(super) fn admit(&mut self, kind: Kind, secret: &[u8]) {
        for at in (0..REACH).filter(|_| !kind.is_never_escaped()) {
            let Some(element) = kind.element(secret, at) else { break };
            element.each(|byte| {
                if let Some(meant) = self.meant.get_mut(usize::from(byte)) {
                    *meant = true;
                }
            });
            self.wide |= matches!(kind, Kind::Text) && secret.get(at..).and_then(first_char).is_some();
        }
        let mut best: Option<(usize, Element, Element)> = None;
        for at in 0..REACH - 1 {
            let (Some(first), Some(second)) = (kind.element(secret, at), kind.element(secret, at + 1)) else { break };
            let Some(pairs) = first.spellings().zip(second.spellings()).map(|(a, b)| a * b) else { continue };
            if best.is_none_or(|(fewest, ..)| pairs < fewest) {
                best = Some((pairs, first, second));
            }
            if pairs == 1 {
                break;
            }
        }
        match best {
            Some((pairs, first, second)) if pairs <= MOST => {
                first.each_raw(|one| second.each_raw(|two| self.pairs.push([one, two])));
            }
            _ => self.usable = false,
        }
    }

    /// From where on, between `at` and `until`, a match may begin at the earliest.
    pub(super) fn skip(&self, data: &[u8], mut at: usize, until: usize) -> usize {
        while self.usable
            && at < until
            && let Some(rest) = data.get(at..)
            && let Some(piece) = rest.first_chunk()
            && !self.holds_a_pair(piece)
            && !memchr::memchr2_iter(b'%', b'\\', piece).any(|escape| self.means_one(rest.get(escape..)))
        {
            // The sign of what begins further on may stand behind the piece.
            at = at.saturating_add(PIECE - REACH + 1);
        }
        at.min(until)
    }

    fn holds_a_pair(&self, piece: &[u8; PIECE + 1]) -> bool {
        let (Some(here), Some(next)) = (piece.first_chunk::<PIECE>(), piece.last_chunk::<PIECE>()) else { return true };
        // 0 where a pair stands.
        let mut apart = [u8::MAX; PIECE];
        for [first, second] in self.pairs.iter() {
            for ((apart, one), two) in apart.iter_mut().zip(here).zip(next) {
                *apart = (*apart).min((one ^ first) | (two ^ second));
            }
        }
        apart.iter().fold(u8::MAX, |least, apart| least.min(*apart)) == 0
    }

    /// Whether the escape that `rest` begins with means one of the first elements, or could once more data is there.
    fn means_one(&self, rest: Option<&[u8]>) -> bool {
        let is_meant = |byte: u8| self.meant.get(usize::from(byte)).is_none_or(|meant| *meant);
        match rest {
            Some([b'%', high, low, ..]) => {
                nibble(*high).zip(nibble(*low)).is_some_and(|(high, low)| is_meant(high << 4 | low))
            }
            Some([b'\\', b'u', digits @ ..]) if digits.len() >= 4 => {
                self.wide || Digits::of(digits).byte().is_some_and(is_meant)
            }
            Some([b'\\', short, ..]) if *short != b'u' => {
                SHORT.iter().any(|(escape, byte)| escape == short && is_meant(*byte))
            }
            _ => true,
        }
    }
}

impl Element {
    /// How many bytes stand for this element unescaped; `None` if that depends on what is around the secret.
    fn spellings(self) -> Option<usize> {
        match self {
            Self::Byte(b' ') => Some(2),
            Self::Byte(_) | Self::Nibble(..10) => Some(1),
            Self::Nibble(_) => Some(2),
            Self::Sextet { value, mask: 63 } => Some(if value < 62 { 1 } else { 2 }),
            Self::Sextet { .. } => None,
            Self::OneOf(these) => Some(these.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sieve(secret: &[u8]) -> Sieve {
        let mut sieve = Sieve::new(5);
        for kind in [Kind::Text, Kind::Hex, Kind::Base64(0), Kind::Base64(1), Kind::Base64(2)] {
            sieve.admit(kind, secret);
        }
        sieve
    }

    #[test]
    fn passes_over_what_holds_no_sign_and_stops_before_what_does() {
        let sieve = sieve(b"sk-live-4eC39HqLyj");
        assert!(sieve.usable && sieve.pairs.capacity() == 5 * MOST, "it has grown, and left a copy behind");
        let plain = b"nothing to be seen here, move on. ".repeat(30);
        assert!(sieve.skip(&plain, 0, plain.len()) > plain.len() - 2 * PIECE);
        let echoes: [&[u8]; 6] = [
            b"sk-live-4eC39HqLyj",
            b"s\\u006b-live-4eC39HqLyj",
            b"%73k-live-4eC39HqLyj",
            b"736B2d6c6976652d346543333948714c796a",
            b"c2stbGl2ZS00ZUMzOUhxTHlq",
            b"YTpzay1saXZlLTRlQzM5SHFMeWo=",
        ];
        for echo in echoes {
            for before in 0..300 {
                let data = [&plain[..before], echo, &plain].concat();
                assert!(sieve.skip(&data, 0, data.len()) <= before + 3, "{before} {}", String::from_utf8_lossy(echo));
            }
        }
    }

    #[test]
    fn an_escape_alone_is_a_sign() {
        let mut sieve = Sieve::new(1);
        sieve.admit(Kind::Text, b"secret-of-small-letters");
        let plain = [b'.'; 400];
        for echo in [&b"%73ecret-of-small-letters"[..], b"\\u0073ecret-of-small-letters"] {
            for before in 0..300 {
                let data = [&plain[..before], echo, &plain].concat();
                assert!(sieve.skip(&data, 0, data.len()) <= before, "{before} {}", String::from_utf8_lossy(echo));
            }
        }
    }

    #[test]
    fn an_escape_of_something_else_is_none() {
        let plain =
            br#"{"name":"Ada \u00e9","url":"https:\/\/example.com\/?q=%C3%A9","text":"\"\n\\ 100% \u20ac \x"},"#
                .repeat(20);
        let skipped = |secret: &[u8]| {
            let mut sieve = Sieve::new(1);
            sieve.admit(Kind::Text, secret);
            sieve.skip(&plain, 0, plain.len())
        };
        assert!(skipped(b"sk-live-4eC39HqLyj") > plain.len() - 2 * PIECE);
        // Each of these begins with something that stands there escaped: as a short escape, by its number, as %HH.
        for secret in
            [&b"/k-live-4eC39HqLyj"[..], b"s\"-live-4eC39HqLyj", b"sk-liv\xe94eC39HqLyj", b"sk-live\xc34eC39HqLyj"]
        {
            assert!(skipped(secret) < 150, "{}", String::from_utf8_lossy(secret));
        }
        // A character of several bytes may be one escape or two.
        assert!(skipped("sk-live€4eC39HqLyj".as_bytes()) < 150);
        assert!(skipped(b"sk-live-/4eC39HqLyj") > plain.len() - 2 * PIECE, "too far behind the beginning to matter");
    }

    #[test]
    fn an_escape_is_a_sign_if_it_means_one_of_the_first_elements_or_is_cut() {
        let mut sieve = Sieve::new(1);
        sieve.admit(Kind::Text, b"sk/live-4eC39HqLyj");
        for (escape, is_sign) in [
            (&b"%2f"[..], true),
            (b"%2F.", true),
            (b"%f2", false),
            (b"\\/", true),
            (b"\\n", false),
            (b"\\\\", false),
            (b"\\u002f", true),
            (b"\\u002F.", true),
            (b"\\u00f2", false),
            (b"%", true),
            (b"%7", true),
            (b"%7x", false),
            (b"\\", true),
            (b"\\u", true),
            (b"\\u007", true),
            (b"\\u0073", true),
            (b"\\u0074", false),
            (b"\\u0173", false),
            (b"\\t", false),
        ] {
            assert_eq!(sieve.means_one(Some(escape)), is_sign, "{}", String::from_utf8_lossy(escape));
        }
    }

    #[test]
    fn a_sign_is_never_so_far_behind_that_a_match_is_passed_over() {
        // Eight hex digits that are letters, in either case; then those for which one byte alone stands.
        let secret = b"\xab\xcd\xef\xab\x12\x34\x56\x78";
        let mut sieve = Sieve::new(1);
        sieve.admit(Kind::Hex, secret);
        assert!(sieve.usable);
        let plain = [b'.'; 400];
        for before in 0..300 {
            let data = [&plain[..before], b"abCDefAB12345678", &plain].concat();
            assert!(sieve.skip(&data, 0, data.len()) <= before, "{before}");
        }
    }

    #[test]
    fn neighbours_are_only_chosen_where_an_escape_of_either_is_a_sign() {
        // The ninth and tenth byte are the first neighbours for which one byte each stands.
        let mut sieve = Sieve::new(1);
        sieve.admit(Kind::Text, b"        a-secret");
        let plain = [b'.'; 400];
        for before in 0..300 {
            let data = [&plain[..before], b"        %61-secret", &plain].concat();
            assert!(sieve.skip(&data, 0, data.len()) <= before, "{before}");
        }
    }

    #[test]
    fn is_not_used_for_what_is_too_short_for_it() {
        assert!(!sieve(b"s").usable);
    }
}
