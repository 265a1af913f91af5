//! The same weights under their several public names, all turned into diffusers' current ones.

use anyhow::Result;
use stage::bad_input;
use std::collections::BTreeSet;
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
    let wanted = |name: &&str| !NOT_WEIGHTS.iter().any(|prefix| name.starts_with(prefix));
    let mut renamed = BTreeSet::new();
    for name in weights.names().filter(wanted) {
        let new = rename(name, levels);
        if let Some(new) = renamed.replace(new) {
            bad_input!("{source}: two tensors are {new}; one of them is called {name}")
        }
    }
    let mut weights = weights.renamed(|name| Some(name).filter(wanted).map(|name| rename(name, levels)));
    // Attention is a 1×1 convolution in latent diffusion and a linear layer in diffusers: the same numbers.
    for name in renamed.into_iter().filter(|name| name.contains(".attentions.")) {
        if let Some(&[out, from, 1, 1]) = weights.size(&name).as_deref() {
            let linear = weights.take(&name, &[out, from, 1, 1])?.f_reshape([out, from])?;
            weights.insert(name, linear);
        }
    }
    Ok(weights)
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
