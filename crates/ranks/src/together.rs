//! What ranks decide together: one does it for all, all fail where one fails, and all are the same.

use crate::Ranks;
use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Ranks {
    /// Whether any rank says so.
    pub fn any(&self, says: bool) -> bool {
        self.size() > 1 && self.present(says).contains(&true) || says
    }

    /// What `work` returns on the first rank, which alone does it. The others wait.
    ///
    /// # Errors
    /// Those of `work`, on every rank.
    pub fn lead<T: Serialize + DeserializeOwned>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.size() == 1 {
            return work();
        }
        let done = self.is_first().then(work);
        let told = done.as_ref().map(|done| done.as_ref().map_err(|error| format!("{error:#}")));
        let told =
            self.broadcast(told.map(|told| serde_json::to_vec(&told)).transpose()?.unwrap_or_default());
        match done {
            Some(done) => done,
            None => serde_json::from_slice::<Result<T, String>>(&told)?.map_err(|why| anyhow!(why)),
        }
    }

    /// The outcome of something that every rank has done, or may have failed of.
    ///
    /// # Errors
    /// This rank's own, else that of the first rank that has one.
    pub fn together<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.size() == 1 {
            return outcome;
        }
        let why = outcome.as_ref().err().map_or_else(String::new, |error| format!("{error:#}"));
        let failed = self.gather_texts(&why).into_iter().enumerate().find(|(_, why)| !why.is_empty());
        match (outcome, failed) {
            (Ok(_), Some((rank, why))) => bail!("rank {rank}: {why}"),
            (outcome, _) => outcome,
        }
    }

    /// Refuses ranks that differ in what has to be the same: `facts` are names and values.
    ///
    /// # Errors
    /// They differ; the first fact that does is shown with the values of the ranks.
    pub fn refuse_differences(&self, facts: &[(&str, String)]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        // Every rank comes to the same conclusion, so that none waits for one that has ended.
        for (name, value) in facts {
            let values = self.gather_texts(value);
            let Some(other) = values.iter().position(|value| *value != values[0]) else { continue };
            bail!(
                "the ranks are not alike, and their results would not be: {name} is {} on rank 0 and {} on rank {other}; \
                 start the same program on machines of one kind",
                values[0],
                values[other]
            );
        }
        Ok(())
    }

    /// A text of each rank, in order.
    pub fn gather_texts(&self, own: &str) -> Vec<String> {
        let lens = self.gather(&[own.len() as u64]);
        let all = self.gather(own.as_bytes());
        let mut left = all.as_slice();
        let text = |len: u64| {
            let (text, rest) = left.split_at(len as usize);
            left = rest;
            String::from_utf8_lossy(text).into_owned()
        };
        lens.into_iter().map(text).collect()
    }

    /// The bytes of the first rank.
    fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut len = [bytes.len() as u64];
        self.0.broadcast(bytemuck::cast_slice_mut(&mut len), 0);
        bytes.resize(len[0] as usize, 0);
        self.0.broadcast(&mut bytes, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::{Ranks, threads};
    use anyhow::{Result, anyhow};

    #[test]
    fn the_first_rank_does_it_and_all_have_it() {
        let done = threads(4, |ranks| {
            let mut times = 0;
            let led: (u64, Option<String>) = ranks
                .lead(|| {
                    times += 1;
                    Ok((7, Some("seven".into())))
                })
                .unwrap();
            let failed: Result<u64> = ranks.lead(|| Err(anyhow!("full").context("the disk")));
            (times, led, format!("{:#}", failed.unwrap_err()))
        });
        for (rank, (times, led, why)) in done.into_iter().enumerate() {
            assert_eq!((times, led), (usize::from(rank == 0), (7, Some("seven".into()))));
            assert_eq!(why, "the disk: full");
        }
    }

    #[test]
    fn what_one_says_holds_for_all() {
        assert_eq!(threads(4, |ranks| ranks.any(ranks.rank() == 2)), [true; 4]);
        assert_eq!(threads(4, |ranks| ranks.any(false)), [false; 4]);
        assert!(Ranks::alone().any(true) && !Ranks::alone().any(false));
        let outcomes = threads(4, |ranks| {
            let own = if ranks.rank() < 2 { Ok(ranks.rank()) } else { Err(anyhow!("no room")) };
            ranks.together(own).map_err(|error| error.to_string())
        });
        let others = || Err("rank 2: no room".to_owned());
        assert_eq!(outcomes, [others(), others(), Err("no room".into()), Err("no room".into())]);
        assert_eq!(threads(2, |ranks| ranks.together(Ok(1)).unwrap()), [1, 1]);
    }

    #[test]
    fn ranks_that_differ_are_refused_with_the_difference() {
        let refused = threads(4, |ranks| {
            let level = if ranks.rank() == 3 { "avx2" } else { "avx512" };
            let facts = [("the program", "1.0".to_owned()), ("the processor level", level.to_owned())];
            ranks.refuse_differences(&facts).unwrap_err().to_string()
        });
        for why in refused {
            assert!(why.contains("the processor level is avx512 on rank 0 and avx2 on rank 3"), "{why}");
        }
        assert!(
            threads(2, |ranks| ranks.refuse_differences(&[("x", "1".into())]).is_ok()).iter().all(|ok| *ok)
        );
        assert!(Ranks::alone().refuse_differences(&[("x", "1".into())]).is_ok());
    }
}
