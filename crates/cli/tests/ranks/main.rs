//! Runs that several processes do together, under the launchers of MPI that are there. Where one is missing,
//! the tests that need it are counted apart, by their names.

mod alike;
mod ended;
mod launcher;
mod work;

use std::process::ExitCode;
use std::sync::Arc;

use launcher::{Kind, Launcher};
use libtest_mimic::{Arguments, Completion, Trial};

/// Tests and their names.
type Tests = &'static [(&'static str, fn(&Launcher))];

/// The tests of these functions of a module, by their names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+]
    };
}
use tests;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each starts more processes than there may be cores.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for kind in [Kind::OpenMpi, Kind::Mpich] {
        let found = Arc::new(Launcher::find(kind));
        let once = if kind == Kind::OpenMpi { [alike::ONCE, ended::ONCE] } else { [&[][..]; 2] };
        for (name, test) in [alike::TESTS, ended::TESTS].into_iter().chain(once).flatten() {
            let found = Arc::clone(&found);
            trials.push(Trial::ignorable_test(format!("{name} ({})", kind.name()), move || {
                match found.as_ref() {
                    Ok(launcher) => test(launcher),
                    Err(missing) => return Ok(Completion::ignored_with(missing)),
                }
                Ok(Completion::Completed)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
