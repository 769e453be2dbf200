//! Fill-in-the-middle for training documents (Bavarian et al. 2022): a document is cut at two random
//! characters, and the middle goes to the end. What becomes of a document is a function of the seed and of
//! its number.

use serde::{Deserialize, Serialize};

use anyhow::{Result, ensure};
use kernels::rng;

use crate::streams;
use crate::tokenizer::{FimTokens, Tokenizer};

/// How often documents are cut, and how their pieces are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fim {
    /// The fraction of training documents that are cut.
    pub rate: f64,
    /// Of those, the fraction in the order suffix, prefix, middle; the others are prefix, suffix, middle.
    pub spm_rate: f64,
    /// Decides which documents, where, and in which order.
    pub seed: u64,
}

/// The order of a document's pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Prefix, suffix, middle.
    Psm,
    /// Suffix, prefix, middle.
    Spm,
}

/// How many training documents were cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// In the order prefix, suffix, middle.
    pub psm_documents: u64,
    /// In the order suffix, prefix, middle.
    pub spm_documents: u64,
}

impl Cut {
    pub(super) fn count(&mut self, order: Option<Order>) {
        match order {
            Some(Order::Psm) => self.psm_documents += 1,
            Some(Order::Spm) => self.spm_documents += 1,
            None => {}
        }
    }
}

impl Fim {
    pub(super) fn check(&self) -> Result<()> {
        for (name, rate) in [("--fim-rate", self.rate), ("--spm-rate", self.spm_rate)] {
            ensure!((0.0..=1.0).contains(&rate), "{name} is {rate}: it is a fraction, from 0 to 1");
        }
        Ok(())
    }

    /// The prefix, middle and suffix of training document number `document`, and their order; none if it
    /// stays whole. Both cuts fall on any boundary of characters, ends included, equally often.
    pub(super) fn pieces<'a>(&self, text: &'a str, document: u64) -> Option<(Order, [&'a str; 3])> {
        let happens = |stream, rate| f64::from(rng::uniform(self.seed, stream, document)) < rate;
        if !happens(streams::FIM_WHETHER, self.rate) {
            return None;
        }
        let boundaries = text.chars().count() as u64 + 1;
        let mut cuts =
            [0, 1].map(|i| rng::below(self.seed, streams::FIM_CUTS, 2 * document + i, boundaries) as usize);
        cuts.sort_unstable();
        let byte_at = |cut| text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
        let [first, second] = cuts.map(byte_at);
        let order = if happens(streams::FIM_ORDER, self.spm_rate) { Order::Spm } else { Order::Psm };
        Some((order, [&text[..first], &text[first..second], &text[second..]]))
    }

    /// The tokens of training document number `document`, cut or whole, each piece encoded by itself.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        tokens: &FimTokens,
        text: &str,
        document: u64,
    ) -> (Vec<u32>, Option<Order>) {
        let Some((order, pieces)) = self.pieces(text, document) else {
            return (tokenizer.encode_from_start(text), None);
        };
        let [prefix, middle, suffix] = pieces.map(|piece| tokenizer.encode(piece));
        let gap = match order {
            Order::Psm => tokens.psm(&prefix, &suffix),
            Order::Spm => tokens.spm(&prefix, &suffix),
        };
        let ids = tokenizer.start().into_iter().chain(gap).chain(middle).collect();
        (ids, Some(order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use proptest::prelude::*;

    const SPECIAL: [&str; 3] = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"];

    fn tokenizer() -> Tokenizer {
        let documents = ["def add(a, b):\n    return a + b\n", "日本語 émoji 🙂 text\n\n\n"];
        let special = SPECIAL.map(str::to_owned);
        Tokenizer::train(documents.iter().map(|d| Ok(d.to_string())), 280, &special, &Silent).unwrap()
    }

    #[test]
    fn documents_are_cut_as_often_as_asked_for_and_anywhere() {
        let fim = Fim { rate: 0.3, spm_rate: 0.25, seed: 7 };
        let (n, text) = (40_000, "日本語x");
        let cut: Vec<_> = (0..n).filter_map(|i| fim.pieces(text, i)).collect();
        let share = |part: usize, of: usize| part as f64 / of as f64;
        assert!((share(cut.len(), n as usize) - 0.3).abs() < 0.01);
        let spm = cut.iter().filter(|(order, _)| *order == Order::Spm).count();
        assert!((share(spm, cut.len()) - 0.25).abs() < 0.02);
        // Two boundaries out of five: an empty middle in 5 of 25 cases, a whole one in 2.
        let of = |test: fn(&[&str; 3]) -> bool| {
            share(cut.iter().filter(|(_, pieces)| test(pieces)).count(), cut.len())
        };
        assert!((of(|pieces| pieces[1].is_empty()) - 0.2).abs() < 0.015);
        assert!((of(|pieces| pieces[1] == "日本語x") - 0.08).abs() < 0.015);
        assert!((of(|pieces| pieces[2].is_empty()) - 9.0 / 25.0).abs() < 0.02);
        let none = Fim { rate: 0.0, ..fim };
        assert!((0..1000).all(|i| none.pieces(text, i).is_none()));
        let all = Fim { rate: 1.0, spm_rate: 1.0, ..fim };
        assert!((0..1000).all(|i| all.pieces(text, i).is_some_and(|(order, _)| order == Order::Spm)));
    }

    #[test]
    fn the_pieces_stand_in_the_orders_of_the_paper() {
        let (tokenizer, text) = (tokenizer(), "def add(a, b):\n    return a + b\n");
        let tokens = tokenizer.fim().unwrap();
        let fim = Fim { rate: 0.5, spm_rate: 0.5, seed: 0 };
        let written = |document| {
            let (ids, order) = fim.encode(&tokenizer, &tokens, text, document);
            (tokenizer.decode(&ids).unwrap(), order)
        };
        // Exact: what seed 0 makes of a document must never change.
        let golden = [
            (0, None, text),
            (
                2,
                Some(Order::Spm),
                "<|fim_prefix|><|fim_suffix|>\n<|fim_middle|>def add(a, b):\n    return a + b",
            ),
            (
                3,
                Some(Order::Psm),
                "<|fim_prefix|>def add(a, b<|fim_suffix|>    return a + b\n<|fim_middle|>):\n",
            ),
            (
                5,
                Some(Order::Psm),
                "<|fim_prefix|>def ad<|fim_suffix|>urn a + b\n<|fim_middle|>d(a, b):\n    ret",
            ),
        ];
        for (document, order, text) in golden {
            assert_eq!(written(document), (text.to_owned(), order), "document {document}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_join_to_the_document(text in r"(\PC|\s|[a-z ]){0,60}", seed: u64, document: u64) {
            static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(tokenizer);
            let fim = Fim { rate: 1.0, spm_rate: 0.5, seed };
            let (order, pieces) = fim.pieces(&text, document).unwrap();
            prop_assert_eq!(pieces.concat(), text.as_str());
            let tokens = TOKENIZER.fim().unwrap();
            let (ids, encoded_order) = fim.encode(&TOKENIZER, &tokens, &text, document);
            prop_assert_eq!(encoded_order, Some(order));
            let [prefix, middle, suffix] = pieces;
            let [p, m, s] = SPECIAL;
            let expected = match order {
                Order::Psm => format!("{p}{prefix}{s}{suffix}{m}{middle}"),
                Order::Spm => format!("{p}{s}{suffix}{m}{prefix}{middle}"),
            };
            prop_assert_eq!(TOKENIZER.decode(&ids).unwrap(), expected);
            let special = |id: &&u32| [tokens.prefix, tokens.middle, tokens.suffix].contains(id);
            prop_assert_eq!(ids.iter().filter(special).count(), 3);
        }
    }
}
