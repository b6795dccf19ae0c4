//! Which of the tables that this machine has a process may use: those that were proven, where somebody proves them (packages/native does),
//! up to the one that the environment variable CTKVR_ISA names.

use std::sync::{OnceLock, PoisonError, RwLock};

use super::Kernels;
use crate::error::{Error, Result};

/// Names that [`Kernels::allow`] was given; `None`: it was not called.
static ALLOWED: RwLock<Option<Vec<String>>> = RwLock::new(None);

/// What the environment variable says, as of the first look; empty and unset are the same.
fn forced() -> Option<&'static str> {
    static FORCED: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::env::var_os("CTKVR_ISA").map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty());
    FORCED.get_or_init(read).as_deref()
}

impl Kernels {
    /// From now on this process uses these tables only, and the scalar one.
    pub fn allow(names: Vec<String>) {
        *ALLOWED.write().unwrap_or_else(PoisonError::into_inner) = Some(names);
    }

    /// What [`Kernels::allow`] was last given.
    pub fn allowed() -> Option<Vec<String>> {
        ALLOWED.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table that CTKVR_ISA names, whether there is one or not.
    pub fn forced() -> Option<&'static str> {
        forced()
    }

    /// Every table this process may use, the plainest first: the last one is used where nothing else is asked for.
    pub fn available() -> Vec<&'static Kernels> {
        let usable = usable(Self::allowed());
        up_to(forced(), usable.clone()).unwrap_or(usable)
    }

    /// The fastest table.
    ///
    /// # Errors
    /// `InvalidOption` when CTKVR_ISA names none of this machine's.
    pub fn fastest() -> Result<&'static Kernels> {
        let tables = up_to(forced(), usable(Self::allowed()))?;
        Ok(tables.last().copied().unwrap_or(&super::SCALAR))
    }
}

/// The scalar table, and those of this machine that are in the list.
fn usable(allowed: Option<Vec<String>>) -> Vec<&'static Kernels> {
    let is_allowed = |table: &&Kernels| {
        table.name == super::SCALAR.name || allowed.as_ref().is_none_or(|names| names.iter().any(|name| name == table.name))
    };
    Kernels::detected().into_iter().filter(is_allowed).collect()
}

/// Without those that are faster than the forced one.
fn up_to(forced: Option<&str>, mut tables: Vec<&'static Kernels>) -> Result<Vec<&'static Kernels>> {
    let Some(name) = forced else { return Ok(tables) };
    match tables.iter().position(|table| table.name == name) {
        Some(last) => tables.truncate(last + 1),
        None => {
            let names: Vec<_> = tables.iter().map(|table| table.name).collect();
            let expected = format!("unset or one of {}, the instruction sets to be had here", names.join(", "));
            return Err(Error { option: "CTKVR_ISA", expected, actual: name.into() });
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tables: &[&Kernels]) -> Vec<&'static str> {
        tables.iter().map(|table| table.name).collect()
    }

    #[test]
    fn only_what_is_allowed_and_the_scalar_table() {
        assert_eq!(names(&usable(Some(Vec::new()))), ["scalar"]);
        let all = names(&Kernels::detected());
        assert_eq!(names(&usable(None)), all);
        let last = all[all.len() - 1];
        let without: Vec<_> = all.iter().filter(|name| **name != last || last == "scalar").copied().collect();
        assert_eq!(names(&usable(Some(without.iter().map(ToString::to_string).collect()))), without);
    }

    #[test]
    fn a_forced_table_is_the_last() {
        for (i, name) in names(&Kernels::detected()).into_iter().enumerate() {
            let tables = up_to(Some(name), Kernels::detected()).expect("it is there");
            assert_eq!((tables.len(), tables[i].name), (i + 1, name));
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        for name in ["mmx", "AVX2", "avx512 "] {
            let error = up_to(Some(name), vec![&super::super::SCALAR]).expect_err("refused").to_string();
            assert!(error.contains("CTKVR_ISA") && error.contains("scalar") && error.contains(name), "{error}");
        }
    }
}
