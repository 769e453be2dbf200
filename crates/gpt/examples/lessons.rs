//! Prints lessons to look at, one JSON object a line. The golden file of their tests is four of each kind, in
//! this order:
//!
//! ```text
//! for kind in text demonstrations train held-out; do cargo run --release -p mynah-gpt --example lessons -- $kind 4; done
//! ```

#![allow(clippy::print_stdout)] // That is what it is for.

use anyhow::{Context, Result, bail};
use gpt::lessons::{Split, demonstration, judge, prompt, text};
use serde_json::{json, to_value};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let kind = words.next().context("give a kind: text, demonstrations, train or held-out")?;
    let n: u64 = words.next().map_or(Ok(30), |n| n.parse())?;
    for i in 0..n {
        let line = match kind.as_str() {
            "text" => json!({ "text": text(0, i) }),
            "demonstrations" => {
                let made = demonstration(0, i);
                let said = made.messages.last().context("a demonstration says something")?;
                let score = judge(&made.key, &said.content).score();
                json!({ "messages": made.messages, "flaw": made.flaw, "score": score })
            }
            "train" => to_value(prompt(0, Split::Train, i))?,
            "held-out" => to_value(prompt(0, Split::HeldOut, i))?,
            other => bail!("`{other}` is no kind of lessons"),
        };
        println!("{line}");
    }
    Ok(())
}
