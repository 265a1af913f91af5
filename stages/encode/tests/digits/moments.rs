//! What is kept of a picture: its moments, whatever the batch, the device and the precision.

use crate::support::{command, digits, encode, files, images, refuses, succeeds};
use pictures::{center_crop, decode, read_parquet};
use shards::Latents;
use tch::{Device, Kind, Tensor};
use vae::{LATENT_SCALE, Vae, from_bytes};
use weights::Weights;

#[test]
fn the_autoencoder_keeps_the_digits_readable() {
    let vae =
        Vae::load(Weights::read(&digits("vae.safetensors")).unwrap(), Device::Cpu, Kind::Float).unwrap();
    let mut pixels = Vec::new();
    for file in ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"] {
        for picture in read_parquet(&digits(file)).unwrap() {
            pixels.extend(center_crop(&decode(&picture.unwrap().bytes).unwrap(), 32).pixels);
        }
    }
    let all = from_bytes(&Tensor::from_slice(&pixels).view([-1, 32, 32, 3]).permute([0, 3, 1, 2])).unwrap();
    assert_eq!(all.size(), [1797, 3, 32, 32]);
    let (mut error, mut square, mut sum) = (0.0, 0.0, 0.0);
    for x in all.split(64, 0) {
        let posterior = vae.encode_moments(&x).unwrap();
        assert_eq!(posterior.mean.size()[1..], [4, 8, 8]);
        let decoded = vae.decode(&posterior.mean).unwrap().clamp(-1.0, 1.0);
        error += (decoded - &x).square().sum(Kind::Double).double_value(&[]);
        let second = posterior.mean.square() + posterior.std.square();
        square += second.sum(Kind::Double).double_value(&[]) * LATENT_SCALE * LATENT_SCALE;
        sum += posterior.mean.sum(Kind::Double).double_value(&[]) * LATENT_SCALE;
    }
    let psnr = 10.0 * (4.0 / (error / all.numel() as f64)).log10();
    assert!(psnr >= 30.0, "PSNR {psnr} dB");
    let latents = (1797 * 4 * 8 * 8) as f64;
    let (mean, variance) = (sum / latents, square / latents);
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "scaled latents: {mean}, {variance}");
}

/// As the double of a GPU shows it.
#[test]
fn a_gpu_encodes_what_the_cpu_encodes() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 20, None);
    succeeds(&encode(dir.path(), &["--flip"]));
    let cpu = Latents::open(&dir.path().join("latents")).unwrap();
    let mut command =
        command(dir.path(), &["--flip", "--device", "cuda:0", "--batch-size", "7", "--latents", "gpu"]);
    let Some(gpu) = cuda_double::lend(&mut command, 1, &dir.path().join("report")) else { return };
    succeeds(&command.output().unwrap());
    assert!(gpu.report()["download"] > 0);
    let gpu = Latents::open(&dir.path().join("gpu")).unwrap();
    for (row, flipped) in (0..20).flat_map(|row| [(row, false), (row, true)]) {
        let (ours, theirs) = (gpu.row(row, flipped).unwrap(), cpu.row(row, flipped).unwrap());
        for (ours, theirs) in [(ours.mean, theirs.mean), (ours.std, theirs.std)] {
            // Half precision keeps 11 bits.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * (b.abs() + 0.1);
            assert!(ours.iter().zip(&theirs).all(near), "row {row}");
        }
    }
}

#[test]
fn shards_hold_the_moments_whatever_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 50, None);
    let output = encode(dir.path(), &["--flip", "--shard-rows", "20", "--batch-size", "7"]);
    succeeds(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("encoded 50 pictures") && text.contains("% in the autoencoder"), "{text}");
    assert!(!dir.path().join("latents.state").exists());

    let latents = Latents::open(&dir.path().join("latents")).unwrap();
    latents.verify().unwrap();
    assert_eq!((latents.len(), latents.shape(), latents.classes()), (50, [4, 8, 8], 10));
    let about = latents.about();
    assert_eq!((about.scale, about.flipped, about.image_size), (LATENT_SCALE, true, 32));
    assert_eq!(about.vae, Vae::identity(&Weights::read(&digits("vae.safetensors")).unwrap()).unwrap());
    let rows: Vec<usize> = latents.manifest().shards.iter().map(|s| s.rows).collect();
    assert_eq!(rows, [20, 20, 10]);

    let vae =
        Vae::load(Weights::read(&digits("vae.safetensors")).unwrap(), Device::Cpu, Kind::Float).unwrap();
    for (row, picture) in read_parquet(&digits("train-00000-of-00002.parquet")).unwrap().take(50).enumerate()
    {
        let picture = picture.unwrap();
        assert_eq!(latents.labels()[row], picture.label.unwrap());
        let crop = center_crop(&decode(&picture.bytes).unwrap(), 32);
        for (flipped, crop) in [(false, crop.clone()), (true, crop.mirrored())] {
            let x = Tensor::from_slice(&crop.pixels).view([1, 32, 32, 3]).permute([0, 3, 1, 2]);
            let want = vae.encode_moments(&from_bytes(&x).unwrap()).unwrap();
            let got = latents.row(row, flipped).unwrap();
            for (got, want) in [(got.mean, want.mean), (got.std, want.std)] {
                let want = want.flatten(0, -1);
                // Half precision keeps 11 bits.
                let off = ((Tensor::from_slice(&got) - &want).abs() / (want.abs() + 0.1)).max();
                assert!(off.double_value(&[]) < 1e-3, "row {row}");
            }
        }
    }
    // The same work gives the same bytes.
    let first = std::fs::read(dir.path().join("latents/00001.parquet")).unwrap();
    succeeds(&encode(dir.path(), &["--flip", "--shard-rows", "20", "--batch-size", "7"]));
    assert_eq!(std::fs::read(dir.path().join("latents/00001.parquet")).unwrap(), first);
}

#[test]
fn bf16_stays_near_f32() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 24, None);
    let mut read = Vec::new();
    for precision in ["f32", "bf16"] {
        succeeds(&encode(dir.path(), &["--precision", precision]));
        let latents = Latents::open(&dir.path().join("latents")).unwrap();
        let rows = (0..24).flat_map(|row| latents.row(row, false).unwrap().mean);
        read.push(rows.map(f64::from).collect::<Vec<_>>());
        std::fs::remove_dir_all(dir.path().join("latents")).unwrap();
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off =
        norm(&mut read[0].iter().zip(&read[1]).map(|(a, b)| a - b)) / norm(&mut read[0].iter().copied());
    assert!(off > 0.0 && off < BF16, "relative distance {off}");
}

/// bf16 keeps 8 bits, and errors of some twenty layers add up. Measured: 0.0065.
const BF16: f64 = 0.02;

#[test]
fn channels_have_statistics_of_all_pictures_whatever_the_batch_and_the_parts() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 30, None);
    let flags = ["--channel-statistics", "true", "--flip", "--shard-rows", "9", "--batch-size"];
    succeeds(&encode(dir.path(), &[&flags[..], &["7"]].concat()));
    let latents = Latents::open(&dir.path().join("latents")).unwrap();
    let about = latents.about().clone();
    let statistics = about.channels.clone().unwrap();
    assert_eq!((about.scale, about.shift, statistics.mean.len()), (1.0, 0.0, 4));
    // By hand, from what is stored: means and variances of the posteriors of each channel.
    let size = 8 * 8;
    for channel in 0..4 {
        let mut moments = Vec::new();
        for (row, flipped) in (0..30).flat_map(|row| [(row, false), (row, true)]) {
            let row = latents.row(row, flipped).unwrap();
            let own = channel * size..(channel + 1) * size;
            let both = row.mean[own.clone()].iter().zip(&row.std[own]);
            moments.extend(both.map(|(mean, std)| (f64::from(*mean), f64::from(*std))));
        }
        let count = moments.len() as f64;
        let mean = moments.iter().map(|(mean, _)| mean).sum::<f64>() / count;
        let variance =
            moments.iter().map(|(m, std)| (m - mean) * (m - mean) + std * std).sum::<f64>() / count;
        assert!((statistics.mean[channel] - mean).abs() < 1e-9, "{channel}: {mean}");
        assert!((statistics.std[channel] - variance.sqrt()).abs() < 1e-9, "{channel}: {variance}");
    }
    // A network sees each channel with mean 0 and deviation 1.
    let batch = shards::Loader::new(&latents, 30, 0).unwrap().batch(0).unwrap().latents;
    let batch = Tensor::from_slice(&batch).view([30, 4, -1]);
    let (std, mean) = (
        batch.std_dim([0i64, 2].as_slice(), true, false),
        batch.mean_dim([0i64, 2].as_slice(), false, Kind::Float),
    );
    assert!(mean.abs().max().double_value(&[]) < 0.1 && (std - 1.0).abs().max().double_value(&[]) < 0.1);

    let whole = files(&dir.path().join("latents"));
    std::fs::remove_dir_all(dir.path().join("latents")).unwrap();
    succeeds(&encode(dir.path(), &[&flags[..], &["30"]].concat()));
    assert!(files(&dir.path().join("latents")) == whole);
    std::fs::remove_dir_all(dir.path().join("latents")).unwrap();
    std::fs::create_dir(dir.path().join("parts")).unwrap();
    for shard in ["0", "1"] {
        succeeds(&encode(dir.path(), &[&flags[..], &["7", "--shards", "2", "--shard", shard]].concat()));
        std::fs::rename(dir.path().join("latents"), dir.path().join("parts").join(shard)).unwrap();
    }
    succeeds(&encode(dir.path(), &[&flags[..], &["7", "--latents-parts", "parts"]].concat()));
    assert!(files(&dir.path().join("latents")) == whole);
    refuses(&encode(dir.path(), &["--channel-statistics", "true", "--shift", "1"]), "give one");
}
