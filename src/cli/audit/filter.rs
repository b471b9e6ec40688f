//! Which records somebody wants to see.

use clap::Args;
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use crate::world::{Clock as _, Millis, SystemClock};

/// Which records.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Filter {
    /// From this time on: 2026-01-31, 2026-01-31T09:00:00Z, or a time ago: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) since: Option<Millis>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) until: Option<Millis>,
    /// Only records of this agent (name or client id)
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Only records of this session
    #[arg(long)]
    pub(super) session: Option<String>,
    /// Only records of calls to this upstream
    #[arg(long)]
    pub(super) upstream: Option<String>,
    /// Only what was allowed, or what was denied
    #[arg(long, value_name = "DECISION", value_parser = ["allow", "deny"])]
    pub(super) decision: Option<String>,
}

/// What a filter looks at.
#[derive(Debug, Deserialize)]
struct Fields {
    at: Millis,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    agent_name: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    upstream: Option<String>,
    #[serde(default)]
    decision: Option<String>,
}

impl Filter {
    /// Whether it lets everything through.
    pub(super) fn is_open(&self) -> bool {
        let Self { since, until, agent, session, upstream, decision } = self;
        since.is_none() && until.is_none() && [agent, session, upstream, decision].iter().all(|one| one.is_none())
    }

    /// Whether a record is wanted. One that cannot be read is not hidden: it is what somebody looks for.
    pub(super) fn wants(&self, body: &str) -> bool {
        if self.is_open() {
            return true;
        }
        let Ok(seen) = serde_json::from_str::<Fields>(body) else { return true };
        let is = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        self.since.is_none_or(|since| seen.at >= since)
            && self.until.is_none_or(|until| seen.at < until)
            && (is(&self.agent, &seen.agent) || is(&self.agent, &seen.agent_name))
            && is(&self.session, &seen.session)
            && is(&self.upstream, &seen.upstream)
            && is(&self.decision, &seen.decision)
    }
}

fn parse_time(text: &str) -> Result<Millis, String> {
    time_from(text, SystemClock::new().now())
}

/// A time as somebody writes it: a date (its beginning, in UTC), a date and a time, unix milliseconds, or how long ago.
fn time_from(text: &str, now: Millis) -> Result<Millis, String> {
    if let Some(ago) = how_long(text) {
        return now.checked_sub(ago).ok_or_else(|| "this time is too far away".to_owned());
    }
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map(|day| day.midnight().assume_utc());
    let minute = || {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]");
        PrimitiveDateTime::parse(text, form).map(PrimitiveDateTime::assume_utc)
    };
    let at = day.or_else(|_| minute()).or_else(|_| OffsetDateTime::parse(text, &Rfc3339));
    let at = at.map_err(|_| {
        "write a time as 2026-01-31, 2026-01-31T09:00:00Z, or how long ago it was: 30m, 24h, 7d".to_owned()
    })?;
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| "this time is too far away".to_owned())
}

/// `90s`, `30m`, `24h`, `7d`, `2w`, in milliseconds.
fn how_long(text: &str) -> Option<Millis> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        b'w' => 7 * 86_400,
        _ => return None,
    };
    let number: Millis = text.get(..text.len() - 1)?.parse().ok().filter(|number| *number >= 0)?;
    number.checked_mul(unit * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_769_850_000_000;

    #[test]
    fn a_time_is_a_date_a_moment_a_number_or_how_long_ago() {
        for (text, millis) in [
            ("2026-01-31", 1_769_817_600_000),
            ("2026-01-31T09:00", 1_769_850_000_000),
            ("2026-01-31T09:00:00Z", 1_769_850_000_000),
            ("2026-01-31T10:00:00.250+01:00", 1_769_850_000_250),
            ("1769850000000", 1_769_850_000_000),
            ("90s", NOW - 90_000),
            ("1h", NOW - 3_600_000),
            ("7d", NOW - 7 * 86_400_000),
            ("2w", NOW - 14 * 86_400_000),
        ] {
            assert_eq!(time_from(text, NOW), Ok(millis), "{text}");
        }
        for text in ["", "h", "-1h", "1y", "1.5h", "yesterday", "2026-02-30", "2026-01-31 09:00", "99999999999999999d"]
        {
            assert!(time_from(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_takes_what_fits_all_of_it_and_what_cannot_be_read() {
        let body = r#"{"at":5,"agent":"ag_1","agent_name":"bot","session":"se_1","upstream":"crm","decision":"deny"}"#;
        let text = |value: &str| Some(value.to_owned());
        for (filter, wanted) in [
            (Filter::default(), true),
            (Filter { since: Some(5), until: Some(6), ..Filter::default() }, true),
            (Filter { since: Some(6), ..Filter::default() }, false),
            (Filter { until: Some(5), ..Filter::default() }, false),
            (Filter { agent: text("bot"), ..Filter::default() }, true),
            (Filter { agent: text("ag_1"), upstream: text("crm"), ..Filter::default() }, true),
            (Filter { agent: text("other"), ..Filter::default() }, false),
            (Filter { upstream: text("shop"), ..Filter::default() }, false),
            (Filter { decision: text("deny"), session: text("se_1"), ..Filter::default() }, true),
            (Filter { decision: text("allow"), ..Filter::default() }, false),
        ] {
            assert_eq!(filter.wants(body), wanted, "{filter:?}");
            assert!(filter.wants("no record"));
        }
    }
}
