//! From `[admin]` to those who know the admins.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Admin;
use crate::error::{Error, Result};
use crate::issue::{Admins, ClientCas, Grant, LoginSettings};
use crate::model::{TrustedIssuer, public};
use crate::outbound;
use crate::trust::Trust;
use crate::world::{Millis, World};

/// Without `[admin]`, nobody comes over the network.
pub(super) fn admins(
    config: Option<&Admin>,
    cas: Arc<ArcSwap<ClientCas>>,
    trust: Trust,
    world: &World,
) -> Result<Admins> {
    let grants = config.map(|admin| admin.grants.as_slice()).unwrap_or_default();
    // The settings took it: one that is unknown here is ours to mend, and must not leave somebody without their role.
    let unknown = |name: &str| Error::internal(format!("the settings know {name}, and the broker does not"));
    let grants = grants
        .iter()
        .map(|grant| Grant::new(grant.role, &grant.name, &grant.value).ok_or_else(|| unknown(&grant.name)));
    let grants = grants.collect::<Result<Vec<_>>>()?;
    let login = config.and_then(|admin| admin.login.as_ref());
    let login = login.map(|login| {
        Ok::<_, Error>(LoginSettings {
            issuer: Arc::new(TrustedIssuer {
                name: "admins".into(),
                issuer: login.issuer.clone(),
                jwks_uri: None,
                ca_file: None,
                ca_pem: login.ca_file.as_deref().map(issuer_ca).transpose()?,
                allow_private: login.allow_private,
                subject_audiences: Vec::new(),
            }),
            client_id: login.client_id.clone(),
            scope: login.scope.clone(),
            name_claim: login.name_claim.clone(),
            lifetime: Millis::try_from(login.lifetime.as_millis()).unwrap_or(0),
        })
    });
    Ok(Admins::new(login.transpose()?, grants, cas, trust, world.clone()))
}

/// Reads the CAs that vouch for the issuer of logins. What cannot be used is told at the start, not to the first admin
/// who logs in.
fn issuer_ca(path: &Path) -> Result<String> {
    let unusable = |error: String| {
        let fix = "write the CA certificates (PEM) that vouch for the issuer, or remove it to trust the public CAs";
        let text = format!("admin.issuer_ca_file: {} cannot be used: {error}; {fix}", path.display());
        Error::unavailable("admin_issuer_ca", text)
    };
    let file = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let pem = public::certificates(&file).map_err(|error| unusable(error.problem.to_owned()))?;
    outbound::tls_config(Some(&pem)).map_err(unusable)?;
    Ok(pem)
}
