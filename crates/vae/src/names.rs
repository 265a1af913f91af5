//! The same weights under their several public names, all turned into diffusers' current ones.

use anyhow::Result;
use stage::bad_input;
use std::collections::BTreeMap;
use weights::Weights;

/// Where an autoencoder stands inside a larger checkpoint.
const PREFIXES: [&str; 2] = ["first_stage_model.", "vae."];
/// What a training checkpoint of the autoencoder holds beside it.
const NOT_WEIGHTS: [&str; 2] = ["loss.", "model_ema."];

/// The autoencoder's weights under diffusers' current names.
pub fn current(mut weights: Weights) -> Result<Weights> {
    for prefix in PREFIXES {
        if weights.names().any(|n| n.starts_with(prefix)) {
            weights = weights.split_off(prefix);
            break;
        }
    }
    let source = weights.source().to_string();
    let levels = 1 + weights.names().filter_map(decoder_level).max().unwrap_or(0);
    let mut renamed = BTreeMap::new();
    for (name, tensor) in weights.into_tensors()? {
        if NOT_WEIGHTS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let new = rename(&name, levels);
        // Attention is a 1×1 convolution in latent diffusion and a linear layer in diffusers: the same numbers.
        let tensor = match tensor.size().as_slice() {
            &[out, from, 1, 1] if new.contains(".attentions.") => tensor.f_reshape([out, from])?,
            _ => tensor,
        };
        if renamed.insert(new.clone(), tensor).is_some() {
            bad_input!("{source}: two tensors are {new}; one of them is called {name}")
        }
    }
    Ok(Weights::new(source, renamed))
}

/// `i` of `decoder.up.i.…`, which counts from the picture inwards, unlike diffusers.
fn decoder_level(name: &str) -> Option<usize> {
    name.strip_prefix("decoder.up.")?.split('.').next()?.parse().ok()
}

/// One name; a name that is current already stays.
fn rename(name: &str, levels: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let Some((half, rest)) = parts.split_first() else { return name.into() };
    let inner = match rest {
        ["down", i, "block", j, rest @ ..] => format!("down_blocks.{i}.resnets.{j}.{}", resnet(rest)),
        ["down", i, "downsample", rest @ ..] => format!("down_blocks.{i}.downsamplers.0.{}", rest.join(".")),
        ["up", i, "block", j, rest @ ..] => {
            format!("up_blocks.{}.resnets.{j}.{}", reversed(i, levels), resnet(rest))
        }
        ["up", i, "upsample", rest @ ..] => {
            format!("up_blocks.{}.upsamplers.0.{}", reversed(i, levels), rest.join("."))
        }
        ["mid", "block_1", rest @ ..] => format!("mid_block.resnets.0.{}", resnet(rest)),
        ["mid", "block_2", rest @ ..] => format!("mid_block.resnets.1.{}", resnet(rest)),
        ["mid", "attn_1", rest @ ..] | ["mid_block", "attentions", "0", rest @ ..] => {
            format!("mid_block.attentions.0.{}", attention(rest))
        }
        ["norm_out", rest @ ..] => format!("conv_norm_out.{}", rest.join(".")),
        _ => return name.into(),
    };
    format!("{half}.{inner}")
}

fn reversed(level: &str, levels: usize) -> String {
    match level.parse::<usize>() {
        Ok(i) if i < levels => (levels - 1 - i).to_string(),
        _ => level.into(),
    }
}

fn resnet(rest: &[&str]) -> String {
    rest.join(".").replace("nin_shortcut", "conv_shortcut")
}

fn attention(rest: &[&str]) -> String {
    let Some((&layer, leaf)) = rest.split_first() else { return String::new() };
    let layer = match layer {
        "norm" => "group_norm",
        "q" | "query" => "to_q",
        "k" | "key" => "to_k",
        "v" | "value" => "to_v",
        "proj_out" | "proj_attn" => "to_out.0",
        other => other,
    };
    format!("{layer}.{}", leaf.join("."))
}
