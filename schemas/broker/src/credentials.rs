//! Who a program is to the server, by a file that is read anew at every connection: a key can be replaced while the
//! program runs.

use std::path::Path;

use async_nats::Auth;
use nkeys::KeyPair;
use regatta_schemas::roles::Role;

use crate::BrokerError;

/// What a credentials file holds: an nkey's seed, a JWT where the server wants one, and the role where Regatta wrote it.
///
/// A line that begins with `SU` is the seed; `# role agent` names the role; what lies between `BEGIN NATS USER JWT` and
/// its end is the JWT. So NATS's own files of seeds and credentials are read as well, and its tools read ours.
pub struct Credentials {
    key: KeyPair,
    jwt: Option<String>,
    pub role: Option<Role>,
}

impl Credentials {
    /// # Errors
    /// `Setting` when the file cannot be read or holds no seed of a user.
    pub async fn read(path: &Path) -> Result<Self, BrokerError> {
        let wrong =
            |problem: String| BrokerError::Setting(format!("cannot use the credentials {}: {problem}", path.display()));
        let text = tokio::fs::read_to_string(path).await.map_err(|error| wrong(error.to_string()))?;
        let mut lines = text.lines().map(str::trim);
        let seed = lines.clone().find(|line| line.starts_with("SU"));
        let seed = seed.ok_or_else(|| wrong("it has no line with the seed of a user".to_owned()))?;
        let key = KeyPair::from_seed(seed).map_err(|error| wrong(error.to_string()))?;
        let role = lines.clone().find_map(|line| line.strip_prefix(ROLE)).and_then(|name| name.trim().parse().ok());
        let jwt = lines.any(|line| line.contains("BEGIN NATS USER JWT")).then(|| lines.next()).flatten();
        Ok(Self { key, jwt: jwt.map(str::to_owned), role })
    }

    /// The file of a new key, and the name under which the server is to know it.
    ///
    /// # Errors
    /// `Setting` when no key can be made.
    pub fn make(role: Role) -> Result<(String, String), BrokerError> {
        let key = KeyPair::new_user();
        let seed = key.seed().map_err(|error| BrokerError::Setting(format!("cannot make a key: {error}")))?;
        Ok((format!("{ROLE} {role}\n{seed}\n"), key.public_key()))
    }

    /// The answer to the server's challenge.
    pub(crate) fn sign(&self, nonce: &[u8]) -> Result<Auth, nkeys::error::Error> {
        let mut auth = Auth::new();
        auth.signature = Some(self.key.sign(nonce)?);
        match &self.jwt {
            Some(jwt) => auth.jwt = Some(jwt.clone()),
            None => auth.nkey = Some(self.key.public_key()),
        }
        Ok(auth)
    }
}

/// Begins the line that names the role.
const ROLE: &str = "# role";
