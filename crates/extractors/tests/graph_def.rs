//! TensorFlow graphs, good and bad.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod recipe;

use extractors::inception::Inception;
use extractors::inception::graph_def::{Graph, GraphDef};
use extractors::inception::names::{convolutions, tensorflow_scope};
use prost::Message;
use recipe::{golden, json};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

fn files() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(golden(""))
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().into_string().unwrap().strip_suffix(".pb")?.to_string()))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

#[test]
fn names_are_the_recorded_ones() {
    let mut scopes = 0;
    let names = convolutions().unwrap();
    for entry in json("inception_tf_torch_map.json")["tensors"].as_array().unwrap() {
        if let Some(name) = text(&entry["torch"]).strip_suffix(".conv.weight") {
            assert_eq!(tensorflow_scope(name).as_deref(), Some(text(&entry["scope"])), "{name}");
            assert!(names.iter().any(|n| n == name), "{name}");
            scopes += 1;
        }
    }
    assert_eq!(scopes, names.len());
    assert_eq!(tensorflow_scope("Mixed_8a.branch1x1"), None);
}

#[test]
fn every_constant_is_read_in_either_encoding() {
    for file in files() {
        let graph = Graph::read(&golden(&format!("{file}.pb"))).unwrap();
        let inventory = json(&format!("{file}.json"));
        assert_eq!(graph.len() as u64, inventory["n_nodes"].as_u64().unwrap(), "{file}");
        let mut read = 0;
        for node in inventory["nodes"].as_array().unwrap() {
            if node.get("dtype").map(text) != Some("float32") {
                continue;
            }
            let name = text(&node["name"]);
            let values = graph.constant(name).unwrap();
            let shape: Vec<i64> =
                node["shape"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
            assert_eq!(values.size(), shape, "{file} {name}");
            let first: Vec<f64> =
                node["first"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let start = values.reshape([-1]).narrow(0, 0, first.len() as i64).to_kind(Kind::Double);
            assert_eq!(Vec::<f64>::try_from(start).unwrap(), first, "{file} {name}");
            if let Some(digest) = node.get("sha256").map(text) {
                let flat = Vec::<f32>::try_from(values.reshape([-1])).unwrap();
                let bytes: Vec<u8> = flat.iter().flat_map(|x| x.to_le_bytes()).collect();
                let ours: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert!(ours.starts_with(digest), "{file} {name}");
            }
            read += 1;
        }
        assert!(read > 0);
    }
}

#[test]
fn the_full_graph_loads_and_a_part_is_refused_by_name() {
    for file in files() {
        let weights = Graph::read(&golden(&format!("{file}.pb"))).unwrap().weights();
        if json(&format!("{file}.json"))["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|n| text(&n["name"]) == "softmax")
        {
            let network = Inception::load(weights.unwrap(), Device::Cpu).unwrap();
            assert_eq!((network.width(), network.classes()), (2048, 1008));
            let pictures = Tensor::zeros([1, 3, 299, 299], (Kind::Float, Device::Cpu));
            assert_eq!(network.features(&pictures).unwrap().spatial.size(), [1, 2023]);
        } else {
            let error = weights.err().unwrap();
            assert_eq!(stage::exit_code(&error), 2);
            assert!(format!("{error:#}").contains("conv"), "{error:#}");
        }
    }
}

/// The recipe's weights in a graph of the other encoding are the recipe's weights.
#[test]
fn weights_survive_the_layouts() {
    let stem: Vec<String> = files().into_iter().filter(|f| f.contains("stem")).collect();
    for file in stem {
        let graph = Graph::read(&golden(&format!("{file}.pb"))).unwrap();
        let wanted = recipe::inception_weights();
        let mut compared = 0;
        for name in convolutions().unwrap() {
            let Ok(kernel) = graph.constant(&format!("{}/conv2d_params", tensorflow_scope(&name).unwrap()))
            else {
                continue;
            };
            assert_eq!(
                kernel.permute([3, 2, 0, 1]),
                recipe::get(&wanted, &format!("{name}.conv.weight")),
                "{name}"
            );
            compared += 1;
        }
        assert!(compared > 1);
    }
}

#[test]
fn impossible_tensors_are_refused_before_memory_is_taken() {
    let smallest = files().into_iter().find(|f| f.contains("float_val")).unwrap();
    let bytes = std::fs::read(golden(&format!("{smallest}.pb"))).unwrap();
    let break_it = |change: &dyn Fn(&mut extractors::inception::graph_def::TensorProto)| {
        let mut graph = GraphDef::decode(bytes.as_slice()).unwrap();
        let node = graph.node.iter_mut().find(|n| n.name == "conv/conv2d_params").unwrap();
        change(node.attr.get_mut("value").unwrap().tensor.as_mut().unwrap());
        let error = Graph::parse("broken.pb", &graph.encode_to_vec()).unwrap().constant("conv/conv2d_params");
        let error = error.unwrap_err();
        assert_eq!(stage::exit_code(&error), 2);
        format!("{error:#}")
    };
    let huge = break_it(&|t| t.tensor_shape.as_mut().unwrap().dim[0].size = i64::MAX);
    assert!(huge.contains("broken.pb: node conv/conv2d_params") && huge.contains("impossible"), "{huge}");
    let repeated = break_it(&|t| {
        t.float_val.truncate(2);
        t.tensor_shape.as_mut().unwrap().dim[0].size = 1 << 22;
        t.tensor_shape.as_mut().unwrap().dim.truncate(1);
    });
    assert!(repeated.contains("far more values"), "{repeated}");
    assert!(break_it(&|t| t.tensor_shape.as_mut().unwrap().dim[0].size = -1).contains("impossible"));
    assert!(break_it(&|t| t.tensor_shape.as_mut().unwrap().dim[3].size = 2).contains("values"));
    assert!(break_it(&|t| t.dtype = 3).contains("type"));
    assert!(break_it(&|t| t.float_val.clear()).contains("no values"));
    assert!(break_it(&|t| t.tensor_content = vec![0; 5]).contains("5 bytes"));
}

#[test]
fn mutated_graphs_do_not_panic() {
    for file in files() {
        let whole = std::fs::read(golden(&format!("{file}.pb"))).unwrap();
        let stream = recipe::Stream::new(1, &file);
        let rounds = 3_000_000 / whole.len().max(10_000);
        for round in 0..rounds {
            let mut bytes = whole.clone();
            for k in 0..1 + round % 4 {
                let at = stream.raw(round * 8 + k) as usize % bytes.len();
                bytes[at] = stream.u8(round * 8 + k + 4);
            }
            if round % 3 == 0 {
                bytes.truncate(stream.raw(round * 8 + 7) as usize % bytes.len());
            }
            if let Ok(graph) = Graph::parse("mutated", &bytes) {
                let _ = graph.weights().and_then(|w| Inception::load(w, Device::Cpu));
                let _ = graph.constant("conv/conv2d_params");
            }
        }
    }
}
