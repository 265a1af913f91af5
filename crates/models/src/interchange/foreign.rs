//! Networks in files of other programs: under which names they are there, which of them is wanted, and what the file says beside
//! its tensors.

use super::{Hints, WeightSet};
use crate::diffusion::NoiseSchedule;
use anyhow::Result;
use stage::bad_input;
use std::collections::BTreeMap;
use std::fmt::Write;
use weights::Weights;
use weights::pickle::Setting;

/// A tensor of every network here.
pub const SIGN: &str = "pos_embed";
/// What wraps a module for several GPUs, and one that is compiled; they name nothing.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];
/// The weights that are taken where there are several that are no average.
const USUAL: &str = "model";
/// What averages of torch have beside the tensors.
const COUNTERS: [&str; 3] = ["n_averaged", "initted", "num_updates"];
/// Keys under which programs keep their settings.
pub const SETTINGS: [&str; 5] = ["config", "args", "cfg", "hparams", "hyper_parameters"];
/// What they call the noise schedule.
const SCHEDULES: [&str; 3] = ["schedule_name", "noise_schedule", "beta_schedule"];

/// A network in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What a person calls it; empty for bare tensors.
    pub key: String,
    /// What its tensors' names begin with.
    pub prefix: String,
}

impl Candidate {
    /// Whether it is a moving average, by its name.
    fn averages(&self) -> bool {
        self.key.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("ema"))
    }

    fn shown(&self) -> &str {
        if self.key.is_empty() { "the file's own tensors" } else { &self.key }
    }
}

/// The networks among tensors of these names.
pub fn candidates<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Candidate> {
    let candidate = |name: &str| {
        let prefix = name.strip_suffix(SIGN).filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))?;
        let words = prefix.split('.').filter(|word| !word.is_empty() && !WRAPPERS.contains(word));
        Some(Candidate { key: words.collect::<Vec<_>>().join("."), prefix: prefix.into() })
    };
    names.into_iter().filter_map(candidate).collect()
}

/// The tensors under the names that they have here: DTR's own program keeps its masks in the blocks, and averages of torch count
/// their updates.
pub fn renamed(weights: Weights) -> Weights {
    weights.renamed(|name| match name.strip_prefix("blocks.").and_then(|rest| rest.split_once(".routing.")) {
        Some((block, rest)) => Some(format!("routers.{block}.{rest}")),
        None => Some(name.to_string()).filter(|_| !COUNTERS.contains(&name)),
    })
}

/// What is taken of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The weights themselves.
    pub model: Option<Candidate>,
    /// Their average.
    pub average: Option<Candidate>,
}

impl Chosen {
    /// Of these, what `wanted` says.
    ///
    /// # Errors
    /// Bad input that names the candidates where they are none, or several and none of them is named.
    pub fn of(source: &str, candidates: &[Candidate], wanted: &WeightSet) -> Result<Self> {
        let shown = |list: &[&Candidate]| list.iter().map(|c| c.shown()).collect::<Vec<_>>().join(", ");
        let all: Vec<&Candidate> = candidates.iter().collect();
        let (averages, models): (Vec<&Candidate>, Vec<&Candidate>) =
            all.iter().copied().partition(|c| c.averages());
        if let WeightSet::Key(key) = wanted {
            return match all.iter().find(|c| c.key == *key || c.prefix == *key) {
                Some(&found) => Ok(Self { model: Some(found.clone()), average: None }),
                None => bad_input!("{source}: no weights `{key}` in it; there are {}", shown(&all)),
            };
        }
        let usual = models.iter().find(|c| c.key == USUAL || c.key.is_empty());
        let model = match (models.as_slice(), usual) {
            ([one], _) | (_, Some(one)) => Some((*one).clone()),
            _ => None,
        };
        let several = |kind: &str, list: &[&Candidate]| -> Result<Self> {
            bad_input!("{source}: several {kind} in it: {}; name one with --weights", shown(list))
        };
        match wanted {
            WeightSet::Ema if averages.len() > 1 => several("averages", &averages),
            WeightSet::Ema if averages.len() == 1 => Ok(Self { model, average: Some(averages[0].clone()) }),
            _ if model.is_some() => Ok(Self { model, average: None }),
            _ if models.is_empty() => {
                bad_input!("{source}: no weights but averages in it: {}; use --weights ema", shown(&averages))
            }
            _ => several("networks", &models),
        }
    }

    /// For people.
    pub fn told(&self) -> String {
        match (&self.model, &self.average) {
            (_, Some(average)) => format!("taking {}, an average", average.shown()),
            (Some(model), None) => format!("taking {}", model.shown()),
            (None, None) => "taking nothing".into(),
        }
    }
}

/// What tensors there are, for an error.
pub fn contents<'a>(shapes: impl IntoIterator<Item = (String, &'a [i64])>) -> String {
    let shapes: Vec<_> = shapes.into_iter().collect();
    let mut text = match shapes.len() {
        0 => return "it has no tensors".into(),
        1 => "there is".to_string(),
        n => format!("there are {n} tensors:"),
    };
    for (i, (name, shape)) in shapes.iter().take(4).enumerate() {
        let _ = write!(text, "{} {name} {shape:?}", if i == 0 { "" } else { "," });
    }
    if shapes.len() > 4 {
        text += ", …";
    }
    text
}

/// What a file says of its network beside the tensors.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// The noise schedule.
    pub schedule: Option<NoiseSchedule>,
    /// Classes, without a null label.
    pub classes: Option<i64>,
    /// Attention heads.
    pub heads: Option<i64>,
}

impl Told {
    /// Reads the settings under [`SETTINGS`].
    ///
    /// # Errors
    /// Bad input when they name a schedule that is none of this program's, or contradict each other.
    pub fn read(source: &str, settings: &[(String, Setting)]) -> Result<Self> {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
        let mut found: BTreeMap<&str, Setting> = BTreeMap::new();
        for (path, setting) in settings {
            // A text in place of a number is a reference to another setting.
            let name = match (last(path).as_str(), setting) {
                (name, Setting::Text(text)) if SCHEDULES.contains(&name) && !text.starts_with("${") => {
                    "schedule"
                }
                ("num_classes", Setting::Number(_)) => "classes",
                ("num_heads", Setting::Number(_)) => "heads",
                _ => continue,
            };
            if found.insert(name, setting.clone()).is_some_and(|before| before != *setting) {
                bad_input!("{source}: its settings say different {name} ({path} is {setting:?})")
            }
        }
        let whole = |name: &str| match found.get(name) {
            Some(Setting::Number(number)) if number.fract() == 0.0 && *number >= 1.0 => Some(*number as i64),
            _ => None,
        };
        let schedule = match found.get("schedule") {
            Some(Setting::Text(name)) => match name.as_str() {
                "linear" => Some(NoiseSchedule::Linear),
                "cosine" | "squaredcos_cap_v2" => Some(NoiseSchedule::Cosine),
                other => bad_input!(
                    "{source}: trained with the noise schedule {other}, which is none of cosine and linear"
                ),
            },
            _ => None,
        };
        Ok(Self { schedule, classes: whole("classes"), heads: whole("heads") })
    }

    /// The hints with what the file says itself.
    ///
    /// # Errors
    /// Bad input when a hint contradicts the file.
    pub fn with(self, hints: &Hints, source: &str) -> Result<Hints> {
        fn one<T: PartialEq + std::fmt::Display + Copy>(
            source: &str,
            what: &str,
            told: Option<T>,
            hint: Option<T>,
        ) -> Result<Option<T>> {
            match (told, hint) {
                (Some(told), Some(hint)) if told != hint => {
                    bad_input!("{source}: its settings say {what} {told}, not {hint}")
                }
                _ => Ok(told.or(hint)),
            }
        }
        Ok(Hints {
            schedule: one(source, "schedule", self.schedule, hints.schedule)?,
            classes: one(source, "classes", self.classes, hints.classes)?,
            heads: one(source, "heads", self.heads, hints.heads)?,
            ..hints.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], wanted: WeightSet) -> Result<Chosen> {
        Chosen::of("a.pt", &candidates(names.iter().copied()), &wanted)
    }

    fn keys(chosen: Result<Chosen>) -> [Option<String>; 2] {
        let Chosen { model, average } = chosen.unwrap();
        [model, average].map(|c| c.map(|c| c.key))
    }

    #[test]
    fn wrappers_name_nothing() {
        for prefix in ["", "module.", "_orig_mod.", "module._orig_mod."] {
            let found = candidates([format!("{prefix}pos_embed").as_str(), "x.weight"]);
            assert_eq!(found, [Candidate { key: String::new(), prefix: prefix.into() }]);
        }
        assert_eq!(candidates(["ema.module.pos_embed"])[0].key, "ema");
        assert!(candidates(["my_pos_embed"]).is_empty());
    }

    #[test]
    fn the_one_average_is_found_whatever_its_name() {
        for name in ["ema", "ema_model", "model_ema", "ema_state", "ema_state_dict", "params_ema"] {
            let names = ["model.pos_embed".to_string(), format!("{name}.pos_embed")];
            let names = names.each_ref().map(String::as_str);
            assert_eq!(keys(chosen(&names, WeightSet::Ema)), [Some("model".into()), Some(name.into())]);
            assert_eq!(keys(chosen(&names, WeightSet::Model)), [Some("model".into()), None]);
            assert_eq!(keys(chosen(&names, WeightSet::Key(name.into()))), [Some(name.into()), None]);
        }
        assert_eq!(keys(chosen(&["pos_embed"], WeightSet::Ema)), [Some(String::new()), None]);
    }

    #[test]
    fn several_are_refused_until_one_is_named() {
        let refused = |names: &[&str], wanted| chosen(names, wanted).unwrap_err().to_string();
        let two = ["ema.pos_embed", "ema_model.pos_embed", "model.pos_embed"];
        let text = refused(&two, WeightSet::Ema);
        assert!(text.contains("ema, ema_model; name one with --weights"), "{text}");
        assert_eq!(keys(chosen(&two, WeightSet::Key("ema_model".into())))[0], Some("ema_model".into()));
        let text = refused(&two, WeightSet::Key("params".into()));
        assert!(text.contains("no weights `params`") && text.contains("ema, ema_model, model"), "{text}");
        let text = refused(&["a.pos_embed", "b.pos_embed"], WeightSet::Ema);
        assert!(text.contains("several networks in it: a, b"), "{text}");
        let text = refused(&["ema.pos_embed"], WeightSet::Model);
        assert!(text.contains("--weights ema"), "{text}");
    }

    #[test]
    fn settings_are_read_wherever_they_are() {
        let setting = |path: &str, value: &str| (path.to_string(), Setting::Text(value.into()));
        let number = |path: &str, value: f64| (path.to_string(), Setting::Number(value));
        let told = Told::read(
            "a.pt",
            &[
                setting("config.general.schedule_name", "linear"),
                number("config.data.num_classes", 10.0),
                setting("config.models.param.num_classes", "${data.num_classes}"),
            ],
        );
        let told = told.unwrap();
        assert_eq!((told.schedule, told.classes), (Some(NoiseSchedule::Linear), Some(10)));
        let hints = Hints { schedule: Some(NoiseSchedule::Cosine), ..Hints::default() };
        let text = told.with(&hints, "a.pt").unwrap_err().to_string();
        assert!(text.contains("say schedule linear, not cosine"), "{text}");
        let other = Told::read("a.pt", &[setting("args.noise_schedule", "scaled_linear")]).unwrap_err();
        assert!(other.to_string().contains("scaled_linear"), "{other}");
        let two = [number("config.num_classes", 10.0), number("config.data.num_classes", 1.0)];
        assert!(Told::read("a.pt", &two).is_err());
        assert_eq!(Told::read("a.pt", &[]).unwrap(), Told::default());
    }
}
