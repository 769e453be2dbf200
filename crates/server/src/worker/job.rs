//! One choice of a request, from its arrival to its end.

use lm::complete::{Certain, TextStream};
use lm::model::{Constraint, Finish, Generated, Logprobs, Request, Told, Usage};
use std::collections::VecDeque;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// What the worker is asked: one sequence.
pub(crate) struct Job {
    /// The model's name.
    pub(crate) model: String,
    pub(crate) request: Request,
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    /// The bytes of what its text has begun with, told before.
    pub(crate) begun: Vec<u8>,
    /// Texts that end it.
    pub(crate) stop: Vec<String>,
    /// Which of the request's choices it is.
    pub(crate) index: usize,
    /// Where it tells what comes of it. Its other end says whether anybody still waits.
    pub(crate) to: Sender<Update>,
    /// Its place among those that are let in.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A token of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) logprobs: Option<Logprobs>,
}

/// What came of a choice.
#[derive(Debug)]
pub(crate) enum Update {
    /// A token, and what text became certain with it.
    Token { index: usize, token: Token, text: String },
    /// Some of the prompt was read.
    Read { index: usize, told: Told },
    /// It is over; `text` was held back until now.
    Done { index: usize, text: String, ending: Ending, usage: Usage },
    /// It failed.
    Failed(Fault),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its model was let go.
    Unloaded,
    /// The engine panicked at its pass.
    Panicked,
    /// The model's numbers are not finite.
    NotFinite,
    /// What it has to follow allows nothing more.
    Forbidden,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens`, or the context.
    Length,
}

impl Job {
    pub(super) fn into_running(self) -> (Request, Option<Box<dyn Constraint>>, Running) {
        let Job { request, constraint, begun, stop, index, to, permit, .. } = self;
        let (text, unsent) = (TextStream::new(&stop).after(&begun), VecDeque::new());
        let running = Running { index, text, to, unsent, is_stopped: false, is_over: false, _permit: permit };
        (request, constraint, running)
    }

    /// There is no such model any more.
    pub(super) fn refuse(self) {
        let (_, _, running) = self.into_running();
        running.fail(Fault::Unloaded);
    }
}

/// A choice in the engine.
pub(super) struct Running {
    index: usize,
    text: TextStream,
    to: Sender<Update>,
    /// What its client has no room for yet.
    unsent: VecDeque<Update>,
    /// Whether a stop string ended it.
    is_stopped: bool,
    /// Whether the engine has done with it.
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    /// Whether nobody waits for it.
    pub(super) fn is_left(&self) -> bool {
        self.to.is_closed()
    }

    /// Whether its client reads more slowly than the model writes.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether all was said.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.unsent.is_empty()
    }

    /// Sends what was held.
    pub(super) fn flush(&mut self) {
        while let Some(update) = self.unsent.pop_front() {
            match self.to.try_send(update) {
                Ok(()) => {}
                Err(TrySendError::Full(update)) => return self.unsent.push_front(update),
                // The next round sees that it is left.
                Err(TrySendError::Closed(_)) => return self.unsent.clear(),
            }
        }
    }

    fn send(&mut self, update: Update) {
        self.unsent.push_back(update);
        self.flush();
    }

    /// Tells of a token: whether a stop string ended the text.
    pub(super) fn token(&mut self, id: u32, bytes: &[u8], logprobs: Option<Logprobs>) -> bool {
        let Certain { text, stopped } = self.text.push(bytes);
        let update =
            Update::Token { index: self.index, token: Token { id, logprobs }, text: text.to_owned() };
        self.is_stopped = stopped;
        self.send(update);
        stopped
    }

    pub(super) fn read(&mut self, told: Told) {
        self.send(Update::Read { index: self.index, told });
    }

    pub(super) fn done(&mut self, generated: Generated) {
        self.is_over = true;
        let ending = match generated.finish {
            // Be it with the last token that it might have.
            _ if self.is_stopped => Ending::Stop,
            Finish::Stop => Ending::Stop,
            Finish::Length => Ending::Length,
            Finish::Cancelled | Finish::Failed => return self.send(Update::Failed(Fault::NotFinite)),
            Finish::Forbidden => return self.send(Update::Failed(Fault::Forbidden)),
        };
        let text = self.text.finish().to_owned();
        self.send(Update::Done { index: self.index, text, ending, usage: generated.usage });
    }

    /// Ends it without an answer.
    pub(super) fn fail(mut self, fault: Fault) {
        self.send(Update::Failed(fault));
    }
}
