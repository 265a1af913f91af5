//! Precision and recall by ADM's manifold estimator (Kynkäänniemi et al. 2019, with its arithmetic).

use anyhow::Result;
use stage::{bad_input, choice};
use tch::{Kind, Tensor};

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
/// # Shapes
/// `reference`: `[N, D]`, `samples`: `[M, D]`, f32.
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
    let (reference, samples) = (Points::new(reference, distances)?, Points::new(samples, distances)?);
    let radii_reference = radii(&reference, k, distances, blocks)?; // [N]
    let radii_samples = radii(&samples, k, distances, blocks)?; // [M]
    let mut covered_reference = vec![];
    let covered_samples = Tensor::zeros([m[0]], (Kind::Bool, samples.values.device()));
    for (i, rows) in ranges(n[0], blocks.rows) {
        let mut covered_rows = Tensor::zeros([rows], (Kind::Bool, samples.values.device()));
        for (j, columns) in ranges(m[0], blocks.columns) {
            let (u, v) = (reference.narrow(i, rows)?, samples.narrow(j, columns)?);
            let of_reference = radii_reference.f_narrow(0, i, rows)?.f_unsqueeze(1)?;
            let of_samples = radii_samples.f_narrow(0, j, columns)?.f_unsqueeze(0)?;
            // Reference points with a sample's ball around them, samples with a reference point's.
            let tiles = block(&u, &v, distances, |first, d| {
                let own = of_reference.f_narrow(0, first, d.size()[0])?;
                let recalled = d.f_le_tensor(&of_samples)?.f_any_dim(1, false)?;
                let precise = d.f_le_tensor(&own)?.f_any_dim(0, false)?;
                Ok((recalled, precise))
            })?;
            let (recalled, precise): (Vec<_>, Vec<_>) = tiles.into_iter().unzip();
            covered_rows = covered_rows.f_logical_or(&Tensor::f_cat(&recalled, 0)?)?;
            let precise = Tensor::f_stack(&precise, 0)?.f_any_dim(0, false)?;
            let both = covered_samples.f_narrow(0, j, columns)?.f_logical_or(&precise)?;
            covered_samples.f_narrow(0, j, columns)?.f_copy_(&both)?;
        }
        covered_reference.push(covered_rows);
    }
    let share = |t: &Tensor| -> Result<f64> {
        Ok(t.f_sum(Kind::Int64)?.f_int64_value(&[])? as f64 / t.numel() as f64)
    };
    Ok(PrecisionRecall {
        precision: share(&covered_samples)?,
        recall: share(&Tensor::f_cat(&covered_reference, 0)?)?,
    })
}

/// The squared distance of every point to its `k`-th neighbour: entry `k` of the sorted row, itself included.
///
/// # Errors
/// When the tensors cannot be computed.
pub(crate) fn radii(points: &Points, k: i64, distances: Distances, blocks: Blocks) -> Result<Tensor> {
    let count = points.values.size()[0];
    let mut all = Vec::new();
    for (i, rows) in ranges(count, blocks.rows) {
        let mut nearest: Option<Tensor> = None; // [rows, k + 1]
        for (j, columns) in ranges(count, blocks.columns) {
            let tiles = block(&points.narrow(i, rows)?, &points.narrow(j, columns)?, distances, |_, d| {
                Ok(d.f_topk((k + 1).min(columns), 1, false, false)?.0)
            })?;
            let here = Tensor::f_cat(&tiles, 0)?;
            nearest = Some(match nearest {
                None => here,
                Some(before) => {
                    let both = Tensor::f_cat(&[before, here], 1)?;
                    both.f_topk((k + 1).min(both.size()[1]), 1, false, false)?.0
                }
            });
        }
        if let Some(nearest) = nearest {
            all.push(nearest.f_amax([1i64].as_slice(), false)?);
        }
    }
    Ok(Tensor::f_cat(&all, 0)?)
}

/// Points with what every distance needs of them.
pub(crate) struct Points {
    /// `[N, D]`: f32 as given (ADM), f64 (exact).
    pub(crate) values: Tensor,
    /// Rounded to half precision, as f32.
    halves: Option<Halves>,
    /// `[N]`: |x|², of the type of `values`.
    norms: Tensor,
}

struct Halves {
    values: Tensor, // [N, D], f32
    norms: Tensor,  // [N], f16
}

impl Points {
    pub(crate) fn new(values: &Tensor, distances: Distances) -> Result<Self> {
        let kind = if distances == Distances::Exact { Kind::Double } else { Kind::Float };
        let values = values.f_to_kind(kind)?.f_contiguous()?;
        let norms = values.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, kind)?;
        let halves = match distances {
            Distances::Exact => None,
            Distances::Adm => {
                let halves = values.f_to_kind(Kind::Half)?;
                let norms = half_norms(&halves)?;
                Some(Halves { values: halves.f_to_kind(Kind::Float)?, norms })
            }
        };
        Ok(Self { values, halves, norms })
    }

    fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        let part = |t: &Tensor| t.f_narrow(0, start, count);
        let halves = match &self.halves {
            Some(h) => Some(Halves { values: part(&h.values)?, norms: part(&h.norms)? }),
            None => None,
        };
        Ok(Self { values: part(&self.values)?, halves, norms: part(&self.norms)? })
    }
}

/// Rows of distances made at a time; bounds the memory to a few hundred megabytes.
const TILE_ROWS: i64 = 1000;

/// Gives the distances of a block to `see` in tiles of rows, with the index of their first row.
///
/// In ADM's arithmetic a block is all half precision or, when any entry is not finite, all single.
pub(crate) fn block<T>(
    u: &Points,
    v: &Points,
    distances: Distances,
    mut see: impl FnMut(i64, &Tensor) -> Result<T>,
) -> Result<Vec<T>> {
    let rows = u.values.size()[0];
    if let (Distances::Adm, Some(hu), Some(hv)) = (distances, &u.halves, &v.halves) {
        let columns = hv.values.f_tr()?;
        let mut seen = Vec::new();
        for (start, count) in ranges(rows, TILE_ROWS) {
            let products = hu.values.f_narrow(0, start, count)?.f_matmul(&columns)?;
            let d = half_distances(&products, &hu.norms.f_narrow(0, start, count)?, &hv.norms)?;
            if d.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                break;
            }
            seen.push(see(start, &d.f_to_kind(Kind::Float)?)?);
        }
        if seen.len() == ranges(rows, TILE_ROWS).count() {
            return Ok(seen);
        }
    }
    let columns = v.values.f_tr()?;
    let mut seen = Vec::new();
    for (start, count) in ranges(rows, TILE_ROWS) {
        let products = u.values.f_narrow(0, start, count)?.f_matmul(&columns)?;
        let norms = u.norms.f_narrow(0, start, count)?.f_unsqueeze(1)?;
        let d = norms.f_sub(&products.f_mul_scalar(2.0)?)?.f_add(&v.norms)?.f_clamp_min(0.0)?;
        seen.push(see(start, &d)?);
    }
    Ok(seen)
}

/// `max(f16(f16(|u|² - f16(2 u·v)) + |v|²), 0)`, every step rounded to half precision.
///
/// # Shapes
/// `products`: `[R, C]` f32, `u`: `[R]` f16, `v`: `[C]` f16; returns `[R, C]` f16.
fn half_distances(products: &Tensor, u: &Tensor, v: &Tensor) -> Result<Tensor> {
    let twice = products.f_to_kind(Kind::Half)?.f_mul_scalar(2.0)?;
    Ok(u.f_unsqueeze(1)?.f_sub(&twice)?.f_add(v)?.f_clamp_min(0.0)?)
}

/// Lanes of TensorFlow's half-precision sums on a CPU.
const LANES: i64 = 8;
/// Rows longer than this are split in two before they are summed.
const LONGEST_SUM: i64 = 8 * 200;

/// Row sums of squares as TensorFlow adds them on a CPU: squares rounded to f16, then eight f16 lanes.
///
/// # Shapes
/// `points`: `[N, D]` f16; returns `[N]` f16.
fn half_norms(points: &Tensor) -> Result<Tensor> {
    half_row_sums(&points.f_mul(points)?)
}

fn half_row_sums(squares: &Tensor) -> Result<Tensor> {
    let length = squares.size()[1];
    if length <= LONGEST_SUM {
        return half_row_sum(squares);
    }
    let half = (length + 1) / 2;
    let first = (half + LANES - 1) / LANES * LANES;
    let left = half_row_sums(&squares.f_narrow(1, 0, first)?)?;
    let right = half_row_sums(&squares.f_narrow(1, first, length - first)?)?;
    Ok(left.f_add(&right)?)
}

fn half_row_sum(squares: &Tensor) -> Result<Tensor> {
    let (count, length) = squares.size2()?;
    let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Half, squares.device()));
    let packet = |start: i64| squares.f_narrow(1, start, LANES);
    let in_packets = length / LANES * LANES;
    // Four accumulators for as long as four packets remain; short rows have one.
    let unrolled = if length >= 8 * LANES { length / (4 * LANES) * (4 * LANES) } else { 0 };
    let mut accumulators: Vec<Tensor> = Vec::new();
    for lane in 0..4 {
        let mut sum = zeros(&[count, LANES])?;
        for start in (0..unrolled).step_by(4 * LANES as usize) {
            sum = sum.f_add(&packet(start + lane * LANES)?)?;
        }
        accumulators.push(sum);
    }
    let mut sum = zeros(&[count, LANES])?;
    for accumulator in &accumulators {
        sum = sum.f_add(accumulator)?;
    }
    for start in (unrolled..in_packets).step_by(LANES as usize) {
        sum = sum.f_add(&packet(start)?)?;
    }
    let mut tail = zeros(&[count])?;
    for column in in_packets..length {
        tail = tail.f_add(&squares.f_select(1, column)?)?;
    }
    let lanes = sum.f_to_kind(Kind::Float)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    Ok(lanes.f_to_kind(Kind::Half)?.f_add(&tail)?)
}

/// `(start, length)` of consecutive pieces.
fn ranges(count: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    let size = size.max(1);
    (0..count).step_by(size as usize).map(move |start| (start, size.min(count - start)))
}
