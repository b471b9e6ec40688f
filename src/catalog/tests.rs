use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use url::Url;

use super::fill::{Place, places};
use super::*;
use crate::model::{Manifest, Target};
use crate::policy::{CompiledUpstream, Known, parse_manifest, validate_manifest};

fn examples(variables: &[Variable]) -> BTreeMap<String, String> {
    variables.iter().map(|one| (one.name.clone(), one.example.clone())).collect()
}

fn choice(entry: &Entry) -> Choice {
    Choice { values: examples(&entry.head.variables), ..Choice::default() }
}

/// The document for `apply`, read by the reader of documents.
fn applied(entry: &Entry, choice: &Choice) -> Manifest {
    let document = entry.document(choice).unwrap_or_else(|mistake| panic!("{}: {mistake}", entry.name));
    parse_manifest(&document.yaml).unwrap_or_else(|mistake| panic!("{}: {mistake}\n{}", entry.name, document.yaml))
}

fn all() -> Vec<Entry> {
    search("").unwrap()
}

/// Those that this version can apply.
fn served() -> Vec<Entry> {
    all().into_iter().filter(|entry| entry.lacks().is_empty()).collect()
}

#[test]
fn the_catalog_holds_what_is_promised_of_it() {
    assert!(UPSTREAMS.len() >= 60 && PROVIDERS.len() >= 40);
    for name in [
        "github",
        "gitlab",
        "slack",
        "stripe",
        "openai",
        "anthropic",
        "gemini",
        "mistral",
        "google-drive",
        "gmail",
        "google-calendar",
        "microsoft-graph",
        "jira",
        "confluence",
        "notion",
        "linear",
        "salesforce",
        "hubspot",
        "zendesk",
        "pagerduty",
        "datadog",
        "sentry",
        "cloudflare",
        "aws-s3",
        "aws-sts",
        "aws-ses",
        "aws-dynamodb",
        "aws-bedrock",
        "azure-openai",
        "twilio",
        "sendgrid",
        "shopify",
        "airtable",
        "figma",
        "dropbox",
        "box",
        "discord",
        "telegram",
        "vercel",
        "netlify",
        "supabase",
        "docker-hub",
        "npm",
        "pypi",
        "huggingface",
    ] {
        entry(name).unwrap();
    }
}

/// Everything at once, so that no two entries are in each other's way.
#[test]
fn every_entry_passes_the_checks_of_apply() {
    let mut together = Manifest::default();
    for entry in served() {
        let mut manifest = applied(&entry, &choice(&entry));
        assert_eq!(manifest.upstreams.first().unwrap().name, entry.name);
        validate_manifest(&manifest, &Known::default()).unwrap_or_else(|found| panic!("{}: {found:?}", entry.name));
        together.upstreams.append(&mut manifest.upstreams);
        together.roles.append(&mut manifest.roles);
    }
    validate_manifest(&together, &Known::default()).unwrap();
    let operations: usize = all().iter().map(Entry::operations).sum();
    assert!(together.upstreams.len() >= 73 && operations > 1500, "{operations}");
}

/// The same operation and scope ids stand in the files of what this version cannot place yet.
#[test]
fn every_scope_of_a_role_is_the_scope_of_an_operation() {
    for entry in all() {
        let document = serde_json::to_value(&entry).unwrap();
        let mut scopes = BTreeSet::new();
        for upstream in document["upstreams"].as_array().unwrap() {
            let mut ids = BTreeSet::new();
            for operation in upstream["operations"].as_array().unwrap() {
                assert!(ids.insert(operation["id"].as_str()), "{}: {} stands twice", entry.name, operation["id"]);
                scopes.insert(format!(
                    "{}:{}",
                    upstream["name"].as_str().unwrap(),
                    operation["scope"].as_str().unwrap()
                ));
            }
        }
        for role in document["roles"].as_array().unwrap() {
            assert!(role["name"].as_str().unwrap().starts_with(&format!("{}-", entry.name)), "{role}");
            for scope in role["scopes"].as_array().unwrap() {
                assert!(scopes.contains(scope.as_str().unwrap()), "{}: no operation takes {scope}", entry.name);
                assert!(!scope.as_str().unwrap().ends_with(".delete"), "{}: a suggested role deletes", entry.name);
            }
        }
    }
}

#[test]
fn only_an_entry_that_says_so_waits() {
    for entry in all() {
        let lacks = entry.lacks();
        assert!(lacks.is_empty() || lacks == entry.head.needs, "{}", entry.name);
        if let Some(need) = lacks.first() {
            let refused = entry.document(&choice(&entry)).unwrap_err();
            assert!(matches!(&refused, Mistake::Waits { what, .. } if what.contains(need.what())), "{refused}");
            assert!(entry.shown().contains("This version cannot serve it"), "{}", entry.shown());
        }
    }
}

#[test]
fn the_test_call_of_an_entry_is_one_of_its_operations() {
    for entry in served() {
        let manifest = applied(&entry, &choice(&entry));
        let TestCall { operation, upstream, path, .. } = &entry.head.test;
        let wanted = upstream.as_deref().unwrap_or(entry.name);
        let definition = manifest.upstreams.into_iter().find(|one| one.name == wanted).unwrap();
        let declared = definition.operations.iter().find(|one| one.id == *operation).unwrap().clone();
        let mut path = path.clone().unwrap_or_else(|| declared.path.to_string());
        for (name, value) in examples(&entry.head.variables) {
            path = path.replace(&format!("{{{{{name}}}}}"), &value);
        }
        let target = Target::parse(&path, None).unwrap_or_else(|error| panic!("{}: {path}: {error:?}", entry.name));
        let compiled = CompiledUpstream::new(definition).unwrap();
        let method = declared.methods.first().unwrap();
        let fit = compiled.fit(method, &target.match_path());
        assert_eq!(fit.map(|fit| fit.operation.id.to_string()).as_ref(), Some(operation), "{}: {path}", entry.name);
    }
}

#[test]
fn another_name_and_another_credential_reach_everywhere() {
    for entry in served() {
        let one = entry.credentials().len() == 1;
        let other =
            Choice { name: Some("second".into()), credential: one.then(|| "second-key".to_owned()), ..choice(&entry) };
        let manifest = applied(&entry, &other);
        validate_manifest(&manifest, &Known::default()).unwrap();
        assert_eq!(manifest.upstreams.first().unwrap().name, "second");
        assert!(manifest.upstreams.iter().all(|one| one.name.starts_with("second")), "{}", entry.name);
        assert!(manifest.roles.iter().all(|role| role.name.starts_with("second-")), "{}", entry.name);
        let credentials: BTreeSet<_> =
            manifest.upstreams.iter().flat_map(|upstream| upstream.inject.credentials()).collect();
        assert!(!one || credentials == BTreeSet::from(["second-key"]), "{}: {credentials:?}", entry.name);
    }
}

#[test]
fn a_credential_is_chosen_where_there_is_one_alone() {
    for entry in served().iter().filter(|entry| entry.credentials().len() != 1) {
        let refused = entry.document(&Choice { credential: Some("mine".into()), ..choice(entry) }).unwrap_err();
        assert!(refused.to_string().contains("--credential"), "{refused}");
    }
    assert_eq!(entry("datadog").unwrap().credentials(), BTreeSet::from(["datadog-api-key", "datadog-app-key"]));
}

/// What is shown is what is applied, for an entry without variables.
#[test]
fn what_is_shown_can_be_applied() {
    for entry in all() {
        let shown = entry.shown();
        assert!(!shown.contains("catalog:"), "{}", entry.name);
        assert!(entry.head.source.iter().all(|source| shown.contains(source)), "{}", entry.name);
        assert!(entry.credentials().is_empty() || shown.contains(&entry.key_hint()), "{}", entry.name);
        assert!(shown.contains(&entry.head.docs), "{}", entry.name);
        if entry.lacks().is_empty() && entry.head.variables.is_empty() {
            assert_eq!(parse_manifest(&shown).unwrap(), applied(&entry, &Choice::default()), "{}", entry.name);
        }
    }
}

#[test]
fn a_search_finds_words_and_not_their_case() {
    let names = |words: &str| search(words).unwrap().iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert!(names("GitHub").contains(&"github"));
    assert_eq!(names("atlassian jira"), ["jira"]);
    assert!(names("google").len() >= 5 && names("google calendar") == ["google-calendar"]);
    assert_eq!(names("no-such-thing"), Vec::<&str>::new());
    assert_eq!(names("").len(), UPSTREAMS.len());
    assert!(matches!(entry("nope").unwrap_err(), Mistake::NoEntry(name) if name == "nope"));
    assert!(matches!(provider("nope").unwrap_err(), Mistake::NoProvider(_)));
}

#[test]
fn a_value_fills_its_place_and_nothing_more() {
    let good: [(Place, &[&str]); 4] = [
        (Place::Label, &["acme", "a", "Acme-2", "eu-central-1"]),
        (Place::Domain, &["acme", "acme.example.com", "127.0.0.1"]),
        (Place::Host, &["acme.example.com", "acme.example.com:8443", "localhost:1"]),
        (Place::Word, &["ada+bot@example.com", "AC0123", "a_b.c-d"]),
    ];
    let bad: [(Place, &[&str]); 4] = [
        (Place::Label, &["", "a.b", "a/b", "-a", "a-", "a:1", "a@b", "ä", "a b", "a%2eb", "{{b}}", "a\n", "a\\b"]),
        (Place::Domain, &["", ".", "a..b", "a.", ".a", "a/b", "a?b", "a#b", "a:1", "u@a", "a b", "[::1]", "{{b}}"]),
        (Place::Host, &["", ":1", "a:", "a:0", "a:65536", "a:+1", "a:1:2", "u@a", "a/b", "a:1/b", "a#", "a?", "a\t"]),
        (Place::Word, &["", ".", "..", "a/b", "a:b", "a?b", "a#b", "a%2fb", "a b", "{{b}}", "a\r\nb", "\"", "ä", "-"]),
    ];
    for (place, values) in good {
        values.iter().for_each(|value| assert!(place.allows(value), "{place:?}: {value}"));
    }
    for (place, values) in bad {
        values.iter().for_each(|value| assert!(!place.allows(value), "{place:?}: {value}"));
    }
    assert!(Place::Label.allows(&"a".repeat(63)) && !Place::Label.allows(&"a".repeat(64)));
    assert!(!Place::Domain.allows(&vec!["a".repeat(50); 6].join(".")) && !Place::Word.allows(&"a".repeat(201)));
}

#[test]
fn the_place_follows_from_where_the_variable_stands() {
    let of = |text: &str| {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        places(&value, "x")
    };
    assert_eq!(of("base_url: 'https://{{x}}'"), [Place::Host]);
    assert_eq!(of("base_url: 'https://{{x}}/v1'"), [Place::Host]);
    assert_eq!(of("base_url: 'https://{{x}}.example.com'"), [Place::Label]);
    assert_eq!(of("base_url: 'https://api.{{x}}'"), [Place::Domain]);
    assert_eq!(of("base_url: 'https://a-{{x}}'"), [Place::Label]);
    assert_eq!(of("base_url: 'https://u@{{x}}'"), [Place::Label]);
    assert_eq!(of("base_url: 'https://{{x}}:8443'"), [Place::Label]);
    assert_eq!(of("base_url: 'https://h/{{x}}'"), [Place::Word]);
    assert_eq!(
        of("[{ base_url: 'https://{{x}}.h', inject: { username: '{{x}}/token' } }]"),
        [Place::Label, Place::Word]
    );
    assert_eq!(of("base_url: 'https://{{y}}'"), []);
}

/// With the real entries: whatever is said for a tenant, its host stays that of the API.
#[test]
fn no_value_leads_to_another_host() {
    for entry in served() {
        for variable in &entry.head.variables {
            for bad in
                ["attacker.example/", "attacker.example#", "a@attacker.example:443/", "..", "", "{{host}}", "a b"]
            {
                let mut wrong = choice(&entry);
                wrong.values.insert(variable.name.clone(), bad.into());
                let refused = entry.document(&wrong).unwrap_err();
                let Mistake::Value(why) = refused else { panic!("{}: {refused}", entry.name) };
                assert!(why.contains(&variable.name) && why.contains(&variable.example), "{why}");
            }
        }
    }
    for (name, variable, value) in
        [("jira", "site", "attacker.example"), ("zendesk", "subdomain", "a.b"), ("shopify", "shop", "a:1")]
    {
        let entry = entry(name).unwrap();
        let mut wrong = choice(&entry);
        wrong.values.insert(variable.into(), value.into());
        let why = entry.document(&wrong).unwrap_err().to_string();
        assert!(why.contains("one part of a host name"), "{why}");
    }
}

#[test]
fn every_missing_value_is_told_at_once() {
    let jira = entry("jira").unwrap();
    let why = jira.document(&Choice::default()).unwrap_err().to_string();
    assert!(why.contains("--set site=VALUE, for example acme") && why.contains("--set email=VALUE"), "{why}");
    let mut more = choice(&jira);
    more.values.insert("sity".into(), "acme".into());
    let why = jira.document(&more).unwrap_err().to_string();
    assert!(why.contains("no variable 'sity'") && why.contains("site, email"), "{why}");
}

#[test]
fn every_provider_is_well_formed() {
    for name in provider_names() {
        let provider = provider(name).unwrap();
        assert_eq!(provider.name, name);
        assert!(!provider.source.is_empty() && !provider.title.is_empty(), "{name}");
        let account = provider.account.as_ref();
        assert!(account.is_none_or(|one| one.url.is_some() != one.from.is_some()), "{name}");
        assert!(account.is_none_or(|one| one.pointer.starts_with('/')), "{name}");
        let urls = [
            Some(&provider.authorization_url),
            Some(&provider.token_url),
            provider.issuer.as_ref(),
            provider.revocation_url.as_ref(),
            provider.device_authorization_url.as_ref(),
            provider.refresh.url.as_ref(),
            account.and_then(|account| account.url.as_ref()),
        ];
        for url in urls.into_iter().flatten() {
            let mut filled = url.clone();
            for (variable, value) in examples(&provider.variables) {
                filled = filled.replace(&format!("{{{{{variable}}}}}"), &value);
            }
            let url = Url::parse(&filled).unwrap_or_else(|error| panic!("{name}: {filled}: {error}"));
            assert_eq!((url.scheme(), url.username(), filled.contains('{')), ("https", "", false), "{name}: {filled}");
        }
        let has = |oddity| provider.oddities.contains(&oddity);
        assert_eq!(has(Oddity::CommaScopes), provider.scope_separator == ",", "{name}");
        assert_eq!(has(Oddity::AccessTokenElsewhere), provider.access_token_pointer.is_some(), "{name}");
        assert_eq!(
            provider.base_url_from.is_some(),
            !provider.base_hosts.is_empty(),
            "{name}: a base URL from anywhere"
        );
    }
    for entry in all() {
        entry.head.provider.as_deref().map(|name| provider(name).unwrap());
    }
}

/// The shape of each documented answer is the one that the provider's fields tell of.
#[test]
fn every_token_answer_is_as_its_provider_says() {
    let mut answers = 0;
    for provider in provider_names().map(|name| provider(name).unwrap()) {
        let name = &provider.name;
        let Some(answer) = &provider.token_answer_example else { continue };
        answers += 1;
        let pointer = provider.access_token_pointer.as_deref().unwrap_or("/access_token");
        let token = answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        assert!(token.to_uppercase().contains("EXAMPLE"), "{name}: no made-up token at {pointer}");
        let has = |oddity| provider.oddities.contains(&oddity);
        assert_eq!(has(Oddity::NoExpiresIn), answer.get("expires_in").is_none(), "{name}");
        assert_eq!(has(Oddity::ExpiresInString), answer.get("expires_in").is_some_and(Value::is_string), "{name}");
        assert!(!has(Oddity::NoTokenType) || answer.get("token_type").is_none(), "{name}");
        assert!(!has(Oddity::NoRefreshToken) || answer.get("refresh_token").is_none(), "{name}");
        if let Some(account) = provider.account.as_ref().filter(|account| account.from.is_some()) {
            assert!(answer.pointer(&account.pointer).is_some(), "{name}: no account at {}", account.pointer);
        }
        if let Some(pointer) = &provider.base_url_from {
            let base = answer.pointer(pointer).and_then(Value::as_str).unwrap();
            let url = if base.contains("://") { base.to_owned() } else { format!("https://{base}") };
            let url = Url::parse(&url).unwrap();
            let host = url.host_str().unwrap();
            let fits = |allowed: &String| match allowed.strip_prefix('*') {
                Some(end) => host.ends_with(end),
                None => host == allowed,
            };
            assert!(provider.base_hosts.iter().any(fits), "{name}: {host} is none of base_hosts");
        }
    }
    assert!(answers >= 25, "{answers}");
}
