//! Whether a launcher of MPI started this process, told by the environment that it leaves: nothing is opened
//! to find out.

/// Names the file of the MPI library, where it is not found by itself.
pub const LIBRARY_VARIABLE: &str = "MYNAH_MPI";

/// Whose launcher it was, and so which libraries can be the one it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// MPICH's and its relatives', or Slurm's `srun --mpi=pmi2`.
    Mpich,
    /// A process manager that serves both (PMIx), such as `srun --mpi=pmix`.
    Either,
}

/// What a launcher says of the process that it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which rank this is, from 0.
    pub rank: usize,
    /// How many there are, where it says so.
    pub size: Option<usize>,
    /// How many of them are on this machine, where it says so.
    pub on_this_machine: Option<usize>,
    /// Which of them this is, from 0, where it says so.
    pub local_rank: Option<usize>,
    pub(crate) family: Family,
    /// Where Open MPI was installed, if it says so.
    pub(crate) prefix: Option<String>,
}

impl Launch {
    /// What the environment says; none without a launcher.
    pub fn from_environment() -> Option<Launch> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        // Open MPI's processes have PMIx's variables as well.
        let (rank, [size, on_this_machine, local_rank], family) =
            if let Some(rank) = number("OMPI_COMM_WORLD_RANK") {
                let names = ["WORLD_SIZE", "WORLD_LOCAL_SIZE", "WORLD_LOCAL_RANK"];
                (rank, names.map(|name| number(&format!("OMPI_COMM_{name}"))), Family::OpenMpi)
            } else if let Some(rank) = number("PMI_RANK") {
                (rank, ["PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"].map(number), Family::Mpich)
            } else {
                let local_rank = number("SLURM_LOCALID");
                (number("PMIX_RANK")?, [number("SLURM_STEP_NUM_TASKS"), None, local_rank], Family::Either)
            };
        Some(Launch { rank, size, on_this_machine, local_rank, family, prefix: variable("OPAL_PREFIX") })
    }

    /// Whether it is one of several processes, as far as can be told before any library is opened.
    pub fn is_one_of_several(&self) -> bool {
        self.rank > 0 || self.size.is_some_and(|size| size > 1)
    }

    /// The files that may be the MPI library, the likeliest first.
    #[cfg(unix)]
    pub(crate) fn libraries(&self) -> Vec<String> {
        if let Ok(named) = std::env::var(LIBRARY_VARIABLE) {
            return vec![named];
        }
        let open_mpi = if cfg!(target_os = "macos") { "libmpi.40.dylib" } else { "libmpi.so.40" };
        let mpich: &[&str] = if cfg!(target_os = "macos") {
            &["libmpi_abi.1.dylib", "libmpi.12.dylib"]
        } else {
            // Debian's MPICH has a name of its own.
            &["libmpi_abi.so.1", "libmpi.so.12", "libmpich.so.12"]
        };
        let beside_launcher = self.prefix.iter().map(|prefix| format!("{prefix}/lib/{open_mpi}"));
        let mut names = Vec::new();
        if self.family != Family::Mpich {
            names.extend(beside_launcher.chain([open_mpi.to_owned()]));
        }
        if self.family != Family::OpenMpi {
            names.extend(mpich.iter().map(|name| (*name).to_owned()));
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Launch> {
        Launch::from(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn launchers_are_known_by_what_they_leave() {
        let launch = |rank, size, on_this_machine, local_rank, family| {
            Some(Launch { rank, size, on_this_machine, local_rank, family, prefix: None })
        };
        assert_eq!(of(&[("PATH", "/bin"), ("SLURM_NTASKS", "4")]), None, "an allocation is no launcher");
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("PMIX_RANK", "3"),
        ];
        assert_eq!(of(&open_mpi), launch(3, Some(4), Some(2), Some(1), Family::OpenMpi));
        let hydra =
            [("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("MPI_LOCALNRANKS", "2"), ("MPI_LOCALRANKID", "0")];
        assert_eq!(of(&hydra), launch(0, Some(2), Some(2), Some(0), Family::Mpich));
        let slurm = [("PMIX_RANK", "5"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_LOCALID", "1")];
        assert_eq!(of(&slurm), launch(5, Some(8), None, Some(1), Family::Either));
    }

    #[test]
    fn one_process_is_not_several() {
        assert!(!of(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]).unwrap().is_one_of_several());
        assert!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]).unwrap().is_one_of_several());
        assert!(of(&[("PMIX_RANK", "1")]).unwrap().is_one_of_several());
    }

    #[cfg(unix)]
    #[test]
    fn a_library_beside_the_launcher_comes_first() {
        let launch = of(&[("OMPI_COMM_WORLD_RANK", "0"), ("OPAL_PREFIX", "/opt/mpi")]).unwrap();
        let names = launch.libraries();
        assert!(names[0].starts_with("/opt/mpi/lib/libmpi.") && names.len() == 2, "{names:?}");
        assert!(of(&[("PMIX_RANK", "0")]).unwrap().libraries().len() >= 3, "both families");
    }
}
