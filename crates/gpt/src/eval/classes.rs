//! Metrics of classification and regression: accuracy, F1 and Matthews' correlation of classes, Pearson's of
//! degrees.

use serde::Serialize;

/// How often each class was taken for which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// `counts[wanted][told]`.
    pub counts: Vec<Vec<u64>>,
}

/// Figures of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Share of what was told to be of the class that is.
    pub precision: f64,
    /// Share of the class that was told.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Examples of the class.
    pub n: u64,
}

impl Confusion {
    /// Of pairs (wanted, told) of `classes` classes.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        pairs.into_iter().for_each(|(wanted, told)| counts[wanted][told] += 1);
        Confusion { counts }
    }

    /// Examples that were told right, and all.
    pub fn right(&self) -> (u64, u64) {
        let right = (0..self.counts.len()).map(|class| self.counts[class][class]).sum();
        (right, self.counts.iter().flatten().sum())
    }

    /// Precision, recall and F1 of each class; 0 where there is nothing to divide by.
    pub fn classes(&self) -> Vec<ClassFigures> {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let figures = |class: usize| {
            let right = self.counts[class][class];
            let n: u64 = self.counts[class].iter().sum();
            let told: u64 = self.counts.iter().map(|row| row[class]).sum();
            ClassFigures {
                precision: share(right, told),
                recall: share(right, n),
                f1: share(2 * right, n + told),
                n,
            }
        };
        (0..self.counts.len()).map(figures).collect()
    }

    /// The mean F1 of the classes.
    pub fn macro_f1(&self) -> f64 {
        let classes = self.classes();
        classes.iter().map(|class| class.f1).sum::<f64>() / classes.len() as f64
    }

    /// Matthews' correlation coefficient, for any number of classes (Gorodkin 2004); 0 where wanted or told
    /// is constant.
    pub fn matthews(&self) -> f64 {
        let (right, n) = self.right();
        let wanted: Vec<f64> = self.counts.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
        let told = |class: usize| self.counts.iter().map(|row| row[class]).sum::<u64>() as f64;
        let told: Vec<f64> = (0..self.counts.len()).map(told).collect();
        let (right, n) = (right as f64, n as f64);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let spread = (n * n - product(&told, &told)) * (n * n - product(&wanted, &wanted));
        if spread > 0.0 { (right * n - product(&wanted, &told)) / spread.sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of scikit-learn for the same labels.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let wanted = [0, 0, 1, 1, 2, 2, 2, 1];
        let told = [0, 1, 1, 1, 2, 0, 2, 2];
        let confusion = Confusion::of(3, wanted.into_iter().zip(told));
        assert_eq!(confusion.right(), (5, 8));
        let f1: Vec<f64> = confusion.classes().iter().map(|class| class.f1).collect();
        for (found, expected) in f1.iter().zip([0.5, 2.0 / 3.0, 2.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert!((confusion.macro_f1() - 11.0 / 18.0).abs() < 1e-12);
        assert!((confusion.matthews() - 3.0 / 7.0).abs() < 1e-12);
        assert_eq!(Confusion::of(2, [(0, 0), (1, 0)]).matthews(), 0.0);
    }
}
