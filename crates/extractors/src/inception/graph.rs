//! The graph of the FID Inception-v3, written once; loading, inference and training each walk it in their way.

use anyhow::Result;

/// One convolution without bias, followed by batch norm and ReLU.
pub struct Conv {
    /// Name of its parameters before `.conv` and `.bn`.
    pub name: String,
    /// Height and width of the kernel.
    pub kernel: [i64; 2],
    /// Stride in both directions.
    pub stride: i64,
    /// Zeros added on either side of height and width.
    pub pad: [i64; 2],
    /// Output channels of the full network; a narrow member has fewer.
    pub width: i64,
}

/// What can be done along the graph.
pub trait Walk {
    /// What flows.
    type X;
    /// Convolution, batch norm, ReLU.
    ///
    /// # Errors
    /// When the parameters are missing or do not fit.
    fn conv(&mut self, conv: Conv, x: &Self::X) -> Result<Self::X>;
    /// The greatest of 3 × 3.
    ///
    /// # Errors
    /// When the input is too small.
    fn max_pool(&mut self, name: &str, x: &Self::X, stride: i64, pad: i64) -> Result<Self::X>;
    /// The mean of 3 × 3, stride 1, padded by 1; what lies outside is not counted.
    fn average_pool(&mut self, x: &Self::X) -> Result<Self::X>;
    /// Channels one after the other.
    ///
    /// # Errors
    /// When the parts do not fit.
    fn join(&mut self, name: &str, parts: &[Self::X]) -> Result<Self::X>;
}

/// The two tensors that scores are computed from.
pub struct Taps<X> {
    /// Output of the last block, 8 × 8, before the mean over positions.
    pub last: X,
    /// `mixed_6/conv`: the 1 × 1 branch of `Mixed_6d`, 17 × 17.
    pub spatial: X,
}

/// Which pool stands in the fourth branch of the last two blocks. The FID graph has the mean in 7b and the
/// maximum in 7c.
#[derive(Clone, Copy, PartialEq)]
enum Pool {
    Average,
    Max,
}

/// Walks the graph from scaled pictures of 299 × 299.
///
/// # Errors
/// The walker's.
pub fn walk<W: Walk>(w: &mut W, x: &W::X) -> Result<Taps<W::X>> {
    let x = square(w, "Conv2d_1a_3x3", x, 32, 3, 2, 0)?;
    let x = square(w, "Conv2d_2a_3x3", &x, 32, 3, 1, 0)?;
    let x = square(w, "Conv2d_2b_3x3", &x, 64, 3, 1, 1)?;
    let x = w.max_pool("pool", &x, 2, 0)?;
    let x = square(w, "Conv2d_3b_1x1", &x, 80, 1, 1, 0)?;
    let x = square(w, "Conv2d_4a_3x3", &x, 192, 3, 1, 0)?;
    let x = w.max_pool("pool_1", &x, 2, 0)?;
    let x = block_5(w, "Mixed_5b", &x, 32)?;
    let x = block_5(w, "Mixed_5c", &x, 64)?;
    let x = block_5(w, "Mixed_5d", &x, 64)?;
    let x = block_6a(w, "Mixed_6a", &x)?;
    let (x, _) = block_6(w, "Mixed_6b", &x, 128)?;
    let (x, _) = block_6(w, "Mixed_6c", &x, 160)?;
    let (x, spatial) = block_6(w, "Mixed_6d", &x, 160)?;
    let (x, _) = block_6(w, "Mixed_6e", &x, 192)?;
    let x = block_7a(w, "Mixed_7a", &x)?;
    let x = block_7(w, "Mixed_7b", &x, Pool::Average)?;
    let last = block_7(w, "Mixed_7c", &x, Pool::Max)?;
    Ok(Taps { last, spatial })
}

/// Walks with numbers of channels alone, of which `conv` makes others; gives that of the last block.
///
/// # Errors
/// Those of `conv`.
pub fn channels(conv: impl FnMut(Conv, i64) -> Result<i64>) -> Result<i64> {
    Ok(walk(&mut Channels(conv), &3)?.last)
}

struct Channels<F>(F);

impl<F: FnMut(Conv, i64) -> Result<i64>> Walk for Channels<F> {
    type X = i64;

    fn conv(&mut self, conv: Conv, inputs: &i64) -> Result<i64> {
        (self.0)(conv, *inputs)
    }

    fn max_pool(&mut self, _: &str, x: &i64, _: i64, _: i64) -> Result<i64> {
        Ok(*x)
    }

    fn average_pool(&mut self, x: &i64) -> Result<i64> {
        Ok(*x)
    }

    fn join(&mut self, _: &str, parts: &[i64]) -> Result<i64> {
        Ok(parts.iter().sum())
    }
}

/// 35 × 35.
fn block_5<W: Walk>(w: &mut W, b: &str, x: &W::X, pool_width: i64) -> Result<W::X> {
    let one = square(w, &format!("{b}.branch1x1"), x, 64, 1, 1, 0)?;
    let five = square(w, &format!("{b}.branch5x5_1"), x, 48, 1, 1, 0)?;
    let five = square(w, &format!("{b}.branch5x5_2"), &five, 64, 5, 1, 2)?;
    let three = square(w, &format!("{b}.branch3x3dbl_1"), x, 64, 1, 1, 0)?;
    let three = square(w, &format!("{b}.branch3x3dbl_2"), &three, 96, 3, 1, 1)?;
    let three = square(w, &format!("{b}.branch3x3dbl_3"), &three, 96, 3, 1, 1)?;
    let pool = w.average_pool(x)?;
    let pool = square(w, &format!("{b}.branch_pool"), &pool, pool_width, 1, 1, 0)?;
    w.join(b, &[one, five, three, pool])
}

/// 35 × 35 to 17 × 17.
fn block_6a<W: Walk>(w: &mut W, b: &str, x: &W::X) -> Result<W::X> {
    let three = square(w, &format!("{b}.branch3x3"), x, 384, 3, 2, 0)?;
    let double = square(w, &format!("{b}.branch3x3dbl_1"), x, 64, 1, 1, 0)?;
    let double = square(w, &format!("{b}.branch3x3dbl_2"), &double, 96, 3, 1, 1)?;
    let double = square(w, &format!("{b}.branch3x3dbl_3"), &double, 96, 3, 2, 0)?;
    let pool = w.max_pool(&format!("{b}.pool"), x, 2, 0)?;
    w.join(b, &[three, double, pool])
}

/// 17 × 17; also gives the 1 × 1 branch.
fn block_6<W: Walk>(w: &mut W, b: &str, x: &W::X, c: i64) -> Result<(W::X, W::X)> {
    let one = square(w, &format!("{b}.branch1x1"), x, 192, 1, 1, 0)?;
    let seven = square(w, &format!("{b}.branch7x7_1"), x, c, 1, 1, 0)?;
    let seven = row(w, &format!("{b}.branch7x7_2"), &seven, c, 7)?;
    let seven = column(w, &format!("{b}.branch7x7_3"), &seven, 192, 7)?;
    let double = square(w, &format!("{b}.branch7x7dbl_1"), x, c, 1, 1, 0)?;
    let double = column(w, &format!("{b}.branch7x7dbl_2"), &double, c, 7)?;
    let double = row(w, &format!("{b}.branch7x7dbl_3"), &double, c, 7)?;
    let double = column(w, &format!("{b}.branch7x7dbl_4"), &double, c, 7)?;
    let double = row(w, &format!("{b}.branch7x7dbl_5"), &double, 192, 7)?;
    let pool = w.average_pool(x)?;
    let pool = square(w, &format!("{b}.branch_pool"), &pool, 192, 1, 1, 0)?;
    let parts = [one, seven, double, pool];
    let joined = w.join(b, &parts)?;
    let [one, ..] = parts;
    Ok((joined, one))
}

/// 17 × 17 to 8 × 8.
fn block_7a<W: Walk>(w: &mut W, b: &str, x: &W::X) -> Result<W::X> {
    let three = square(w, &format!("{b}.branch3x3_1"), x, 192, 1, 1, 0)?;
    let three = square(w, &format!("{b}.branch3x3_2"), &three, 320, 3, 2, 0)?;
    let seven = square(w, &format!("{b}.branch7x7x3_1"), x, 192, 1, 1, 0)?;
    let seven = row(w, &format!("{b}.branch7x7x3_2"), &seven, 192, 7)?;
    let seven = column(w, &format!("{b}.branch7x7x3_3"), &seven, 192, 7)?;
    let seven = square(w, &format!("{b}.branch7x7x3_4"), &seven, 192, 3, 2, 0)?;
    let pool = w.max_pool(&format!("{b}.pool"), x, 2, 0)?;
    w.join(b, &[three, seven, pool])
}

/// 8 × 8.
fn block_7<W: Walk>(w: &mut W, b: &str, x: &W::X, pool: Pool) -> Result<W::X> {
    let one = square(w, &format!("{b}.branch1x1"), x, 320, 1, 1, 0)?;
    let three = square(w, &format!("{b}.branch3x3_1"), x, 384, 1, 1, 0)?;
    let three_row = row(w, &format!("{b}.branch3x3_2a"), &three, 384, 3)?;
    let three_column = column(w, &format!("{b}.branch3x3_2b"), &three, 384, 3)?;
    let double = square(w, &format!("{b}.branch3x3dbl_1"), x, 448, 1, 1, 0)?;
    let double = square(w, &format!("{b}.branch3x3dbl_2"), &double, 384, 3, 1, 1)?;
    let double_row = row(w, &format!("{b}.branch3x3dbl_3a"), &double, 384, 3)?;
    let double_column = column(w, &format!("{b}.branch3x3dbl_3b"), &double, 384, 3)?;
    let pool = match pool {
        Pool::Average => w.average_pool(x)?,
        Pool::Max => w.max_pool(&format!("{b}.pool"), x, 1, 1)?,
    };
    let pool = square(w, &format!("{b}.branch_pool"), &pool, 192, 1, 1, 0)?;
    w.join(b, &[one, three_row, three_column, double_row, double_column, pool])
}

fn square<W: Walk>(
    w: &mut W,
    name: &str,
    x: &W::X,
    width: i64,
    side: i64,
    stride: i64,
    pad: i64,
) -> Result<W::X> {
    w.conv(Conv { name: name.into(), kernel: [side, side], stride, pad: [pad, pad], width }, x)
}

fn row<W: Walk>(w: &mut W, name: &str, x: &W::X, width: i64, length: i64) -> Result<W::X> {
    w.conv(Conv { name: name.into(), kernel: [1, length], stride: 1, pad: [0, length / 2], width }, x)
}

fn column<W: Walk>(w: &mut W, name: &str, x: &W::X, width: i64, length: i64) -> Result<W::X> {
    w.conv(Conv { name: name.into(), kernel: [length, 1], stride: 1, pad: [length / 2, 0], width }, x)
}
