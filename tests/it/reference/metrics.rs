//! `docs/metrics.md`, from the places where metrics are written and described.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;

use super::source::{literal, sources};
use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
`GET /metrics` at the ops listener (`listen.ops`) answers in the text format of Prometheus.
[Operations](operations.md) says what to watch. A histogram has the series `_bucket`, `_sum` and `_count`.

";

#[derive(Default)]
struct Metric {
    kind: &'static str,
    labels: BTreeSet<String>,
    about: Option<String>,
}

/// Every `counter!(…)` and its kin among some tokens, also inside of other macros.
fn collect(tokens: TokenStream, metrics: &mut BTreeMap<String, Metric>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (n, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        match &tokens[..n] {
            [.., TokenTree::Ident(name), TokenTree::Punct(sign)] if sign.as_char() == '!' => {
                add(&name.to_string(), group.stream(), metrics);
            }
            // The table in `app/metrics.rs`.
            [.., TokenTree::Ident(name)] if name == "metric" => {
                let texts: Vec<String> = group.stream().into_iter().filter_map(|token| literal(&token)).collect();
                if let [name, help] = texts.as_slice() {
                    metrics.entry(name.clone()).or_default().about = Some(help.clone());
                }
            }
            _ => {}
        }
        collect(group.stream(), metrics);
    }
}

fn add(name: &str, tokens: TokenStream, metrics: &mut BTreeMap<String, Metric>) {
    let kind = match name {
        "counter" => "counter",
        "gauge" => "gauge",
        "histogram" => "histogram",
        _ => return,
    };
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let texts: Vec<String> = tokens.iter().filter_map(literal).collect();
    let Some(metric) = texts.first().filter(|first| first.starts_with("hallpass_")) else { return };
    let entry = metrics.entry(metric.clone()).or_default();
    entry.kind = kind;
    let is_label = |pair: &[TokenTree]| match pair {
        [text, TokenTree::Punct(sign)] if sign.as_char() == '=' => literal(text),
        _ => None,
    };
    entry.labels.extend(tokens.windows(2).filter_map(is_label));
}

#[test]
fn every_metric_is_on_its_page() {
    let mut metrics = BTreeMap::new();
    for source in sources() {
        collect(source.file.to_token_stream(), &mut metrics);
    }
    assert!(metrics.len() > 20, "the sources are written in another way now");
    let silent: Vec<_> = metrics.iter().filter(|(_, metric)| metric.about.is_none()).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "give these a line in METRICS (src/app/metrics.rs): {silent:?}");
    let mut page = format!("# Metrics\n\n{MADE}\n\n{HEAD}{}", head(&["metric", "kind", "labels", "meaning"]));
    for (name, metric) in &metrics {
        let labels: Vec<_> = metric.labels.iter().map(|label| code(label)).collect();
        let about = metric.about.as_deref().map(sentence).unwrap_or_default();
        page.push_str(&row(&[&code(name), metric.kind, &labels.join(", "), &about]));
    }
    page_is("metrics.md", &page);
}
