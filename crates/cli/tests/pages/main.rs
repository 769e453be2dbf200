//! The server's pages in a real browser, on models that were really trained. Where Chromium, its driver or
//! axe-core are missing, what needs them is counted apart. `docs/TESTING.md` says how a page's tests are
//! written.

/// The tests of these functions of a module, by their names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+]
    };
}

mod blind;
mod chat;
mod drafts;
mod feedback;
mod fixture;
mod hostile;
mod learn;
mod page;
mod rank;
mod resumed;
mod runs;
mod station;
mod views;
mod webdriver;
mod whole;
mod why;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use fixture::{Programs, World};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Tests and their names.
type Tests = &'static [(&'static str, fn(&World))];

/// Those that need a browser.
const TESTS: [Tests; 11] = [
    chat::TESTS,
    why::TESTS,
    resumed::TESTS,
    hostile::TESTS,
    rank::TESTS,
    drafts::TESTS,
    blind::TESTS,
    feedback::TESTS,
    runs::TESTS,
    learn::TESTS,
    views::TESTS,
];
/// Those that need axe-core besides.
const OF_AXE: [Tests; 1] = [views::OF_AXE];

/// Those that take minutes.
const OF_MINUTES: [Tests; 1] = [whole::TESTS];

/// What a test needs besides a browser: what is missing.
type Needs = fn() -> Result<(), String>;

/// What all tests share, made by the first that runs.
type Shared = Arc<OnceLock<Result<World, String>>>;

/// The browser, or what is missing of it.
type Found = Arc<Result<Programs, String>>;

fn trial(name: &str, test: fn(&World), needs: Needs, programs: &Found, shared: &Shared) -> Trial {
    let (programs, shared) = (Arc::clone(programs), Arc::clone(shared));
    Trial::ignorable_test(name, move || {
        let programs = match programs.as_ref() {
            Ok(programs) => programs,
            Err(missing) => return Ok(Completion::ignored_with(missing)),
        };
        if let Err(missing) = needs() {
            return Ok(Completion::ignored_with(missing));
        }
        let world = shared.get_or_init(|| World::start(programs).map_err(|error| format!("{error:#}")));
        test(world.as_ref().map_err(Failed::from)?);
        Ok(Completion::Completed)
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one browser, and a test has it to itself.
    arguments.test_threads = Some(1);
    let (programs, shared) = (Arc::new(Programs::find()), Shared::default());
    let all = |tests: &[Tests], needs: Needs| {
        let tests = tests.iter().copied().flatten();
        tests.map(|(name, test)| trial(name, *test, needs, &programs, &shared)).collect::<Vec<_>>()
    };
    let of_axe = all(&OF_AXE, || page::axe().map(drop));
    let trials =
        all(&TESTS, || Ok(())).into_iter().chain(of_axe).chain(all(&OF_MINUTES, whole::models)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Server and browser end with what is shared, which no exit drops.
    drop(shared);
    conclusion.exit_code()
}
