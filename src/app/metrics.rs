//! The metrics of the process, and what each of them means.

use std::sync::OnceLock;

use ::metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts what fell below each of some bounds.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Of what it counts.
    pub unit: Unit,
    /// One sentence; labels are named in it.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: MetricKind, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind, unit, help }
}

/// Upper bounds in seconds: a call to a near API takes milliseconds, one to a language model minutes.
const SECONDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Every metric there is. A test fails on one that is not listed here.
#[rustfmt::skip]
pub const METRICS: &[Metric] = {
    use MetricKind::{Counter, Gauge, Histogram};
    &[
        metric("hallpass_tokens_issued_total", Counter, Unit::Count, "Access tokens that were issued."),
        metric("hallpass_tokens_refused_total", Counter, Unit::Count, "Token requests that were refused, by reason."),
        metric("hallpass_sessions_continued_total", Counter, Unit::Count,
            "Token requests that went on in a session that there was, as their agent had no room for another."),
        metric("hallpass_client_authentication_failures_total", Counter, Unit::Count,
            "Agents that could not prove who they are, by reason and endpoint."),
        metric("hallpass_certificates_issued_total", Counter, Unit::Count, "Client certificates that were issued."),
        metric("hallpass_calls_total", Counter, Unit::Count, "Brokered calls whose intent was recorded."),
        metric("hallpass_calls_refused_total", Counter, Unit::Count, "Brokered calls that were refused, by reason."),
        metric("hallpass_request_headers_dropped_total", Counter, Unit::Count,
            "Headers of brokered calls that did not reach the upstream because its definition does not list them."),
        metric("hallpass_call_seconds", Histogram, Unit::Seconds,
            "Seconds from a brokered call's request to the end of its answer."),
        metric("hallpass_calls_in_flight", Gauge, Unit::Count, "Brokered calls in flight now."),
        metric("hallpass_streams_stalled_total", Counter, Unit::Count,
            "Streams of HTTP/2 that were ended because their reader did not read."),
        metric("hallpass_sessions", Gauge, Unit::Count, "Sessions that have not ended."),
        metric("hallpass_revocations_total", Counter, Unit::Count, "Revocations that are in force, by kind."),
        metric("hallpass_revocation_entries", Gauge, Unit::Count, "Lines on the revocation list now."),
        metric("hallpass_revocation_version", Gauge, Unit::Count, "Version of the revocation list; it grows with each change."),
        metric("hallpass_revocation_lists_signed_total", Counter, Unit::Count, "Revocation lists that were signed."),
        metric("hallpass_audit_records_total", Counter, Unit::Count, "Audit records that were written."),
        metric("hallpass_audit_commits_total", Counter, Unit::Count, "Commits that wrote them."),
        metric("hallpass_audit_write_failures_total", Counter, Unit::Count, "Attempts to write to the audit log that failed."),
        metric("hallpass_audit_healthy", Gauge, Unit::Count,
            "1 while the audit log can be written; 0 while everything is refused because it cannot."),
        metric("hallpass_http_responses_total", Counter, Unit::Count, "HTTP answers, by class of status."),
        metric("hallpass_connections_refused_total", Counter, Unit::Count,
            "Connections that were closed at once because as many as allowed were open."),
        metric("hallpass_admin_logins_total", Counter, Unit::Count, "Logins of admins."),
        metric("hallpass_admin_refused_total", Counter, Unit::Count, "Requests of admins that were refused, by reason."),
        metric("hallpass_trust_fetches_total", Counter, Unit::Count, "Fetches of the keys of others, by outcome."),
        metric("hallpass_certificate_reloads_total", Counter, Unit::Count,
            "Certificates, CA files and revocation lists that were read again, by outcome."),
        metric("hallpass_log_lines_lost_total", Counter, Unit::Count,
            "Lines of the log that standard error did not take."),
    ]
};

/// The metrics of this process: one recorder, however many brokers a test starts.
pub(super) fn recorder() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE.get_or_init(|| install().map_err(|error| error.to_string())).clone().map_err(Error::internal)
}

fn install() -> std::result::Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    // Buckets can be added up over nodes and time; quantiles of a while fall to 0 when that while is over.
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    let handle = builder.install_recorder()?;
    for Metric { name, kind, unit, help } in METRICS {
        match kind {
            MetricKind::Counter => ::metrics::describe_counter!(*name, *unit, *help),
            MetricKind::Gauge => ::metrics::describe_gauge!(*name, *unit, *help),
            MetricKind::Histogram => ::metrics::describe_histogram!(*name, *unit, *help),
        }
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                all.push(path);
            }
        }
    }

    #[test]
    fn every_metric_is_listed_with_its_kind_and_every_listed_one_is_there() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut found = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for (kind, word) in [
                (MetricKind::Counter, "counter!("),
                (MetricKind::Gauge, "gauge!("),
                (MetricKind::Histogram, "histogram!("),
            ] {
                for rest in text.split(word).skip(1) {
                    let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    let Some(name) = name.filter(|name| name.starts_with("hallpass_")) else { continue };
                    let listed = METRICS.iter().find(|metric| metric.name == name);
                    let listed = listed.unwrap_or_else(|| panic!("{name} of {} is not in METRICS", file.display()));
                    assert_eq!(listed.kind, kind, "{name}");
                    found.insert(listed.name);
                }
            }
        }
        let listed: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(found, listed);
        assert_eq!(METRICS.len(), listed.len(), "one is listed twice");
    }
}
