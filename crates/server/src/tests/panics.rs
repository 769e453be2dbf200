//! A panic within a pass.

use super::fixture::{cpu, write};
use crate::model::{Capacity, Source, read};
use crate::worker::{Fault, Job, Shared, Update, Worker};
use lm::checkpoint::Stored;
use lm::model::{Constraint, Request};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use text::progress::Silent;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};

/// Breaks at the third token.
struct Bomb;

impl Constraint for Bomb {
    fn allowed(&mut self, generated: &[u32]) -> &[u32] {
        assert!(generated.len() < 2, "boom");
        &[u32::MAX; 10]
    }
}

#[test]
fn a_panic_fails_the_requests_of_its_pass_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut cpu = cpu();
    let source = Source { name: "chat".into(), path: dir.path().join("chat") };
    write(&source.path, 1, false, &mut cpu);
    let shared = Arc::<Shared>::default();
    let one_slot = Capacity { slots: 1, cache_bytes: None, stored: Stored::AsInFile };
    let (mut worker, door) = Worker::new(cpu, Arc::clone(&shared));
    worker.take(read(&source, one_slot, 4, |_| None, &Silent).unwrap());
    let room = Arc::new(Semaphore::new(2));
    let ask = |constraint: Option<Box<dyn Constraint>>| -> Receiver<Update> {
        let (to, updates) = channel(64);
        let request = Request { prompt: vec![1, 2, 3], max_tokens: 5, ..Request::default() };
        let permit = Arc::clone(&room).try_acquire_owned().unwrap();
        let (model, begun, stop) = ("chat".into(), Vec::new(), Vec::new());
        door.run(Job { model, request, constraint, begun, stop, index: 0, to, permit });
        updates
    };
    // The second waits for the slot of the first.
    let (mut broken, mut waiting) = (ask(Some(Box::new(Bomb))), ask(None));
    let thread = std::thread::spawn(move || worker.work());
    let last = |updates: &mut Receiver<Update>| std::iter::from_fn(|| updates.blocking_recv()).last();
    assert!(matches!(last(&mut broken), Some(Update::Failed(Fault::Panicked))));
    let Some(Update::Done { usage, .. }) = last(&mut waiting) else { panic!("it is not answered") };
    assert_eq!(usage.drawn_tokens, 5);
    assert!(shared.ready.load(Ordering::Acquire), "the engine is whole again");
    let metrics = shared.metrics.text(0, 0, 0);
    assert!(metrics.contains("mynah_engine_panics_total 1"), "{metrics}");
    drop(door);
    thread.join().unwrap();
    assert_eq!(room.available_permits(), 2, "both places are free");
}
