//! Two processes: this test program starts itself again, once per rank.

use super::*;
use crate::random::normal;
use std::ffi::{c_char, c_void};
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use torch_sys::C_tensor;

const VARIABLE: &str = "MODELS_TEST_GROUP";

/// Starts `test` of this program in two processes that find each other, and wants both to pass.
fn in_two_processes(test: &str) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |rank: usize| -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--ignored"])
            .env(VARIABLE, "yes")
            .envs([("RANK", rank.to_string()), ("LOCAL_RANK", rank.to_string()), ("WORLD_SIZE", "2".into())])
            .envs([("MASTER_ADDR", "127.0.0.1".to_string()), ("MASTER_PORT", port.to_string())])
            .env("OMP_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = [start(0), start(1)];
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}

fn joined() -> Option<ProcessGroup> {
    // Only as a child of the tests above.
    std::env::var_os(VARIABLE)?;
    let launch = Launch::read(|name| std::env::var(name).ok()).unwrap();
    assert!(launch.is_some());
    Some(ProcessGroup::join(launch.as_ref()).unwrap())
}

#[test]
fn two_processes_add_up() {
    in_two_processes("parallel::tests::child_adds_up");
}

#[test]
#[ignore = "a child of two_processes_add_up"]
fn child_adds_up() {
    let Some(group) = joined() else { return };
    let x = Tensor::from_slice(&[1f32, 2.0]) * (group.rank() as f64 + 1.0);
    group.sum(&x).unwrap();
    assert_eq!(Vec::<f32>::try_from(&x).unwrap(), [3.0, 6.0]);
    group.mean(&x).unwrap();
    assert_eq!(Vec::<f32>::try_from(&x).unwrap(), [3.0, 6.0]);
    let y = Tensor::from(group.rank() as f32 + 7.0);
    group.broadcast(&y).unwrap();
    assert_eq!(y.double_value(&[]), 7.0);
    assert!(group.any(group.rank() == 1).unwrap() && !group.any(false).unwrap());
    assert_eq!(group.share(6).unwrap(), group.rank() * 3..group.rank() * 3 + 3);
    assert_eq!(stage::exit_code(&group.share(5).unwrap_err()), 2);
}

#[test]
fn patience_is_not_the_wait_for_the_meeting() {
    in_two_processes("parallel::tests::child_is_impatient");
}

#[test]
#[ignore = "a child of patience_is_not_the_wait_for_the_meeting"]
fn child_is_impatient() {
    let Some(_) = std::env::var_os(VARIABLE) else { return };
    let launch = Launch::read(|name| std::env::var(name).ok()).unwrap().unwrap();
    let group = ProcessGroup::join_for(&launch, TIMEOUT, Duration::from_millis(200)).unwrap();
    let begin = std::time::Instant::now();
    let late = Duration::from_secs(5);
    if group.rank() == 0 {
        assert!(group.any(true).is_err());
        assert!(begin.elapsed() < late, "{:?}", begin.elapsed());
    } else {
        std::thread::sleep(late);
    }
}

/// Layers of one width, their values and gradients parts of two flat vectors.
struct Layers {
    parameters: Vec<Tensor>,
    gradient: Tensor,
}

const WIDTH: i64 = 16;
const LAYERS: usize = 5;

impl Layers {
    fn new() -> Self {
        let gradient = Tensor::zeros([LAYERS as i64 * WIDTH * WIDTH], (Kind::Float, tch::Device::Cpu));
        let parameters: Vec<Tensor> = (0..LAYERS)
            .map(|i| (normal(1, "layer", i as u64, &[WIDTH, WIDTH]) * 0.25).set_requires_grad(true))
            .collect();
        (parameters.iter().map(|p| p.sum(Kind::Float) * 0.0)).reduce(|a, b| a + b).unwrap().backward();
        for (i, p) in parameters.iter().enumerate() {
            let size = WIDTH * WIDTH;
            p.grad().set_data(&gradient.narrow(0, i as i64 * size, size).view([WIDTH, WIDTH]));
        }
        Self { parameters, gradient }
    }

    /// The last layer is left out when `skip` says so.
    fn loss(&self, x: &Tensor, skip: bool) -> Tensor {
        let used = &self.parameters[..LAYERS - usize::from(skip)];
        used.iter().fold(x.shallow_clone(), |x, p| x.matmul(p).tanh()).square().mean(Kind::Float)
    }
}

/// Means over two halves, added in another order than over the whole: a few roundings of f32.
const ANOTHER_ORDER: f64 = 1e-6;

#[test]
fn gradients_are_those_of_the_whole_batch() {
    in_two_processes("parallel::tests::child_reduces");
}

#[test]
#[ignore = "a child of gradients_are_those_of_the_whole_batch"]
fn child_reduces() {
    let Some(group) = joined() else { return };
    let whole = normal(2, "x", 0, &[8, WIDTH]);
    let rows = group.share(8).unwrap();
    let own = whole.narrow(0, rows.start as i64, rows.len() as i64);
    let (alone, shared) = (Layers::new(), Layers::new());
    // Two layers to a bucket.
    let bytes = 2 * (WIDTH * WIDTH) as usize * 4;
    let reducer = Reducer::with_bucket_bytes(
        group.joined.as_ref().unwrap(),
        &shared.parameters,
        &shared.gradient,
        bytes,
    )
    .unwrap();
    assert_eq!(reducer.buckets(), 3);
    for skip in [false, true, false] {
        let _ = (alone.gradient.shallow_clone().zero_(), shared.gradient.shallow_clone().zero_());
        alone.loss(&whole, skip).backward();
        reducer.begin().unwrap();
        shared.loss(&own, skip).backward();
        let started = reducer.finish().unwrap();
        // Without the last layer the first bucket waits for the end, and those behind it too.
        assert_eq!(started, if skip { 0 } else { 3 });
        let distance = (&alone.gradient - &shared.gradient).norm() / alone.gradient.norm();
        let distance = distance.double_value(&[]);
        assert!(distance < ANOTHER_ORDER, "{distance}");
    }
    // A pass that is not announced stays at home.
    shared.loss(&own, false).backward();
}

#[test]
fn a_transport_has_the_gradients_of_its_device() {
    in_two_processes("parallel::tests::child_has_a_transport");
}

/// Sums that a transport of a test has begun, and whether it was waited for.
#[derive(Default)]
struct Doubling {
    sums: usize,
    waits: usize,
}

/// As if the other process had the same.
unsafe extern "C" fn double(state: *mut c_void, tensor: *const C_tensor) -> *mut c_char {
    // SAFETY: the test's counter and a live tensor of libtorch's, which this takes no part in owning.
    unsafe {
        (*state.cast::<Doubling>()).sums += 1;
        let tensor = ManuallyDrop::new(Tensor::from_ptr(tensor.cast_mut()));
        let _ = tch::no_grad(|| tensor.shallow_clone().g_mul_scalar_(2.0));
    }
    std::ptr::null_mut()
}

unsafe extern "C" fn count_wait(state: *mut c_void) -> *mut c_char {
    // SAFETY: the test's counter.
    unsafe { (*state.cast::<Doubling>()).waits += 1 };
    std::ptr::null_mut()
}

#[test]
#[ignore = "a child of a_transport_has_the_gradients_of_its_device"]
fn child_has_a_transport() {
    let Some(group) = joined() else { return };
    assert_eq!(group.gather(group.rank() as i64 + 5).unwrap(), [5, 6]);
    // Without GPUs there is nothing to use, and nobody waits for it.
    assert_eq!(group.use_gpus(tch::Device::Cpu).unwrap(), None);
    let mut counts = Doubling::default();
    let state = (&raw mut counts).cast();
    group.joined.as_ref().unwrap().gloo.carry(&shim::Transport {
        device: 0,
        state,
        sum: double,
        wait: count_wait,
    });
    let (x, layers, alone) = (normal(2, "x", 0, &[8, WIDTH]), Layers::new(), Layers::new());
    let bytes = 2 * (WIDTH * WIDTH) as usize * 4;
    let reducer = Reducer::with_bucket_bytes(
        group.joined.as_ref().unwrap(),
        &layers.parameters,
        &layers.gradient,
        bytes,
    )
    .unwrap();
    alone.loss(&x, false).backward();
    reducer.begin().unwrap();
    layers.loss(&x, false).backward();
    assert_eq!(reducer.finish().unwrap(), 3);
    assert!(alone.gradient.equal(&layers.gradient));
    assert_eq!((counts.sums, counts.waits), (3, 3));
}

#[test]
fn a_gradient_elsewhere_is_refused() {
    let layers = Layers::new();
    assert!(
        offset(&layers.parameters[1].grad(), &layers.gradient).is_ok_and(|o| o == (WIDTH * WIDTH) as usize)
    );
    assert!(offset(&Tensor::zeros([4], (Kind::Float, tch::Device::Cpu)), &layers.gradient).is_err());
}
