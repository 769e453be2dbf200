//! Suggestions for a misspelt name.

/// How alike two names have to be, from 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.8;

/// The name among `names` that is the most like `typed`, if one is like it.
pub fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // Names that begin with all of a shorter one are like it, however long they are; and so are those
        // that one slip of a finger makes of each other.
        let begins =
            typed.len() >= 3 && name.starts_with(&typed) || name.len() >= 3 && typed.starts_with(&name);
        let slipped = name.len() >= 3 && strsim::osa_distance(&typed, &name) <= 1;
        let floor = if begins || slipped { ALIKE } else { 0.0 };
        strsim::jaro_winkler(&typed, &name)
            .min(2.0 * strsim::normalized_levenshtein(&typed, &name))
            .max(floor)
    };
    let alike =
        names.into_iter().map(|name| (name, likeness(name))).filter(|(_, likeness)| *likeness >= ALIKE);
    alike.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
}

/// ` (did you mean NAME?)` where one of `names` is like what was typed; else nothing.
pub fn did_you_mean<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(typed, names).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_strangers_are_not() {
        let names = ["tiny", "nano", "baby", "gpt2", "gpt2-medium", "warmup_steps", "lr"];
        for (typed, meant) in [
            ("tny", "tiny"),
            ("Tiny", "tiny"),
            ("gpt-2", "gpt2"),
            ("warmup", "warmup_steps"),
            ("babby", "baby"),
            ("nnao", "nano"),
        ] {
            assert_eq!(nearest(typed, names), Some(meant), "{typed}");
        }
        for typed in ["huge", "klcoef", "", "x"] {
            assert_eq!(nearest(typed, names), None, "{typed}");
        }
        assert_eq!(did_you_mean("nono", names), " (did you mean nano?)");
        assert_eq!(did_you_mean("huge", names), "");
    }
}
