//! Admins who come over the network: a person logs in by an ID token of the configured issuer and gets a token of a few
//! minutes up to hours for the admin listener; or shows a certificate. What each may do, the settings say.

mod grants;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hallpass_verify::{ForeignClaims, ForeignToken, Refusal, Seconds};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use crate::issue::authenticate::{MAX_CHAIN, Replay, Use};
use crate::issue::certificates::{ClientCas, Leaf, verify};
use crate::model::{AdminRole, TrustedIssuer};
use crate::secret::AdminToken;
use crate::trust::{Trust, Untrusted};
use crate::world::{Millis, World};

pub use grants::Grant;

/// An ID token opens a login for so long after it was issued: it is there to log in now.
const MAX_ID_TOKEN_AGE: Seconds = 300;

/// Logins at one time; the one that ends first gives way.
const MAX_LOGINS: usize = 1_000;

/// Logins of one person at one time; of these, too, the one that ends first gives way. Whoever logs in over and over puts
/// an end to logins of their own and to nobody else's.
const MAX_OF_ONE: usize = 16;

/// An admin, known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminIdentity {
    /// As the audit log names them: `oidc:NAME (SUB)`, `cert:NAME`, `uid:0`.
    pub name: Arc<str>,
    /// What they may do.
    pub role: AdminRole,
}

/// The code of who is known, and is no admin.
pub const NO_ROLE: &str = "no_admin_role";

/// Why somebody is not an admin here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmin {
    /// What was presented is not good; the code is for the audit log.
    Refused(&'static str),
    /// Somebody of this name, whom the settings give no role.
    NoRole(Arc<str>),
    /// The issuer's keys cannot be had now.
    Unavailable,
}

impl From<Untrusted> for NotAdmin {
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::UNAVAILABLE => Self::Unavailable,
            Untrusted(code) => Self::Refused(code),
        }
    }
}

impl From<Refusal> for NotAdmin {
    fn from(refusal: Refusal) -> Self {
        Untrusted::from(refusal).into()
    }
}

/// How admins log in by OpenID Connect.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// The issuer.
    pub issuer: Arc<TrustedIssuer>,
    /// The public client that its ID tokens are for.
    pub client_id: String,
    /// What the CLI asks for.
    pub scope: String,
    /// The claim that names a person.
    pub name_claim: String,
    /// How long a login lasts.
    pub lifetime: Millis,
}

/// A login that was just opened.
#[derive(Debug)]
pub struct Login {
    /// For the `Authorization` header.
    pub token: AdminToken,
    /// Whose.
    pub identity: AdminIdentity,
    /// Its end.
    pub expires_at: Millis,
}

/// Knows the admins.
pub struct Admins {
    login: Option<LoginSettings>,
    grants: Vec<Grant>,
    cas: Arc<ArcSwap<ClientCas>>,
    trust: Trust,
    world: World,
    /// SHA-256 of the token → whose it is. In memory only: a start ends every login, so that settings which were changed
    /// hold for everybody at once, and a stolen database has none (P6).
    logins: Mutex<HashMap<[u8; 32], Open>>,
    used: Replay,
    started: Millis,
}

#[derive(Debug)]
struct Open {
    /// `sub`: a name may be changed by whoever has it.
    person: String,
    identity: AdminIdentity,
    expires_at: Millis,
}

impl std::fmt::Debug for Admins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admins")
    }
}

impl Admins {
    /// `grants`: the greatest role first. `cas` vouch for admins' certificates. `trust` is for the login's issuer alone.
    pub fn new(
        login: Option<LoginSettings>,
        grants: Vec<Grant>,
        cas: Arc<ArcSwap<ClientCas>>,
        trust: Trust,
        world: World,
    ) -> Self {
        // Four for each login that can be open: one person fills no more than a quarter.
        let used = Replay::new(MAX_LOGINS * 4);
        let started = world.now();
        Self { login, grants, cas, trust, world, logins: Mutex::default(), used, started }
    }

    /// How to log in, if that is possible.
    pub fn login_settings(&self) -> Option<&LoginSettings> {
        self.login.as_ref()
    }

    /// Opens a login for whoever an ID token (OpenID Connect Core §2) of the configured issuer names.
    ///
    /// # Errors
    /// It is not good, was used before, or gives no role.
    pub async fn log_in(&self, id_token: &str) -> Result<Login, NotAdmin> {
        let settings = self.login.as_ref().ok_or(NotAdmin::Refused("login_not_configured"))?;
        let parsed = ForeignToken::parse(id_token)?;
        // RFC 9068 §5: an access token says that it is one, and is no proof of a login.
        if parsed.typ().is_some_and(|typ| typ.ends_with("at+jwt")) {
            return Err(Refusal::WrongType.into());
        }
        let claims = self.trust.of_issuer(&settings.issuer, &parsed).await?;
        let now = self.world.now();
        self.check(settings, &claims, now / 1000)?;
        let (person, identity) = self.identity(settings, &claims)?;
        // One more than its age can be: the last second counts.
        let end = now / 1000 + MAX_ID_TOKEN_AGE + 2 * self.trust.leeway() + 1;
        // Last: what was refused is not used up. Whoever finds an ID token in a log opens nothing with it, nor with the
        // same one under another signature that is good, too.
        match self.used.once(&person, parsed.signed(), end, now / 1000) {
            Use::First => {}
            Use::Again => return Err(NotAdmin::Refused("id_token_used_before")),
            Use::Full => return Err(NotAdmin::Refused("too_many_logins")),
        }
        let (token, expires_at) = (AdminToken::generate(self.world.entropy.as_ref()), now + settings.lifetime);
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|_, open| open.expires_at > now);
        let of_one = logins.values().filter(|open| open.person == person).count();
        if of_one >= MAX_OF_ONE || logins.len() >= MAX_LOGINS {
            let may_go = |open: &Open| of_one < MAX_OF_ONE || open.person == person;
            let first = logins.iter().filter(|(_, open)| may_go(open)).min_by_key(|(_, open)| open.expires_at);
            let first = first.map(|(key, _)| *key);
            first.and_then(|key| logins.remove(&key));
        }
        logins.insert(key_of(token.expose()), Open { person, identity: identity.clone(), expires_at });
        Ok(Login { token, identity, expires_at })
    }

    /// OpenID Connect Core §3.1.3.7, as far as it concerns a token that came by the device flow.
    fn check(&self, settings: &LoginSettings, claims: &ForeignClaims, now: Seconds) -> Result<(), NotAdmin> {
        claims.check_times(now, self.trust.leeway())?;
        let audience = claims.audience();
        let azp = claims.get("azp").map(|azp| azp.as_str() == Some(&*settings.client_id));
        // Made for another client, it says that somebody logged in there.
        if !audience.contains(&&*settings.client_id) || azp == Some(false) || (audience.len() > 1 && azp.is_none()) {
            return Err(Refusal::WrongAudience.into());
        }
        let iat = claims.time("iat")?.ok_or(Refusal::Malformed)?;
        if now - iat > MAX_ID_TOKEN_AGE + self.trust.leeway() {
            return Err(NotAdmin::Refused("id_token_too_old"));
        }
        // What was used before we started is not remembered, so it may have been any that was there then.
        if iat < self.started / 1000 {
            return Err(NotAdmin::Refused("id_token_from_before_the_start"));
        }
        Ok(())
    }

    /// `sub`, and who it is.
    fn identity(&self, settings: &LoginSettings, claims: &ForeignClaims) -> Result<(String, AdminIdentity), NotAdmin> {
        let plain = |text: &&str| (1..=255).contains(&text.len()) && is_seen(text);
        let sub = claims.text("sub").filter(plain).ok_or(Refusal::Malformed)?;
        let name = claims.text(&settings.name_claim).filter(plain).filter(|name| *name != sub);
        // An address that nobody verified is whatever its owner typed, and would be read in the log as somebody else's.
        let name = name.filter(|_| settings.name_claim != "email" || grants::email_is_verified(claims));
        // Round brackets are around `sub` alone: a name is what many issuers let people write themselves.
        let name = name.map(|name| name.replace('(', "[").replace(')', "]"));
        let name: Arc<str> = name.map_or_else(|| format!("oidc:{sub}"), |name| format!("oidc:{name} ({sub})")).into();
        let role = self.grants.iter().find(|grant| grant.is_in(claims)).map(|grant| grant.role);
        let role = role.ok_or_else(|| NotAdmin::NoRole(name.clone()))?;
        Ok((sub.to_owned(), AdminIdentity { name, role }))
    }

    /// Whose login a token is.
    pub fn by_token(&self, token: &str) -> Option<AdminIdentity> {
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let open = logins.get(&key_of(token)).filter(|open| open.expires_at > self.world.now())?;
        Some(open.identity.clone())
    }

    /// Ends a login; whether there was one.
    pub fn log_out(&self, token: &str) -> bool {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(token)).is_some()
    }

    /// Whose certificate it is.
    ///
    /// # Errors
    /// No CA vouches for it, it is outdated or revoked, or its name gives no role.
    pub fn by_certificate(&self, chain: &[CertificateDer<'static>]) -> Result<AdminIdentity, NotAdmin> {
        let own = chain.first().filter(|_| chain.len() <= MAX_CHAIN);
        let own = own.ok_or(NotAdmin::Refused("client_certificate_malformed"))?;
        let now = self.world.now();
        let leaf = Leaf::read(own).map_err(NotAdmin::Refused)?;
        leaf.is_valid_at(now).map_err(NotAdmin::Refused)?;
        verify(chain, &self.cas.load(), now).map_err(NotAdmin::Refused)?;
        let grant = self.grants.iter().find(|grant| grant.is_on(&leaf));
        let grant = grant.ok_or(NotAdmin::Refused(NO_ROLE))?;
        Ok(AdminIdentity { name: format!("cert:{}", grant.value).into(), role: grant.role })
    }
}

/// Whether a reader sees all of it as it stands: nothing in it is invisible, breaks the line, or turns the direction of what
/// follows (U+202E), by which one name could be made to look like another.
fn is_seen(text: &str) -> bool {
    !text.chars().any(char::is_control) && !text.escape_debug().to_string().contains("\\u{")
}

/// What a login is kept by: who reads the memory's index finds no token. 256 random bits need no slower hash.
fn key_of(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    key
}
