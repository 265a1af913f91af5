//! Small networks whose batch the threads share: the same training as in one thread, and always the same bits.

use crate::support::Place;

/// Losses of two logs, relative, the worst of all.
fn distance(place: &Place, a: &str, b: &str) -> f64 {
    let (a, b) = (place.log(a), place.log(b));
    assert!(!a.is_empty() && a.len() == b.len());
    let names = ["mse", "vb", "prior", "loss"];
    let all = a.iter().zip(&b).flat_map(|(a, b)| names.map(|name| (&a[name], &b[name])));
    let distances = all.map(|(a, b)| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        (a - b).abs() / a.abs().max(1e-6)
    });
    distances.fold(0.0, f64::max)
}

#[test]
fn threads_share_a_batch_and_train_what_one_trains() {
    let place = Place::new();
    // 26 images among three threads are parts of 8, 9 and 9; the last three need the whole batch at once or divide it themselves.
    let variants = [
        ("", 26, 1e-4),
        ("--gating noisy-prior --clip 0.1 --ema-decay 0.9,0.99", 26, 1e-4),
        ("--model dit-tiny", 26, 1e-4),
        ("--model dtr-tiny --prediction v --weighting min-snr", 26, 1e-4),
        ("--precision bf16", 26, 5e-3),
        ("--gating load-balance", 26, 1e-4),
        ("--weighting uw --clusters 2", 26, 1e-4),
        ("--accumulate 2", 26, 1e-4),
    ];
    for (i, (flags, images, most)) in variants.into_iter().enumerate() {
        let of = |threads: usize| {
            let name = format!("{i}-{threads}");
            let flags = format!("{flags} --batch-size {images} --learning-rate 0.003 --threads {threads}");
            place.train(&name, 12, &flags);
            name
        };
        let distance = distance(&place, &of(1), &of(3));
        println!("{flags}: {distance:e}");
        assert!(distance < most, "{flags}: {distance:e}");
    }
}

#[test]
fn as_many_threads_give_the_same_bytes() {
    let place = Place::new();
    let flags = "--batch-size 17 --threads 2 --checkpoint-every 6 --clip 1";
    for name in ["a", "b"] {
        place.train(name, 12, flags);
    }
    place.train("longer", 6, flags);
    place.train("longer", 12, flags);
    assert!(place.checkpoint("a", 12) == place.checkpoint("b", 12));
    assert!(place.checkpoint("a", 12) == place.checkpoint("longer", 12));
    assert_eq!(place.log("a"), place.log("longer"));
    // One thread adds up in another order, so this was not done in one.
    place.train("one", 12, &flags.replace("--threads 2", "--threads 1"));
    assert!(place.checkpoint("a", 12) != place.checkpoint("one", 12));
}

#[test]
fn processes_may_have_different_numbers_of_threads() {
    let place = Place::new();
    place.train("one", 12, "--batch-size 32");
    for threads in [["2", "2"], ["2", "1"]] {
        let name = threads.concat();
        place.in_two_processes(&name, 12, "--batch-size 32 --threads 0", |command, rank| {
            command.env("OMP_NUM_THREADS", threads[usize::from(rank == "1")]);
        });
        let distance = distance(&place, "one", &name);
        assert!(distance < 1e-4, "{threads:?}: {distance:e}");
    }
}
