//! What ranks ask of whatever carries their bytes.

/// Carries bytes between ranks. Every rank makes the same calls in the same order, with lengths that agree;
/// each returns when its part is done. A failure ends the process: there is nothing to go on with.
pub trait Communicator: Send + Sync {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// One line for people: what carries the bytes.
    fn about(&self) -> String;
    /// `send` is a piece for each rank, in order, and `receive` becomes a piece of each; all pieces are as long
    /// as each other, and a whole is less than 2 GiB.
    fn all_to_all(&self, send: &[u8], receive: &mut [u8]);
    /// `receive` becomes the bytes that each rank sends, in order; they are less than 2 GiB.
    fn all_gather(&self, send: &[u8], receive: &mut [u8]);
    /// `bytes` become those of the rank `from`; they are less than 2 GiB.
    fn broadcast(&self, bytes: &mut [u8], from: usize);
    /// Does what waits for other ranks by another road than this one: it is watched as the calls above are.
    fn during(&self, wait: &mut dyn FnMut()) {
        wait();
    }
    /// Waits for all ranks and says goodbye to them.
    fn finish(&self);
    /// Ends all ranks.
    fn abort(&self, code: i32) -> !;
}

/// One process.
pub(crate) struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn about(&self) -> String {
        String::new()
    }

    fn all_to_all(&self, send: &[u8], receive: &mut [u8]) {
        receive.copy_from_slice(send);
    }

    fn all_gather(&self, send: &[u8], receive: &mut [u8]) {
        receive.copy_from_slice(send);
    }

    fn broadcast(&self, _: &mut [u8], _: usize) {}

    fn finish(&self) {}

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}
