//! What processes are asked for that do something together: all of them the same.

use super::Recipe;
use anyhow::{Context, Result, anyhow};
use ranks::Ranks;

/// Refuses ranks that were started with other commands, or that find other data.
///
/// # Errors
/// The recipe is another one than the first rank's: the difference is shown.
pub fn refuse_other_recipes(ranks: &Ranks, recipe: &Recipe) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let of_first = ranks.lead(|| toml::to_string(recipe).context("a recipe is TOML"))?;
    let of_first: Recipe = toml::from_str(&of_first).context("the first rank's recipe cannot be read")?;
    let differences = of_first.differences(recipe);
    ranks.together(match differences.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(
            "this process is asked for something else than the first one (there → here):\n  {}\nStart all processes with the \
             same command, where they find the same data",
            differences.join("\n  ")
        )),
    })
}
