//! `regatta auth`: makes and replaces the keys of the roles, and writes what nats-server must know of them.
//!
//! A folder of keys has a file for each role of each tenant, and the server's configuration with public keys only. Which
//! keys are valid is kept in a file beside it, so that the configuration can be written anew at any time.

mod book;
mod server_config;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use regatta_broker::Credentials;
use regatta_schemas::TenantId;
use regatta_schemas::ids::IdError;
use regatta_schemas::roles::Role;

use crate::cli;
use crate::output::print_line;
use book::Book;

/// A tenant as the command line names it: `vision`, or `vision=20G`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    name: TenantId,
    storage: Option<String>,
}

/// No tenant can be named so.
#[derive(Debug, thiserror::Error)]
pub enum NewTenantError {
    #[error(transparent)]
    Name(#[from] IdError),
    #[error("`{0}` is no size: give a number and one of K, M, G, T")]
    Size(String),
}

impl FromStr for NewTenant {
    type Err = NewTenantError;

    fn from_str(text: &str) -> Result<Self, NewTenantError> {
        let Some((name, size)) = text.split_once('=') else { return Ok(Self { name: text.parse()?, storage: None }) };
        let digits = size.trim_end_matches(['K', 'M', 'G', 'T']);
        let is_size = size.len() == digits.len() + 1 && digits.parse::<u64>().is_ok_and(|number| number > 0);
        if !is_size {
            return Err(NewTenantError::Size(size.to_owned()));
        }
        Ok(Self { name: name.parse()?, storage: Some(size.to_owned()) })
    }
}

/// `regatta auth ...`
///
/// # Errors
/// When the folder cannot be read or written.
pub fn auth(command: &cli::AuthCommand) -> anyhow::Result<()> {
    match command {
        cli::AuthCommand::Init(args) => {
            init(args)?;
            let configuration = configuration(&args.folder);
            print_line(&format!("nats-server --jetstream --store_dir FOLDER --config {}", configuration.display()))
        }
        cli::AuthCommand::Rotate(args) => rotate(args),
    }
}

/// What `nats-server --config` is to read.
pub fn configuration(folder: &Path) -> PathBuf {
    server(folder).join("nats.conf")
}

/// The key of a role, for `--credentials`.
pub fn key_file(folder: &Path, tenant: &TenantId, role: Role) -> PathBuf {
    folder.join("tenants").join(tenant.as_str()).join(role.name()).join("nkey")
}

/// Makes the keys that are missing and writes the server's configuration.
///
/// # Errors
/// When the folder cannot be read or written.
pub fn init(args: &cli::AuthInit) -> anyhow::Result<()> {
    let folder = &args.folder;
    let mut book = read_book(folder)?.unwrap_or_default();
    let mut named = args.tenants.clone();
    if named.is_empty() && book.tenants.is_empty() {
        named.push(NewTenant { name: TenantId::default(), storage: None });
    }
    for new in named {
        let tenant = book.tenants.entry(new.name).or_default();
        tenant.storage = new.storage.or_else(|| tenant.storage.take());
        if !args.pools.is_empty() {
            tenant.pools.clone_from(&args.pools);
        }
    }
    for (name, tenant) in &mut book.tenants {
        for role in Role::ALL {
            let keys = tenant.keys.entry(role).or_default();
            if keys.is_empty() {
                keys.push(make_key(folder, name, role)?);
            }
        }
    }
    write_book(folder, &book)?;
    let tls = server_config::tls(args)?;
    write(&configuration(folder), &server_config::server(tls.as_deref()), FOR_ALL_TO_READ)
}

fn rotate(args: &cli::AuthRotate) -> anyhow::Result<()> {
    let (folder, role) = (&args.folder, args.role);
    let mut book = read_book(folder)?
        .with_context(|| format!("{} is no folder of keys; make one with `regatta auth init`", folder.display()))?;
    let tenant = book.tenants.get_mut(&args.tenant).with_context(|| format!("there is no tenant {}", args.tenant))?;
    let keys = tenant.keys.entry(role).or_default();
    match (args.retire, keys.len()) {
        (true, 2..) => drop(keys.drain(..keys.len() - 1)),
        (true, _) => bail!("{role} has one key only; make a new one first: regatta auth rotate without --retire"),
        (false, 2..) => bail!("{role} has an old key still; end its time first: regatta auth rotate --retire"),
        (false, _) => keys.push(make_key(folder, &args.tenant, role)?),
    }
    write_book(folder, &book)
}

/// Writes a new key's file in the place of an older one; the answer is its public half.
fn make_key(folder: &Path, tenant: &TenantId, role: Role) -> anyhow::Result<String> {
    let (file, public_key) = Credentials::make(role)?;
    write(&key_file(folder, tenant, role), &file, FOR_ITS_OWNER)?;
    Ok(public_key)
}

fn server(folder: &Path) -> PathBuf {
    folder.join("server")
}

fn book_file(folder: &Path) -> PathBuf {
    server(folder).join("keys")
}

fn read_book(folder: &Path) -> anyhow::Result<Option<Book>> {
    let path = book_file(folder);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("cannot use {}", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_book(folder: &Path, book: &Book) -> anyhow::Result<()> {
    write(&book_file(folder), &book.to_string(), FOR_ALL_TO_READ)?;
    write(&server(folder).join(server_config::ACCOUNTS), &server_config::accounts(book), FOR_ALL_TO_READ)
}

const FOR_ITS_OWNER: u32 = 0o600;
const FOR_ALL_TO_READ: u32 = 0o644;

/// Replaces a file in one step, so that whoever reads it finds the old one or the new one.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let permissions = std::fs::Permissions::from_mode(mode);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In its containers all but the volumes is read-only, and a new volume takes over the owner of the image's folder.
    #[test]
    fn compose_has_a_volume_for_the_key_of_each_role() {
        let (compose, image) = (include_str!("../../compose.yaml"), include_str!("../../docker/Dockerfile"));
        for role in Role::ALL {
            let key = key_file(Path::new("/auth"), &TenantId::default(), role);
            let folder = key.parent().expect("it is a file").display();
            assert!(compose.contains(&format!("\"auth-{role}:{folder}\"")), "compose.yaml: {role}");
            assert!(image.split_whitespace().any(|word| word == folder.to_string()), "docker/Dockerfile: {role}");
        }
    }
}
