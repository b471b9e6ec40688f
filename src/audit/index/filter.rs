//! Bloom filters: a set of terms in about 12 bits each, which says "not in it", or "maybe".
//!
//! bit(i) = (h1 + i·h2) mod m for i in 0..8, where h1 ‖ h2 is the first half of SHA-256(term) and m the length in bits
//! (Kirsch and Mitzenmacher, "Less Hashing, Same Performance"). At 12 bits a term, one in 300 that is not in it is taken for
//! one that may be.

use crate::audit::index::terms::Term;

const BITS_OF_A_TERM: usize = 12;

const PROBES: u64 = 8;

/// The filter of these terms, each of which is there once.
pub(super) fn filter_of(terms: impl ExactSizeIterator<Item = Term>) -> Vec<u8> {
    let mut filter = vec![0; (terms.len() * BITS_OF_A_TERM).div_ceil(8).max(1)];
    for term in terms {
        for (byte, bit) in places(term, filter.len()) {
            if let Some(byte) = filter.get_mut(byte) {
                *byte |= bit;
            }
        }
    }
    filter
}

/// Whether the term may be among those of the filter. A filter that is empty, which only an edited row has, may hold anything.
pub(in crate::audit) fn may_hold(filter: &[u8], term: Term) -> bool {
    filter.is_empty()
        || places(term, filter.len()).all(|(byte, bit)| filter.get(byte).is_some_and(|there| there & bit != 0))
}

fn places(term: Term, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let (one, two) = term.halves();
    let bits = (bytes as u64).saturating_mul(8).max(1);
    (0..PROBES).map(move |n| {
        let place = one.wrapping_add(n.wrapping_mul(two)) % bits;
        (usize::try_from(place / 8).unwrap_or(0), 1 << (place % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::index::terms::Field;

    fn term(n: usize) -> Term {
        Term::new(Field::Request, &format!("rq_{n}"))
    }

    #[test]
    fn what_is_in_it_is_always_found_and_little_else() {
        for size in [0, 1, 2, 500, 5000] {
            let filter = filter_of((0..size).map(term).collect::<Vec<_>>().into_iter());
            assert!((0..size).all(|n| may_hold(&filter, term(n))), "{size}");
            let others = (size..size + 10_000).filter(|n| may_hold(&filter, term(*n))).count();
            assert!(others < if size < 10 { 1_000 } else { 70 }, "{others} of 10,000 at {size}");
        }
    }

    #[test]
    fn a_row_that_was_emptied_hides_nothing() {
        assert!(may_hold(&[], term(1)));
    }
}
