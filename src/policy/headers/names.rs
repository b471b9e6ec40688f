//! The names. What `standard` lets through was read off stock clients, as they talk to a local server: the SDKs of OpenAI,
//! Anthropic, Stripe, GitHub, GitLab, Slack, Google, AWS, Azure, Elasticsearch and MCP, npm, pip, git, curl, and
//! OpenTelemetry's propagators. `tests/it/exchange/sdk_headers.txt` holds what they sent.

/// What stock clients send, and nothing that chooses for whom the upstream acts. Left out on purpose: `Stripe-Account`,
/// `Stripe-Context`, `X-Goog-User-Project`, `Anthropic-Workspace-Id` (another account's data under the same key);
/// `X-Amz-Copy-Source`, `Destination` (a second path that no operation was asked about); `X-Amz-Target`, `SOAPAction` (they
/// name the operation, and the path does not); `Origin`, `Referer`.
pub(super) const STANDARD: &[&str] = &[
    // What is asked for, and what is sent (RFC 9110, 9530, 7240, 9218, 9111, 6266)
    "accept",
    "accept-language",
    "cache-control",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "digest",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "pragma",
    "prefer",
    "priority",
    "repr-digest",
    "user-agent",
    "want-content-digest",
    "want-repr-digest",
    // Which request this is, and of which trace
    "b3",
    "baggage",
    "correlation-id",
    "idempotency-key",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-client-request-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-trace-id",
    "x-idempotency-key",
    "x-opaque-id",
    "x-request-id",
    "x-trace-id",
    // fetch() of Node and of browsers, and the proof that no form of a web page sent it
    "sec-fetch-mode",
    "x-atlassian-token",
    "x-requested-with",
    // OpenAI, Anthropic
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "openai-beta",
    "openai-organization",
    "openai-poll-after-ms",
    "openai-project",
    // Stripe
    "stripe-version",
    "x-stripe-client-user-agent",
    // GitHub, git, npm, package registries
    "disable-module-fetch",
    "docker-distribution-api-version",
    "git-protocol",
    "npm-auth-type",
    "npm-command",
    "npm-in-ci",
    "npm-scope",
    "npm-session",
    "x-github-api-version",
    "x-github-next-global-id",
    // MCP and event streams
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    // gRPC-Web and Connect; what they say of the answer's coding is in NEVER
    "connect-content-encoding",
    "connect-protocol-version",
    "connect-timeout-ms",
    "grpc-encoding",
    "grpc-timeout",
    "x-grpc-web",
    "x-user-agent",
    // AWS and what speaks S3
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
    "x-amz-user-agent",
    // Google
    "x-goog-api-client",
    "x-goog-content-sha256",
    "x-goog-date",
    "x-goog-fieldmask",
    "x-goog-gcs-idempotency-token",
    "x-goog-hash",
    "x-goog-request-params",
    "x-goog-resumable",
    "x-server-timeout",
    "x-upload-content-length",
    "x-upload-content-type",
    // Azure, Elasticsearch
    "elastic-api-version",
    "x-elastic-client-meta",
    "x-ms-blob-type",
    "x-ms-client-request-id",
    "x-ms-date",
    "x-ms-return-client-request-id",
    "x-ms-useragent",
    "x-ms-version",
];

/// Families of which each member is as harmless as the next.
pub(super) const STANDARD_PREFIXES: [&str; 10] = [
    "mcp-param-",
    "pacote-",
    "x-amz-checksum-",
    "x-amz-meta-",
    "x-goog-if-",
    "x-goog-meta-",
    "x-goog-upload-",
    "x-ms-blob-content-",
    "x-ms-meta-",
    "x-stainless-",
];

/// Headers that ask for a piece of an answer; `allow_range` lets them through. `Request-Range` is what Apache takes for
/// `Range` still, `X-Ms-Range` what Azure prefers to it.
pub(super) const RANGES: [&str; 4] = ["if-range", "range", "request-range", "x-ms-range"];

/// What never travels, whatever a definition says.
pub(super) const NEVER: &[&str] = &[
    // Hop-by-hop (RFC 9110 §7.6.1): about this connection, not about the message
    "connection",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // The agent's own token and proofs, and what stands for a login or a certificate at a proxy
    "authorization",
    "client-cert",
    "client-cert-chain",
    "cookie",
    "cookie2",
    "dpop",
    // `Proxy` becomes HTTP_PROXY to CGI: the upstream's own calls would go where the agent says ("httpoxy")
    "proxy",
    // Where the message is from and where it goes: we say that
    "cf-connecting-ip",
    "client-ip",
    "content-length",
    "expect",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "host",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-host",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "x-url-scheme",
    // Another method than the one that was allowed (P8)
    "method-override",
    "x-method-override",
    // What would make the answer one that cannot be searched: a coding, a character set, a difference to an earlier answer
    "a-im",
    "accept-charset",
    "accept-encoding",
    "connect-accept-encoding",
    "grpc-accept-encoding",
];

/// Beginnings of names that some proxy or framework takes for another path, method, origin or connection, and our own.
pub(super) const NEVER_PREFIXES: [&str; 14] = [
    "grpc-metadata-",
    "proxy-",
    "sec-websocket-",
    "wl-proxy-",
    "x-accel-",
    "x-envoy-",
    "x-forward-",
    "x-forwarded-",
    "x-hallpass-",
    "x-http-",
    "x-middleware-",
    "x-original-",
    "x-proxy-",
    "x-rewrite-",
];

/// Words in the name of a header that carries a credential.
const KEY_WORDS: [&str; 24] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "appkey",
    "auth",
    "authkey",
    "authorization",
    "authtoken",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "pin",
    "secret",
    "secretkey",
    "token",
    "tokens",
];

/// A `key` behind one of these opens something; `Idempotency-Key`, `Partition-Key` do not.
const KEYS_OF: [&str; 22] = [
    "access",
    "account",
    "admin",
    "api",
    "app",
    "application",
    "auth",
    "client",
    "consumer",
    "developer",
    "encryption",
    "function",
    "functions",
    "license",
    "master",
    "private",
    "secret",
    "server",
    "service",
    "signing",
    "subscription",
    "user",
];

/// Words in the name of a header that says for whom, or as whom, the upstream should act.
const PERSON_WORDS: [&str; 62] = [
    "account",
    "accounts",
    "act",
    "acting",
    "actor",
    "admin",
    "authenticated",
    "authentik",
    "authn",
    "authz",
    "behalf",
    "cert",
    "certificate",
    "clientcert",
    "clientid",
    "consumer",
    "context",
    "customer",
    "delegate",
    "delegated",
    "email",
    "group",
    "groups",
    "iap",
    "identity",
    "impersonate",
    "impersonated",
    "impersonation",
    "internal",
    "login",
    "member",
    "oauth",
    "oauth2",
    "oidc",
    "org",
    "organisation",
    "organization",
    "orgid",
    "owner",
    "person",
    "principal",
    "profile",
    "remote",
    "role",
    "roles",
    "runas",
    "saml",
    "session",
    "spiffe",
    "ssl",
    "sso",
    "subject",
    "sudo",
    "tenant",
    "tenantid",
    "tls",
    "user",
    "userid",
    "username",
    "users",
    "webauth",
    "workspace",
];

/// Whether a header's name says that it carries a credential. The standard ones do not, whatever their names are.
pub(super) fn carries_a_key(name: &str) -> bool {
    let (mut before, mut found) = ("", false);
    for word in name.split(['-', '.']) {
        found |=
            KEY_WORDS.contains(&word) || (word == "key" && (KEYS_OF.contains(&before) || matches!(before, "" | "x")));
        before = word;
    }
    found && !STANDARD.contains(&name)
}

/// Whether a header's name says that it carries a credential, or for whom the upstream should act. Nobody can know all such
/// names: this is what `headers: all` holds back, for want of better, and why it is not the default.
pub(super) fn speaks_for_somebody(name: &str) -> bool {
    let person = |word: &str| PERSON_WORDS.contains(&word);
    let mut words = name.split(['-', '.']).peekable();
    let mut found = carries_a_key(name);
    while let Some(word) = words.next() {
        // `X-Stripe-Client-User-Agent` names a program.
        let is_agent = word == "user" && words.peek() == Some(&"agent");
        found |= person(word) && !is_agent;
    }
    found
}
