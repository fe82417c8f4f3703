//! Which keys are valid, of whom: a line a fact, to be read by people as well.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use regatta_schemas::roles::Role;
use regatta_schemas::{PoolId, TenantId};

/// All tenants of a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub tenants: BTreeMap<TenantId, Tenant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// The disk that its streams may take, as NATS writes sizes; None: any.
    pub storage: Option<String>,
    /// What its agents may serve; none: any.
    pub pools: Vec<PoolId>,
    /// Public keys, the newest last.
    pub keys: BTreeMap<Role, Vec<String>>,
}

/// A line that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is none of `tenant NAME [SIZE]`, `pool TENANT POOL`, `key TENANT ROLE PUBLIC_KEY`")]
pub struct UnreadableLine {
    line: usize,
}

impl FromStr for Book {
    type Err = UnreadableLine;

    fn from_str(text: &str) -> Result<Self, UnreadableLine> {
        let mut book = Self::default();
        for (number, line) in text.lines().enumerate() {
            book.read(line).ok_or(UnreadableLine { line: number + 1 })?;
        }
        Ok(book)
    }
}

impl Book {
    fn read(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["tenant", name] => self.tenants.entry(name.parse().ok()?).or_default().storage = None,
            ["tenant", name, size] => {
                self.tenants.entry(name.parse().ok()?).or_default().storage = Some(size.to_owned());
            }
            ["pool", name, pool] => self.tenants.get_mut(&name.parse().ok()?)?.pools.push(pool.parse().ok()?),
            ["key", name, role, key] => {
                let tenant = self.tenants.get_mut(&name.parse().ok()?)?;
                tenant.keys.entry(role.parse().ok()?).or_default().push(key.to_owned());
            }
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for Book {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, tenant) in &self.tenants {
            writeln!(formatter, "{}", format!("tenant {name} {}", tenant.storage.as_deref().unwrap_or("")).trim_end())?;
            for pool in &tenant.pools {
                writeln!(formatter, "pool {name} {pool}")?;
            }
            for (role, keys) in &tenant.keys {
                for key in keys {
                    writeln!(formatter, "key {name} {role} {key}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_read_back_as_it_was_written() {
        let text = "tenant one 20G\npool one gpu\nkey one agent UA\nkey one agent UB\ntenant two\nkey two viewer UC\n";
        let book: Book = text.parse().unwrap();
        assert_eq!(book.tenants.len(), 2);
        assert_eq!(book.to_string(), text);
    }

    #[test]
    fn a_line_that_says_nothing_is_refused_with_its_number() {
        for text in ["tenant one\nkey one boss UA", "key nobody agent UA", "tenant ../x", "tenant a b c", ""] {
            let line = text.lines().count();
            match text.parse::<Book>() {
                Ok(book) => assert!(text.is_empty() && book == Book::default()),
                Err(error) => assert_eq!(error.line, line, "{text}"),
            }
        }
    }
}
