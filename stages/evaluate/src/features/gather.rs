//! What scores are made of, gathered from features batch by batch.

use super::Rows;
use anyhow::{Context as _, Result, ensure};
use metrics::inception_score::SPLIT_SIZE;
use metrics::{InceptionScore, Moments, Statistics};
use tch::{Device, Kind, Tensor};

/// Sums, and the features of some pictures.
pub(crate) struct Gathering {
    count: usize,
    kept: usize,
    seen: usize,
    pool: Option<Moments>,
    spatial: Option<Moments>,
    dinov2: Option<Moments>,
    score: InceptionScore,
    /// The same of splits that take the rows in turns, for samples in the order of their labels.
    turns: Vec<InceptionScore>,
    /// `[kept, D]`, filled from the start.
    features: Option<Tensor>,
    filled: usize,
    labels: Option<Vec<i64>>,
}

/// What was gathered.
pub(crate) struct Gathered {
    pub(crate) pool: Statistics,
    pub(crate) spatial: Statistics,
    pub(crate) dinov2: Option<Statistics>,
    pub(crate) inception_score: f64,
    /// Of splits that take the rows in turns.
    pub(crate) inception_score_in_turns: f64,
    /// `[kept, D]`.
    pub(crate) features: Tensor,
    /// Of the pictures whose features are kept, where all have one.
    pub(crate) labels: Option<Vec<i64>>,
}

impl Gathering {
    /// Of `count` pictures, with the features of `kept` of them.
    pub(crate) fn new(count: usize, kept: usize) -> Self {
        Self {
            count,
            kept,
            seen: 0,
            pool: None,
            spatial: None,
            dinov2: None,
            score: InceptionScore::new(SPLIT_SIZE),
            turns: (0..count.div_ceil(SPLIT_SIZE as usize))
                .map(|_| InceptionScore::new(SPLIT_SIZE))
                .collect(),
            features: None,
            filled: 0,
            labels: Some(Vec::new()),
        }
    }

    /// Adds rows; returns which of them are kept.
    pub(crate) fn add(&mut self, rows: &Rows) -> Result<Vec<i64>> {
        ensure!(rows.first == self.seen, "features out of order");
        self.seen += rows.count();
        add(&mut self.pool, &rows.pool)?;
        add(&mut self.spatial, &rows.spatial)?;
        if let Some(dinov2) = &rows.dinov2 {
            add(&mut self.dinov2, dinov2)?;
        }
        self.score.add(&rows.logits)?;
        let splits = self.turns.len();
        for (split, score) in
            self.turns.iter_mut().enumerate().filter(|_| splits > 1 && rows.labels.is_some())
        {
            let mine = (0..rows.count()).filter(|i| (rows.first + i) % splits == split).map(|i| i as i64);
            let mine = Tensor::f_from_slice(&mine.collect::<Vec<_>>())?;
            score.add(&rows.logits.f_index_select(0, &mine)?)?;
        }
        let chosen = chosen(rows.first, rows.count(), self.kept, self.count);
        let shape = [self.kept as i64, rows.pool.size()[1]];
        let features = match &self.features {
            Some(features) => features,
            None => self.features.insert(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?),
        };
        let part = rows.pool.f_index_select(0, &Tensor::f_from_slice(&chosen)?)?;
        features.f_narrow(0, self.filled as i64, chosen.len() as i64)?.f_copy_(&part)?;
        self.filled += chosen.len();
        self.labels = match (self.labels.take(), &rows.labels) {
            (Some(mut all), Some(new)) => {
                all.extend(chosen.iter().map(|&i| new[i as usize]));
                Some(all)
            }
            _ => None,
        };
        Ok(chosen)
    }

    pub(crate) fn finish(self) -> Result<Gathered> {
        ensure!(self.filled == self.kept, "{} of {} features came", self.filled, self.kept);
        Ok(Gathered {
            pool: self.pool.context("no features")?.statistics()?,
            spatial: self.spatial.context("no features")?.statistics()?,
            dinov2: self.dinov2.map(Moments::statistics).transpose()?,
            inception_score: self.score.finish()?,
            inception_score_in_turns: mean_of(self.turns)?,
            features: self.features.context("no features")?,
            labels: self.labels,
        })
    }
}

/// NaN where rows came without labels, or in one split.
fn mean_of(turns: Vec<InceptionScore>) -> Result<f64> {
    let splits = turns.len() as f64;
    let scores = turns.into_iter().map(|turn| if turn.is_empty() { Ok(f64::NAN) } else { turn.finish() });
    Ok(scores.sum::<Result<f64>>()? / splits)
}

fn add(moments: &mut Option<Moments>, rows: &Tensor) -> Result<()> {
    moments.get_or_insert_with(|| Moments::new(rows.size()[1])).add(rows)
}

/// Which of `len` pictures from `first` on are among the `kept` of `count`, at equal distances from the whole.
pub(crate) fn chosen(first: usize, len: usize, kept: usize, count: usize) -> Vec<i64> {
    let before = |i: usize| (i as u128 * kept as u128).div_ceil(count as u128);
    let is_chosen = |i: &usize| before(first + i + 1) > before(first + i);
    (0..len).filter(is_chosen).map(|i| i as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_are_spread_evenly_whatever_the_batches() {
        for (kept, count) in [(4, 10), (10, 10), (1, 7), (3, 3), (999, 1000)] {
            let all = |batch: usize| -> Vec<usize> {
                let starts = (0..count).step_by(batch);
                let of = |first| chosen(first, batch.min(count - first), kept, count);
                starts.flat_map(|first| of(first).into_iter().map(move |i| first + i as usize)).collect()
            };
            assert_eq!(all(1).len(), kept);
            assert_eq!(all(1), all(4));
            assert_eq!(all(1)[0], 0);
        }
    }
}
