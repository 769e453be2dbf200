//! Libraries that panic when they meet damaged data: a panic of theirs becomes an error, and nobody sees its
//! message.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library's decoder. After an error that was a panic, what it worked on must not be used again.
pub(super) fn catch_decoder_panic<T, E: From<io::Error>>(
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if !INSIDE.get() {
                before(what);
            }
        }));
    });
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    INSIDE.set(outer);
    result.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it cannot be decoded");
        Err(io::Error::other(said.to_string()).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = catch_decoder_panic(|| -> io::Result<u8> {
            [0u8; 2].get(2).copied().ok_or_else(|| panic!("at 2"))
        });
        assert_eq!(error.unwrap_err().to_string(), "at 2");
        let nested = catch_decoder_panic(|| -> io::Result<u8> {
            let inner = catch_decoder_panic(|| -> io::Result<u8> { panic!("inside {}", 1) });
            assert!(INSIDE.get(), "still inside the outer one");
            inner
        });
        assert_eq!(nested.unwrap_err().to_string(), "inside 1");
        assert!(!INSIDE.get());
        assert_eq!(catch_decoder_panic(|| Ok::<_, io::Error>(7)).unwrap(), 7);
    }
}
