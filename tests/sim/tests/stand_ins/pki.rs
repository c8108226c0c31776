//! Certificates and kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A CA that writes the certificates that it issues into a directory.
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes a CA whose certificate is `DIRECTORY/ca.pem`.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        let key = issuer.key().serialize_pem();
        fs::write(directory.join("ca-key.pem"), key).unwrap();
        Self {
            directory: directory.to_owned(),
            issuer,
        }
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The CA's key.
    pub fn key(&self) -> PathBuf {
        self.directory.join("ca-key.pem")
    }

    /// Issues a certificate for a user in a group, also valid for servers on 127.0.0.1.
    pub fn issue(&self, name: &str, group: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let stem = name.replace(':', "-");
        let pair = Pair {
            certificate: self.directory.join(format!("{stem}.pem")),
            key: self.directory.join(format!("{stem}-key.pem")),
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        fs::write(
            self.directory.join(format!("{stem}.pub")),
            key.public_key_pem(),
        )
        .unwrap();
        pair
    }

    /// The public key of the certificate issued for `name`.
    pub fn public_key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pub"))
    }

    /// Writes a kubeconfig with a new certificate of this CA, for a server whose certificate is
    /// from `server_authority`.
    pub fn kubeconfig(&self, server: &str, server_authority: &Path, who: (&str, &str)) -> PathBuf {
        let pair = self.issue(who.0, who.1);
        let user = format!(
            "client-certificate: {}\n    client-key: {}",
            pair.certificate.display(),
            pair.key.display()
        );
        self.write_kubeconfig(server, server_authority, who.0, &user)
    }

    /// Writes a kubeconfig with a bearer token; without one if the token is empty.
    pub fn token_kubeconfig(&self, server: &str, token: &str) -> PathBuf {
        let user = format!("token: \"{token}\"");
        // The end differs between tokens, and a whole token may be too long for a name.
        let end = &token[token.len().saturating_sub(40)..];
        let name = format!("token-{end}");
        self.write_kubeconfig(server, &self.certificate(), &name, &user)
    }

    fn write_kubeconfig(&self, server: &str, authority: &Path, name: &str, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: {server}\n    \
             certificate-authority: {}\nusers:\n- name: u\n  user:\n    {user}\ncontexts:\n- name: x\n  \
             context: {{cluster: c, user: u}}\ncurrent-context: x\n",
            authority.display()
        );
        let path = self
            .directory
            .join(format!("{}.kubeconfig", name.replace(':', "-")));
        fs::write(&path, text).unwrap();
        path
    }
}
