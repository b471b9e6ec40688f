//! `hallpass login` and `hallpass logout`, for admins who are not at the broker's own machine.
//!
//! The broker names its issuer; the person confirms at that issuer, in a browser, on any machine (device authorization
//! grant, RFC 8628); the issuer's ID token opens a login at the broker. The ID token is used once and not kept.

use std::path::PathBuf;

use clap::Args;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod, CoreDeviceAuthorizationResponse,
    CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode,
    CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, AuthType, ClientId, DeviceAuthorizationUrl, IssuerUrl, ProviderMetadata, Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::client::AdminClient;
use crate::cli::https::{self, whole};
use crate::cli::output::rfc3339;
use crate::cli::saved::Saved;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::login::{IdToken, LoggedIn, LoggedOut, LoginSettings};
use crate::secret::ADMIN_TOKEN_PREFIX;

/// Log in at a broker's admin listener; the commands after it go there
#[derive(Debug, Args)]
pub(super) struct Login {
    /// The admin listener, for example https://hallpass.example.com:8602 [default: HALLPASS_SERVER]
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// CA certificates (PEM) to trust beside the public ones, for the broker and the issuer
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Documents of an issuer above this are cut off.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// OpenID Connect Discovery §3 with the endpoint that RFC 8628 §4 adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DeviceEndpoint {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
}

impl AdditionalProviderMetadata for DeviceEndpoint {}

type Provider = ProviderMetadata<
    DeviceEndpoint,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

impl Login {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let server = self.url.or_else(|| context.remote.server.clone());
        let server = server.ok_or_else(|| Failure::Usage("name the admin listener: hallpass login URL".into()))?;
        // Nobody confirms a login that then cannot be kept.
        Saved::place()?;
        let ca = self.ca.as_deref().or(context.remote.server_ca.as_deref());
        let ca_pem = ca.map(https::ca_file).transpose()?;
        let broker = AdminClient::remote(&server, https::client(ca_pem.as_deref(), None)?, None)?;
        let settings: LoginSettings = broker.get("/admin/v1/login").await?;
        let id_token = confirm(context, &settings, ca_pem.as_deref()).await?;
        let answer: LoggedIn = broker.post("/admin/v1/login", &IdToken { id_token }).await?;
        let saved = Saved {
            server: broker.place(),
            ca_pem,
            token: answer.token.expose().to_owned().into(),
            name: answer.name,
            role: answer.role.as_str().to_owned(),
            expires_at: answer.expires_at,
        };
        let is_token =
            |text: &str| text.starts_with(ADMIN_TOKEN_PREFIX) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(&saved.token) {
            return Err(Failure::Failed(format!("what answers at {} gave no login", saved.server)));
        }
        let path = match saved.store() {
            Ok(path) => path,
            Err(why) => {
                // It would be good until its end, and nobody could say that it is over. That it is not kept is what is told,
                // whatever becomes of this.
                let http = https::client(saved.ca_pem.as_deref(), None)?;
                let broker = AdminClient::remote(&saved.server, http, Some(saved.token.clone()))?;
                _ = broker.act::<LoggedOut>("/admin/v1/logout").await.is_ok();
                return Err(why);
            }
        };
        let shown = json!({
            "server": saved.server, "name": saved.name, "role": saved.role, "expires_at": saved.expires_at, "file": path,
        });
        context.output.show(&shown, |output, _| {
            let (name, role, until) = (&saved.name, &saved.role, rfc3339(saved.expires_at));
            output.line(&format!("logged in at {} as {name}, {role}, until {until}", saved.server));
        });
        Ok(())
    }
}

/// Has the person confirm at the issuer; the ID token.
async fn confirm(
    context: &Context,
    settings: &LoginSettings,
    ca_pem: Option<&str>,
) -> Result<Zeroizing<String>, Failure> {
    let failed =
        |what: &str, error: &(dyn std::error::Error + 'static)| Failure::Failed(format!("{what}: {}", whole(error)));
    let issuer =
        IssuerUrl::new(settings.issuer.clone()).map_err(|error| failed("the broker names no issuer", &error))?;
    let http = Https(https::issuer_client(issuer.url(), ca_pem)?);
    let provider = Provider::discover_async(issuer.clone(), &http).await;
    let provider = provider.map_err(|error| failed(&format!("the issuer {}", issuer.as_str()), &error))?;
    let endpoint = provider
        .additional_metadata()
        .device_authorization_endpoint
        .clone()
        .ok_or_else(|| Failure::Failed(format!("the issuer {} has no device flow (RFC 8628)", issuer.as_str())))?;
    // Asked for before anybody confirms anything: a request that cannot be sent would be tried until the code is over.
    let endpoints = [provider.token_endpoint().map(|url| url.url()), Some(endpoint.url())];
    if issuer.url().scheme() == "https" && endpoints.into_iter().flatten().any(|url| url.scheme() != "https") {
        return Err(Failure::Failed(format!("the issuer {} names an endpoint without https", issuer.as_str())));
    }
    let client = CoreClient::from_provider_metadata(provider, ClientId::new(settings.client_id.clone()), None)
        .set_device_authorization_url(endpoint)
        .set_auth_type(AuthType::RequestBody);
    // The crate asks for `openid` by itself.
    let scopes =
        settings.scope.split_whitespace().filter(|scope| *scope != "openid").map(|scope| Scope::new(scope.to_owned()));
    let asked = client.exchange_device_code().add_scopes(scopes).request_async(&http).await;
    let details: CoreDeviceAuthorizationResponse = asked.map_err(|error| failed("the issuer gave no code", &error))?;
    tell(context, &details);
    let token = client.exchange_device_access_token(&details).map_err(|error| failed("the issuer", &error))?;
    let token = token.request_async(&http, tokio::time::sleep, None).await;
    let token = token.map_err(|error| failed("the login was not confirmed", &error))?;
    let id_token =
        token.extra_fields().id_token().ok_or_else(|| Failure::Failed("the issuer gave no ID token".into()))?;
    // Its issuer, audience, age and signature are the broker's to check: it decides who is an admin, not we.
    Ok(Zeroizing::new(id_token.to_string()))
}

/// Where to go, and with what code. To standard error, so that `--json` stays one document.
fn tell(context: &Context, details: &CoreDeviceAuthorizationResponse) {
    let (url, code) = (details.verification_uri().as_str(), details.user_code().secret());
    if context.output.json {
        let whole = details.verification_uri_complete().map(|whole| whole.secret().clone());
        let line = json!({ "verification_uri": url, "verification_uri_complete": whole, "user_code": code });
        return context.output.note(&line.to_string());
    }
    context.output.note(&format!("Open {url} in a browser, on any machine, and enter the code\n\n    {code}\n"));
    if let Some(whole) = details.verification_uri_complete() {
        context.output.note(&format!("or open {}", whole.secret()));
    }
}

/// Ends the login
#[derive(Debug, Args)]
pub(super) struct Logout {}

impl Logout {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let Some(saved) = Saved::load()? else {
            return Err(Failure::Failed("nobody is logged in here".into()));
        };
        let http = https::client(saved.ca_pem.as_deref(), None)?;
        let broker = AdminClient::remote(&saved.server, http, Some(saved.token.clone()))?;
        let ended = broker.act::<LoggedOut>("/admin/v1/logout").await;
        // Here it is forgotten in any case. A broker that cannot be reached must be told of all the same: until its end
        // the token is good there.
        Saved::forget()?;
        if let Err(Failure::Unreachable(why)) = ended {
            let until = rfc3339(saved.expires_at);
            return Err(Failure::Unreachable(format!("forgotten here, but good at the broker until {until}: {why}")));
        }
        context.output.show(&json!({ "server": saved.server }), |output, value| {
            output.line(&format!("logged out of {}", value["server"].as_str().unwrap_or_default()));
        });
        Ok(())
    }
}

/// What the OAuth crates send their requests by.
struct Https(reqwest::Client);

impl<'c> AsyncHttpClient<'c> for Https {
    type Error = reqwest::Error;
    type Future = futures_util::future::BoxFuture<'c, Result<HttpResponse, reqwest::Error>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = self.0.execute(request.try_into()?).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            // What is cut off is no JSON.
            let (body, _) = https::read(answer, MAX_DOCUMENT).await?;
            let mut response = HttpResponse::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok(response)
        })
    }
}
