//! Squared distances between points, made tile by tile and shown to whoever counts; none is kept.

mod half;

pub(crate) use half::Half;

use anyhow::{Result, ensure};
use std::ops::Range;
use tch::{Device, Kind, Tensor};
use torch::transfer::Readback;

/// Rows of products made at a time.
const TILE_ROWS: usize = 512;
/// Distances shown at a time; they stay in the nearest cache.
const SHOWN: usize = 256;

/// What distances are counted in.
pub(crate) trait Number: Copy + PartialOrd + Send + Sync + 'static {
    const KIND: Kind;
    const ZERO: Self;
    const INFINITY: Self;
    fn is_finite(self) -> bool;
}

macro_rules! number {
    ($t:ty, $kind:expr) => {
        impl Number for $t {
            const KIND: Kind = $kind;
            const ZERO: Self = 0.0;
            const INFINITY: Self = <$t>::INFINITY;
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}
number!(f32, Kind::Float);
number!(f64, Kind::Double);

/// How |u|² - 2 u·v + |v|² is rounded.
pub(crate) trait Arithmetic {
    /// What products, norms and distances are held in.
    type T: Number;
    /// Points as they enter the products, `[N, D]`.
    fn operand(points: &Tensor) -> Result<Tensor>;
    /// `[N]`: |x|².
    fn norms(points: &Tensor) -> Result<Tensor> {
        let operand = Self::operand(points)?;
        Ok(operand.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Self::T::KIND)?)
    }
    /// From |u|², u·v and |v|²; below zero and not finite as it comes.
    fn distance(u: Self::T, product: Self::T, v: Self::T) -> Self::T;
}

/// Single precision.
pub(crate) struct Single;

impl Arithmetic for Single {
    type T = f32;
    fn operand(points: &Tensor) -> Result<Tensor> {
        Ok(points.f_to_kind(Kind::Float)?)
    }
    fn distance(u: f32, product: f32, v: f32) -> f32 {
        u - 2.0 * product + v
    }
}

/// Double precision.
pub(crate) struct Double;

impl Arithmetic for Double {
    type T = f64;
    fn operand(points: &Tensor) -> Result<Tensor> {
        Ok(points.f_to_kind(Kind::Double)?)
    }
    fn distance(u: f64, product: f64, v: f64) -> f64 {
        u - 2.0 * product + v
    }
}

/// Points with what every distance needs of them. Products are made where the points are.
pub(crate) struct Points<A: Arithmetic> {
    values: Tensor, // [N, D]
    norms: Vec<A::T>,
}

impl<A: Arithmetic> Points<A> {
    pub(crate) fn new(values: &Tensor) -> Result<Self> {
        let values = values.f_contiguous()?;
        let mut norms = vec![A::T::ZERO; values.size()[0] as usize];
        for rows in ranges(norms.len(), TILE_ROWS as i64) {
            let part = A::norms(&narrow(&values, &rows)?.f_to_device(Device::Cpu)?)?;
            norms[rows].copy_from_slice(numbers(&part)?);
        }
        Ok(Self { values, norms })
    }

    pub(crate) fn count(&self) -> usize {
        self.norms.len()
    }

    fn operand(&self, rows: &Range<usize>) -> Result<Tensor> {
        A::operand(&narrow(&self.values, rows)?)
    }
}

/// Somebody who looks at distances; several look at different rows at the same time and are merged.
pub(crate) trait Visitor<T>: Send {
    /// Distances of the point `row` to those from `first` on, and back: the two differ where their sums round differently.
    /// Nothing comes back where it is another row's turn to show it.
    fn row(&mut self, row: usize, first: usize, distances: &[T], back: &[T]);
    /// Adds what another has seen.
    fn merge(&mut self, other: Self);
}

/// What there is to see in a block.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum View {
    /// Distances from rows to columns.
    There,
    /// Also those from columns to rows.
    ThereAndBack,
    /// The block is on the diagonal: rows and columns are the same points, and half the products make all of it.
    Diagonal,
}

/// Who has looked, and whether all distances were finite, there and back.
pub(crate) struct Seen<V> {
    pub(crate) by: V,
    pub(crate) finite: [bool; 2],
}

/// Shows all distances of a block.
pub(crate) fn scan<A: Arithmetic, V: Visitor<A::T>>(
    u: &Points<A>,
    rows: Range<usize>,
    v: &Points<A>,
    columns: Range<usize>,
    view: View,
    make: &(dyn Fn() -> V + Sync),
) -> Result<Seen<V>> {
    let products = Products::new(u, v, columns.clone())?;
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
    let mut seen: Vec<Seen<V>> = (0..threads).map(|_| Seen { by: make(), finite: [true; 2] }).collect();
    let tile = |tile: Range<usize>| {
        let tile = rows.start + tile.start..rows.start + tile.end;
        let first = if view == View::Diagonal { tile.start } else { columns.start };
        (tile, first)
    };
    let mut tiles = ranges(rows.len(), TILE_ROWS as i64).map(tile).enumerate();
    let mut begin = || tiles.next().map(|(i, (rows, first))| products.begin(i, rows, first)).transpose();
    let mut next = begin()?;
    while let Some(Product { rows: tile, first, numbers: made }) = next {
        // A device makes the next products meanwhile.
        next = begin()?;
        let wide = columns.end - first;
        // From where on rows show the way back.
        let back = match view {
            View::There => columns.end,
            View::ThereAndBack => first,
            View::Diagonal => tile.end,
        };
        let part = Part { u: &u.norms, v: &v.norms, first, back };
        let share = tile.len().div_ceil(threads);
        let made = made.wait()?;
        let numbers = numbers(&made)?;
        std::thread::scope(|scope| {
            for ((i, lines), seen) in numbers.chunks(share * wide).enumerate().zip(&mut seen) {
                let (part, from) = (&part, tile.start + i * share);
                scope.spawn(move || part.show::<A, V>(from, lines, wide, seen));
            }
        });
    }
    let mut all = seen.into_iter();
    let mut total = all.next().unwrap_or_else(|| Seen { by: make(), finite: [true; 2] });
    for part in all {
        total.by.merge(part.by);
        total.finite = [total.finite[0] && part.finite[0], total.finite[1] && part.finite[1]];
    }
    Ok(total)
}

/// Products of tiles of rows with the columns of a block, in two buffers in turn.
struct Products<'a, A: Arithmetic> {
    u: &'a Points<A>,
    columns: Range<usize>,
    operand: Tensor, // [D, C]
    buffers: [Tensor; 2],
}

/// Of these rows with the columns from `first` on, on its way to the host.
struct Product {
    rows: Range<usize>,
    first: usize,
    numbers: Readback,
}

impl<'a, A: Arithmetic> Products<'a, A> {
    fn new(u: &'a Points<A>, v: &Points<A>, columns: Range<usize>) -> Result<Self> {
        let operand = v.operand(&columns)?.f_tr()?;
        let size = (TILE_ROWS * columns.len()) as i64;
        let buffer = || Tensor::f_empty([size], (A::T::KIND, operand.device()));
        Ok(Self { u, columns, buffers: [buffer()?, buffer()?], operand })
    }

    fn begin(&self, index: usize, rows: Range<usize>, first: usize) -> Result<Product> {
        let [high, wide] = [rows.len(), self.columns.end - first].map(|n| n as i64);
        let product = self.buffers[index % 2].f_narrow(0, 0, high * wide)?.f_view([high, wide])?;
        let operand = self.operand.f_narrow(1, (first - self.columns.start) as i64, wide)?;
        let _ = self.u.operand(&rows)?.f_matmul_out(&product, &operand)?;
        Ok(Product { rows, first, numbers: Readback::begin(&product)? })
    }
}

/// Of a tile: the norms of all points, its first column, and the first that is also shown the way back.
struct Part<'a, T> {
    u: &'a [T],
    v: &'a [T],
    first: usize,
    back: usize,
}

impl<T: Number> Part<'_, T> {
    fn show<A, V>(&self, from: usize, lines: &[T], wide: usize, seen: &mut Seen<V>)
    where
        A: Arithmetic<T = T>,
        V: Visitor<T>,
    {
        let (mut there, mut back) = ([T::ZERO; SHOWN], [T::ZERO; SHOWN]);
        for (i, line) in lines.chunks_exact(wide).enumerate() {
            let own = self.u[from + i];
            let mut column = self.first;
            while column < self.first + wide {
                // Never across the first column that is shown the way back.
                let end = if column < self.back { self.back } else { self.first + wide };
                let end = end.min(column + SHOWN).min(self.first + wide);
                let products = &line[column - self.first..end - self.first];
                let norms = &self.v[column..end];
                seen.finite[0] &= fill::<A>(&mut there, products, norms, |p, v| A::distance(own, p, v));
                let mut known = 0;
                if column >= self.back {
                    seen.finite[1] &= fill::<A>(&mut back, products, norms, |p, v| A::distance(v, p, own));
                    known = products.len();
                }
                seen.by.row(from + i, column, &there[..products.len()], &back[..known]);
                column = end;
            }
        }
    }
}

/// Distances cut at zero; whether all were finite.
fn fill<A: Arithmetic>(
    out: &mut [A::T],
    products: &[A::T],
    norms: &[A::T],
    distance: impl Fn(A::T, A::T) -> A::T,
) -> bool {
    let mut finite = true;
    for ((out, &product), &norm) in out.iter_mut().zip(products).zip(norms) {
        let d = distance(product, norm);
        finite &= d.is_finite();
        *out = if d > A::T::ZERO { d } else { A::T::ZERO };
    }
    finite
}

fn narrow(values: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
    Ok(values.f_narrow(0, rows.start as i64, rows.len() as i64)?)
}

/// The numbers of a tensor, where they are.
fn numbers<T: Number>(tensor: &Tensor) -> Result<&[T]> {
    ensure!(
        tensor.kind() == T::KIND && tensor.device() == Device::Cpu && tensor.is_contiguous(),
        "{:?} on {:?} where numbers of {:?} in a row are wanted",
        tensor.kind(),
        tensor.device(),
        T::KIND
    );
    // SAFETY: contiguous, of this type and in this memory; nothing writes to it while the tensor is borrowed.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) })
}

/// Consecutive pieces of `count`.
pub(crate) fn ranges(count: usize, size: i64) -> impl Iterator<Item = Range<usize>> {
    let size = usize::try_from(size).unwrap_or(1).max(1);
    (0..count).step_by(size).map(move |start| start..(start + size).min(count))
}
