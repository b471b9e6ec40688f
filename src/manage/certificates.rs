//! The broker's own certificate authority: its certificate, and an agent's first one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Result;
use crate::manage::agents::find;
use crate::manage::{Admin, unrecorded};
use crate::world::Millis;

/// A certification request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// PEM (RFC 2986, RFC 7468).
    pub csr: String,
}

/// A certificate that was issued.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateIssued {
    /// Whose.
    pub client_id: String,
    /// PEM.
    pub certificate: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its last moment, in unix milliseconds.
    pub expires_at: Millis,
}

/// The certificate of the broker's own authority.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuthorityCertificate {
    /// PEM.
    pub certificate: String,
}

/// Issues an agent's certificate.
///
/// # Errors
/// There is no such agent, it is stopped, the request is bad, or nothing can be recorded.
pub async fn issue(admin: Admin, name: String, input: CertificateRequest) -> Result<CertificateIssued> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let agent = find(manager, &name)?;
    let issued = manager.issuer.certificate(&agent, &input.csr)?;
    let mut event = admin.event_of("agent issue-cert", &agent);
    event.reason = Some(format!("serial {}", issued.serial).into());
    manager.ledger.commit(vec![event], Vec::new()).await.map_err(unrecorded)?;
    Ok(CertificateIssued {
        client_id: agent.id.to_string(),
        certificate: issued.pem,
        serial: issued.serial,
        expires_at: issued.expires_at,
    })
}

/// The certificate of the broker's own authority.
///
/// # Errors
/// None.
pub async fn authority(admin: Admin) -> Result<AuthorityCertificate> {
    Ok(AuthorityCertificate { certificate: admin.manager.issuer.authority().pem().to_owned() })
}
