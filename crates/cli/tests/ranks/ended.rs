//! Processes that die, hang or are asked to stop: the job ends, and the next start goes on to the same bytes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::launcher::{Launcher, signal};
use crate::work::{assert_same, work};

pub(crate) const TESTS: crate::Tests = crate::tests![
    killed_with_four_and_continued_with_one_and_two,
    who_hangs_is_noticed,
    who_is_asked_to_stop_stops_all
];

/// What does not depend on who carries the bytes.
pub(crate) const ONCE: crate::Tests = crate::tests![reinforcement_goes_on_as_well, candidates_go_on_as_well];

/// Steps of the runs; they are stopped somewhere before.
const STEPS: usize = 60;

fn killed_with_four_and_continued_with_one_and_two(launcher: &Launcher) {
    let work = work();
    let [whole, broken] = ["whole", "broken"].map(|name| format!("{launcher:?} {name}"));
    launcher.run(2, &work.pretrain(&whole, STEPS));
    let (command, out) = (work.pretrain(&broken, STEPS), work.path(&broken));
    for (size, rank, step) in [(4, 2, 12), (4, 0, 23), (1, 0, 38)] {
        let mut job = launcher.start(size, &command);
        job.wait_for_steps(&work.metrics(&broken), step);
        let killed = Instant::now();
        signal(rank, &out, Signal::KILL);
        let ended = job.end();
        assert_ne!(ended.code, Some(0), "{}", ended.said);
        assert!(killed.elapsed() < Duration::from_secs(20), "the job ends soon: {:?}", killed.elapsed());
    }
    let said = launcher.run(2, &command);
    assert!(said.contains("continuing after step"), "{said}");
    assert_same(&work.result(&broken), &work.result(&whole), "killed and continued");
}

fn reinforcement_goes_on_as_well(launcher: &Launcher) {
    let work = work();
    let [whole, broken] = ["ppo whole", "ppo broken"].map(|name| format!("{launcher:?} {name}"));
    let (steps, out) = (12, work.path(&broken));
    launcher.run(1, &work.ppo(&whole, steps));
    for (size, rank, step) in [(4, 1, 3), (1, 0, 6)] {
        let mut job = launcher.start(size, &work.ppo(&broken, steps));
        job.wait_for_steps(&work.metrics(&broken), step);
        signal(rank, &out, Signal::KILL);
        assert_ne!(job.end().code, Some(0));
    }
    let said = launcher.run(2, &work.ppo(&broken, steps));
    assert!(said.contains("continuing after step"), "{said}");
    assert_same(&work.result(&broken), &work.result(&whole), "killed and continued");
}

fn candidates_go_on_as_well(launcher: &Launcher) {
    let work = work();
    let [whole, broken] = ["all candidates", "candidates"].map(|name| format!("{launcher:?} {name}"));
    let of = |name: &str| work.candidates(name, "many.jsonl", &[]);
    launcher.run(1, &of(&whole));
    let mut job = launcher.start(2, &of(&broken));
    let file = work.path(&broken);
    job.wait_for_steps(Path::new(&file), 1);
    signal(1, &file, Signal::TERM);
    let ended = job.end();
    assert!(ended.code == Some(130) && ended.said.contains("the same command goes on"), "{ended:?}");
    let said = launcher.run(4, &of(&broken));
    assert!(said.contains("are answered already"), "{said}");
    let read = |name: &str| fs::read_to_string(work.path(name)).expect("it is there");
    assert_eq!(read(&broken), read(&whole));
}

fn who_hangs_is_noticed(launcher: &Launcher) {
    let (work, name) = (work(), format!("{launcher:?} hangs"));
    let (command, out) = (work.pretrain(&name, 2000), work.path(&name));
    let program = env!("CARGO_BIN_EXE_mynah").to_owned();
    let mut job = launcher.start_each(&[(2, program, command.clone())], &[("MYNAH_MPI_TIMEOUT", "3")]);
    job.wait_for_steps(&work.metrics(&name), 7);
    signal(1, &out, Signal::STOP);
    let ended = job.end();
    assert_ne!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("rank 0 of 2 has waited for the others for 3 s"), "{}", ended.said);
    let mut again = launcher.start(2, &command);
    again.wait_for_steps(&work.metrics(&name), 12);
    signal(0, &out, Signal::TERM);
    assert!(again.end().said.contains("continuing after step"));
}

fn who_is_asked_to_stop_stops_all(launcher: &Launcher) {
    let work = work();
    let [whole, stopped] = ["not stopped", "stopped"].map(|name| format!("{launcher:?} {name}"));
    launcher.run(1, &work.pretrain(&whole, STEPS));
    let (command, out) = (work.pretrain(&stopped, STEPS), work.path(&stopped));
    let mut job = launcher.start(4, &command);
    job.wait_for_steps(&work.metrics(&stopped), 11);
    signal(3, &out, Signal::TERM);
    let ended = job.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert!(ended.said.contains("stopped after step"), "{}", ended.said);
    launcher.run(2, &command);
    assert_same(&work.result(&stopped), &work.result(&whole), "stopped and continued");
}
