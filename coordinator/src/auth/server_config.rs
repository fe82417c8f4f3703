//! The configuration of nats-server: an account a tenant, a user a key, and what each may do. It holds no secret.

use std::path::Path;

use anyhow::{Context, bail};
use regatta_schemas::roles::{Permissions, Role};

use super::book::{Book, Tenant};
use crate::cli;

/// The part that changes with the keys, beside the rest.
pub const ACCOUNTS: &str = "accounts.conf";

/// What a power cut may take of the log's end, and how long a client may be silent: a coordinator that is paused or cut off
/// would otherwise be sent its share of the requests for minutes.
const DEFAULTS: &str = "jetstream { sync_interval: \"1s\" }\nping_interval: \"5s\"\nping_max: 2\n";

/// The part that does not change with the keys. Where the streams lie is for the server's command line to say.
pub fn server(tls: Option<&str>) -> String {
    format!(
        "# Written by `regatta auth init`, which writes it anew.\n{DEFAULTS}{}include {ACCOUNTS}\n",
        tls.unwrap_or_default()
    )
}

/// What makes the server speak TLS only; None where nobody asked for it.
///
/// # Errors
/// When a file does not exist, or has a path that cannot be written into a configuration.
pub fn tls(args: &cli::AuthInit) -> anyhow::Result<Option<String>> {
    let (Some(certificate), Some(key)) = (&args.server_cert, &args.server_key) else { return Ok(None) };
    let path = |file: &Path| -> anyhow::Result<String> {
        let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
        quoted(&file)
    };
    let mut lines = format!("tls {{\n  cert_file: {}\n  key_file: {}\n", path(certificate)?, path(key)?);
    if let Some(authority) = &args.client_ca {
        lines += &format!("  ca_file: {}\n  verify: true\n", path(authority)?);
    }
    Ok(Some(lines + "}\n"))
}

/// The accounts with their users.
pub fn accounts(book: &Book) -> String {
    let mut text = "# Written by `regatta auth`, which writes it anew. Public keys only.\naccounts {\n".to_owned();
    for (name, tenant) in &book.tenants {
        let jetstream = tenant.storage.as_ref().map_or("enabled".to_owned(), |size| format!("{{ max_file: {size} }}"));
        text += &format!("  \"{name}\" {{\n    jetstream: {jetstream}\n    users: [\n");
        for (role, keys) in &tenant.keys {
            for key in keys {
                text += &user(*role, key, tenant);
            }
        }
        text += "    ]\n  }\n";
    }
    text + "}\n"
}

fn user(role: Role, key: &str, tenant: &Tenant) -> String {
    let Permissions { publish, subscribe, answers } = role.permissions(&tenant.pools);
    let answers = if answers { "          allow_responses: true\n" } else { "" };
    format!(
        "      {{ # {role}\n        nkey: {key}\n        permissions: {{\n          publish: {{ allow: [{}] }}\n          \
         subscribe: {{ allow: [{}] }}\n{answers}        }}\n      }}\n",
        list(&publish),
        list(&subscribe)
    )
}

fn list(subjects: &[String]) -> String {
    let lines: String = subjects.iter().map(|subject| format!("\n            \"{subject}\"")).collect();
    lines + "\n          "
}

fn quoted(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        Some(text) if !text.contains(['"', '\\', '\n']) => Ok(format!("\"{text}\"")),
        Some(_) | None => bail!("{} cannot be written into a configuration", path.display()),
    }
}
