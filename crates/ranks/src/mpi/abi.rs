//! Which MPI library it is, and so which handles it takes.

use anyhow::{Result, bail};

/// The binary interfaces of MPI that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    /// Open MPI 3 to 5 (`libmpi.so.40`).
    OpenMpi,
    /// MPICH 3 to 5 and those that agreed on its ABI: Intel MPI, MVAPICH, Cray MPICH (`libmpi.so.12`).
    Mpich,
    /// The one that MPI 5 defines (`libmpi_abi.so.1`).
    Standard,
}

impl Abi {
    /// That of a library that says `version` of itself.
    ///
    /// # Errors
    /// It is none that is known.
    pub(super) fn of(version: &str, has_standard_abi: bool) -> Result<Abi> {
        const KNOWN: [(&str, Abi); 9] = [
            ("Open MPI v3.", Abi::OpenMpi),
            ("Open MPI v4.", Abi::OpenMpi),
            ("Open MPI v5.", Abi::OpenMpi),
            ("MPICH Version: 3.", Abi::Mpich),
            ("MPICH Version: 4.", Abi::Mpich),
            ("MPICH Version: 5.", Abi::Mpich),
            ("Intel(R) MPI Library", Abi::Mpich),
            ("MVAPICH", Abi::Mpich),
            ("MPI VERSION : CRAY MPICH", Abi::Mpich),
        ];
        if has_standard_abi {
            return Ok(Abi::Standard);
        }
        let words = version.split_whitespace().collect::<Vec<_>>().join(" ");
        match KNOWN.iter().find(|(begins, _)| words.starts_with(begins)) {
            Some((_, abi)) => Ok(*abi),
            None => bail!(
                "it says that it is {words:?}, whose handles nobody knows here: Open MPI 3 to 5, MPICH 3 to 5 and its \
                 relatives, and libraries with the standard ABI of MPI 5 are known"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_apart_by_what_they_say() {
        let of = |version| Abi::of(version, false).ok();
        assert_eq!(of("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4"), Some(Abi::OpenMpi));
        assert_eq!(of("MPICH Version:\t4.0.2"), Some(Abi::Mpich));
        assert_eq!(of("Intel(R) MPI Library 2021.9 for Linux* OS"), Some(Abi::Mpich));
        assert_eq!(Abi::of("MPICH Version:      5.0.2", true).ok(), Some(Abi::Standard));
        for unknown in ["Open MPI v6.0.0", "MPICH Version: 6.0", "Message Passing 1.0", ""] {
            let why = Abi::of(unknown, false).unwrap_err().to_string();
            assert!(why.contains(&format!("{unknown:?}")), "it is refused by name: {why}");
        }
    }
}
