//! Precision and recall by ADM's manifold estimator (Kynkäänniemi et al. 2019, with its arithmetic).

use crate::distances::{Arithmetic, Double, Half, Number, Points, Single, View, Visitor, ranges, scan};
use anyhow::Result;
use stage::{bad_input, choice};
use tch::Tensor;

/// Neighbours that make a point's radius (reference behaviour).
pub const NEIGHBOURS: i64 = 3;

choice! {
    /// Arithmetic of the squared distances.
    pub enum Distances {
        /// Half precision block by block, single where an entry of a block overflows, as published numbers carry it.
        Adm = "adm",
        /// Double precision.
        Exact = "exact",
    }
}

/// Rows and columns of the blocks in which ADM decides on the precision.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// Rows of a block.
    pub rows: i64,
    /// Columns of a block.
    pub columns: i64,
}

impl Default for Blocks {
    /// 10,000 × 10,000 (reference behaviour).
    fn default() -> Self {
        Self { rows: 10_000, columns: 10_000 }
    }
}

/// Fractions of points inside the other set's manifold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Of samples within some reference point's radius.
    pub precision: f64,
    /// Of reference points within some sample's radius.
    pub recall: f64,
}

/// Precision and recall with radii of the `k`-th neighbour; distances are squared, comparisons are `<=`.
///
/// Nothing of N × N is kept, and of the symmetric distances within a set each product is computed once. Products are made on the
/// device that has the points, tiles of 512 × 10,000 of them, and counted by the cores.
///
/// # Shapes
/// `reference`: `[N, D]`, `samples`: `[M, D]`, f32, on one device.
///
/// # Errors
/// Bad input when the widths differ or a set has fewer than `k + 1` points.
pub fn precision_recall(
    reference: &Tensor,
    samples: &Tensor,
    k: i64,
    distances: Distances,
    blocks: Blocks,
) -> Result<PrecisionRecall> {
    let _guard = tch::no_grad_guard();
    let (n, m) = (reference.size(), samples.size());
    if n.len() != 2 || m.len() != 2 || n[1] != m[1] {
        bad_input!("features of shapes {n:?} and {m:?} cannot be compared")
    }
    for (what, count) in [("reference", n[0]), ("sample", m[0])] {
        if count <= k {
            bad_input!(
                "{count} {what} pictures; precision and recall with {k} neighbours need at least {}",
                k + 1
            )
        }
    }
    let k = k as usize;
    match distances {
        Distances::Exact => with::<Double, Double>(reference, samples, k, blocks),
        Distances::Adm => with::<Half, Single>(reference, samples, k, blocks),
    }
}

/// With `A` where a block is finite in it, else with `B`.
fn with<A, B>(reference: &Tensor, samples: &Tensor, k: usize, blocks: Blocks) -> Result<PrecisionRecall>
where
    A: Arithmetic,
    B: Arithmetic<T = A::T>,
{
    let (first, reference) = (Points::<A>::new(reference)?, Points::<B>::new(reference)?);
    let (second, samples) = (Points::<A>::new(samples)?, Points::<B>::new(samples)?);
    let of_reference = radii(&first, &reference, k, blocks)?;
    let of_samples = radii(&second, &samples, k, blocks)?;
    let mut covered = Covered::none(of_reference.len(), of_samples.len());
    for rows in ranges(of_reference.len(), blocks.rows) {
        for columns in ranges(of_samples.len(), blocks.columns) {
            let make = || Cover {
                radii: (&of_reference, &of_samples),
                covered: Covered::none(of_reference.len(), of_samples.len()),
            };
            let (r, c) = (rows.clone(), columns.clone());
            let mut seen = scan(&first, r.clone(), &second, c.clone(), View::There, &make)?;
            if !seen.finite[0] {
                seen = scan(&reference, r, &samples, c, View::There, &make)?;
            }
            covered.or(&seen.by.covered);
        }
    }
    let share = |covered: &[bool]| covered.iter().filter(|c| **c).count() as f64 / covered.len() as f64;
    Ok(PrecisionRecall { precision: share(&covered.precise), recall: share(&covered.recalled) })
}

/// Which points lie inside the other set's manifold.
struct Covered {
    recalled: Vec<bool>,
    precise: Vec<bool>,
}

impl Covered {
    fn none(rows: usize, columns: usize) -> Self {
        Self { recalled: vec![false; rows], precise: vec![false; columns] }
    }

    fn or(&mut self, other: &Self) {
        self.recalled.iter_mut().zip(&other.recalled).for_each(|(a, b)| *a |= b);
        self.precise.iter_mut().zip(&other.precise).for_each(|(a, b)| *a |= b);
    }
}

struct Cover<'a, T> {
    /// Of rows and of columns.
    radii: (&'a [T], &'a [T]),
    covered: Covered,
}

impl<T: Number> Visitor<T> for Cover<'_, T> {
    fn row(&mut self, row: usize, first: usize, distances: &[T], _: &[T]) {
        let (own, columns) = (self.radii.0[row], &self.radii.1[first..][..distances.len()]);
        let mut recalled = false;
        for ((d, radius), precise) in
            distances.iter().zip(columns).zip(&mut self.covered.precise[first..][..distances.len()])
        {
            recalled |= d <= radius;
            *precise |= *d <= own;
        }
        self.covered.recalled[row] |= recalled;
    }

    fn merge(&mut self, other: Self) {
        self.covered.or(&other.covered);
    }
}

/// The squared distance of every point to its `k`-th neighbour: entry `k` of the sorted row, itself included.
///
/// `points` and `otherwise` are the same points, for the two arithmetics.
pub(crate) fn radii<A, B>(
    points: &Points<A>,
    otherwise: &Points<B>,
    k: usize,
    blocks: Blocks,
) -> Result<Vec<A::T>>
where
    A: Arithmetic,
    B: Arithmetic<T = A::T>,
{
    let count = points.count();
    let mut all = Nearest::new(count, k + 1);
    // Blocks that are not square, which only tests have, are not mirrored in the diagonal.
    let square = blocks.rows == blocks.columns;
    for rows in ranges(count, blocks.rows) {
        for columns in ranges(count, blocks.columns).filter(|c| !square || c.start >= rows.start) {
            let view = match (square, columns == rows) {
                (false, _) => View::There,
                (true, false) => View::ThereAndBack,
                (true, true) => View::Diagonal,
            };
            let make = || Both { rows: Nearest::new(count, k + 1), columns: Nearest::new(count, k + 1) };
            let (r, c) = (rows.clone(), columns.clone());
            let seen = scan(points, r.clone(), points, c.clone(), view, &make)?;
            // On the diagonal there and back are one block.
            let whole = seen.finite == [true; 2] || (view != View::Diagonal && seen.finite[0]);
            let back = seen.finite == [true; 2] || (view != View::Diagonal && seen.finite[1]);
            let both = if whole && back {
                seen.by
            } else {
                let again = scan(otherwise, r, otherwise, c, view, &make)?.by;
                Both {
                    rows: if whole { seen.by.rows } else { again.rows },
                    columns: if back { seen.by.columns } else { again.columns },
                }
            };
            all.merge(&both.rows);
            all.merge(&both.columns);
        }
    }
    Ok(all.worst)
}

/// The least distances of every point.
struct Nearest<T> {
    kept: usize,
    /// `[N, kept]`, every row ascending.
    least: Vec<T>,
    /// `[N]`: the last of every row.
    worst: Vec<T>,
}

impl<T: Number> Nearest<T> {
    fn new(count: usize, kept: usize) -> Self {
        Self { kept, least: vec![T::INFINITY; count * kept], worst: vec![T::INFINITY; count] }
    }

    fn offer(&mut self, point: usize, distance: T) {
        if distance < self.worst[point] {
            let row = &mut self.least[point * self.kept..][..self.kept];
            let at = row.partition_point(|d| *d <= distance);
            row[at..].rotate_right(1);
            row[at] = distance;
            self.worst[point] = row[self.kept - 1];
        }
    }

    fn merge(&mut self, other: &Self) {
        for (point, row) in other.least.chunks_exact(other.kept).enumerate() {
            row.iter().for_each(|d| self.offer(point, *d));
        }
    }
}

/// The nearest of rows and of columns.
struct Both<T> {
    rows: Nearest<T>,
    columns: Nearest<T>,
}

/// Distances that are compared before one is looked at; most are too large.
const GLANCE: usize = 32;

impl<T: Number> Visitor<T> for Both<T> {
    fn row(&mut self, row: usize, first: usize, distances: &[T], back: &[T]) {
        for some in distances.chunks(GLANCE) {
            let worst = self.rows.worst[row];
            if some.iter().fold(false, |found, d| found | (*d < worst)) {
                some.iter().for_each(|d| self.rows.offer(row, *d));
            }
        }
        for (i, some) in back.chunks(GLANCE).enumerate() {
            let start = first + i * GLANCE;
            let worst = &self.columns.worst[start..][..some.len()];
            if some.iter().zip(worst).fold(false, |found, (d, worst)| found | (d < worst)) {
                some.iter().enumerate().for_each(|(j, d)| self.columns.offer(start + j, *d));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.rows.merge(&other.rows);
        self.columns.merge(&other.columns);
    }
}
