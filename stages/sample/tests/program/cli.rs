//! Its files, batches of any size, kills, and what it refuses.

use crate::support::{Place, array};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn pictures_and_labels() {
    let place = Place::new();
    place.sample("a", 7, "--steps 5 --batch-size 7");
    let npz = place.path("a/samples.npz");
    let (header, pixels) = array(&npz, "arr_0");
    assert_eq!(header, "{'descr': '|u1', 'fortran_order': False, 'shape': (7, 8, 8, 3), }");
    let (header, labels) = array(&npz, "arr_1");
    assert_eq!(header, "{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }");
    let labels: Vec<i64> =
        labels.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(labels, [0, 1, 2, 0, 1, 2, 0]);
    for (i, picture) in pixels.chunks(8 * 8 * 3).enumerate() {
        let png = image::open(place.path(&format!("a/images/{i:06}.png"))).unwrap().into_rgb8();
        assert_eq!((png.dimensions(), png.as_raw().as_slice()), ((8, 8), picture));
    }
    assert!(pixels.chunks(192).skip(1).all(|p| p != &pixels[..192]), "all pictures alike");

    // The batch moves roundings only.
    place.sample("b", 7, "--steps 5 --batch-size 3");
    let (_, other) = array(&place.path("b/samples.npz"), "arr_0");
    assert!(pixels.iter().zip(&other).all(|(a, b)| a.abs_diff(*b) <= 1));
    place.sample("c", 7, "--steps 5 --batch-size 7");
    assert!(place.npz("a") == place.npz("c"));
    place.sample("d", 7, "--steps 5 --batch-size 7 --weights model");
    assert!(place.npz("a") != place.npz("d"));
}

#[test]
fn a_checkpoint_goes_to_the_reference_s_form_and_back() {
    let place = Place::new();
    let flags = "--steps 5 --batch-size 4";
    place.sample("native", 4, flags);
    let (pt, back) = (place.path("a.pt"), place.path("a.safetensors"));
    let convert = |from: &Path, to: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
        let output = command.arg("--checkpoints").arg(from).arg("--convert").arg(to).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    convert(&place.path("network"), &pt);
    convert(&pt, &back);
    for (name, path) in [("theirs", &pt), ("ours", &back)] {
        place.sample(name, 4, &format!("--checkpoints {} {flags}", path.display()));
        assert!(place.npz(name) == place.npz("native"), "{name}: other pictures");
    }
    let model = format!("--checkpoints {} {flags} --weights model", pt.display());
    place.sample("model", 4, &model);
    assert!(place.npz("model") != place.npz("native"));
}

#[test]
fn several_networks_are_sampled_as_one() {
    let place = Place::new();
    let vae = stage::digest(&place.path("vae")).unwrap();
    let sample = |name: &str, folder: &str| {
        let folder = place.path(folder);
        place.sample(name, 3, &format!("--checkpoints {} --steps 5 --batch-size 3", folder.display()));
        place.npz(name)
    };
    for (folder, first, second) in [("alike", 2, 2), ("early", 3, 2), ("late", 2, 3)] {
        place.expert(&format!("{folder}/a"), &vae, first, [0, 500]);
        place.expert(&format!("{folder}/b"), &vae, second, [500, 1000]);
    }
    let whole = sample("whole", "network");
    let [alike, early, late] = ["alike", "early", "late"].map(|name| sample(&format!("{name}.out"), name));
    assert!(alike == whole, "two halves of one network are not the network");
    assert!(early != whole && late != whole && early != late);

    let refused = |text: &str, folder: &str| {
        let output = place.run("x", 2, &format!("--checkpoints {}", place.path(folder).display()));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(text), "{error}");
    };
    refused("no network is trained on timesteps 500 to 999", "alike/a");
    refused("no network is trained on timesteps 0 to 499", "alike/b");
    place.expert("twice/a", &vae, 2, [0, 600]);
    place.expert("twice/b", &vae, 2, [500, 1000]);
    refused("which another network has", "twice");
    place.expert("apart/a", &vae, 2, [0, 500]);
    place.expert("apart/b", "00ff", 2, [500, 1000]);
    refused("differ in latents", "apart");
}

#[test]
fn samplers_and_guidance_are_chosen_and_kept_apart() {
    let place = Place::new();
    let flags = "--steps 5 --batch-size 2";
    place.sample("usual", 4, flags);
    let mut seen = vec![place.npz("usual")];
    for (i, more) in [
        "--sampler ddim",
        "--sampler ddim --eta 0.7",
        "--sampler dpm-solver++",
        "--guidance-channels 3",
        "--guidance-interval 0,500",
        "--sampler dpm-solver++ --steps 1",
    ]
    .into_iter()
    .enumerate()
    {
        let flags = if more.contains("--steps") { "--batch-size 2" } else { flags };
        let name = i.to_string();
        place.sample(&name, 4, &format!("{flags} {more}"));
        assert!(!seen.contains(&place.npz(&name)), "{more}: pictures of other flags");
        // A state folder of other flags is of no use to it.
        place.sample("usual", 4, &format!("{flags} {more}"));
        assert!(place.npz("usual") == place.npz(&name), "{more}: some pictures are of other flags");
        seen.push(place.npz(&name));
    }
    // The first picture's noise is its own, whatever the batch; guidance of all timesteps is guidance.
    place.sample("whole", 4, &format!("{flags} --guidance-interval 0,1000 --sampler ddpm"));
    assert!(place.npz("whole") == seen[0]);
    let refused = |flags: &str, text: &str| {
        let output = place.run("x", 2, flags);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains(text), "{error}");
    };
    refused("--sampler heun", "--sampler heun: the network predicts noise; use ddpm, ddim or dpm-solver++");
    refused("--eta 0.5", "--eta 0.5: only ddim takes it, not ddpm");
    refused("--guidance-interval 500,200", "--guidance-interval 500,200: give first timestep and last + 1");
    refused("--sampler dpm-solver", "did you mean");
    refused("--prediction v", "trained to predict noise, not v");
}

/// As the double of a GPU shows it: the CPU's pictures, one graph, and nothing in a step that the host waits for.
#[test]
fn a_gpu_samples_what_the_cpu_samples() {
    let place = Place::new();
    let on_a_gpu = |name: &str, flags: &str| {
        let mut command = place.command(name, 7, &format!("--device cuda:0 --batch-size 3 {flags}"));
        let gpu = cuda_double::lend(&mut command, 1, &place.path(&format!("{name}.report")))?;
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("Warning"), "{text}");
        Some(gpu.report())
    };
    let pixels = |name: &str| array(&place.path(name).join("samples.npz"), "arr_0").1;
    for flags in ["--sampler dpm-solver++", "--sampler ddim --eta 0.5", "--sampler ddim"] {
        place.sample("cpu", 7, &format!("{flags} --steps 8 --batch-size 3"));
        let Some(report) = on_a_gpu("other", &format!("{flags} --cuda-graphs on --steps 8")) else { return };
        let far = pixels("cpu").iter().zip(pixels("other")).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far <= Some(1), "{flags}: {far:?} levels");
        assert_eq!((report["graphs"], report["replays"]), (1, 11), "{flags}");
    }
    place.sample("cpu", 7, "--steps 8 --batch-size 3");
    for (name, flags) in [("off", "--cuda-graphs off"), ("on", "--cuda-graphs on")] {
        let Some(short) = on_a_gpu(name, &format!("{flags} --steps 8")) else { return };
        let far = pixels("cpu").iter().zip(pixels(name)).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far <= Some(1), "{name}: {far:?} levels");
        let long = on_a_gpu(&format!("{name}-long"), &format!("{flags} --steps 20")).unwrap();
        assert!(long["launches"] > short["launches"], "{name}: {short:?} {long:?}");
        // The coefficients and the timestep of each of 12 more steps go there once, before the first batch.
        for (what, count) in short.iter().filter(|(what, _)| what.starts_with("wait ")) {
            let once = if ["wait stream", "wait upload"].contains(&what.as_str()) { 2 * 12 } else { 0 };
            assert_eq!(long[what] - count, once, "{name}: {what}");
        }
        let graphs = |report: &BTreeMap<String, i64>| {
            ["graphs", "replays"].map(|w| report.get(w).copied().unwrap_or(0))
        };
        // Two batches of three; their last steps and the first three are not repeated, the fourth to compare.
        let expected = if name == "on" { [[1, 11], [1, 35]] } else { [[0, 0]; 2] };
        assert_eq!([graphs(&short), graphs(&long)], expected, "{name}");
    }
}

#[test]
fn shards_join_to_the_bytes_of_one_piece() {
    let place = Place::new();
    let flags = "--steps 5 --batch-size 2 --labels uniform";
    place.sample("whole", 11, flags);
    // More shards than some sizes of batches give work to.
    for shards in [2, 7] {
        let parts = format!("parts-{shards}");
        for shard in 0..shards {
            place.sample(
                &format!("{parts}/{shard}"),
                11,
                &format!("{flags} --shards {shards} --shard {shard}"),
            );
        }
        for entry in fs::read_dir(place.path(&parts)).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".state") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        let joined = format!("joined-{shards}");
        place.sample(&joined, 11, &format!("{flags} --samples-parts {}", place.path(&parts).display()));
        assert!(place.npz("whole") == place.npz(&joined));
        assert!(place.pictures("whole") == place.pictures(&joined) && place.pictures("whole").len() == 11);
        let missing =
            place.run("x", 12, &format!("{flags} --samples-parts {}", place.path(&parts).display()));
        assert_eq!(missing.status.code(), Some(2));
    }
}

/// This sampling by two processes, as `torchrun` would start them.
fn in_two_processes(place: &Place, name: &str, images: usize, flags: &str) -> [Child; 2] {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    ["0", "1"].map(|rank| {
        let meeting = [("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port.as_str())];
        let mut command = place.command(name, images, flags);
        command.envs([("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2")]).envs(meeting);
        command.stderr(Stdio::piped()).spawn().unwrap()
    })
}

#[test]
fn two_processes_make_the_bytes_of_one() {
    let place = Place::new();
    let flags = "--steps 5 --batch-size 2 --labels uniform";
    for (name, more) in [("whole", ""), ("half", " --shards 2 --shard 1")] {
        let flags = format!("{flags}{more}");
        place.sample(name, 11, &flags);
        let two = format!("{name}.two");
        for child in in_two_processes(&place, &two, 11, &flags) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(place.npz(name) == place.npz(&two) && place.pictures(name) == place.pictures(&two));
    }
}

#[test]
fn more_processes_than_batches_are_refused_before_any_work() {
    let place = Place::new();
    let mut alone = place.command("none", 11, "--steps 5 --batch-size 6");
    // The others never come: nobody waits for them to be told so.
    alone.envs([("RANK", "0"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")]);
    let refused = alone.env("MASTER_PORT", "1").output().unwrap();
    let text = "error: --images 11 with --batch-size 6 make 2 batches, which cannot be divided among 3 processes; give a smaller \
                --batch-size, or start fewer\n";
    assert_eq!((refused.status.code(), String::from_utf8_lossy(&refused.stderr).as_ref()), (Some(2), text));
    assert!(!place.path("none.state").exists());
}

#[test]
fn a_dead_process_is_an_error_of_the_other() {
    let place = Place::new();
    let flags = "--steps 40 --batch-size 2";
    place.sample("whole", 20, flags);
    let [first, mut second] = in_two_processes(&place, "two", 20, flags);
    let (part, begin) = (place.path("two.state/rank-1-of-2/images"), Instant::now());
    while !part.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no {}", part.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    second.kill().unwrap();
    second.wait().unwrap();
    let output = first.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("waiting for the parts of the other processes"), "{error}");
    assert!(!place.path("two").exists());
    // Both again go on to the same bytes.
    for child in in_two_processes(&place, "two", 20, flags) {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert!(place.npz("whole") == place.npz("two"));
}

#[test]
fn killed_it_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let flags = "--steps 60 --batch-size 2";
    place.sample("whole", 30, flags);
    let mut child = place.command("killed", 30, flags).stderr(Stdio::null()).spawn().unwrap();
    let (first, begin) = (place.path("killed.state/parts/00000002.rgb"), Instant::now());
    while !first.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no {}", first.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let made = fs::metadata(&first).unwrap().modified().unwrap();
    place.sample("killed", 30, flags);
    assert!(place.npz("whole") == place.npz("killed"));
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), made, "done again");
    // Other settings begin anew.
    place.sample("killed", 30, "--steps 5 --batch-size 2");
    assert!(place.npz("whole") != place.npz("killed"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    let refused = |flags: &str, text: &str| {
        let output = place.run("x", 2, flags);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains(text), "{error}");
        assert!(!place.path("x").exists());
    };
    place.checkpoint("stranger", "00ff");
    refused(&format!("--checkpoints {}", place.path("stranger").display()), "not the autoencoder");
    fs::create_dir(place.path("empty")).unwrap();
    refused(&format!("--checkpoints {}", place.path("empty").display()), "no checkpoint");
    refused("--ema-decay 0.5", "no average with decay 0.5");
    refused("--steps 5000", "5000");
    refused("--cuda-graphs on", "--cuda-graphs on: the device is no GPU");
    refused("--schedule cosine", "trained with the schedule linear, not cosine");
    refused("--heads 1", "of 2 heads, not 1");
    refused(&format!("--convert {}", place.path("a.bin").display()), "neither .pt nor .safetensors");
    let whole = fs::read(place.path("network/step-00000007.safetensors")).unwrap();
    let cut = place.path("cut.safetensors");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    refused(&format!("--checkpoints {}", cut.display()), "cut.safetensors");
}
