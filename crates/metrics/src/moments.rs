//! Mean and covariance in f64, accumulated batch by batch and mergeable across shards and machines.

use anyhow::{Result, ensure};
use stage::bad_input;
use tch::{Device, Kind, Tensor};

/// The mean and scatter of the rows seen so far (Chan, Golub & LeVeque 1979); order does not matter beyond rounding.
pub struct Moments {
    width: i64,
    count: i64,
    mean: Tensor,    // [D]
    scatter: Tensor, // [D, D]
    pending: Vec<Tensor>,
    pending_rows: i64,
}

/// What the Fréchet distance is computed from.
pub struct Statistics {
    /// `[D]`, f64.
    pub mean: Tensor,
    /// `[D, D]`, f64, normalised by N - 1.
    pub covariance: Tensor,
    /// Where fewer rows than dimensions were seen: `[N, D]` with `factorᵀ · factor = covariance`.
    pub factor: Option<Tensor>,
}

impl Moments {
    /// Of rows of this width.
    pub fn new(width: i64) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        Self {
            width,
            count: 0,
            mean: zeros(&[width]),
            scatter: zeros(&[0]),
            pending: Vec::new(),
            pending_rows: 0,
        }
    }

    /// Adds rows.
    ///
    /// # Shapes
    /// `rows`: `[B, D]`, any floating type, any device.
    ///
    /// # Errors
    /// When they have another width.
    pub fn add(&mut self, rows: &Tensor) -> Result<()> {
        let size = rows.size();
        ensure!(
            size.len() == 2 && size[1] == self.width,
            "rows of shape {size:?}, wanted [B, {}]",
            self.width
        );
        self.pending.push(rows.f_to_device(Device::Cpu)?.f_detach()?.f_to_kind(Kind::Double)?);
        self.pending_rows += size[0];
        // One product for many rows; and as long as rows are fewer than dimensions, they are all the statistics need.
        if self.pending_rows > self.width.max(1024) {
            self.flush()?;
        }
        Ok(())
    }

    /// How many rows were added.
    pub fn count(&self) -> i64 {
        self.count + self.pending_rows
    }

    /// Adds what another has seen.
    ///
    /// # Errors
    /// When it has another width.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        ensure!(other.width == self.width, "moments of width {} and {}", other.width, self.width);
        if other.count > 0 {
            self.combine(other.count, &other.mean, &other.scatter)?;
        }
        for rows in other.pending {
            self.add(&rows)?;
        }
        Ok(())
    }

    /// The same moments once more.
    ///
    /// # Errors
    /// When memory is short.
    pub fn copy(&self) -> Result<Self> {
        Ok(Self {
            width: self.width,
            count: self.count,
            mean: self.mean.f_detach_copy()?,
            scatter: self.scatter.f_detach_copy()?,
            pending: self.pending.iter().map(Tensor::shallow_clone).collect(),
            pending_rows: self.pending_rows,
        })
    }

    /// The statistics of all rows.
    ///
    /// # Errors
    /// Bad input with fewer than two rows, which have no covariance.
    pub fn statistics(mut self) -> Result<Statistics> {
        if self.count() < 2 {
            bad_input!("{} picture(s) have no covariance; at least two are needed", self.count())
        }
        let mut factor = None;
        if self.count == 0 && self.pending_rows <= self.width {
            let rows = Tensor::f_cat(&self.pending, 0)?;
            let centred = rows.f_sub(&rows.f_mean_dim([0i64].as_slice(), true, None::<Kind>)?)?;
            factor = Some(centred.f_div_scalar(((self.pending_rows - 1) as f64).sqrt())?);
        }
        self.flush()?;
        let covariance = self.scatter.f_div_scalar((self.count - 1) as f64)?;
        Ok(Statistics { mean: self.mean, covariance, factor })
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows = Tensor::f_cat(&std::mem::take(&mut self.pending), 0)?; // [B, D]
        let count = std::mem::take(&mut self.pending_rows);
        let mean = rows.f_mean_dim([0i64].as_slice(), false, None::<Kind>)?;
        let centred = rows.f_sub(&mean)?;
        let scatter = centred.f_tr()?.f_matmul(&centred)?;
        self.combine(count, &mean, &scatter)
    }

    /// Eq. 2.1 of Chan et al., for vectors.
    fn combine(&mut self, count: i64, mean: &Tensor, scatter: &Tensor) -> Result<()> {
        if self.count == 0 {
            self.mean = mean.f_detach_copy()?;
            self.scatter = scatter.f_detach_copy()?;
            self.count = count;
            return Ok(());
        }
        let (old, new) = (self.count as f64, count as f64);
        let all = old + new;
        let delta = mean.f_sub(&self.mean)?;
        let outer = delta.f_outer(&delta)?.f_mul_scalar(old * new / all)?;
        let _ = self.scatter.f_add_(scatter)?.f_add_(&outer)?;
        let _ = self.mean.f_add_(&delta.f_mul_scalar(new / all)?)?;
        self.count += count;
        Ok(())
    }
}

/// The part of its greatest number by which a covariance may differ from its transpose, as one that was kept in f32 may.
const ASYMMETRY: f64 = 1e-5;

fn greatest(tensor: &Tensor) -> Result<f64> {
    Ok(if tensor.numel() == 0 { 0.0 } else { tensor.f_max()?.f_double_value(&[])? })
}

impl Statistics {
    /// Statistics from elsewhere.
    ///
    /// # Errors
    /// Bad input when the shapes do not fit, a number is not finite, or the covariance is none.
    pub fn new(name: &str, mean: &Tensor, covariance: &Tensor) -> Result<Self> {
        let (m, c) = (mean.size(), covariance.size());
        if m.len() != 1 || c != [m[0], m[0]] {
            bad_input!("{name}: a mean of shape {m:?} and a covariance of shape {c:?} do not fit")
        }
        for (what, tensor) in [("mean", mean), ("covariance", covariance)] {
            if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                bad_input!("{name}: a number of the {what} is not finite")
            }
        }
        let double = |t: &Tensor| t.f_to_kind(Kind::Double);
        let covariance = double(covariance)?;
        let difference = covariance.f_sub(&covariance.f_tr()?)?.f_abs()?;
        let (largest, scale) = (greatest(&difference)?, greatest(&covariance.f_abs()?)?);
        if largest > ASYMMETRY * scale {
            let at = difference.f_argmax(None, false)?.f_int64_value(&[])?;
            bad_input!("{name}: no covariance, it is not symmetric at [{}, {}]", at / m[0], at % m[0])
        }
        let variances = covariance.f_diagonal(0, 0, 1)?;
        if greatest(&variances.f_neg()?)? > ASYMMETRY * scale {
            bad_input!("{name}: no covariance, it has negative variances")
        }
        Ok(Self { mean: double(mean)?, covariance, factor: None })
    }

    /// D.
    pub fn width(&self) -> i64 {
        self.mean.size()[0]
    }
}
