//! Parts of one work, each from its beginning to its end in one thread.

use super::check;
use super::panics::caught;
use anyhow::{Context, Result};
use std::ffi::{c_char, c_void};
use std::sync::Mutex;

unsafe extern "C" {
    fn shim_side_by_side(
        parts: i64,
        work: extern "C" fn(*mut c_void, i64),
        context: *mut c_void,
    ) -> *mut c_char;
}

/// A part before it is done, and what became of it.
struct Part<I, R> {
    input: Option<I>,
    result: Option<Result<R>>,
}

/// All parts, and what is done with each.
struct Call<I, R, W> {
    parts: Vec<Mutex<Part<I, R>>>,
    work: W,
}

/// Does `work` for every input, on the threads that libtorch's operations use: as many inputs as there are threads are done at
/// once. An operation inside of it has its part's thread alone, so its result does not depend on how many there are.
///
/// # Errors
/// That of the first part that has one, and what libtorch has thrown.
pub fn side_by_side<I: Send, R: Send, W: Fn(I) -> Result<R> + Sync>(
    inputs: Vec<I>,
    work: W,
) -> Result<Vec<R>> {
    let parts: Vec<_> =
        inputs.into_iter().map(|i| Mutex::new(Part { input: Some(i), result: None })).collect();
    let count = i64::try_from(parts.len())?;
    let mut call = Call { parts, work };
    // SAFETY: `one` takes its context for this call's type, and the call lives until all of them have returned; each part is done
    // by one thread, and `work` may be called by several.
    unsafe { check(shim_side_by_side(count, one::<I, R, W>, (&raw mut call).cast()))? };
    let done = call.parts.into_iter().map(|part| part.into_inner().ok().and_then(|part| part.result));
    done.map(|result| result.context("a part was left out")?).collect()
}

extern "C" fn one<I: Send, R: Send, W: Fn(I) -> Result<R> + Sync>(call: *mut c_void, part: i64) {
    // SAFETY: the context is that of `side_by_side`, which nobody changes but through the parts' locks.
    let call = unsafe { &*call.cast::<Call<I, R, W>>() };
    let Some(Ok(mut part)) = usize::try_from(part).ok().and_then(|i| call.parts.get(i)).map(Mutex::lock)
    else {
        return;
    };
    if let Some(input) = part.input.take() {
        part.result = Some(caught(|| (call.work)(input)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;
    use std::thread;
    use tch::{Kind, Tensor};

    #[test]
    fn parts_are_done_in_threads_of_their_own_with_gradients() {
        let before = tch::get_num_threads();
        tch::set_num_threads(2);
        let weight = normal(1, "weight", 0, &[64, 64]).set_requires_grad(true);
        let step = |x: Tensor| {
            // The threads' own state is as fresh as the caller's.
            assert!(!(&x * 1.0).requires_grad());
            let weight = weight_of(&x).detach().set_requires_grad(true);
            let x = x.narrow(0, 64, 256);
            x.matmul(&weight).square().sum(Kind::Float).backward();
            Ok((thread::current().id(), weight.grad()))
        };
        fn weight_of(x: &Tensor) -> Tensor {
            x.narrow(0, 0, 64)
        }
        let inputs =
            || (0..2).map(|i| Tensor::cat(&[weight.detach(), normal(2, "x", i, &[256, 64])], 0)).collect();
        let many = side_by_side(inputs(), step).unwrap();
        assert_ne!(many[0].0, many[1].0);
        tch::set_num_threads(1);
        let one = side_by_side(inputs(), step).unwrap();
        assert_eq!(one[0].0, one[1].0);
        // The same bits, whoever did it.
        assert!(many.iter().zip(&one).all(|(a, b)| a.1 == b.1));
        tch::set_num_threads(before);
    }

    #[test]
    fn a_part_that_fails_is_an_error() {
        let work = |i: i64| match i {
            0 => Ok(Tensor::from(i)),
            _ => Ok(Tensor::from(i).view([2, 3])),
        };
        let e = side_by_side(vec![0, 1], work).unwrap_err().to_string();
        assert!(e.contains("shape '[2, 3]'") && !e.contains('\n'), "{e}");
        assert!(side_by_side(Vec::<i64>::new(), work).unwrap().is_empty());
    }
}
