//! Whom to trust: the system's certificate authorities (Mozilla's, where the system has none), and what is configured
//! for a host besides.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::configuration::{Configuration, ConfigurationError, bounded};

/// The system's authorities, read once when first needed.
#[derive(Default)]
pub(super) struct Roots(OnceLock<Arc<Vec<Certificate<'static>>>>);

/// Files for one host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    authorities: Vec<PathBuf>,
    /// Certificate and key.
    client: Option<(PathBuf, PathBuf)>,
}

impl Roots {
    fn system(&self) -> Arc<Vec<Certificate<'static>>> {
        let load = || {
            let found = rustls_native_certs::load_native_certs().certs;
            Arc::new(found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
        };
        self.0.get_or_init(load).clone()
    }

    /// How to speak TLS with this host (`HOST[:PORT]`).
    pub(super) fn config(
        &self,
        configuration: &Configuration,
        host: &str,
    ) -> Result<TlsConfig, ConfigurationError> {
        let files = Files::find(configuration, host)?;
        let mut extra = Vec::new();
        for path in &files.authorities {
            extra.extend(certificates(path)?);
        }
        let client = files.client.map(|(certificate, key)| client(&certificate, &key)).transpose()?;
        Ok(TlsConfig::builder().root_certs(self.with(extra)).client_cert(client).build())
    }

    fn with(&self, extra: Vec<Certificate<'static>>) -> RootCerts {
        let system = self.system();
        match (system.is_empty(), extra.is_empty()) {
            (true, true) => RootCerts::WebPki,
            (false, true) => RootCerts::Specific(system),
            (_, false) => RootCerts::Specific(Arc::new(system.iter().cloned().chain(extra).collect())),
        }
    }
}

impl Files {
    fn find(configuration: &Configuration, host: &str) -> Result<Files, ConfigurationError> {
        let mut files = Files::default();
        for directory in configuration.certificates.iter().map(|directory| directory.join(host)) {
            files.add_directory(&directory).map_err(|source| unreadable(&directory, source))?;
        }
        if let Some(settings) = configuration.registry(host) {
            files.authorities.extend(settings.ca.clone());
            files.client = settings.client_cert.clone().zip(settings.client_key.clone()).or(files.client);
        }
        Ok(files)
    }

    /// Docker's rules: `*.crt` are authorities, `NAME.cert` and `NAME.key` are ours.
    fn add_directory(&mut self, directory: &Path) -> io::Result<()> {
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        let has = |path: &&PathBuf, extension: &str| path.extension().is_some_and(|found| found == extension);
        self.authorities.extend(paths.iter().filter(|path| has(path, "crt")).cloned());
        if let Some(certificate) = paths.iter().find(|path| has(path, "cert")) {
            self.client = Some((certificate.clone(), certificate.with_extension("key")));
        }
        Ok(())
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, ConfigurationError> {
    let pem = bounded(path).map_err(|source| unreadable(path, source))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => (),
            Err(error) => return Err(malformed(path, error)),
        }
    }
    if found.is_empty() {
        return Err(malformed(path, "there is no certificate in it (PEM)"));
    }
    Ok(found)
}

fn client(certificate: &Path, key: &Path) -> Result<ClientCert, ConfigurationError> {
    let chain = certificates(certificate)?;
    let pem = bounded(key).map_err(|source| unreadable(key, source))?;
    let key_of_pem =
        PrivateKey::from_pem(&pem).map_err(|_| malformed(key, "there is no private key in it (PEM)"))?;
    // ureq takes for granted that the two belong together, and panics if not.
    let pair = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| error.to_string()).and_then(|der| {
        let chain = chain.iter().map(|certificate| certificate.der().to_vec().into()).collect();
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain, der, &provider).map_err(|error| error.to_string())
    });
    pair.map_err(|reason| malformed(key, format!("it is no key for {}: {reason}", certificate.display())))?;
    Ok(ClientCert::new_with_certs(&chain, key_of_pem))
}

fn unreadable(path: &Path, source: io::Error) -> ConfigurationError {
    ConfigurationError::Read { path: path.to_owned(), source }
}

fn malformed(path: &Path, reason: impl ToString) -> ConfigurationError {
    ConfigurationError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}
