//! The document that `hallpass apply` takes. Its sections are the table of the kinds of definition: what is stored, loaded,
//! listed, compared and removed by kind elsewhere is made from the rows here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::public::{self, NotPublic};
use crate::model::{Identity, Resource, Role, TrustDomain, TrustedIssuer, Upstream};

/// An agent as a document declares it. A new one gets its secret by `hallpass agent rotate-secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// What it may prove itself with, besides a client secret.
    #[serde(default, skip_serializing_if = "Identity::is_empty")]
    pub identity: Identity,
}

/// What a document declares by name.
pub trait Declared {
    /// Its name.
    fn name(&self) -> &str;

    /// The files beside the document that it names.
    fn files(&mut self) -> Vec<NamedFile<'_>> {
        Vec::new()
    }
}

/// A file that a document names; `apply` puts what is in it into the document.
#[derive(Debug)]
pub struct NamedFile<'a> {
    /// The field that names it.
    pub field: &'static str,
    /// Its name, if one is written there.
    pub name: Option<&'a str>,
    /// What is kept of it.
    pub kind: FileKind,
    /// The field that what is kept goes into.
    pub filled_in: &'static str,
    /// Where what is kept goes.
    pub place: &'a mut Option<String>,
}

/// What a file is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// CA certificates, in PEM.
    CaCertificates,
    /// A SPIFFE bundle: a JWKS.
    SpiffeBundle,
}

impl FileKind {
    /// What is kept of a file: what it is named for, and nothing else that is in it.
    ///
    /// # Errors
    /// The file holds something else, or more than that.
    pub fn keep(self, file: &[u8]) -> Result<String, NotPublic> {
        match self {
            Self::CaCertificates => public::certificates(file),
            Self::SpiffeBundle => public::bundle(file),
        }
    }
}

impl<'a> NamedFile<'a> {
    /// CA certificates.
    pub(super) fn ca(name: &'a Option<String>, place: &'a mut Option<String>) -> Self {
        let kind = FileKind::CaCertificates;
        Self { field: "ca_file", name: name.as_deref(), kind, filled_in: "ca_pem", place }
    }

    /// A bundle.
    pub(super) fn bundle(name: &'a Option<String>, place: &'a mut Option<String>) -> Self {
        let kind = FileKind::SpiffeBundle;
        Self { field: "bundle_file", name: name.as_deref(), kind, filled_in: "bundle", place }
    }
}

/// A kind of definition: a section of the document that is stored as it was declared.
pub trait Definition: Declared + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Which.
    const KIND: DefinitionKind;
    /// The section's name.
    const SECTION: &'static str;

    /// What a document declares of this kind.
    fn of(document: &Manifest) -> &[Self];
}

macro_rules! document {
    (
        ($d:tt)
        $(#[$of_all:meta])*
        pub struct Manifest {
            $(
                $(#[doc = $doc:literal])+
                $(#[kind($kind:ident, $one:ident)])?
                #[serde(default)]
                pub $section:ident: Vec<$type:ident>,
            )*
        }
    ) => {
        $(#[$of_all])*
        pub struct Manifest {
            $(
                $(#[doc = $doc])+
                #[serde(default)]
                pub $section: Vec<$type>,
            )*
        }

        impl Manifest {
            /// All files beside the document that it names, each with the place in the document of what names it.
            pub fn files(&mut self) -> Vec<(String, NamedFile<'_>)> {
                let mut all = Vec::new();
                $($(
                    let _ = DefinitionKind::$kind;
                    for (n, one) in self.$section.iter_mut().enumerate() {
                        let at = format!("{}[{n}]", stringify!($section));
                        all.extend(one.files().into_iter().map(|file| (at.clone(), file)));
                    }
                )?)*
                all
            }
        }

        /// What `definitions` holds, in the order of the document's sections.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DefinitionKind {
            $($(
                #[doc = concat!("Of the document's section `", stringify!($section), "`.")]
                $kind,
            )?)*
        }

        impl DefinitionKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($(Self::$kind,)?)*];

            /// As it is stored, and as people are told of it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$kind => stringify!($one),)?)*
                }
            }
        }

        $($(
            impl Definition for $type {
                const KIND: DefinitionKind = DefinitionKind::$kind;
                const SECTION: &'static str = stringify!($section);

                fn of(document: &Manifest) -> &[Self] {
                    &document.$section
                }
            }
        )?)*

        /// Calls a macro with a row for each kind of definition: `Kind one section Type;`.
        macro_rules! each_definition {
            ($d then:ident) => { $d then! { $($($kind $one $section $type;)?)* } };
        }
        pub(crate) use each_definition;
    };
}

document! {
    ($)
    /// The whole document.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Manifest {
        /// APIs behind the broker.
        #[kind(Upstream, upstream)]
        #[serde(default)]
        pub upstreams: Vec<Upstream>,
        /// APIs behind gateways.
        #[kind(Resource, resource)]
        #[serde(default)]
        pub resources: Vec<Resource>,
        /// Named sets of scopes.
        #[kind(Role, role)]
        #[serde(default)]
        pub roles: Vec<Role>,
        /// Issuers of foreign tokens: workload identities, people.
        #[kind(Issuer, issuer)]
        #[serde(default)]
        pub issuers: Vec<TrustedIssuer>,
        /// SPIFFE trust domains.
        #[kind(TrustDomain, trust_domain)]
        #[serde(default)]
        pub trust_domains: Vec<TrustDomain>,
        /// Agents.
        #[serde(default)]
        pub agents: Vec<AgentSpec>,
    }
}
