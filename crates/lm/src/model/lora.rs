//! What a low-rank adapter is asked to be: `r=16,alpha=32,dropout=0.05,targets=q_proj+v_proj`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// An adapter's settings (Hu et al. 2021, "LoRA"), in the words of PEFT.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// What is added is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Or, with rsLoRA (Kalajdzievski 2023), by `alpha / √rank`.
    pub rslora: bool,
    /// Whether rows are scaled to learned magnitudes (DoRA, Liu et al. 2024).
    pub dora: bool,
    /// Probability of dropping a value of what `A` reads, in training.
    pub dropout: f32,
    /// The layers that are adapted.
    pub targets: Adapted,
    /// Ranks of layers whose names end so.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Their alphas, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
}

/// The layers that an adapter stands beside, by their names in the files of the model's family.
#[derive(Clone, Debug, PartialEq)]
pub enum Adapted {
    /// Every matrix of the blocks.
    All,
    /// Those of these names, whole or what follows a point.
    Named(Vec<String>),
}

impl Default for Lora {
    fn default() -> Self {
        Lora {
            rank: 16,
            alpha: 32.0,
            rslora: false,
            dora: false,
            dropout: 0.0,
            targets: Adapted::All,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

impl Lora {
    /// The rank of the adapter beside the layer `name`.
    pub fn rank_of(&self, name: &str) -> usize {
        of_pattern(&self.rank_pattern, name).copied().unwrap_or(self.rank)
    }

    /// What its product is multiplied by.
    pub fn scale_of(&self, name: &str) -> f64 {
        let alpha = of_pattern(&self.alpha_pattern, name).copied().unwrap_or(self.alpha);
        let rank = self.rank_of(name) as f64;
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// Whether a layer's name is `entry`, or ends in it after a point.
pub fn ends_in(name: &str, entry: &str) -> bool {
    name.strip_suffix(entry).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn of_pattern<'a, T>(pattern: &'a BTreeMap<String, T>, name: &str) -> Option<&'a T> {
    pattern.iter().find(|(entry, _)| ends_in(name, entry)).map(|(_, value)| value)
}

impl FromStr for Lora {
    type Err = String;

    /// Keys that are not named have their defaults.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut lora, mut alpha) = (Lora::default(), None);
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=').map_or((part.trim(), None), |(key, value)| {
                (key.trim(), Some(value.trim()).filter(|value| !value.is_empty()))
            });
            let number = |most: f64| {
                let number = value.and_then(|value| value.parse::<f64>().ok());
                number.filter(|number| number.is_finite() && (0.0..=most).contains(number))
            };
            match key {
                "r" => {
                    let rank = number(65536.0).filter(|rank| *rank >= 1.0 && rank.fract() == 0.0);
                    lora.rank = rank.ok_or("r is the rank, a whole number from 1 up, such as r=16")? as usize;
                }
                "alpha" => {
                    let positive = number(f64::MAX).filter(|alpha| *alpha > 0.0);
                    alpha = Some(positive.ok_or("alpha is a number above 0, such as alpha=32")?);
                }
                "dropout" => {
                    let share = number(1.0).filter(|share| *share < 1.0);
                    lora.dropout = share.ok_or("dropout is a share below 1, such as dropout=0.05")? as f32;
                }
                "targets" => {
                    let names = value.ok_or("targets names layers, such as targets=q_proj+v_proj, or all")?;
                    lora.targets = match names {
                        "all" | "all-linear" => Adapted::All,
                        names => Adapted::Named(names.split('+').map(str::to_owned).collect()),
                    };
                }
                "rslora" | "dora" => {
                    let is_set = match value {
                        None | Some("true") => true,
                        Some("false") => false,
                        Some(_) => return Err(format!("{key} stands alone, or is true or false")),
                    };
                    *(if key == "dora" { &mut lora.dora } else { &mut lora.rslora }) = is_set;
                }
                _ => {
                    return Err(format!(
                        "no key {key:?}: r, alpha, dropout, targets, rslora and dora are known"
                    ));
                }
            }
        }
        if lora.dora && lora.dropout > 0.0 {
            return Err("dropout beside dora is not supported: leave one of the two out".into());
        }
        lora.alpha = alpha.unwrap_or(2.0 * lora.rank as f64);
        Ok(lora)
    }
}

impl fmt::Display for Lora {
    /// As it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lora { rank, alpha, dropout, .. } = self;
        write!(f, "r={rank},alpha={alpha},dropout={dropout},targets=")?;
        match &self.targets {
            Adapted::All => write!(f, "all")?,
            Adapted::Named(names) => write!(f, "{}", names.join("+"))?,
        }
        for (key, is_set) in [("rslora", self.rslora), ("dora", self.dora)] {
            if is_set {
                write!(f, ",{key}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood_and_said_again() {
        for (text, said) in [
            ("", "r=16,alpha=32,dropout=0,targets=all"),
            ("r=8", "r=8,alpha=16,dropout=0,targets=all"),
            (
                "r=4, alpha=2.5,dropout=0.05,targets=q_proj+v_proj,rslora",
                "r=4,alpha=2.5,dropout=0.05,targets=q_proj+v_proj,rslora",
            ),
            ("targets=all-linear,rslora=false", "r=16,alpha=32,dropout=0,targets=all"),
            ("r=2,dora", "r=2,alpha=4,dropout=0,targets=all,dora"),
        ] {
            let lora: Lora = text.parse().unwrap();
            assert_eq!(lora.to_string(), said);
            assert_eq!(said.parse(), Ok(lora));
        }
        for (text, named) in [
            ("r=0", "rank"),
            ("r=1.5", "rank"),
            ("alpha=0", "above 0"),
            ("alpha=nan", "above 0"),
            ("dropout=1", "below 1"),
            ("targets=", "targets"),
            ("rank=4", "\"rank\""),
            ("rslora=maybe", "true or false"),
            ("dora,dropout=0.1", "beside dora"),
        ] {
            let error = text.parse::<Lora>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn scales_are_those_of_the_papers() {
        let lora = Lora { rank: 2, alpha: 4.0, ..Lora::default() };
        assert_eq!(lora.scale_of("x"), 2.0);
        assert_eq!(Lora { rslora: true, ..lora.clone() }.scale_of("x"), 4.0 / f64::sqrt(2.0));
        let patterns = Lora {
            rank_pattern: BTreeMap::from([("q_proj".into(), 8)]),
            alpha_pattern: BTreeMap::from([("0.q_proj".into(), 16.0)]),
            ..lora
        };
        assert_eq!(["0.q_proj", "1.q_proj", "1.eq_proj"].map(|name| patterns.rank_of(name)), [8, 8, 2]);
        assert_eq!(
            ["0.q_proj", "1.q_proj", "1.eq_proj"].map(|name| patterns.scale_of(name)),
            [2.0, 0.5, 2.0]
        );
    }
}
