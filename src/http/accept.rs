//! Which of two media types a caller prefers (RFC 9110 §12.5.1).

use http::header::{ACCEPT, HeaderMap};

/// The type of problem details (RFC 9457 §6.1).
pub(super) const PROBLEM: &str = "application/problem+json";

/// What the same bytes are called for those who do not know that type.
pub(super) const JSON: &str = "application/json";

/// The name under which a caller takes a problem: [`PROBLEM`], unless what it sent as `Accept` likes [`JSON`] better or
/// does not take [`PROBLEM`] at all. Many SDKs look for `application/json` by name and show nothing of anything else.
pub(super) fn name_of_problem(headers: &HeaderMap) -> &'static str {
    // For each of the two: how exactly the range names it that does so most exactly, and its weight.
    let (mut problem, mut json) = ((0, 0), (0, 0));
    let mut is_said = false;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',').filter_map(Range::parse) {
            is_said = true;
            problem = problem.max((range.precision(PROBLEM), range.quality));
            json = json.max((range.precision(JSON), range.quality));
        }
    }
    // A range that does not name the type says nothing of it, whatever its weight.
    let weight = |(precision, quality): (u8, u16)| if precision == 0 { 0 } else { quality };
    // Without the header, or with nothing in it, everything is welcome.
    if is_said && (weight(problem) == 0 || weight(json) > weight(problem)) { JSON } else { PROBLEM }
}

/// One media range and its weight, in thousandths.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    /// Parameters other than `q` are passed over: neither type has any.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let weight =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = weight.map_or(Some(1000), |(_, value)| weight_of(value.trim()))?;
        Some(Self { main, sub, quality })
    }

    /// How exactly it names this type; 0 if it does not.
    fn precision(&self, kind: &str) -> u8 {
        let Some((main, sub)) = kind.split_once('/') else { return 0 };
        match (self.main, self.sub) {
            ("*", "*") => 1,
            (one, "*") if one.eq_ignore_ascii_case(main) => 2,
            (one, other) if one.eq_ignore_ascii_case(main) && other.eq_ignore_ascii_case(sub) => 3,
            _ => 0,
        }
    }
}

/// `qvalue` (RFC 9110 §12.4.2), in thousandths; a range with a weight that is none is passed over.
fn weight_of(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    let is_fraction = digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    let fraction: u16 = format!("{digits:0<3}").parse().ok().filter(|_| is_fraction)?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(accept: &[&str]) -> &'static str {
        let pairs = accept.iter().map(|value| (ACCEPT, value.parse().unwrap()));
        name_of_problem(&pairs.collect())
    }

    #[test]
    fn rfc9110_s12_5_1_the_most_exact_range_decides() {
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["Application/Problem+JSON"],
            &["application/problem+json;q=0.1"],
            &["application/problem+json; q=1.0, application/json"],
            // What browsers' fetch libraries send: both are as welcome.
            &["application/json, text/plain, */*"],
            &["text/html", "*/*;q=0.8"],
            &["application/problem+json;charset=utf-8"],
            &["application/json;q=0, */*"],
            &["application/json;q=0.5, application/problem+json;q=0.9"],
            // No media range at all: as if nothing had been said.
            &["json"],
            &["*/*;q=2"],
        ] {
            assert_eq!(name(accept), PROBLEM, "{accept:?}");
        }
        for accept in [
            &["application/json"][..],
            &["application/json; charset=utf-8"],
            &["application/vnd.github+json"],
            &["text/event-stream"],
            &["text/html, application/xhtml+xml"],
            &["text/*"],
            &["application/problem+json;q=0, */*"],
            &["application/problem+json ; Q=0.000, application/*"],
            &["*/*;q=0"],
            &["application/*;q=0, */*"],
            &["application/problem+xml, application/json"],
            &["application/json, */*;q=0.1"],
            &["application/json", "application/problem+json;q=0.9"],
        ] {
            assert_eq!(name(accept), JSON, "{accept:?}");
        }
    }
}
